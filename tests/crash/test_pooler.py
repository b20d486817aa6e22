"""The main paths behind PgBouncer in transaction mode, where no two transactions need share a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from service import worker
from service.context import Context
from service.errors import DatabaseUnavailable
from service.installer.migrate import migrate
from service.installer.view import make_view
from service.store import claim as claims
from service.store.database import Database
from service.store.listener import Listener
from service.store.url import normalise
from service.tick import tick
from tests.crash import linked_app
from tests.crash.harness import assert_invariants, callback
from tests.crash.linked_scenarios import film
from tests.crash.pgbouncer import PATIENCE_SECONDS, SESSIONS, Pooler, pooler_of
from tests.crash.test_database_faults import Ground, ground
from tests.database import connected
from tests.db.test_view import INSERT, LAST_FIVE
from tests.world import World

pytestmark = [pytest.mark.anyio, pytest.mark.crash]


@pytest.fixture(scope="module")
def pooler(server_url: str) -> Iterator[Pooler]:
    with pooler_of(server_url) as made:
        yield made


@asynccontextmanager
async def pooled(pooler: Pooler, database_url: str, **changes: Any) -> AsyncIterator[Ground]:
    async with ground(database_url, pooler.url(database_url), **changes) as g:
        yield g


async def everything_completed(w: World, count: int) -> None:
    found = await assert_invariants(w)
    assert dict(found.statuses) == {"completed": count}
    assert len(w.creates) == count


async def finish(g: Ground) -> None:
    """Tick through the pooler, a minute apart, until nothing is under way."""
    for _ in range(12):
        await g.tick()
        if not await g.world.rows("SELECT FROM taxiway.videos WHERE finished_at IS NULL"):
            return
        await g.world.later(minutes=1)
    raise AssertionError(await g.world.rows("SELECT status, error_message FROM taxiway.videos"))


async def test_the_pooler_is_known_and_pools_transactions(pooler: Pooler, database_url: str) -> None:
    target = normalise(pooler.url(database_url))
    assert target.pooler
    assert target.options["statement_cache_size"] == 0
    database = Database(target, pool_size=10)
    try:
        sessions = await asyncio.gather(*(database.fetchval("SELECT pg_backend_pid()") for _ in range(40)))
        assert 1 <= len(set(sessions)) <= SESSIONS
    finally:
        await database.close()


async def test_the_schema_is_made_through_it(pooler: Pooler, empty_database_url: str) -> None:
    url = pooler.url(empty_database_url)
    await migrate(url)
    await asyncio.gather(migrate(url), migrate(url))
    async with pooled(pooler, empty_database_url) as g:
        await g.enqueue()
        await finish(g)
        await everything_completed(g.world, 1)


async def test_an_apps_sql_works_through_it(pooler: Pooler, database_url: str) -> None:
    url = pooler.url(database_url)
    await make_view(url)
    async with pooled(pooler, database_url) as g:
        app = Database(normalise(url), pool_size=5)
        try:
            for _ in range(2 * SESSIONS):  # on every session behind it
                video_id = await app.fetchval(f"{INSERT} RETURNING id")
            await app.execute("UPDATE videos SET status = 'cancelled' WHERE id = $1", video_id)
            await finish(g)
            statuses = [row["status"] for row in await app.fetch(LAST_FIVE)]
        finally:
            await app.close()
        assert statuses == ["cancelled", *["completed"] * 4]


async def test_a_whole_life_through_it(pooler: Pooler, database_url: str) -> None:
    async with pooled(pooler, database_url) as g:
        w = g.world
        first = await g.enqueue("first")
        assert await g.enqueue("first") == first
        assert (await g.tick())["submit"]["accepted"] == 1
        await w.later(minutes=1)
        sent = callback((await w.row(first))["runway_video_id"])
        answer = await g.retry_until_saved("POST", sent.pop("url"), 202, **sent)
        assert answer.json() == {"result": "kept"}
        assert (await g.tick())["poll"]["completed"] == 1
        view = (await g.retry_until_saved("GET", f"/videos/{first}", 200)).json()
        assert view["status"] == "completed"
        assert (await g.retry_until_saved("GET", f"/videos/{first}/file", 302)).headers["location"] == view["video_url"]
        assert len((await g.retry_until_saved("GET", f"/videos/{first}/submissions", 200)).json()["submissions"]) == 1
        listed = (await g.retry_until_saved("GET", "/videos?status=completed&limit=1", 200)).json()
        assert [video["id"] for video in listed["videos"]] == [str(first)]
        assert (await g.retry_until_saved("GET", "/health", 200)).json()["counts"] == {"completed": 1}
        await everything_completed(w, 1)


async def test_a_linked_table_through_it(pooler: Pooler, database_url: str) -> None:
    """Its trigger charges and refuses; the app queues one row again, cancels one, deletes one."""
    async with pooled(pooler, database_url) as g:
        w = g.world
        await linked_app.install(database_url)
        kept, unwanted, deleted = [await film(g) for _ in range(3)]
        broke, stubborn = await film(g, user=linked_app.BROKE), await film(g, temper=0)
        counts = await g.tick()
        assert (counts["intake"]["mapped"], counts["submit"]["accepted"]) == (5, 4)
        async with linked_app.as_app(database_url) as app:
            await app.execute(linked_app.CANCEL, unwanted)
            await app.execute(linked_app.REMOVE, deleted)
        await finish(g)
        assert await words_of(w) == {kept: "READY", unwanted: "CANCELED", broke: "BROKEN", stubborn: "RENDERING"}
        async with linked_app.as_app(database_url) as app:
            await app.execute(linked_app.REQUEUE, kept)
        await finish(g)
        found = await assert_invariants(w)
        assert dict(found.statuses) == {"completed": 2, "cancelled": 2, "failed": 1}
        assert len(w.creates) == 5
        assert not await w.rows("SELECT error FROM taxiway.ticks WHERE error IS NOT NULL")


async def words_of(w: World) -> dict[str, str]:
    """The status of each row of the linked table."""
    return {row["id"]: row["status"] for row in await w.rows('SELECT id, status::text FROM studio."Film"')}


async def test_cancel_and_retry_through_it(pooler: Pooler, database_url: str) -> None:
    async with pooled(pooler, database_url) as g:
        w = g.world
        doomed = await g.enqueue("doomed")
        await g.tick()
        await g.retry_until_saved("POST", f"/videos/{doomed}/cancel", 200)
        assert (await g.tick())["cancel"]["deleted"] == 1
        w.faults("drop_after")
        unknown = await g.enqueue("unknown")
        await g.tick()
        await g.retry_until_saved("POST", f"/videos/{unknown}/retry", 409)
        await g.retry_until_saved("POST", f"/videos/{unknown}/retry", 202, json={"accept_double_charge": True})
        await finish(g)
        found = await assert_invariants(w)
        assert dict(found.statuses) == {"cancelled": 1, "completed": 1}
        assert (len(w.creates), found.consents) == (3, 1)


async def test_a_submission_lapses_and_its_video_is_accounted_for_through_it(pooler: Pooler, database_url: str) -> None:
    async with pooled(pooler, database_url) as g:
        w = g.world
        await g.enqueue()
        assert len(await claims.claim(g.ctx.database, 1, 60)) == 1  # and then its holder dies
        await w.later(minutes=3)
        assert (await g.tick())["rescue"]["lapsed"] == 1
        found = await assert_invariants(w)
        assert dict(found.errors) == {"SUBMISSION_UNKNOWN": 1}


async def test_ten_ticks_at_once_through_it(pooler: Pooler, database_url: str) -> None:
    async with pooled(pooler, database_url, submit_concurrency=10) as g:
        for number in range(60):
            await g.enqueue(f"video {number}")
        contexts = [copy_of(g.ctx, pooler.url(database_url)) for _ in range(10)]
        try:
            reports = await asyncio.gather(*(tick(ctx) for ctx in contexts))
        finally:
            await asyncio.gather(*(ctx.database.close() for ctx in contexts))
        assert not [one.errors for one in reports if one.errors]
        assert sum(one.counts["submit"]["accepted"] for one in reports) == 60
        await finish(g)
        await everything_completed(g.world, 60)


def copy_of(ctx: Context, url: str) -> Context:
    """Another process, as far as the database can tell."""
    return replace(ctx, database=Database(normalise(url), pool_size=3))


async def test_a_worker_works_without_listen(
    pooler: Pooler, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pooled(pooler, database_url) as g:
        tried: list[object] = []
        monkeypatch.setattr(asyncpg, "connect", lambda *_, **__: tried.append(1))
        listener = Listener(g.ctx.database.target, worker.CHANNEL, lambda: None)
        await listener.ensure()
        monkeypatch.undo()
        assert tried == []  # LISTEN never delivers there
        video_id = await g.enqueue()
        stop = worker.Stop()

        async def work() -> None:
            await tick(g.ctx)
            if (await g.world.row(video_id))["status"] == "completed":
                stop.set()
            else:
                await g.world.later(minutes=1)

        async with asyncio.timeout(PATIENCE_SECONDS):
            await worker.run_forever(g.ctx, work, every=0.01, stop=stop)
        await everything_completed(g.world, 1)


async def test_the_pooler_dies_and_comes_back(pooler: Pooler, database_url: str) -> None:
    async with pooled(pooler, database_url) as g:
        await g.enqueue("before")
        await g.tick()
        await asyncio.to_thread(pooler.kill)
        assert await g.tick() == {}
        with pytest.raises(DatabaseUnavailable):
            await g.ctx.database.fetchval("SELECT 1")
        await asyncio.to_thread(pooler.start)
        await g.enqueue("after")
        await finish(g)
        await everything_completed(g.world, 2)


async def test_the_sessions_behind_it_die_and_cost_at_most_their_own_statement(
    pooler: Pooler, database_url: str
) -> None:
    async with pooled(pooler, database_url) as g:
        await g.enqueue("before")
        await g.tick()
        async with connected(database_url) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await g.enqueue("after")
        await finish(g)
        await everything_completed(g.world, 2)
