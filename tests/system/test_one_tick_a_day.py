"""A day with one tick, as on a host whose cron runs daily: callers that poll get their videos, and the tick rescues."""

from __future__ import annotations

from random import Random
from uuid import UUID

import pytest

from tests.world import World

pytestmark = pytest.mark.anyio

HOURS = 12
POLLS, POLL_SECONDS = 30, 10  # of one caller
# What Runway does to some of the creates and tasks, as a client meets it in a day.
TROUBLE = ["status=503,body=runway", "fail=INTERNAL", "status=502,body=runway", "backwards"]


async def test_every_caller_gets_its_video_and_the_tick_rescues_those_without_one(w: World) -> None:
    dice = Random(7)
    polled: list[UUID] = []
    left: list[UUID] = []
    for hour in range(HOURS):
        left += [await w.enqueue(priority=dice.randint(-5, 5)) for _ in range(hour % 3)]
        if hour % 3 == 1:
            w.faults(TROUBLE[hour // 3])
        here = [await w.enqueue(priority=dice.randint(-5, 5)) for _ in range(2)]
        await poll_until_they_end(w, here)
        polled += here
        await w.later(hours=dice.randint(1, 3))
    assert not await w.rows("SELECT FROM taxiway.ticks")
    statuses = {row["id"]: row["status"] for row in await w.rows("SELECT id, status FROM taxiway.videos")}
    assert {statuses[one] for one in polled} == {"completed"}
    assert {statuses[one] for one in left} <= {"queued", "processing"}
    assert len(left) > HOURS // 2

    await w.tick()
    assert not await w.rows("SELECT FROM taxiway.videos WHERE status = 'queued' AND run_after <= taxiway.now()")
    for _ in range(2):  # a task that fails there is made once more
        await w.later(days=1)
        await w.tick()
    assert [row["status"] for row in await w.rows("SELECT DISTINCT status FROM taxiway.videos")] == ["completed"]
    tasks = [one.task_id for one in w.creates if one.task_id]
    retried = await w.rows("SELECT sum(task_retries) AS n FROM taxiway.videos")
    assert len(tasks) == len(statuses) + retried[0]["n"], "each was paid once, and again where its task had failed"


async def poll_until_they_end(w: World, ids: list[UUID]) -> None:
    """What a browser does: a GET of each now and then."""
    waiting = list(ids)
    for _ in range(POLLS):
        shown = [(await w.api.get(f"/videos/{one}")).json() for one in waiting]
        waiting = [one for one, answer in zip(waiting, shown, strict=True) if answer["status"] != "completed"]
        if not waiting:
            return
        await w.later(seconds=POLL_SECONDS)
    raise AssertionError(shown)


async def test_slots_of_processes_that_died_are_free_again_without_a_tick(w: World) -> None:
    dead = await w.enqueue_many(2)
    for one in dead:
        await w.rows(DIED, one)
    video_id = await w.enqueue()
    assert (await w.api.get(f"/videos/{video_id}")).json()["status"] == "queued"
    await w.later(minutes=3)
    await poll_until_they_end(w, [video_id])
    assert len(w.creates) == 1


async def test_a_get_of_a_video_whose_process_died_gives_it_up_without_a_tick(w: World) -> None:
    video_id = await w.enqueue()
    await w.rows(DIED, video_id)
    assert (await w.api.get(f"/videos/{video_id}")).json()["status"] == "processing"
    await w.later(minutes=3)
    shown = (await w.api.get(f"/videos/{video_id}")).json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", "SUBMISSION_UNKNOWN")
    assert w.creates == []


# A process that died between its claim and its call.
DIED = """
WITH opened AS (
    INSERT INTO taxiway.submissions (video_id, model, call_deadline, deadline)
    VALUES ($1, 'gen4_turbo', taxiway.now() + interval '1 min', taxiway.now() + interval '2 min')
    RETURNING id, video_id)
UPDATE taxiway.videos v SET status = 'processing', open_submission_id = o.id, submitted_at = taxiway.now()
FROM opened o WHERE o.video_id = v.id
"""
