"""Three PostgreSQL nodes under Patroni, from pip alone: `pip install -e '.[dev,ha]'`.

Patroni's store is its own Raft, so nothing else has to run. Every node is kept by a process that ends it when we are
gone or the time is over (tests/cluster/keeper.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from service.local.postgres_home import Account, Binaries, account_for, find_binaries
from tests.cluster.keeper import descendants
from tests.cluster.wire import Wire
from tests.database import connected
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
NAMES = ("a", "b", "c")
LIMIT_SECONDS = 600.0  # then a cluster ends by itself
PATIENCE_SECONDS = 120.0  # for everything that a cluster should do; a hang is longer
ANSWER_SECONDS = 1.0  # a frozen node takes the connection and does not answer
ASK_AGAIN_SECONDS = 0.25  # to answer costs Patroni milliseconds
SHORT_TTL_SECONDS = 7  # the least that keeps Patroni's rule between its times; its own minimum is 20
_WAITS = "SELECT current_setting('synchronous_standby_names') <> ''"
CAPABILITIES = "+dac_override,+dac_read_search"  # Python may lie where only root may go


@dataclass(frozen=True)
class Options:
    """How the cluster is set up."""

    synchronous: bool = True
    ttl: int = SHORT_TTL_SECONDS
    limit_seconds: float = LIMIT_SECONDS


def has_patroni() -> bool:
    """Whether a cluster can run here."""
    return sys.platform == "linux" and all(find_spec(name) for name in ("patroni", "pysyncobj", "psycopg2"))


@dataclass
class Node:
    """One node: PostgreSQL listens on `port`, the others reach it through `wire`."""

    name: str
    folder: Path
    port: int
    rest_port: int
    raft_port: int
    wire: Wire
    account: Account | None
    limit_seconds: float
    keeper: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        env = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        env |= {"LC_ALL": "C", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-W", "ignore", "-m", "tests.cluster.patroni_node", str(self.folder / "patroni.yml")]
        keeper = [sys.executable, "-W", "ignore", "-m", "tests.cluster.keeper", str(self.limit_seconds)]
        if self.account:
            who = [f"--reuid={self.account.uid}", f"--regid={self.account.gid}", "--clear-groups"]
            command = ["setpriv", *who, f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}", *command]
        with (self.folder / "log").open("ab") as log:
            self.keeper = subprocess.Popen(
                [*keeper, *command], cwd="/", env=env, stdin=subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def processes(self, *, patroni_alone: bool = False) -> list[int]:
        """Patroni, PostgreSQL and PostgreSQL's children, as they are now."""
        if self.keeper is None:
            return []
        found = descendants(self.keeper.pid)
        return found[:1] if patroni_alone else found

    def signal(self, number: signal.Signals, *, patroni_alone: bool = False) -> None:
        """Send it to every process of the node, until none is new."""
        done: set[int] = set()
        while new := set(self.processes(patroni_alone=patroni_alone)) - done:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            done |= new

    async def kill(self) -> None:
        """kill -9 all of it, and wait until it is gone, with all that had not arrived anywhere."""
        self.signal(signal.SIGKILL)
        await self.wire.cut()
        self.wire.flow()
        if self.keeper is not None:
            await asyncio.to_thread(self.keeper.wait, PATIENCE_SECONDS)
            self._forget()

    def end(self) -> None:
        """End the node and its keeper."""
        if self.keeper is not None:
            assert self.keeper.stdin is not None
            self.keeper.stdin.close()
            self.keeper.wait(PATIENCE_SECONDS)
            self._forget()

    def _forget(self) -> None:
        assert self.keeper is not None
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()
        self.keeper = None

    async def says(self, path: str) -> bool:
        """Whether its Patroni answers this GET with 200: `/primary`, `/synchronous`, `/readiness`."""
        return await self._ask(f"GET {path} HTTP/1.0\r\n\r\n") == 200

    async def _ask(self, request: str, seconds: float = ANSWER_SECONDS) -> int:
        """The status of the answer to a request; 0 without an answer."""
        writer = None
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.rest_port)
                writer.write(request.encode())
                words = (await reader.readline()).split()
                return int(words[1]) if len(words) > 1 else 0
        except (OSError, TimeoutError):
            return 0
        finally:
            if writer is not None:
                writer.transport.abort()

    async def order(self, method: str, path: str, body: dict[str, Any]) -> int:
        """The status of Patroni's answer to an order, which may take its time."""
        content = json.dumps(body)
        return await self._ask(
            f"{method} {path} HTTP/1.0\r\nContent-Length: {len(content)}\r\n\r\n{content}", PATIENCE_SECONDS
        )

    def url(self, database: str = "postgres") -> str:
        """This node's own PostgreSQL, past every wire and door."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def log(self) -> str:
        """The last words of Patroni and PostgreSQL."""
        return (self.folder / "log").read_text(errors="replace")[-4_000:]


class Cluster:
    """The nodes, and what can be done to them."""

    def __init__(self, nodes: Sequence[Node], options: Options) -> None:
        self.nodes, self.options = nodes, options

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for it. Raises AssertionError with the nodes' last words."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await condition():  # noqa: ASYNC110  # Patroni brings it about
                    await asyncio.sleep(ASK_AGAIN_SECONDS)
        except TimeoutError:
            words = "\n".join(f"--- {node.name}\n{node.log()}" for node in self.nodes)
            raise AssertionError(f"the cluster is not {what} after {PATIENCE_SECONDS:.0f} s\n{words}") from None

    async def who(self, path: str) -> list[Node]:
        """The nodes that say yes."""
        says = await asyncio.gather(*(node.says(path) for node in self.nodes))
        return [node for node, yes in zip(self.nodes, says, strict=True) if yes]

    async def is_whole(self) -> bool:
        """One primary, the others follow, and one of them synchronously if that is asked for."""
        primaries, ready, synchronous = [await self.who(path) for path in ("/primary", "/readiness", "/synchronous")]
        return len(primaries) == 1 and len(ready) == len(self.nodes) and len(synchronous) == self.options.synchronous

    async def whole(self) -> None:
        """Wait until it is, with every wire open."""
        for node in self.nodes:
            node.wire.flow()
        await self.until(self.is_whole, "whole")

    async def primary(self) -> Node:
        """The primary, once there is one."""
        await self.until(lambda: self._has("/primary"), "led by a primary")
        return (await self.who("/primary"))[0]

    async def synchronous(self) -> Node:
        """The synchronous standby, once there is one."""
        await self.until(lambda: self._has("/synchronous"), "followed by a synchronous standby")
        return (await self.who("/synchronous"))[0]

    async def _has(self, path: str) -> bool:
        return bool(await self.who(path))

    async def another_primary(self, old: Node) -> Node:
        """Wait until another node is primary, whatever the old one says."""

        async def has_moved() -> bool:
            return any(node is not old for node in await self.who("/primary"))

        await self.until(has_moved, f"led by another primary than {old.name}")
        return next(node for node in await self.who("/primary") if node is not old)

    async def switch_over(self) -> Node:
        """Ask Patroni to make the synchronous standby the primary; the new primary."""
        old = await self.primary()
        body = {"leader": old.name}
        if self.options.synchronous:
            body["candidate"] = (await self.synchronous()).name
        await old.order("POST", "/switchover", body)
        return await self.another_primary(old)

    async def wait_for_standbys(self, synchronous: bool) -> None:
        """From now on commits wait for a standby, or for none; the cluster is whole by then."""
        primary = await self.primary()
        assert await primary.order("PATCH", "/config", waiting(synchronous)) == 200
        self.options = replace(self.options, synchronous=synchronous)
        await self.whole()

        async def commits_do() -> bool:
            async with connected((await self.primary()).url()) as connection:
                return await connection.fetchval(_WAITS) is synchronous

        await self.until(commits_do, "set to wait for a standby" if synchronous else "set to wait for none")


def waiting(synchronous: bool) -> dict[str, bool]:
    """Of Patroni's configuration, what says whether commits wait for a standby."""
    return dict.fromkeys(("synchronous_mode", "synchronous_mode_strict"), synchronous)


def _configuration(node: Node, others: Sequence[Node], binaries: Binaries, options: Options) -> dict[str, Any]:
    """Patroni's, for this node. YAML reads JSON."""
    login = {"username": "postgres", "password": "unused"}
    return {
        "scope": "taxiway",
        "name": node.name,
        "restapi": dict.fromkeys(("listen", "connect_address"), f"127.0.0.1:{node.rest_port}"),
        "raft": {
            "data_dir": str(node.folder / "raft"),
            "self_addr": f"127.0.0.1:{node.raft_port}",
            "partner_addrs": [f"127.0.0.1:{other.raft_port}" for other in others],
        },
        "bootstrap": {
            "dcs": {
                "ttl": options.ttl,
                "loop_wait": 1,
                "retry_timeout": 3,
                "primary_start_timeout": 0,
                **waiting(options.synchronous),
                "postgresql": {
                    "use_pg_rewind": True,
                    "use_slots": True,
                    "parameters": {
                        "wal_log_hints": "on",  # pg_rewind asks for it
                        "wal_sender_timeout": "20s",  # a standby that is stalled for less stays a candidate
                        "wal_receiver_timeout": "20s",
                        "wal_retrieve_retry_interval": "500ms",  # a promotion waits for it, too
                        "checkpoint_completion_target": 0,  # pg_rewind waits for one
                        "fsync": "off",  # a kill takes nothing from the kernel; full_page_writes stays, for pg_rewind
                        "max_connections": 100,
                        "shared_buffers": "32MB",
                        "io_method": "sync",
                        "timezone": "UTC",
                    },
                },
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"wal-segsize": "1"}, "no-sync"],
        },
        "postgresql": {
            "listen": f"127.0.0.1:{node.port}",
            "connect_address": f"127.0.0.1:{node.wire.port}",
            "data_dir": str(node.folder / "data"),
            "bin_dir": str(binaries.root / "bin"),
            "pgpass": str(node.folder / "pgpass"),
            "authentication": {"superuser": login, "replication": login, "rewind": login},
            "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
            "parameters": {"unix_socket_directories": ""},
            "basebackup": [{"checkpoint": "fast"}, "no-sync"],
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
        },
    }


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="taxiway-cluster-"))
    folder.chmod(0o711)  # the account that runs the nodes goes through it
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(folder: Path, options: Options) -> list[Node]:
    account = account_for(folder / "data") if os.geteuid() == 0 else None
    nodes = []
    for name in NAMES:
        (home := folder / name).mkdir(mode=0o700)
        port, rest, raft, wire = (free_port() for _ in range(4))
        nodes.append(Node(name, home, port, rest, raft, Wire(wire, port), account, options.limit_seconds))
    for node in nodes:
        words = _configuration(node, [one for one in nodes if one is not node], find_binaries(), options)
        (node.folder / "patroni.yml").write_text(json.dumps(words), encoding="utf-8")
        if account:
            for path in (node.folder, node.folder / "patroni.yml"):
                os.chown(path, account.uid, account.gid)
    return nodes


@asynccontextmanager
async def cluster(options: Options) -> AsyncIterator[Cluster]:
    """A whole cluster, gone with all its processes in the end."""
    async with AsyncExitStack() as stack:
        nodes = _made(stack.enter_context(_folder()), options)
        for node in nodes:
            await stack.enter_async_context(node.wire.listening())
        made = Cluster(nodes, options)
        for node in nodes:
            stack.push_async_callback(asyncio.to_thread, node.end)
            node.start()
        await made.whole()
        yield made
