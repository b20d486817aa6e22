"""Many users, one account: each has his turn, and what he may have in flight and spend."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from service.store import claim as claims
from service.store.claim import Aim, PerUser, Room
from tests.database import connected
from tests.world import World, warm, world

pytestmark = pytest.mark.anyio

CROWD = 10_000
OPERATOR = "operator-token-for-tests-1"
# A user's videos as a batch, a linked table or SQL enters them: with one statement.
INSERT = """
INSERT INTO taxiway.videos (user_id, model, operation, input, priority, quoted_credits, queued_at, run_after)
SELECT $1, 'gen4_turbo', 'image_to_video', '{}', $3, 25,
       GREATEST(taxiway.now(), $4::timestamptz), COALESCE($4, taxiway.now())
FROM generate_series(1, $2) RETURNING id
"""
PLACES = "SELECT extract(epoch FROM queued_at - taxiway.now())::float8 / 60 AS minutes FROM taxiway.videos"
# How many stand before the video in its model's queue.
AHEAD = """
SELECT count(*) AS n FROM taxiway.videos v JOIN taxiway.videos own ON own.id = $1
WHERE v.status = 'queued' AND (v.claim_order, v.run_after, v.id) < (own.claim_order, own.run_after, own.id)
"""
NOBODY_HAS_ROOM = Room(None, {})


async def insert(w: World, user: str | None, count: int, priority: int = 0, run_after: object = None) -> list[UUID]:
    """Enter so many videos of a user at once."""
    return [row["id"] for row in await w.rows(INSERT, user, count, priority, run_after)]


async def ahead(w: World, video_id: UUID) -> int:
    """How many are claimed before it."""
    count: int = (await w.rows(AHEAD, video_id))[0]["n"]
    return count


async def claimed_by(w: World, limit: int, per_user: PerUser) -> list[str | None]:
    """Whose videos a claim within these limits takes, one after the other."""
    taken = await claims.claim(w.ctx.database, limit, 60.0, Aim(per_user=per_user), NOBODY_HAS_ROOM)
    users = {row["id"]: row["user_id"] for row in await w.rows("SELECT id, user_id FROM taxiway.videos")}
    return [users[one.video_id] for one in taken]


async def pages_of_claim(w: World, limit: int, per_user: PerUser) -> int:
    """How many pages such a claim reads. Nothing is claimed."""
    sql = Aim(per_user=per_user).claiming(limit).usual
    async with connected(w.url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"
        found = await connection.fetchval(explained, 60.0, None, limit, None, per_user.in_flight, per_user.credits)
        await transaction.rollback()
    plan = json.loads(found)[0]["Plan"]
    pages: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return pages


async def test_ten_thousand_of_one_user_delay_anothers_single_video_by_one_round(w: World) -> None:
    await warm(w.url, 3)
    await insert(w, "crowd", CROWD)
    single = (await insert(w, "single", 1))[0]
    assert await ahead(w, single) <= 1
    claimed = [one.video_id for one in await claims.claim(w.ctx.database, 3, 60.0)]
    assert single in claimed
    # A slot has gone through sixty of the crowd since, or more: a minute is a slot's longest.
    await w.later(minutes=60)
    await w.rows("UPDATE taxiway.videos SET status = 'cancelled' WHERE status = 'queued' AND queued_at < taxiway.now()")
    late = (await insert(w, "late", 1))[0]
    assert await ahead(w, late) <= 1


async def test_two_crowds_take_turns_and_what_has_no_user_keeps_its_time(w: World) -> None:
    await warm(w.url, 100)
    await insert(w, "one", 30)
    await insert(w, "two", 30)
    await insert(w, None, 5)
    assert len(await claims.claim(w.ctx.database, 12, 60.0)) == 12
    rows = await w.rows("SELECT user_id, count(*) AS n FROM taxiway.videos WHERE status = 'processing' GROUP BY 1")
    counts = {row["user_id"]: row["n"] for row in rows}
    assert counts[None] == 5, "each has the place of its own time, before all whose minute has not come"
    assert abs(counts["one"] - counts["two"]) <= 1


async def test_what_is_urgent_or_due_later_has_places_of_its_own(w: World) -> None:
    await insert(w, "crowd", 100)
    urgent = (await insert(w, "crowd", 1, priority=10))[0]
    assert await ahead(w, urgent) == 0
    later = (await w.rows("SELECT taxiway.now() + interval '5 days' AS at"))[0]["at"]
    await insert(w, "planner", 50, run_after=later)
    now = (await insert(w, "planner", 1))[0]
    assert await ahead(w, now) <= 3, "what is planned for later is no crowd now"
    rows = await w.rows(f"{PLACES} WHERE user_id = 'planner' ORDER BY queued_at")
    assert rows[-1]["minutes"] - rows[1]["minutes"] == pytest.approx(49), "but it will be one"


async def test_no_place_is_later_than_half_of_the_time_to_wait(w: World) -> None:
    await insert(w, "crowd", 6_000)
    row = (await w.rows("SELECT max(queued_at) - min(queued_at) AS spread FROM taxiway.videos"))[0]
    assert row["spread"].total_seconds() == 3.5 * 86_400


async def test_every_way_in_takes_its_place(w: World) -> None:
    for _ in range(2):
        await w.enqueue(user_id="ada")
    await w.rows(
        "INSERT INTO taxiway.videos (user_id, prompt, image_url) "
        "SELECT 'ada', 'a boat', 'https://example.com/boat.jpg' FROM generate_series(1, 2)"
    )
    await w.rows("UPDATE taxiway.models SET reason = 'manual', paused_until = 'infinity', paused_at = taxiway.now()")
    await w.tick()
    failed = await w.enqueue(user_id="ada")
    await w.rows("UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now() WHERE id = $1", failed)
    assert (await w.api.post(f"/videos/{failed}/retry", json={})).status_code == 202
    places = sorted(round(row["minutes"]) for row in await w.rows(PLACES))
    assert places == [0, 1, 2, 3, 4]


async def test_a_user_has_no_more_in_flight_however_many_claim(database_url: str) -> None:
    async with world(database_url, max_in_flight_per_user=2) as w:
        await warm(w.url, 50)
        for user, count in (("one", 8), ("two", 1), (None, 4)):
            for _ in range(count):
                await w.enqueue(**({"user_id": user} if user else {}))
        await asyncio.gather(*(w.tick() for _ in range(4)))
        rows = await w.rows("SELECT user_id, count(*) AS n FROM taxiway.videos WHERE status = 'processing' GROUP BY 1")
        assert {row["user_id"]: row["n"] for row in rows} == {"one": 2, "two": 1, None: 4}
        await w.finish()
        assert len(w.creates) == 13


async def test_a_user_spends_no_more_in_a_day_and_others_pass(database_url: str) -> None:
    async with world(database_url, max_credits_per_day_per_user=Decimal(60)) as w:
        await warm(w.url, 50)
        text = {"operation": "text_to_video", "input": {"promptText": "a boat"}}  # 60 credits with gen4.5
        for _ in range(4):
            await w.enqueue(user_id="one")  # 25 credits each
        await w.enqueue(user_id="two", **text)
        await w.enqueue(user_id="two")
        await w.tick()
        rows = await w.rows("SELECT user_id, sum(quoted_credits) AS n FROM taxiway.submissions GROUP BY 1")
        assert {row["user_id"]: row["n"] for row in rows} == {"one": 50, "two": 60}
        await w.later(hours=25)
        await w.tick()
        rows = await w.rows("SELECT user_id, sum(quoted_credits) AS n FROM taxiway.submissions GROUP BY 1")
        assert {row["user_id"]: row["n"] for row in rows} == {"one": 100, "two": 85}


async def test_ten_thousand_of_a_user_without_room_are_passed_in_the_index_alone(w: World) -> None:
    await warm(w.url, 50)
    await insert(w, "full", CROWD)
    await w.rows("ALTER TABLE taxiway.videos DISABLE TRIGGER take_place")
    await w.rows("UPDATE taxiway.videos SET queued_at = taxiway.now() - interval '1 hour'")
    await insert(w, "other", 3)
    limits = PerUser(1, None)
    assert await claimed_by(w, 1, limits) == ["full"]
    await w.rows("VACUUM taxiway.videos")  # or the index alone could not tell which rows there are
    assert await pages_of_claim(w, 4, limits) < CROWD / 2, "that would be a look at each in turn"
    assert await claimed_by(w, 4, limits) == ["other"]


async def test_who_stands_behind_a_user_without_room_is_claimed_with_who_stands_before(w: World) -> None:
    await warm(w.url, 50)
    await w.rows("ALTER TABLE taxiway.videos DISABLE TRIGGER take_place")
    limits = PerUser(1, None)
    await insert(w, "full", 1)
    assert await claimed_by(w, 1, limits) == ["full"]
    for user, count in (("before", 1), ("full", 10), ("behind", 1)):
        await insert(w, user, count)
    assert sorted(map(str, await claimed_by(w, 4, limits))) == ["before", "behind"]


async def test_a_video_says_what_its_user_lacks(database_url: str) -> None:
    async with world(database_url, max_in_flight_per_user=1, max_credits_per_day_per_user=Decimal(60)) as w:
        await warm(w.url, 50)
        for _ in range(3):
            await w.enqueue(user_id="one")
        await w.tick()

        async def why() -> dict[str, Any]:
            listed = await w.api.get("/videos", params={"user_id": "one", "status": "queued"})
            found: dict[str, Any] = listed.json()["videos"][0]["waiting"]
            return found

        shown = await why()
        assert (shown["reason"], shown["until"]) == ("user_slots", None)
        assert "MAX_IN_FLIGHT_PER_USER" in shown["detail"]
        await w.rows("UPDATE taxiway.submissions SET cost_credits = 50")
        shown = await why()
        assert shown["reason"] == "user_budget"
        assert shown["until"] is not None


async def test_lists_bulk_stats_and_cost_of_one_user(database_url: str) -> None:
    async with world(database_url, admin_tokens=(OPERATOR,)) as w:
        await _lists_bulk_stats_and_cost(w)


async def _lists_bulk_stats_and_cost(w: World) -> None:
    await warm(w.url, 50)
    for user, count in (("ada", 3), ("bob", 2)):
        for _ in range(count):
            await w.enqueue(user_id=user)
    await w.enqueue()
    listed = (await w.api.get("/videos", params={"user_id": "ada", "limit": 2})).json()
    assert len(listed["videos"]) == 2
    rest = (await w.api.get("/videos", params={"user_id": "ada", "cursor": listed["next"]})).json()
    assert (len(rest["videos"]), rest["next"]) == (1, None)
    assert (await w.api.get("/videos", params={"user_id": "nobody"})).json()["videos"] == []
    body = {"filter": {"user_id": "bob"}}
    assert (await w.api.post("/bulk/cancel", json=body)).json() == {"matched": 2, "done": 2, "skipped": 0, "left": 0}
    await w.finish()
    w.api.headers["authorization"] = f"Bearer {OPERATOR}"
    stats = (await w.api.get("/stats", params={"user_id": "ada", "window": "day"})).json()
    assert [sum(one[name] for one in stats["buckets"]) for name in ("enqueued", "completed")] == [3, 3]
    usage = (await w.api.get("/usage", params={"days": 1})).json()
    found = {(row["user_id"], row["model"]): (row["submissions"], row["credits"]) for row in usage["rows"]}
    assert found == {("ada", "gen4_turbo"): (3, 75), (None, "gen4_turbo"): (1, 25)}
    assert (usage["total"], usage["has_more"]) == (100, False)
    few = (await w.api.get("/usage", params={"limit": 1})).json()
    assert (len(few["rows"]), few["total"], few["has_more"]) == (1, 100, True)
    assert (await w.api.get("/usage", params={"user_id": "ada"})).json()["total"] == 75
