"""The servers that the contenders use: PostgreSQL with full durability, Redis, and the mock of Runway."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import aiohttp
import asyncpg

from service.local.postgres_home import Account, Binaries, account_for, find_binaries, runnable
from tests.benchmarks.processes import Cores, listening, pinned, spawn, stop, until
from tests.ports import free_port

DEBIAN = Path("/usr/lib/postgresql")
# What is not PostgreSQL's default: commit times are kept, so that latencies are read from the database itself.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "track_commit_timestamp": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
}
# Where nothing is measured.
NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def postgres_binaries(shared: Path) -> tuple[Binaries, str]:
    """Debian's newest server if there is one, else the one in the wheel; and which it is."""
    debian = [Binaries(path, int(path.name)) for path in DEBIAN.glob("[0-9]*") if (path / "bin" / "postgres").exists()]
    if debian:
        return max(debian, key=lambda one: one.major), "Debian's"
    return runnable(find_binaries(), shared), "the embedded"


class Postgres:
    """A cluster of our own, in a folder that is removed at the end."""

    def __init__(self, folder: Path, where: frozenset[int], durable: bool) -> None:
        self.folder = folder
        self.port = free_port()
        self._where = where
        self.settings = SETTINGS | ({} if durable else NOT_DURABLE)
        self.binaries, self.whose = postgres_binaries(folder)
        self._account: Account | None = account_for(folder / "none") if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def words(self) -> str:
        """What it is, for the report."""
        return f"PostgreSQL {self.binaries.major} ({self.whose}), " + ", ".join(
            f"{name} {self.settings[name]}" for name in ("fsync", "synchronous_commit", "shared_buffers")
        )

    async def start(self) -> None:
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        if self._account:
            os.chown(data, self._account.uid, self._account.gid)
        initdb = [self.binaries.program("initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--no-sync"]
        self._run([*initdb, "--encoding=UTF8", "--locale=C"]).wait(120)
        options = self.settings | {"port": str(self.port), "unix_socket_directories": ""}
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._process = self._run([self.binaries.program("postgres"), "-D", str(data), *flags])
        await until(lambda: listening(self.port), "PostgreSQL starts")
        for attempt in range(100):
            try:
                connection = await asyncpg.connect(self.url())
            except (OSError, asyncpg.PostgresError):
                if attempt == 99:
                    raise
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        account = self._account
        who: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": ()} if account else {}
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        with (self.folder / "postgres.log").open("ab") as log, pinned(self._where):
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                env=env,
                **who,
            )
        return process

    def stop(self) -> None:
        if self._process:
            stop(self._process, signal.SIGINT)


class Redis:
    """A server of our own, durable as BullMQ recommends it: an append-only file, written to disk every second."""

    words = "Redis, appendonly yes, appendfsync everysec"

    def __init__(self, folder: Path, where: frozenset[int]) -> None:
        self.folder, self._where = folder, where
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str | None:
        """Why there is none."""
        return None if shutil.which("redis-server") else "redis-server is not installed"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += [
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--maxmemory-policy",
            "noeviction",
        ]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = spawn(command, self._where, log=log)
        await until(lambda: listening(self.port), "Redis starts")

    def flush(self) -> None:
        """Forget everything."""
        command = ["redis-cli", "-p", str(self.port), "flushall"]
        subprocess.run(command, check=True, capture_output=True)

    def stop(self) -> None:
        if self._process:
            stop(self._process)


class Runway:
    """The mock, in a process of its own, and the harness's view of it."""

    def __init__(self, where: frozenset[int]) -> None:
        self._where = where
        self.port, self.tls_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """The same over TLS, with the certificate of `tests.wire`."""
        return f"https://127.0.0.1:{self.tls_port}"

    async def start(self) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.mock", str(self.port), str(self.tls_port)]
        self._process = spawn(command, self._where)
        await until(lambda: listening(self.tls_port), "the mock starts")
        self._session = aiohttp.ClientSession()

    async def _ask(self, path: str) -> dict[str, float]:
        assert self._session
        async with self._session.get(self.url + path) as response:
            answer: dict[str, float] = await response.json()
            return answer

    async def reset(self, seconds: float, warm_up: int = 0) -> None:
        """Forget what was counted; answer creates after so many seconds. `first_at` is behind so many creates."""
        await self._ask(f"/_reset?seconds={seconds}&warm_up={warm_up}")

    async def state(self) -> dict[str, float]:
        """What the mock counted; see its `state`."""
        return await self._ask("/_state")

    async def stop(self) -> None:
        if self._session:
            await self._session.close()
        if self._process:
            stop(self._process)


class Servers:
    """All three, in a temporary folder. `redis` is None where it is not installed."""

    def __init__(self, where: Cores, *, durable: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="taxiway-bench-", dir="/var/tmp"))
        self.folder.chmod(0o711)
        self.postgres = Postgres(self.folder, where.servers, durable)
        self.redis = None if Redis.missing() else Redis(self.folder, where.servers)
        self.runway = Runway(where.servers)

    async def __aenter__(self) -> Self:
        try:
            await self.postgres.start()
            if self.redis:
                await self.redis.start()
            await self.runway.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.runway.stop()
        if self.redis:
            self.redis.stop()
        self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
