"""What goes after a while, so that nothing grows without end; and what stays."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from service.steps import prune
from service.store import blanking, retention
from service.store.pending_work import pending_work
from tests.database import connected
from tests.world import World

pytestmark = pytest.mark.anyio

A_YEAR_SECONDS = 366 * 86_400.0
DUE = "UPDATE taxiway.maintenance SET due_at = taxiway.now() WHERE name LIKE '%_walk'"
FROM_THE_BEGINNING = """
UPDATE taxiway.maintenance SET due_at = taxiway.now(),
    taken_at = taxiway.now() - interval '61 days', facts = '{"after": 0}'
WHERE name = 'ledger_walk'
"""


async def completed(w: World) -> UUID:
    video_id = await w.enqueue()
    await w.finish()
    return video_id


async def entry(w: World, video_id: UUID) -> dict[str, Any]:
    """The only submission of this video."""
    (row,) = await w.ledger(video_id)
    return dict(row)


async def position(w: World, walk: str) -> tuple[Any, bool]:
    """After which key a walk goes on, and whether it rests."""
    (row,) = await w.rows(
        "SELECT facts, due_at > taxiway.now() AS rests FROM taxiway.maintenance WHERE name = $1", walk
    )
    return json.loads(row["facts"])["after"], row["rests"]


async def walked(w: World, limit: int = 10) -> int:
    """Walk until there is nothing more to do; how many were emptied or removed."""
    done = 0
    for _ in range(1000):
        done += await retention.walk(w.ctx.database, limit)
        done += await retention.forget_events(w.ctx.database, A_YEAR_SECONDS, limit)
        await blanking.blank(w.ctx.database, None, limit)
        if not await w.ctx.database.fetchval("SELECT " + retention.DUE.format(removes="false")):
            return done
    raise AssertionError("the walks do not come to an end")


async def test_polls_go_and_the_cost_stays(w: World) -> None:
    video_id = await completed(w)
    before = await entry(w, video_id)
    assert json.loads(before["recent_polls"])
    await w.later(days=retention.KEEP_DAYS - 1)
    assert (await w.tick())["prune"]["pruned"] == 0
    assert json.loads((await entry(w, video_id))["recent_polls"])
    await w.later(days=1, minutes=1)
    assert (await w.tick())["prune"]["pruned"] > 0
    after = await entry(w, video_id)
    moved = {name for name, value in before.items() if after[name] != value}
    assert (after["recent_polls"], moved) == (None, {"recent_polls"})
    assert after["cost_credits"] > 0
    story = (await w.api.get(f"/videos/{video_id}/events")).json()["events"]
    [polled] = [one for one in story if one["event"] == "polled"]
    assert (polled["polls"], polled["task_status"]) == (before["polls"], None)


async def test_what_was_pruned_is_not_looked_at_again(w: World) -> None:
    video_id = await completed(w)
    await w.later(days=retention.KEEP_DAYS, minutes=1)
    await w.tick()
    assert (await position(w, "ledger_walk"))[1]
    assert not (await pending_work(w.ctx.database)).prune
    assert (await entry(w, video_id))["recent_polls"] is None
    await w.rows("UPDATE taxiway.submissions SET recent_polls = '[[0, null, null]]'")
    await w.rows(DUE)
    assert await walked(w) == 0


OPENED = """
INSERT INTO taxiway.submissions (video_id, model, recent_polls, outcome, opened_at, call_deadline, deadline,
                                 closed_at, task_id, settled_at)
SELECT gen_random_uuid(), 'gen4_turbo', '[[0, null, null]]', $1, at, at + interval '60 s', at + interval '70 s',
       CASE WHEN $1::text IS NOT NULL THEN at END, CASE WHEN $1 = 'accepted' THEN gen_random_uuid()::text END,
       taxiway.now() - $3::interval
FROM (SELECT taxiway.now() - $2::interval AS at) AS opened RETURNING id
"""


def days(count: float) -> timedelta:
    return timedelta(days=count)


async def opened(w: World, outcome: str | None, age: float, settled: float | None) -> int:
    """An entry of the ledger with one look, permitted and settled so many days ago; its number."""
    (row,) = await w.rows(OPENED, outcome, days(age), settled and days(settled))
    number: int = row["id"]
    return number


async def kept(w: World) -> set[int]:
    """The entries that still have their polls."""
    return {row["id"] for row in await w.rows("SELECT id FROM taxiway.submissions WHERE recent_polls <> '[]'")}


async def test_the_walk_waits_at_what_is_under_way(w: World) -> None:
    await opened(w, "accepted", 20, 19)
    await opened(w, "unknown", 20, None)  # for good: nothing would ever follow it
    under_way = await opened(w, "accepted", 19, None)
    behind = [await opened(w, "accepted", age, 8) for age in (18.99, 18)]
    await w.rows(FROM_THE_BEGINNING)
    assert await walked(w) == 2
    assert await kept(w) == {under_way, *behind}
    await w.rows("UPDATE taxiway.submissions SET settled_at = taxiway.now() WHERE id = $1", under_way)
    await w.rows(DUE)
    assert await walked(w) == 0
    await w.rows(
        "UPDATE taxiway.submissions SET settled_at = taxiway.now() - interval '7 days' WHERE id = $1", under_way
    )
    await w.rows(DUE)
    assert await walked(w) == 3
    assert await kept(w) == set()


@pytest.mark.parametrize("outcome", ["accepted", "unknown", None])
async def test_the_walk_stops_at_what_is_young(w: World, outcome: str | None) -> None:
    old = await opened(w, outcome, retention.KEEP_DAYS + 0.01, None)
    young = await opened(w, outcome, retention.KEEP_DAYS - 0.01, None)
    await w.rows(FROM_THE_BEGINNING)
    passed = {old} if outcome == "unknown" else set()
    assert await walked(w) == len(passed)
    assert await kept(w) == {old, young} - passed
    await w.rows(
        "UPDATE taxiway.submissions "
        "SET outcome = 'accepted', closed_at = opened_at, task_id = id::text, settled_at = taxiway.now()"
    )
    await w.later(days=7, hours=1)
    assert await walked(w) == 2 - len(passed)
    assert await kept(w) == set()


async def test_a_task_that_never_ends_does_not_hold_the_walk_up_for_ever(w: World) -> None:
    for age in (retention.WAIT_DAYS + 0.01, retention.WAIT_DAYS - 0.01):
        await opened(w, "accepted", age, None)
    behind = await opened(w, "accepted", retention.WAIT_DAYS - 1, 10)
    await w.rows(FROM_THE_BEGINNING)
    assert await walked(w) == 1
    await w.later(days=1)
    assert await walked(w) == 2
    assert behind not in await kept(w)


async def test_a_walk_goes_on_with_the_next_tick_until_its_end(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 2)
    at = retention.KEEP_DAYS + 0.1
    await w.rows(OPENED.replace("AS opened", "AS opened, generate_series(1, 5)"), "accepted", days(at), days(8))
    await w.rows(FROM_THE_BEGINNING)
    await w.rows(
        "UPDATE taxiway.maintenance SET taken_at = taxiway.now() - interval '8 days' WHERE name = 'ledger_walk'"
    )
    counts = [(await w.tick())["prune"]["pruned"] for _ in range(8)]
    assert [n for n in counts if n] == [2, 2, 1]  # all of one moment, and none twice
    assert (await position(w, "ledger_walk"))[1]
    assert not (await pending_work(w.ctx.database)).prune


async def test_an_entry_that_somebody_holds_is_not_waited_for(w: World) -> None:
    held, free = await opened(w, "accepted", 9, 9), await opened(w, "accepted", 9, 9)
    await w.rows(FROM_THE_BEGINNING)
    async with connected(w.url) as other, other.transaction():
        await other.execute("SELECT FROM taxiway.submissions WHERE id = $1 FOR UPDATE", held)
        async with asyncio.timeout(25):  # who waited for the lock would wait for longer
            assert await walked(w) == 1
    assert await kept(w) == {held}
    assert free not in await kept(w)


async def test_a_walk_has_one_walker_at_a_time(w: World) -> None:
    for age in range(8, 12):
        await opened(w, "accepted", age, 8)
    await w.rows(FROM_THE_BEGINNING)
    async with connected(w.url) as other, other.transaction():
        await other.execute("SELECT FROM taxiway.maintenance FOR UPDATE")
        async with asyncio.timeout(5):
            assert await retention.walk(w.ctx.database, 10) == 0
    assert sum(await asyncio.gather(*(walked(w) for _ in range(4)))) == 4


async def test_what_is_searched_goes_after_its_video(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 2)
    ids = [await w.enqueue() for _ in range(5)]
    await w.finish()
    await w.later(days=30)
    for _ in range(4):
        await w.tick()
    await w.rows("DELETE FROM taxiway.videos WHERE id = ANY($1)", ids[:4])
    assert len(await w.rows("SELECT FROM taxiway.search")) == 5
    assert (await w.tick())["prune"]["pruned"] == 0  # it rests
    await w.later(days=1, minutes=1)
    pruned = [(await w.tick())["prune"]["pruned"] for _ in range(4)]
    assert sum(pruned) == 4
    assert [row["video_id"] for row in await w.rows("SELECT video_id FROM taxiway.search")] == [ids[4]]
    assert await position(w, "search_walk") == (str(UUID(int=0)), True)
    assert len(await w.rows("SELECT FROM taxiway.submissions")) == 5
    assert (await w.tick())["prune"]["pruned"] == 0
