"""The circuit: how many creates of a model may be in flight is learned, and an outage costs a handful of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from service import context as contexts
from service.context import Context
from service.doctor.queue import paused_model
from service.errors import RunwayUnavailable
from service.operations import budget
from service.operations.circuit import Circuit
from service.runway.client import Runway
from service.runway.outcomes import Kind, Outcome
from service.store import circuit_state, models
from service.store.circuit_state import Change
from service.store.claim import OpenSubmission
from tests.database import connected, execute
from tests.world import IMAGE, World, settings, warm, world

pytestmark = pytest.mark.anyio

MODEL = "gen4_turbo"


async def state(w: World) -> tuple[int, int, int, str | None]:
    """max_in_flight as it is now, held, grown, and the reason of a pause."""
    [row] = await w.rows(
        "SELECT taxiway.allowed(m) AS size, held, grown, reason FROM taxiway.models m WHERE model = $1", MODEL
    )
    return row["size"], row["held"], row["grown"], row["reason"]


async def outcomes(w: World) -> Counter[str]:
    return Counter(row["outcome"] for row in await w.rows("SELECT outcome FROM taxiway.submissions"))


def others(w: World, count: int) -> list[Context]:
    """As many more processes that share the database and Runway."""
    return [replace(w.ctx, database=contexts.build(settings(w.url)).database, unsaved={}) for _ in range(count)]


def always(w: World, fault: str) -> None:
    """Every create from now on."""
    w.faults({"simulate": fault, "on": "create", "times": 100_000})


async def test_it_begins_at_two_and_grows_by_one_per_window(database_url: str) -> None:
    async with world(database_url, submit_concurrency=50) as w:
        await w.enqueue_many(9)
        await w.tick()
        assert len(w.creates) == 9, "one tick goes on while there is room again"
        size, held, grown, _ = await state(w)
        # 2 creates at 2, 3 at 3, and 4 at 4; a last one whose claim found room for more says nothing about the size.
        assert (size, held, grown) in ((5, 4, 0), (4, 4, 3), (4, 4, 2)), (size, held, grown)


async def test_what_no_claim_was_limited_by_does_not_grow(w: World) -> None:
    await warm(w.url, 10)
    for _ in range(3):
        await w.enqueue()
        await w.tick()
    assert await state(w) == (10, 10, 0, None)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ((2, 2, 0), Change(MODEL, accepted=2), (3, 2, 0)),
        ((2, 40, 0), Change(MODEL, accepted=7, is_known=True), (9, 40, 0)),
        ((9, 10, 0), Change(MODEL, accepted=12, is_known=True), (11, 10, 1)),
        ((50, 50, 49), Change(MODEL, accepted=1, is_known=True), (51, 50, 0)),
        ((50, 50, 7), Change(MODEL, unknown=(uuid4(),), has_unknown=True), (25, 25, 0)),
        ((50, 50, 7), Change(MODEL, accepted=9, is_known=True, has_unknown=True), (25, 25, 0)),
        ((1, 2, 0), Change(MODEL, unknown=(uuid4(),), has_unknown=True), (1, 2, 0)),
        ((50, 50, 7), Change(MODEL, is_known=True), (50, 50, 7)),
    ],
)
async def test_how_the_size_changes(
    w: World, before: tuple[int, int, int], change: Change, after: tuple[int, int, int]
) -> None:
    await execute(
        w.url,
        f"INSERT INTO taxiway.models (model, max_in_flight, held, grown) VALUES ('{MODEL}', {before[0]},"
        f" {before[1]}, {before[2]})",
    )
    assert await circuit_state.change(w.ctx.database, change) == 0.0
    assert (await state(w))[:3] == after


async def test_it_survives_restarts_and_halves_with_each_idle_hour(database_url: str) -> None:
    async with world(database_url) as w:
        await warm(w.url, 48)
    async with world(database_url) as w:
        for size in (48, 24, 12, 6, 3, 2, 2):
            assert await circuit_state.size(w.ctx.database, MODEL) == size
            await execute(database_url, "UPDATE taxiway.models SET used_at = used_at - interval '1 hour'")
        await w.enqueue_many(30)
        await w.tick()
        assert (await state(w))[0] > 20, "up to the last size that held it grows with each create"


async def test_three_in_a_row_must_be_of_three_videos(w: World) -> None:
    await warm(w.url, 8)
    one, two, three = uuid4(), uuid4(), uuid4()

    async def unknown(*videos: UUID, is_known: bool = False) -> float | None:
        change = Change(MODEL, unknown=videos, is_known=is_known, has_unknown=True, detail="HTTP 500")
        return await circuit_state.change(w.ctx.database, change)

    assert await unknown(one, two) == 0.0
    assert await unknown(one) == 0.0, "the same again"
    assert await unknown(three, is_known=True) == 0.0, "an answer came between"
    assert await unknown(one) == 0.0
    assert await unknown(two) == 30.0
    assert (await state(w))[3] == "circuit"


@pytest.mark.parametrize(
    "before", ["unknown_videos = ARRAY[gen_random_uuid()]", "used_at = used_at - interval '16 min'"]
)
async def test_an_accepted_create_ends_a_run_of_unknown_ones_and_a_rest(w: World, before: str) -> None:
    await warm(w.url, 8)
    await execute(w.url, f"UPDATE taxiway.models SET {before} WHERE model = '{MODEL}'")
    await w.enqueue()
    await w.tick()
    [row] = await w.rows(
        "SELECT unknown_videos, used_at > now() - interval '1 min' AS is_used FROM taxiway.models WHERE model = $1",
        MODEL,
    )
    assert (row["unknown_videos"], row["is_used"]) == ([], True)


async def away(_: Runway) -> None:
    raise RunwayUnavailable("GET /v1/organization answered 503")


async def test_a_probe_takes_another_video_after_a_free_call_and_pauses_for_longer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(database_url, submit_concurrency=3) as w:
        await warm(w.url, 3)
        ids = await w.enqueue_many(6)
        always(w, "status=500")
        await w.tick()
        assert (await outcomes(w)) == {"unknown": 3}
        [first] = await w.rows("SELECT last_video, paused_until - taxiway.now() AS left FROM taxiway.models")
        assert first["last_video"] in ids
        assert 25 < first["left"].total_seconds() <= 30
        await w.later(seconds=31)
        with monkeypatch.context() as patched:
            patched.setattr(Runway, "organization", away)
            await w.tick()
        assert (await outcomes(w)) == {"unknown": 3}, "Runway does not answer a call that costs nothing"
        await w.later(minutes=5)
        await w.tick()
        assert (await outcomes(w)) == {"unknown": 4}
        [second] = await w.rows("SELECT last_video, paused_until - taxiway.now() AS left FROM taxiway.models")
        assert second["last_video"] != first["last_video"]
        assert 55 < second["left"].total_seconds() <= 60
        w.runway.state.runway.faults.clear()
        await w.later(seconds=61)
        await w.tick()
        assert (await outcomes(w)) == {"unknown": 4, "accepted": 2}, "the probe, and the rest in the same tick"
        assert (await state(w))[3] is None


async def test_consent_to_another_create_is_not_used_up_by_an_outage(database_url: str) -> None:
    async with world(database_url, unknown_policy="resubmit", unknown_resubmits=2, submit_concurrency=3) as w:
        await warm(w.url, 3)
        await w.enqueue_many(4)
        always(w, "status=500")
        for _ in range(12):
            await w.tick()
            await w.later(seconds=10)
        rows = await w.rows("SELECT resubmissions, status FROM taxiway.videos ORDER BY resubmissions")
        assert sum(row["resubmissions"] for row in rows) <= 6
        assert {row["status"] for row in rows} == {"queued"}
        w.runway.state.runway.faults.clear()
        await w.later(minutes=16)
        await w.finish(rounds=60)
        assert {row["status"] for row in await w.rows("SELECT status FROM taxiway.videos")} == {"completed"}


async def test_two_claims_at_once_never_see_the_same_room(w: World) -> None:
    await w.enqueue_many(40)
    await warm(w.url, 5)
    every = [w.ctx, *others(w, 5)]
    try:
        claims = await asyncio.gather(*(budget.claim(ctx, 48, 30.0) for ctx in every for _ in range(3)))
    finally:
        for ctx in every[1:]:
            await ctx.database.close()
    assert sum(map(len, claims)) == 5


async def test_a_held_row_means_no_claim_of_this_model_and_no_wait_for_a_save(database_url: str) -> None:
    async with world(database_url, submit_concurrency=4) as w:
        await w.enqueue_many(3)
        other = await w.enqueue(input={"model": "gen4.5", "promptText": "a boat", "promptImage": IMAGE})
        await warm(w.url, 4)
        async with connected(database_url) as holder, holder.transaction():
            await holder.execute("SELECT FROM taxiway.models WHERE model = $1 FOR UPDATE", MODEL)
            await w.tick()
            assert [row["video_id"] for row in await w.rows("SELECT video_id FROM taxiway.submissions")] == [other]
        await w.tick()
        assert await outcomes(w) == {"accepted": 4}


def permitted(model: str, room: int | None, *, stirred: bool = False) -> OpenSubmission:
    return OpenSubmission(1, uuid4(), "image_to_video", model, "{}", 0, 0, None, room=room, stirred=stirred)


class TestWhatIsWritten:
    def test_nothing_in_a_steady_state(self) -> None:
        one = Circuit()
        claim = [permitted("a", 50) for _ in range(10)]
        one.note_claim(claim)
        assert one.changes([(each, Outcome(Kind.ACCEPTED, "", task_id="t")) for each in claim], {}) == []

    def test_growth_where_a_claim_took_all_there_was(self) -> None:
        one = Circuit()
        claim = [permitted("a", 2), permitted("a", 2), permitted("b", 9)]
        one.note_claim(claim)
        [change] = one.changes([(each, Outcome(Kind.ACCEPTED, "", task_id="t")) for each in claim], {})
        assert (change.model, change.accepted, change.is_known) == ("a", 2, True)

    def test_what_there_is_to_forget_once(self) -> None:
        one = Circuit()
        claim = [permitted("a", 9, stirred=True)]
        one.note_claim(claim)
        answer = [(claim[0], Outcome(Kind.REJECTED, ""))]
        assert one.changes(answer, {}) == [Change("a", is_known=True)]
        assert one.changes(answer, {}) == []

    def test_what_was_not_sent_says_nothing(self) -> None:
        one = Circuit()
        claim = [permitted("a", 1, stirred=True)]
        one.note_claim(claim)
        assert one.changes([(claim[0], Outcome(Kind.NOT_SENT, ""))], {}) == []

    def test_only_what_is_behind_the_last_known_outcome_is_in_a_row(self) -> None:
        one = Circuit()
        lost = Outcome(Kind.UNKNOWN, "HTTP 500")
        first, second, third = (permitted("a", None) for _ in range(3))
        [change] = one.changes([(first, lost), (second, Outcome(Kind.REJECTED, "")), (third, lost)], {1: "a"})
        assert (change.unknown, change.is_known, change.has_unknown, change.is_probe) == (
            (third.video_id,), True, True, True,
        )  # fmt: skip


async def test_what_an_operator_is_shown(database_url: str) -> None:
    async with world(database_url, submit_concurrency=3, viewer_tokens=("viewer-token-for-tests",)) as w:
        await warm(w.url, 3)
        await w.enqueue_many(3)
        always(w, "status=500")
        await w.tick()
        health = (await w.api.get("/health")).json()
        [concern] = [words for words in health["concerns"] if "paused" in words]
        assert concern.startswith(
            "paused, gen4_turbo: Runway's answers to creates were lost 3 times in a row (HTTP 500"
        )
        assert "so gen4_turbo is paused until " in concern
        assert concern.endswith("one video is tried then")
        [row] = await models.paused(w.ctx.database)
        check = paused_model(dict(row), w.ctx.now())
        assert "so gen4_turbo is paused until" in check.message
        assert check.fix == "nothing to do, unless Runway's status page says otherwise"
        answer = await w.anyone.get("/models", headers={"authorization": "Bearer viewer-token-for-tests"})
        assert [one["may_be_in_flight"] for one in answer.json()["models"]] == [None, 1]
