"""Single moments of a failover: a claim that no standby has, a key that is sent again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.cluster.moments import COUNT, database, enqueue, fail_over, most_creates
from tests.cluster.nodes import Cluster, Node
from tests.database import connected, execute
from tests.world import IMAGE, World, world

pytestmark = [pytest.mark.anyio, pytest.mark.cluster]

WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()"
CANCEL = f"SELECT pg_cancel_backend(pid) FROM ({WAITING}) AS waiting"
PAUSES = "SELECT reason FROM taxiway.models WHERE reason IS NOT NULL"


def on(primary: Node, w: World) -> str:
    """This world's database, on the primary itself."""
    return primary.url(w.url.partition("?")[0].rpartition("/")[2])


async def until_commits_wait(made: Cluster, primary: Node, w: World) -> None:
    async def wait() -> bool:
        async with connected(on(primary, w)) as connection:
            return bool(await connection.fetch(WAITING))

    await made.until(wait, "waiting for its standby")


@asynccontextmanager
async def cancelling(primary: Node, w: World) -> AsyncIterator[None]:
    """Whatever waits for a standby in this world's database is cancelled, again and again."""

    async def run() -> None:
        async with connected(on(primary, w)) as connection:
            while True:
                await connection.execute(CANCEL)
                await asyncio.sleep(0)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def queue_of(made: Cluster, setting: str) -> AsyncIterator[World]:
    """Videos that wait to be sent, by a role with this `synchronous_commit`."""
    async with database(made, keeps=True) as url:
        name = f"taxiway_{setting}"
        await execute(
            url, f"CREATE ROLE {name} LOGIN SUPERUSER", f"ALTER ROLE {name} SET synchronous_commit = {setting}"
        )
        async with world(url.replace("postgres@", f"{name}@")) as w:
            await enqueue(w)
            yield w


async def test_a_claim_that_no_standby_has_is_not_sent(strict: Cluster) -> None:
    """Neither where the role asks for fast commits, nor where a wait is cancelled, which PostgreSQL calls a success."""
    async with queue_of(strict, "off") as fast, queue_of(strict, "on") as cancelled:
        primary = await strict.primary()
        primary.wire.stall()
        ticks = [asyncio.create_task(fast.tick())]
        await until_commits_wait(strict, primary, fast)
        async with cancelling(primary, cancelled):
            ticks.append(asyncio.create_task(cancelled.tick()))
            await asyncio.wait(ticks[1:])
        for w in (fast, cancelled):
            assert w.creates == [], "nothing is sent that only this server knows of"
        await fail_over(strict, primary, fast, cancelled)
        await asyncio.gather(*ticks, return_exceptions=True)
        for w in (fast, cancelled):
            await w.finish()
            assert len(w.creates) == COUNT
            assert most_creates(w) == 1
            assert await w.rows(PAUSES) == []


async def ask(w: World) -> httpx.Response:
    """The same request each time."""
    body = {"input": {"promptText": "a boat", "promptImage": IMAGE}}
    return await w.api.post("/videos", json=body, headers={"idempotency-key": "one"})


async def test_a_key_is_not_accepted_for_a_video_that_only_the_old_primary_has(strict: Cluster) -> None:
    async with database(strict, keeps=True) as url, world(url) as w:
        await enqueue(w, 1)
        primary = await strict.primary()
        primary.wire.stall()
        async with cancelling(primary, w):
            answers = [await ask(w), await ask(w)]
        waiting = asyncio.create_task(ask(w))
        await until_commits_wait(strict, primary, w)
        await fail_over(strict, primary, w)
        answers.append(await waiting)
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        answer = await ask(w)
        assert answer.status_code == 202
        assert (await w.api.get(f"/videos/{answer.json()['id']}")).status_code == 200
        await w.finish()
        assert most_creates(w) == 1


async def test_a_switchover_and_a_weekend_change_nothing(strict: Cluster) -> None:
    async with database(strict, keeps=False) as url, world(url) as w:
        await enqueue(w)
        await w.tick()
        await strict.switch_over()
        await strict.whole()
        await enqueue(w)
        await w.finish()
        async with world(url) as fresh:
            await fresh.later(days=3)
            await enqueue(fresh)
            await fresh.finish()
            assert len(fresh.creates) == COUNT
        assert (len(w.creates), most_creates(w)) == (2 * COUNT, 1)
        assert await w.rows(PAUSES) == []
        kinds = [row["kind"] for row in await w.rows("SELECT kind FROM taxiway.events WHERE actor = 'submit'")]
        assert "switchover" in kinds
        assert "restored" not in kinds
