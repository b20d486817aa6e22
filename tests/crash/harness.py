"""The ground for crash tests: real processes of the service behind proxies that can stop, kill or cut them anywhere.

A `Site` is a `World` (tests/world.py) whose Runway also listens on a socket, with a proxy in front of it and one in
front of the database. Processes are started through both; what recovers and what judges looks past them. The judge is
the simulator's own book of what it was asked for and what it charged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from service import webhooks
from service.errors import Conflict
from service.operations.attaching import attach
from service.settings import LEASE_MARGIN_SECONDS
from service.store import identity
from service.store.database import Database
from service.store.url import normalise
from tests.crash import linked_app
from tests.crash.accounts import Accounts, settle
from tests.crash.http_proxy import runway_proxy
from tests.crash.processes import PATIENCE_SECONDS, ForkServer, Process
from tests.crash.proxy import Proxy, Watch, postgres_proxy
from tests.crash.receiver import SECRET, Receiver
from tests.database import TABLES, connected
from tests.ports import free_port
from tests.simulator_server import on_socket
from tests.world import API_KEY, CALLBACK_SECRET, CRON_SECRET, IMAGE, RUNWAY_KEY, World, world

POST_TIMEOUT_SECONDS = 10  # the least that the settings allow
PAST_DEADLINE_SECONDS = POST_TIMEOUT_SECONDS + LEASE_MARGIN_SECONDS + 1
# No test here is about the account's limits.
ACCOUNT = {"credits": 10_000_000, "concurrency": 100_000, "daily_limit": 1_000_000}


@dataclass
class Site:
    """One database, one Runway, and the processes between them."""

    world: World
    watch: Watch
    database: Proxy
    runway: Proxy
    fork_server: ForkServer
    receiver: Receiver
    hook: str  # its address, behind a proxy
    env: dict[str, str]
    started: list[Process] = field(default_factory=list)

    def start(self, *arguments: str, clock: Path | None = None, **env: str) -> Process:
        """Start one process of the service behind the proxies."""
        process = self.fork_server.start(*arguments, env=self.env | env, clock=clock)
        self.started.append(process)
        return process

    @asynccontextmanager
    async def web(self, clock: Path | None = None) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
        """A web process that serves, and a client of it without credentials. Killed at the end."""
        port = free_port()
        process = self.start("web", "--port", str(port), clock=clock)
        try:
            await serving(process, port)
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS, trust_env=False
            ) as client:
                yield process, client
        finally:
            process.kill()
            await process.end()

    async def enqueue(self, prompt: str | None = None, **changes: Any) -> UUID:
        """Hand in one video, in this process. Its prompt is its name in Runway's book."""
        body = {"promptText": prompt or f"video {uuid4()}", "promptImage": IMAGE}
        return await self.world.enqueue(input=body, **changes)

    async def quiet(self, rounds: int = 40) -> None:
        """Tick, a minute apart, until nothing is left to do."""
        for _ in range(rounds):
            await self.world.tick()
            if not await self.world.rows(_UNFINISHED) and await self._app_is_served():
                return
            await self.world.later(minutes=1)
        raise AssertionError(
            await self.world.rows("SELECT * FROM taxiway.videos WHERE status IN ('queued', 'processing')")
        )

    async def _app_is_served(self) -> bool:
        """Whether every row of the linked table, if there is one, was taken and shows its video."""
        async with connected(self.world.url) as connection:
            return await linked_app.seconds_to_next(connection) is None

    async def recover(self) -> None:
        """Every process is dead: pass all deadlines, and tick with a fresh one until idle."""
        for process in self.started:
            process.kill()
            await process.end()
        self.started.clear()
        self.watch.restart()
        await self.world.later(seconds=PAST_DEADLINE_SECONDS)
        await self.quiet()

    async def show_evidence(self, rounds: int = 40) -> int:
        """Attach every task in Runway's book that the ledger lacks, as an operator would; then tick until idle."""
        known = await task_ids(self.world)
        videos = await videos_by_prompt(self.world)
        lost = [entry for entry in self.world.creates if entry.task_id and entry.task_id not in known]
        for entry in lost:
            with contextlib.suppress(Conflict):  # the judge will say what that means
                await attach(self.world.ctx, videos[entry.prompt], entry.task_id)
        if lost:
            await self.quiet(rounds)
        return len(lost)

    async def clear(self) -> None:
        """Forget everything on both sides, as if nothing had been asked for yet."""
        await linked_app.forget(self.world.url)
        await self.world.rows(f"TRUNCATE {TABLES}")
        self.world.ctx.database.memory.forget()  # or what it made would be missing
        begin_afresh(self.world)
        self.receiver.got.clear()


_UNFINISHED = """
SELECT id::text FROM taxiway.videos WHERE status IN ('queued', 'processing')
UNION ALL
SELECT id::text FROM taxiway.submissions WHERE outcome IS NULL OR unsaved IS NOT NULL OR cancel_due IS NOT NULL
UNION ALL
SELECT id::text FROM taxiway.deliveries WHERE state = 'due'
"""


@asynccontextmanager
async def crash_site(database_url: str, fork_server: ForkServer, **changes: Any) -> AsyncIterator[Site]:
    """A site; `changes` are settings, of this process and of those that it starts (`unknown_policy="fail"`)."""
    changes = {"post_timeout": POST_TIMEOUT_SECONDS} | changes
    watch = Watch()
    receiver = Receiver()
    own = {"webhook_secrets": (SECRET,), "webhook_private_hosts": ("127.0.0.1",)}
    async with (
        world(database_url, options=ACCOUNT, receiver=receiver.app, **own, **changes) as w,
        on_socket(w.runway) as runway_url,
        on_socket(receiver.app) as receiver_url,
        postgres_proxy(database_url, watch) as database,
        runway_proxy(runway_url, watch) as runway,
        runway_proxy(receiver_url, watch) as hook,
    ):
        env = {
            "PATH": os.environ.get("PATH", ""),
            "DATABASE_URL": database.url,
            "RUNWAYML_BASE_URL": runway.url,
            "RUNWAYML_API_SECRET": RUNWAY_KEY,
            "API_KEYS": API_KEY,
            "CRON_SECRET": CRON_SECRET,
            "CALLBACK_SECRETS": CALLBACK_SECRET,
            "WEBHOOK_SECRETS": SECRET,
            "WEBHOOK_PRIVATE_HOSTS": "127.0.0.1",
        } | {name.upper(): str(value) for name, value in changes.items()}
        await known_from(database_url, database.url)
        w.runway.state.runway.clock = partial(time_in_database, w)
        made = Site(w, watch, database, runway, fork_server, receiver, f"{hook.url}/hook", env)
        try:
            yield made
        finally:
            for process in made.started:
                process.kill()
                await process.end()


async def known_from(*urls: str) -> None:
    """Let the service see its database under each of these addresses: later, none is taken for that of a copy."""
    for number, url in enumerate(urls):
        database = Database(normalise(url), pool_size=1)
        try:
            if number == 0:
                await identity.forget(database)
            async with identity.recognised(database) as is_known:
                assert is_known
        finally:
            await database.close()


def begin_afresh(w: World) -> None:
    """Empty Runway's books. Its tasks live by the world's clock; when one was made, it says by the database's."""
    runway = w.runway.state.runway
    runway.clock = w.clock
    runway.reset()
    runway.clock = partial(time_in_database, w)


def time_in_database(w: World) -> float:
    """Unix seconds as the database has them, which pass by themselves, too."""
    return time.time() + w.clock.passed


async def serving(process: Process, port: int) -> None:
    """Wait until this process takes connections."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                assert not process.has_ended, process.output
                await asyncio.sleep(0.005)
            else:
                writer.close()
                return


def callback(task_id: str, video_id: object = None, *, at: float | None = None) -> dict[str, Any]:
    """A signed callback, as keywords of a client's `post`; `at`: the time in it, if the receiver's is not the real."""
    data = {"task_id": task_id} | ({"video_id": str(video_id)} if video_id else {})
    body = json.dumps({"type": "task.updated", "data": data}).encode()
    headers = webhooks.headers(CALLBACK_SECRET, f"msg_{uuid4().hex}", int(at or time.time()), body)
    return {
        "url": "/callbacks/runway",
        "content": body,
        "headers": headers | {"content-type": "application/json"},
    }


# A video that came through the API or from a linked table has its prompt in its request.
_PROMPTS = "SELECT id, COALESCE(prompt, input ->> 'promptText') AS prompt FROM taxiway.videos"


async def videos_by_prompt(w: World) -> dict[str, UUID]:
    """Which video a prompt belongs to."""
    return {row["prompt"]: row["id"] for row in await w.rows(_PROMPTS)}


async def task_ids(w: World) -> set[str]:
    """Every task in the ledger."""
    return {row["task_id"] for row in await w.rows("SELECT task_id FROM taxiway.submissions WHERE task_id IS NOT NULL")}


async def assert_invariants(w: World) -> Accounts:
    """Assert that every video has ended and was paid once per consent at most, and that both books agree."""
    found = await accounts(w)
    assert not found.complaints, found.complaints
    return found


async def accounts(w: World) -> Accounts:
    """What the judge finds, without a verdict."""
    async with connected(w.url) as connection:
        prompts = {row["id"]: row["prompt"] for row in await connection.fetch(_PROMPTS)}
        found = await settle(connection, [asdict(entry) for entry in w.creates], prompts)
        found.films = (await linked_app.settle(connection)).complaints
        return found
