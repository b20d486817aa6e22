"""The place of a video in the queue: by its priority and its age together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from service.store import claim as claims
from service.store.claim import Aim
from tests.world import World

pytestmark = pytest.mark.anyio

ORDER = "SELECT claim_order FROM taxiway.videos WHERE id = $1"
# The place of one like it, without what moves a video in the queue.
TWIN = """
INSERT INTO taxiway.videos (prompt, priority, queued_at, expires_at)
SELECT 'a twin', priority, queued_at, expires_at FROM taxiway.videos WHERE id = $1 RETURNING claim_order
"""


async def next_of(w: World, many: int = 1) -> list[UUID]:
    """Which videos a claim takes now, in their order; they stay queued."""
    chosen = await claims.choose(w.ctx.database, many, Aim("gen4_turbo"), [])
    return [UUID(str(key)) for key, _ in chosen]


async def place(w: World, video_id: UUID) -> datetime:
    """Its place in the queue."""
    order: datetime = (await w.rows(ORDER, video_id))[0]["claim_order"]
    return order


async def test_no_video_waits_forever_behind_a_stream_of_higher_priority(w: World) -> None:
    patient = await w.enqueue(priority=0)
    urgent = [await w.enqueue(priority=100)]
    first: list[UUID] = []
    for _ in range(3):
        first += await next_of(w)
        await w.later(days=1)
        urgent.append(await w.enqueue(priority=100))
        await w.rows("DELETE FROM taxiway.videos WHERE id = $1 AND priority = 100", first[-1])
    assert first[:2] == urgent[:2], "for less than two days"
    assert first[2] == patient, "then it is older than what comes"


async def test_among_videos_of_the_same_age_the_higher_priority_goes_first(w: World) -> None:
    ids = {priority: await w.enqueue(priority=priority) for priority in (-100, 0, -3, 7, 100, 8)}
    await w.later(hours=30)
    late = await w.enqueue(priority=100)
    assert [await place(w, ids[p]) for p in (100, 8, 7, 0, -3, -100)] == sorted(
        [await place(w, one) for one in ids.values()]
    )
    claimed = [one.video_id for one in await claims.claim(w.ctx.database, 2, 60.0)]
    assert claimed == [ids[100], late], "a claim takes them in this order"


async def test_equal_priorities_go_in_the_order_in_which_they_came(w: World) -> None:
    ids = await w.enqueue_many(4, priority=5)
    assert sorted([(await place(w, one), one) for one in ids]) == [(await place(w, one), one) for one in ids]


async def test_a_backoff_takes_no_age_away(w: World) -> None:
    first = await w.enqueue()
    before = await place(w, first)
    w.faults("status=503,body=runway")
    await w.tick()
    row = await w.row(first)
    assert (row["status"], row["retries"]) == ("queued", 1)
    assert row["run_after"] > row["queued_at"]
    assert await place(w, first) == before
    second = await w.enqueue()
    assert [one.video_id for one in await claims.claim(w.ctx.database, 1, 60.0)] == [second], "it waits until then"
    third = await w.enqueue()
    await w.later(hours=1)
    assert [one.video_id for one in await claims.claim(w.ctx.database, 1, 60.0)] == [first]
    assert (await w.row(third))["status"] == "queued"


async def test_a_task_that_is_requested_again_keeps_its_age(w: World) -> None:
    one = await w.enqueue()
    before = await place(w, one)
    w.faults("fail=INTERNAL")
    for _ in range(3):
        await w.tick()
        row = await w.row(one)
        if row["task_retries"]:
            break
        await w.later(minutes=1)
    assert (row["status"], row["task_retries"]) == ("queued", 1)
    assert await place(w, one) == before


async def test_what_is_scheduled_ages_from_then_and_a_past_time_adds_none(w: World) -> None:
    now = datetime.now(UTC)
    later = await w.enqueue(run_after=(now + timedelta(days=2)).isoformat())
    past = await w.enqueue(run_after=(now - timedelta(days=90)).isoformat())
    assert (await w.row(later))["queued_at"] == (await w.row(later))["run_after"]
    assert abs((await w.row(past))["queued_at"] - now) < timedelta(minutes=1)
    assert (await w.row(past))["run_after"] < now - timedelta(days=89)


async def test_a_retry_starts_again(w: World) -> None:
    one, two = await w.enqueue_many(2)
    await w.rows("UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now(), error_code = 'EXPIRED'")
    await w.later(days=3)
    assert (await w.api.post(f"/videos/{one}/retry", json={})).status_code == 202
    await w.rows("UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now() WHERE id = $1", two)
    await w.later(days=3)
    await w.rows("UPDATE taxiway.videos SET status = 'queued' WHERE id = $1", two)
    await w.tick()
    ages = {
        row["id"]: row["age"] for row in await w.rows("SELECT id, taxiway.now() - queued_at AS age FROM taxiway.videos")
    }
    assert timedelta(days=3) <= ages[one] < timedelta(days=3, minutes=1)
    assert ages[two] < timedelta(minutes=1), "put back with SQL"


@pytest.mark.parametrize(
    ("expires_at", "hours"),
    [
        ("taxiway.now() + interval '1 hour'", 0.5),
        ("taxiway.now() + interval '7 days'", 84),
        ("NULL", 84),
        ("taxiway.now() + interval '60 years'", 84),
        ("'infinity'", 84),
        ("taxiway.now()", 0),
        ("taxiway.now() - interval '1 hour'", 0),
        ("'-infinity'", 0),
    ],
)
async def test_all_priorities_together_are_worth_half_of_the_time_to_wait(
    w: World, expires_at: str, hours: float
) -> None:
    rows = await w.rows(f"""
        INSERT INTO taxiway.videos (prompt, priority, expires_at)
        SELECT 'a boat', priority, {expires_at} FROM unnest('{{-32768,-100,0,100,32767}}'::smallint[]) AS priority
        RETURNING extract(epoch FROM claim_order - queued_at AT TIME ZONE 'UTC')::float8 / 3600 AS hours
    """)
    assert [row["hours"] for row in rows] == pytest.approx([hours / 2, hours / 2, 0, -hours / 2, -hours / 2])


@pytest.mark.parametrize(
    "change",
    [
        "priority = 90", "queued_at = queued_at - interval '3 hours'", "expires_at = NULL",
        "expires_at = taxiway.now() + interval '20 hours'", "progress = 0.5",
    ],
)  # fmt: skip
@pytest.mark.parametrize("image", ["https://example.com/boat.png", "runway://an-upload"])
async def test_the_place_is_worked_out_from_what_is_stored(w: World, image: str, change: str) -> None:
    """Other triggers move `queued_at` behind the user's last video, and bound `expires_at` by the life of an upload."""
    await w.enqueue(user_id="ada", priority=50)
    body = {"promptText": "a boat", "promptImage": image}
    video_id = await w.enqueue(user_id="ada", priority=50, input=body)
    assert (await w.row(video_id))["queued_at"] > (await w.row(video_id))["created_at"]
    for statement in (None, change, change):
        if statement is not None:
            await w.rows(f"UPDATE taxiway.videos SET {statement} WHERE id = $1", video_id)
        assert await place(w, video_id) == (await w.rows(TWIN, video_id))[0]["claim_order"]
