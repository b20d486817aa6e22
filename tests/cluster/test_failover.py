"""Single moments of a failover: a claim that no standby has, a key that is sent again, a primary that lost commits."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from uuid import uuid4

import httpx
import pytest

from service.doctor import storage
from service.doctor.checks import CheckStatus
from service.installer.migrate import migrate
from service.store import doctor_queries
from tests.cluster.door import Door
from tests.cluster.nodes import Cluster, Node, Options, cluster, require_patroni
from tests.crash.accounts import settle
from tests.database import connected, execute
from tests.world import IMAGE, World, world

pytestmark = [pytest.mark.anyio, pytest.mark.cluster]

COUNT = 10
ADMIN = "admin-token-for-tests-1"
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
CANCEL = f"SELECT pg_cancel_backend(pid) FROM ({WAITING}) AS waiting"
LAGGING = """
    SELECT count(*) FROM pg_stat_replication WHERE flush_lsn IS DISTINCT FROM pg_current_wal_lsn()
"""
PROMPTS = "SELECT id, prompt FROM taxiway.videos"
PAUSES = "SELECT reason FROM taxiway.models WHERE reason IS NOT NULL"


@pytest.fixture(scope="module", autouse=True)
def patroni() -> None:
    """Everything here needs it."""
    require_patroni()


@pytest.fixture(scope="module")
async def strict(patroni: None) -> AsyncIterator[Cluster]:
    """A cluster whose commits wait for a standby."""
    async with cluster(Options()) as made:
        yield made


@asynccontextmanager
async def database(made: Cluster, *, keeps: bool) -> AsyncIterator[str]:
    """A migrated database of this test's own, behind a door, on a whole cluster."""
    await made.whole()
    async with Door(made.nodes, keeps=keeps).open() as door:
        name = f"taxiway_{uuid4().hex[:12]}"
        await execute(door.url("postgres"), f"CREATE DATABASE {name}")
        await migrate(door.url(name))
        yield door.url(name)


async def until_commits_wait(made: Cluster, primary: Node, count: int = 1) -> None:
    async def wait() -> bool:
        async with connected(primary.url()) as connection:
            return len(await connection.fetch(WAITING)) >= count

    await made.until(wait, "waiting for its standby")


@asynccontextmanager
async def cancelling(primary: Node) -> AsyncIterator[None]:
    """Whatever waits for a standby is cancelled, again and again."""

    async def run() -> None:
        async with connected(primary.url()) as connection:
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


async def fail_over(made: Cluster, primary: Node) -> None:
    """The primary dies with all that no standby has, and another one takes over."""
    await primary.kill()
    await made.another_primary(primary)
    primary.start()


def most_creates(w: World) -> int:
    """How often the video was sent that was sent most often."""
    return max(Counter(entry.prompt for entry in w.creates).values(), default=0)


async def enqueue(w: World, count: int = COUNT) -> None:
    for _ in range(count):
        await w.enqueue(input={"promptText": f"video {uuid4()}", "promptImage": IMAGE})


@pytest.mark.parametrize(("setting", "is_cancelled"), [("off", False), ("on", True)])
async def test_a_claim_that_no_standby_has_is_not_sent(strict: Cluster, setting: str, is_cancelled: bool) -> None:
    """Neither where the role asks for fast commits, nor where a wait is cancelled, which PostgreSQL calls a success."""
    async with database(strict, keeps=True) as url:
        name = f"taxiway_{setting}"
        await execute(
            url, f"CREATE ROLE {name} LOGIN SUPERUSER", f"ALTER ROLE {name} SET synchronous_commit = {setting}"
        )
        async with world(url.replace("postgres@", f"{name}@")) as w:
            await enqueue(w)
            primary = await strict.primary()
            primary.wire.stall()
            tick = asyncio.create_task(w.tick())
            if is_cancelled:
                async with cancelling(primary):
                    await asyncio.wait([tick])
            else:
                await until_commits_wait(strict, primary)
            assert w.creates == [], "nothing is sent that only this server knows of"
            await fail_over(strict, primary)
            await asyncio.gather(tick, return_exceptions=True)
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
        async with cancelling(primary):
            answers = [await ask(w), await ask(w)]
        waiting = asyncio.create_task(ask(w))
        await until_commits_wait(strict, primary)
        await fail_over(strict, primary)
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


async def test_rows_that_come_back_after_a_failover_are_noticed_before_they_are_sent_again() -> None:
    """An asynchronous cluster. What happens without the pause is the control: the judge must find it."""
    async with (
        cluster(Options(synchronous=False)) as made,
        database(made, keeps=False) as url,
        world(url, admin_tokens=(ADMIN,)) as w,
    ):
        facts = await doctor_queries.durability(w.ctx.database)
        [warning] = [one for one in storage.durability(facts) if one.name == "standbys"]
        assert (warning.status, "asynchronous" in warning.message) == (CheckStatus.WARNING, True)
        await enqueue(w)
        await w.tick()
        await enqueue(w)
        primary = await made.primary()

        async def have_all() -> bool:
            async with connected(primary.url()) as connection:
                return bool(await connection.fetchval(LAGGING) == 0)

        await made.until(have_all, "level with its primary")
        primary.wire.stall()
        await w.tick()
        assert len(w.creates) == 2 * COUNT
        await fail_over(made, primary)
        for _ in range(3):
            assert (await w.tick())["submit"]["claimed"] == 0
        assert len(w.creates) == 2 * COUNT, "none is sent a second time"
        health = (await w.api.get("/health")).json()
        assert [one["reason"] for one in health["models_paused"]] == ["restored"]
        [detail] = [row["detail"] for row in await w.rows("SELECT detail FROM taxiway.models WHERE model = 'all'")]
        assert "Submissions that this process made are missing" in detail
        admin = {"authorization": f"Bearer {ADMIN}"}
        assert (await w.anyone.post("/models/all/resume", headers=admin)).status_code == 200
        await w.finish()
        assert most_creates(w) == 2, "an operator who resumes blindly pays twice"
        async with connected(url) as connection:
            prompts = {
                row["id"]: row["prompt"] for row in await connection.fetch("SELECT id, prompt FROM taxiway.videos")
            }
            judged = await settle(connection, [asdict(entry) for entry in w.creates], prompts)
        assert len({words.partition(":")[0] for words in judged.paid_twice}) == COUNT
