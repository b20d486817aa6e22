"""Saving the usual, that Runway took it: by the short statements, and by the long one for what is not usual."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from service.operations.saving import as_outcome_row
from service.runway.outcomes import Decision, Kind, Outcome
from service.store import accepted, endpoints, submissions
from service.store import claim as claims
from service.store.endpoints import Configured
from service.store.outcome_row import OutcomeRow
from service.videos import Status
from tests.database import connected
from tests.world import World, warm

pytestmark = pytest.mark.anyio

COUNTS = pytest.mark.parametrize("many", [1, 3])


async def answers(w: World, many: int) -> list[OutcomeRow]:
    """So many claimed videos, each with an answer that Runway took it."""
    await warm(w.url, many)
    await w.enqueue_many(many)
    permitted = await claims.claim(w.ctx.database, many, 60)
    assert len(permitted) == many
    return [
        as_outcome_row(
            one.submission_id, one.video_id,
            Outcome(Kind.ACCEPTED, "task created", http_status=200, task_id=str(uuid4()), request_id=f"request {n}"),
            Decision(Status.PROCESSING), announced=one.announced,
        )
        for n, one in enumerate(permitted)
    ]  # fmt: skip


async def tasks(w: World) -> dict[UUID, str]:
    """The task of each video that is said to have one, in both places."""
    rows = await w.rows(
        "SELECT v.id, v.runway_video_id, s.task_id, s.request_id, s.outcome FROM taxiway.videos v"
        " JOIN taxiway.submissions s ON s.video_id = v.id WHERE v.runway_video_id IS NOT NULL"
    )
    assert all((row["task_id"], row["outcome"]) == (row["runway_video_id"], "accepted") for row in rows)
    assert len({row["request_id"] for row in rows}) == len(rows)
    return {row["id"]: row["runway_video_id"] for row in rows}


@COUNTS
async def test_each_video_gets_its_own_task(w: World, many: int) -> None:
    saved = await answers(w, many)
    assert set(await accepted.save(w.ctx.database, saved)) == {one.submission_id for one in saved}
    assert await tasks(w) == {one.video_id: one.task_id for one in saved}
    assert {(await w.row(one.video_id))["open_submission_id"] for one in saved} == {None}
    assert await accepted.save(w.ctx.database, saved) == [], "it is known already"
    await w.finish()


@COUNTS
async def test_what_is_cancelled_meanwhile_is_a_surplus(w: World, many: int) -> None:
    saved = await answers(w, many)
    await w.api.post(f"/videos/{saved[0].video_id}/cancel")
    results = await submissions.save(w.ctx.database, saved)
    assert results == {one.submission_id: "moved" if n else "elsewhere" for n, one in enumerate(saved)}
    assert set(await tasks(w)) == {one.video_id for one in saved[1:]}
    [entry] = await w.ledger(saved[0].video_id)
    assert (entry["task_id"], entry["cancel_reason"]) == (saved[0].task_id, "surplus")


@COUNTS
async def test_a_held_video_is_passed_over(w: World, many: int) -> None:
    saved = await answers(w, many)
    async with connected(w.url) as app, app.transaction():
        await app.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", saved[0].video_id)
        results = await submissions.save(w.ctx.database, saved)
        assert results == {one.submission_id: "moved" if n else "locked" for n, one in enumerate(saved)}
        assert (await w.ledger(saved[0].video_id))[0]["task_id"] == saved[0].task_id


@COUNTS
async def test_a_held_entry_of_the_ledger_holds_up_no_other(w: World, many: int) -> None:
    saved = await answers(w, many)
    async with connected(w.url) as app, app.transaction():
        await app.execute("SELECT FROM taxiway.submissions WHERE id = $1 FOR UPDATE", saved[0].submission_id)
        results = await submissions.save(w.ctx.database, saved)
    assert results == {one.submission_id: "moved" if n else "busy" for n, one in enumerate(saved)}
    assert await submissions.save(w.ctx.database, saved[:1]) == {saved[0].submission_id: "moved"}
    assert await tasks(w) == {one.video_id: one.task_id for one in saved}


@pytest.mark.parametrize("events", [("video.completed",), ("video.completed", "video.processing")])
async def test_the_claim_says_whether_an_endpoint_wants_to_know(w: World, events: tuple[str, ...]) -> None:
    await endpoints.configure(w.ctx.database, [Configured("webhook", "https://app.example.com", events)])
    [one] = await answers(w, 1)
    assert one.announced is ("video.processing" in events)
    assert one.is_usual is not one.announced
    assert await submissions.save(w.ctx.database, [one]) == {one.submission_id: "moved"}
    noted = await w.rows("SELECT event FROM taxiway.deliveries")
    assert [row["event"] for row in noted] == list(events[1:])
