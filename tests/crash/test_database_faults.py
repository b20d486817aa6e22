"""The database fails in every way it can. Nothing is lost, nothing is paid twice, and all is made in the end.

Runway's own book is the judge (tests/crash/accounts.py). The service runs in this process behind a wire that can be
cut; servers that are stopped, or run out of room, are servers of the test's own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from service.app import create_app
from service.context import Context
from service.errors import DatabaseUnavailable
from service.installer.migrate import migrate
from service.local.postgres import Server
from service.local.postgres_home import read_pid
from service.store import database as database_module
from service.store import video_rows as videos_module
from service.store.database import Database
from service.store.url import normalise
from service.tick import tick
from tests.crash.cutting import wire
from tests.crash.harness import ACCOUNT, assert_invariants, callback, known_from
from tests.crash.proxy import Cut, Step, Watch, postgres_proxy
from tests.database import TABLES, connected, temporary_database
from tests.world import API_KEY, IMAGE, World, world

pytestmark = [pytest.mark.anyio, pytest.mark.crash]

CLAIM = "WITH model AS"
EVERY_CASE = bool(os.environ.get("TAXIWAY_EVERY_CASE"))  # also every repetition of a statement

Hook = Callable[[httpx.Request], Awaitable[None]]


class Runway(httpx.AsyncBaseTransport):
    """The simulated Runway; `after` runs when it has done what was asked, and before we learn of it."""

    def __init__(self, w: World, after: Hook) -> None:
        self._inner, self._after = httpx.ASGITransport(app=w.runway), after

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        await response.aread()
        await self._after(request)
        return response


@dataclass
class Ground:
    """A world to look from, and a context of the service that reaches its database in another way."""

    world: World
    ctx: Context
    api: httpx.AsyncClient

    async def tick(self) -> dict[str, Any]:
        """One tick; {} if the database was away for all of it."""
        try:
            counts = (await tick(self.ctx)).as_json()
        except DatabaseUnavailable:
            return {}
        errors = counts.get("errors", {})
        assert all(words.startswith("PostgreSQL does not answer") for words in errors.values()), errors
        return counts

    async def enqueue(self, prompt: str | None = None) -> UUID:
        """Hand in one video, as an app does: with a key, and again for as long as the answer is 503."""
        prompt = prompt or f"video {uuid4()}"
        body = {"input": {"promptText": prompt, "promptImage": IMAGE}}
        return UUID((await self.retry_until_saved("POST", "/videos", 202, json=body, key=prompt)).json()["id"])

    async def retry_until_saved(
        self, method: str, path: str, *wanted: int, key: str = "", headers: Any = None, **how: Any
    ) -> httpx.Response:
        """Call until the answer is not 503."""
        headers = headers or ({"idempotency-key": key} if key else {})
        for _ in range(5):
            response = await self.api.request(method, path, headers=headers, **how)
            if response.status_code != 503:
                assert response.status_code in wanted, (path, response.status_code, response.text)
                return response
            assert "Retry-After" in response.headers
        raise AssertionError(response.text)

    def runway(self, after: Hook) -> Context:
        """The context with a hook after every call of Runway."""
        return replace(self.ctx, transport=lambda: Runway(self.world, after))


@asynccontextmanager
async def ground(
    database_url: str, through: str | None = None, *, pool_size: int = 5, **changes: Any
) -> AsyncIterator[Ground]:
    """`through`: the URL that the service uses instead."""
    async with world(database_url, options=ACCOUNT, **changes) as w:
        ctx = replace(w.ctx, database=Database(normalise(through or database_url), pool_size=pool_size))
        transport = httpx.ASGITransport(app=create_app(ctx))
        headers = {"authorization": f"Bearer {API_KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://taxiway.test", headers=headers) as api:
            try:
                if through is not None:
                    await known_from(database_url, through)
                yield Ground(w, ctx, api)
            finally:
                await ctx.database.close()


async def completed(w: World, creates: int) -> None:
    """The fault is gone: everything completes, each paid once, and the books agree."""
    await w.finish()
    found = await assert_invariants(w)
    assert dict(found.statuses) == {"completed": creates}
    assert (len(w.creates), found.creates) == (creates, creates)


def once(action: Callable[[], Awaitable[None]]) -> Hook:
    """Do it after the first create."""
    done: list[bool] = []

    async def hook(request: httpx.Request) -> None:
        if request.method == "POST" and not done:
            done.append(True)
            await action()

    return hook


def waits(ctx: Context, action: Callable[[], Awaitable[None]], after: int = 3) -> tuple[Context, list[float]]:
    """A context whose waits last no time; `action` is done before wait number `after`; and how long they would last."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == after:
            await action()
        await asyncio.sleep(0)

    return replace(ctx, sleep=sleep), slept


# Every statement of two lives, cut before it reaches the server, and when its answer is on its way back.


async def two_lives(g: Ground) -> None:
    """One video that completes by a callback, and one that is cancelled at Runway; at every call the wire may break."""
    w = g.world
    first = await g.enqueue("first")
    await g.tick()
    await w.later(seconds=6)
    await g.tick()
    second = await g.enqueue("second")
    await g.tick()
    await w.later(minutes=1)
    task_id = (await w.row(first))["runway_video_id"]
    if task_id:
        sent = callback(task_id)
        await g.retry_until_saved("POST", sent.pop("url"), 200, 202, **sent)
    await g.retry_until_saved("GET", f"/videos/{first}", 200)
    await g.retry_until_saved("POST", f"/videos/{second}/cancel", 200, 409)
    await g.retry_until_saved("GET", f"/videos/{first}/submissions", 200)
    await g.tick()


async def steps_of_two_lives(url: str) -> list[Step]:
    watch = Watch()
    async with postgres_proxy(url, watch) as proxy, ground(url, proxy.url) as g:
        watch.restart()
        await two_lives(g)
        await g.world.rows(f"TRUNCATE {TABLES}")
    return watch.steps if EVERY_CASE else [step for step in watch.steps if step.nth == 1]


async def cut_at(step: Step, url: str) -> None:
    """Two lives with one cut; then the fault is gone."""
    watch = Watch()
    cuts: list[Step] = []

    async def hook(reached: Step) -> None:
        if reached == step:
            cuts.append(step)
            raise Cut

    async with postgres_proxy(url, watch) as proxy, ground(url, proxy.url) as g:
        watch.restart(hook)
        await two_lives(g)
        w = g.world
        await w.later(minutes=3)  # past the deadline of a submission that nobody was told of
        await w.finish()
        for _ in range(4):  # a task that was deleted, although that was not saved, is asked about for five minutes
            await w.later(minutes=2)
            await w.tick()
        found = await assert_invariants(w)
        assert cuts, f"never reached {step}"
        assert len(w.creates) <= 2, step
        # The one loss that cannot be helped: a submission was committed, and nobody was told. Nothing was sent on it.
        if not (step.name.startswith(CLAIM) and step.moment == "after"):
            assert not found.errors, (step, found.errors)
        await w.rows(f"TRUNCATE {TABLES}")


async def test_a_cut_at_every_statement_loses_nothing(
    database_url: str, record_property: Callable[[str, object], None]
) -> None:
    steps = await steps_of_two_lives(database_url)
    for step in steps:
        await cut_at(step, database_url)
    names = {step.name for step in steps}
    assert len(names) >= 18  # what has nothing to do asks nothing
    assert any(name.startswith(CLAIM) for name in names)
    record_property("connections cut", len(steps))
    print(f"\ncut {len(steps)} connections, at {len(names)} statements")  # noqa: T201  # shown by -s


# The answer of Runway, while the database cannot take it.


async def test_an_accepted_id_is_saved_when_the_database_is_back(database_url: str) -> None:
    async with wire(database_url) as line, ground(database_url, line.url) as g:
        video_id = await g.enqueue()
        assert line.proxy is not None
        proxy = line.proxy

        async def away() -> None:
            proxy.refusing = True
            await line.cut()

        async def back() -> None:
            proxy.refusing = False

        ctx, slept = waits(g.runway(once(away)), back, after=6)
        await tick(ctx)
        assert slept == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
        row = await g.world.row(video_id)
        assert (row["status"], row["runway_video_id"]) == ("processing", g.world.creates[0].task_id)
        await completed(g.world, 1)


async def test_an_accepted_id_is_saved_after_a_time_of_silence(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATEMENT_SECONDS", "CONNECT_SECONDS", "RELEASE_SECONDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(database_module, name, 1.0)  # a statement takes its time on a busy machine
    async with wire(database_url) as line, ground(database_url, line.url) as g:
        await g.enqueue()

        async def silent() -> None:
            line.freeze()

        async def heard() -> None:
            line.thaw()

        ctx, slept = waits(g.runway(once(silent)), heard)
        await tick(ctx)
        assert len(slept) >= 3
        assert (await g.world.rows("SELECT task_id FROM taxiway.submissions"))[0]["task_id"] == g.world.creates[
            0
        ].task_id
        await completed(g.world, 1)


async def test_the_pool_is_exhausted_while_an_id_waits_to_be_saved(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "ACQUIRE_SECONDS", 0.1)
    async with ground(database_url, pool_size=1) as g:
        await g.enqueue()
        release = asyncio.Event()
        holders: list[asyncio.Task[None]] = []

        async def hold() -> None:
            held = asyncio.Event()

            async def holder() -> None:
                async with g.ctx.database.connection():
                    held.set()
                    await release.wait()

            holders.append(asyncio.create_task(holder()))
            await held.wait()

        async def let_go() -> None:
            release.set()
            await holders[0]

        ctx, slept = waits(g.runway(once(hold)), let_go)
        counts = (await tick(ctx)).as_json()
        assert counts["submit"]["accepted"] == 1
        assert len(slept) >= 3
        await completed(g.world, 1)


async def test_a_read_only_database_takes_nothing_and_forgets_nothing(database_url: str) -> None:
    async with ground(database_url) as g:
        w = g.world
        await g.enqueue()
        [name] = [row[0] for row in await w.rows("SELECT current_database()")]

        async def read_only(on: bool) -> None:
            async with connected(w.url) as admin:
                await admin.execute("SET default_transaction_read_only = off")
                await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {on}')
                await admin.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND $1", on,
                )  # fmt: skip

        async def close() -> None:
            await read_only(True)

        async def open_again() -> None:
            refused = await g.api.post("/videos", json={"input": {"promptText": "x", "promptImage": IMAGE}})
            assert (refused.status_code, refused.json()["detail"]) == (503, "Try again shortly.")
            assert (await g.api.get("/videos")).status_code == 200
            assert await g.tick() == {}
            await read_only(False)  # connections of the closed time stay read-only, and must not be used again

        ctx, slept = waits(g.runway(once(close)), open_again)
        counts = (await tick(ctx)).as_json()
        assert counts["submit"]["accepted"] == 1
        assert len(slept) >= 3
        await g.enqueue()
        await g.tick()
        await completed(w, 2)


# A server that stops, in the middle of a tick.


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps what it was told to commit, whatever becomes of it."""
    server = Server(tmp_path_factory.mktemp("own"))
    server.start()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_database(own_server: Server) -> Iterator[str]:
    with temporary_database(own_server.url("postgres"), fill=migrate) as url:
        yield url


def postmaster(server: Server) -> int:
    pid = read_pid(server.home.data / "postmaster.pid")
    assert pid is not None
    return pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_a_server_stops_in_the_middle_of_a_tick(
    own_server: Server, own_database: str, number: signal.Signals
) -> None:
    async with ground(own_database, submit_concurrency=4) as g:
        w = g.world
        for _ in range(12):
            await g.enqueue()

        stopped = asyncio.Event()

        async def stop() -> None:
            os.kill(postmaster(own_server), number)
            await asyncio.to_thread(own_server.stop)
            stopped.set()

        async def start() -> None:
            await stopped.wait()
            await asyncio.to_thread(own_server.start)

        sent: list[str] = []

        async def hook(request: httpx.Request) -> None:
            sent.append(request.url.path)
            if len(sent) == 6:  # in the second batch: others are being saved, and more would be claimed
                await stop()

        ctx, slept = waits(g.runway(hook), start, after=4)
        with suppress(DatabaseUnavailable):
            await tick(ctx)
        assert len(slept) >= 4
        await w.later(minutes=3)
        await w.finish()
        found = await assert_invariants(w)
        # Submissions that were committed while nobody could be told of them were never used: nothing was sent on them.
        unknown = found.statuses["failed"]
        assert found.statuses["completed"] == 12 - unknown
        assert len(w.creates) == 12 - unknown
        assert unknown <= 4


# Disk full.


def _limit(server: Server, pids: list[int], limit: int | str) -> None:
    account = server.home.account
    who: dict[str, Any] = {"user": account.uid, "group": account.gid, "extra_groups": ()} if account else {}
    for pid in pids:  # only the server's own account may do this to it, whatever else root may do
        command = ["prlimit", "--pid", str(pid), f"--fsize={limit}:"]
        subprocess.run(command, check=True, cwd="/", **who)


FILLER = "INSERT INTO taxiway.videos (status, prompt, finished_at) VALUES ('completed', repeat('x', $1), taxiway.now())"


async def fill_up(w: World) -> int:
    """Make the table larger than a segment of the log, without room in its pages; the bytes of its file."""
    async with connected(w.url) as connection:
        await connection.execute("ALTER TABLE taxiway.videos SET (autovacuum_enabled = off)")
        await connection.execute(
            "INSERT INTO taxiway.videos (status, prompt, finished_at) SELECT 'completed', "
            "repeat(md5(n::text), 58), taxiway.now()"
            " FROM generate_series(1, 9500) AS n"
        )
        return int(await connection.fetchval("SELECT pg_relation_size('taxiway.videos')"))


async def test_a_full_disk_takes_nothing_and_forgets_nothing(own_server: Server, own_database: str) -> None:
    async with ground(own_database) as g:
        w = g.world
        size = await fill_up(w)
        await g.enqueue()
        others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        async with connected(w.url) as admin:
            for table in ("videos", "submissions"):  # no room is kept for new versions of rows
                await admin.execute(f"ALTER TABLE taxiway.{table} SET (fillfactor = 100)")
            for length in (1500, 1500, 1500, 300, 1500):  # so the claim writes its version on another page
                await admin.execute(FILLER, length)
            before = await admin.fetchval("SELECT pg_relation_size('taxiway.videos')")
            assert before >= size > 16 * 1024 * 1024

            async def everybody() -> list[int]:
                return [postmaster(own_server), *(row["pid"] for row in await admin.fetch(others))]

            async def fill() -> None:
                _limit(own_server, await everybody(), before)  # and whoever the server starts from now on
                for length in (1500, 300, 1):  # whatever room is left in the last pages
                    await until_full(admin, length)

            async def make_room() -> None:
                body = {"input": {"promptText": "x" * 999, "promptImage": IMAGE}}
                refused = await g.api.post("/videos", json=body)
                assert (refused.status_code, refused.json()["detail"]) == (503, "Try again shortly.")
                _limit(own_server, await everybody(), "unlimited")

            await tick(g.runway(once(fill)))
            [kept] = await w.rows("SELECT task_id, unsaved IS NOT NULL AS is_unsaved FROM taxiway.submissions")
            assert tuple(kept) == (w.creates[0].task_id, True)  # the ledger had room for the id, which comes first
            await make_room()
        await w.rows("DELETE FROM taxiway.videos WHERE input IS NULL")
        await completed(w, 1)


async def until_full(connection: asyncpg.Connection[asyncpg.Record], length: int) -> None:
    """Insert rows until there is no room for another."""
    await connection.execute("SET synchronous_commit = off")
    for _ in range(5_000):
        try:
            await connection.execute(FILLER, length)
        except asyncpg.InternalServerError:  # could not extend file: File too large
            return
    raise AssertionError("the disk never was full")


# Rows that the app holds, in a transaction that sleeps.


@asynccontextmanager
async def held(w: World, *video_ids: UUID) -> AsyncIterator[None]:
    """An app's transaction has changed these rows, and neither commits nor ends."""
    async with connected(w.url) as app, app.transaction():
        await app.execute("UPDATE taxiway.videos SET user_id = 'app' WHERE id = ANY($1)", list(video_ids))
        yield


async def due(w: World, *video_ids: UUID) -> None:
    """Let a minute pass for these videos; those that somebody holds cannot be touched."""
    w.clock.now += 60
    async with connected(w.url) as connection:
        await connection.execute(
            "UPDATE taxiway.videos SET poll_after = taxiway.now(), polled_at = NULL "
            "WHERE id = ANY($1) AND finished_at IS NULL",
            list(video_ids),
        )


async def test_a_row_held_at_the_claim_delays_itself_alone(database_url: str) -> None:
    async with ground(database_url) as g:
        w = g.world
        ids = [await g.enqueue() for _ in range(4)]
        async with held(w, ids[0]):
            async with asyncio.timeout(10):
                counts = await g.tick()
            assert counts["submit"]["accepted"] == 3
            await due(w, *ids[1:])
            assert (await g.tick())["poll"]["completed"] == 3
        await completed(w, 4)


async def test_a_row_held_at_the_save_goes_to_the_ledger_alone(database_url: str) -> None:
    async with ground(database_url) as g:
        w = g.world
        ids = [await g.enqueue() for _ in range(3)]
        app = await asyncpg.connect(w.url)

        async def hold() -> None:
            await app.execute("BEGIN")
            await app.execute("UPDATE taxiway.videos SET user_id = 'app' WHERE id = $1", ids[0])

        try:
            async with asyncio.timeout(10):
                counts = (await tick(g.runway(once(hold)))).as_json()
            assert counts["submit"]["accepted"] == 3
            [entry] = await w.ledger(ids[0])
            assert (entry["outcome"], entry["task_id"] is not None) == ("accepted", True)
            assert entry["unsaved"] is not None
            assert [(await w.row(id))["open_submission_id"] is None for id in ids] == [False, True, True]
            assert (await g.tick())["rescue"]["completed"] == 0
            await due(w, *ids[1:])
            assert (await g.tick())["poll"]["completed"] == 2
            await app.execute("COMMIT")
        finally:
            await app.close()
        assert (await g.tick())["rescue"]["completed"] == 1
        await completed(w, 3)


async def test_a_row_held_at_the_end_is_finalized_when_it_is_free(database_url: str) -> None:
    async with ground(database_url) as g:
        w = g.world
        ids = [await g.enqueue() for _ in range(3)]
        await g.tick()
        await w.later(minutes=1)
        async with held(w, ids[0]):
            async with asyncio.timeout(10):
                assert (await g.tick())["poll"]["completed"] == 2
                task_id = (await w.row(ids[0]))["runway_video_id"]
                sent = callback(task_id)
                assert (await g.retry_until_saved("POST", sent.pop("url"), 202, **sent)).json() == {"result": "kept"}
                assert (await g.retry_until_saved("GET", f"/videos/{ids[0]}", 200)).json()["status"] == "processing"
        assert (await g.tick())["rescue"]["matched"] == 1
        await completed(w, 3)


async def test_a_row_held_at_a_cancel_or_retry_is_reported_and_delays_nobody(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos_module, "LOCK_MILLISECONDS", 100)
    async with ground(database_url, pool_size=2) as g:
        w = g.world
        ids = [await g.enqueue() for _ in range(3)]
        await g.tick()
        async with held(w, ids[0]):
            calls = [g.api.post(f"/videos/{ids[0]}/cancel") for _ in range(6)]
            async with asyncio.timeout(10):
                *refused, other = await asyncio.gather(*calls, g.api.post(f"/videos/{ids[1]}/cancel"))
            assert {answer.status_code for answer in refused} == {409}
            assert "another transaction holds this video" in refused[0].json()["detail"]
            assert other.status_code == 200
        assert (await g.api.post(f"/videos/{ids[0]}/cancel")).status_code == 200
        await g.tick()
        await w.finish()
        found = await assert_invariants(w)
        assert dict(found.statuses) == {"cancelled": 2, "completed": 1}
        assert sorted(entry.deleted for entry in w.creates) == [False, True, True]


async def test_a_cancel_reaches_runway_although_the_row_is_held_afterwards(database_url: str) -> None:
    async with ground(database_url) as g:
        w = g.world
        video_id = await g.enqueue()
        await g.tick()
        await g.retry_until_saved("POST", f"/videos/{video_id}/cancel", 200)
        async with held(w, video_id):
            async with asyncio.timeout(10):
                assert (await g.tick())["cancel"]["deleted"] == 1
        assert w.creates[0].deleted
        await w.finish()
        await assert_invariants(w)


async def test_a_transaction_that_is_open_for_an_hour_delays_no_other_row(database_url: str) -> None:
    async with ground(database_url) as g:
        w = g.world
        ids = [await g.enqueue() for _ in range(3)]
        async with connected(w.url) as app, app.transaction(isolation="repeatable_read"):
            # It has read everything, written rows of its own, and holds one of ours.
            await app.fetch("SELECT * FROM taxiway.videos")
            await app.execute("INSERT INTO taxiway.videos (prompt, status) VALUES ('not yet', 'queued')")
            await app.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", ids[0])
            for _ in range(3):
                async with asyncio.timeout(10):
                    await g.tick()
                await due(w, *ids[1:])
            rows = await w.rows("SELECT status FROM taxiway.videos WHERE id = ANY($1)", ids[1:])
            assert [row["status"] for row in rows] == ["completed", "completed"]
            assert (await w.row(ids[0]))["status"] == "queued"
            assert (await g.api.get("/health")).status_code == 200
        await w.finish()
        found = await assert_invariants(w)
        assert dict(found.statuses) == {"completed": 4}
