"""The steps of a tick, one by one: what each does with what it finds."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from uuid import UUID

import asyncpg
import httpx
import pytest

from service.context import Context
from service.deadline import Deadline, Grace, unlimited
from service.errors import Conflict, DatabaseUnavailable, NotConfigured
from service.operations import attaching, budget, polling, saving
from service.operations.finalize import finalize
from service.operations.saving import as_outcome_row
from service.operations.submitting import submitting
from service.runway.client import Runway
from service.runway.outcomes import Decision, Kind, Outcome
from service.steps import poll, prune, rescue, submit
from service.store import claim as claims
from service.store import front as fronts
from service.store import ledger, models, submissions, tasks, ticks
from service.store.claim import Aim, OpenSubmission
from service.store.database import Database
from service.store.front import Front
from service.store.submissions import Guard
from service.store.tasks import PollResult
from service.store.url import normalise
from service.tick import poll_only, tick
from service.videos import Status
from tests.database import connected, execute
from tests.mocked import mocked
from tests.saved import save_answers
from tests.world import Clock, World, fetched, warm, world

pytestmark = pytest.mark.anyio


async def claim(w: World, limit: int = 10) -> list[OpenSubmission]:
    """Claim as a process that then dies."""
    return await claims.claim(w.ctx.database, limit, 60)


async def send(w: World, submission: OpenSubmission) -> Outcome:
    """Send what an open submission permits; the task is made."""
    from service.runway.outcomes import classify

    async with w.ctx.runway() as runway:
        result = await runway.create(submission.operation, submission.input, give_up_at=w.ctx.monotonic() + 60)
    return classify(result)


async def save(
    w: World, submission: OpenSubmission, outcome: Outcome, decision: Decision, guard: Guard = Guard.LIVE
) -> str:
    answer = as_outcome_row(submission.submission_id, submission.video_id, outcome, decision)
    results = await submissions.save(w.ctx.database, [answer], guard=guard)
    return results.get(submission.submission_id, "nothing")


ACCEPT = Decision(Status.PROCESSING)


# Claim


async def test_claims_take_the_highest_priority_and_then_the_oldest(w: World) -> None:
    await warm(w.url, 8)
    low, first, second, high = (
        await w.enqueue(priority=-1), await w.enqueue(), await w.enqueue(), await w.enqueue(priority=5),
    )  # fmt: skip
    assert [submission.video_id for submission in await claim(w, 2)] != []
    taken = {row["id"] for row in await w.rows("SELECT id FROM taxiway.videos WHERE status = 'processing'")}
    assert taken == {high, first}
    assert {submission.video_id for submission in await claim(w, 1)} == {second}
    assert {submission.video_id for submission in await claim(w, 1)} == {low}
    assert await claim(w) == []


async def test_nothing_is_claimed_before_its_time_or_twice(w: World) -> None:
    await warm(w.url, 40)
    await w.enqueue(run_after="2099-01-01T00:00:00Z")
    for _ in range(20):
        await w.enqueue()
    claims = await asyncio.gather(*(claim(w, 4) for _ in range(8)))
    ids = [submission.video_id for claims in claims for submission in claims]
    assert len(ids) == len(set(ids)) == 20


async def test_a_claim_does_not_wait_for_a_row_that_is_held(w: World) -> None:
    held, free = await w.enqueue(), await w.enqueue()
    async with connected(w.url) as app, app.transaction():
        await app.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", held)
        assert [submission.video_id for submission in await claim(w)] == [free]


def taken(model: str, place: int | None = None) -> OpenSubmission:
    """A submission; of the last in a claim, with this place in its queue."""
    said = None if place is None else json.dumps([place])
    return OpenSubmission(place or 0, UUID(int=place or 0), "image_to_video", model, "{}", 0, 0, None, place=said)


async def test_a_process_goes_on_behind_what_it_claimed_while_it_gets_all_that_it_wants() -> None:
    times = iter((0.0, 0.1, 0.2, 0.3, 0.4, 0.5))
    front = Front(lambda: next(times))
    assert front.behind() is None, "first from the front"
    front.note([taken("veo3.1"), taken("gen4_turbo", 2), taken("gen4_turbo")], 3)
    assert json.loads(front.behind() or "") == {"gen4_turbo": [2]}
    front.note([taken("veo3.1", 9)], 1)
    front.note([taken("gen4_turbo"), taken("gen4_turbo", 5)], 2)
    assert json.loads(front.behind() or "") == {"gen4_turbo": [5], "veo3.1": [9]}
    front.note([taken("gen4_turbo", 6)], 2)
    assert front.behind() is None, "there may be more before it"


async def test_a_claim_begins_at_the_front_again_where_no_look_has_come_for_two_seconds() -> None:
    clock = Clock()
    front = Front(clock)
    begun = []
    for _ in range(9):
        begun.append(front.behind() is None)
        front.note([taken("gen4_turbo", 1)], 1)
        clock.now += 0.5
    assert begun == [True, False, False, False] * 2 + [True]


async def looked(front: Front, database: Database) -> None:
    """A look, if it is time for one, to its end."""
    front.look(database)
    await front.settle()


async def test_a_look_finds_what_takes_a_place_before_the_last_claim(w: World) -> None:
    await warm(w.url, 8)
    await warm(w.url, 8, "gen4.5")
    in_words: dict[str, Any] = {"operation": "text_to_video", "input": {"promptText": "a", "model": "gen4.5"}}
    ids = [*await w.enqueue_many(2), *await w.enqueue_many(4, **in_words)]
    front = Front(w.clock)
    front.behind()
    for many in (2, 2):
        front.note(await claims.claim(w.ctx.database, many, 60, Aim(behind=front.behind())), many)
    before = front.behind()
    waits = await w.enqueue(priority=100)  # and stands before the urgent one, but is not due
    await execute(w.url, f"UPDATE taxiway.videos SET run_after = run_after + interval '1 hour' WHERE id = '{waits}'")
    urgent = await w.enqueue(priority=100)
    await looked(front, w.ctx.database)
    assert front.behind() == before, "it is a second too early for a look"
    w.clock.now += 1.0
    await looked(front, w.ctx.database)
    places, gone_back = json.loads(before or ""), json.loads(front.behind() or "")
    assert gone_back["gen4_turbo"][2] == str(urgent)
    assert gone_back["gen4.5"] == places["gen4.5"], "nothing stands before that"
    permitted = await claims.claim(w.ctx.database, 9, 60, Aim(behind=front.behind()))
    assert {one.video_id for one in permitted} == {urgent, *ids[4:]}
    w.clock.now += 1.5
    assert front.behind() is not None, "a look is as good as a claim from the front"
    w.clock.now += 0.5
    assert front.behind() is None


async def test_a_look_that_fails_costs_nothing_but_itself(w: World) -> None:
    await warm(w.url, 8)
    await w.enqueue_many(2)
    front = Front(w.clock)
    front.behind()
    front.note(await claim(w, 1), 1)
    before = front.behind()
    away = Database(normalise("postgresql://127.0.0.1:1/nothing"))
    w.clock.now += 1.0
    await looked(front, away)
    assert front.behind() == before
    await looked(front, w.ctx.database)
    w.clock.now += 1.5
    assert front.behind() == before, "the next one is made"


async def test_one_look_at_a_time_and_none_of_an_empty_place(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = fetched(w.ctx.database, monkeypatch)
    front = Front(w.clock)
    front.behind()
    w.clock.now += 1.0
    await looked(front, w.ctx.database)
    assert not statements
    front.note([taken("gen4_turbo", 1)], 1)
    front._places = {"gen4_turbo": ["infinity", "infinity", str(UUID(int=1))]}
    front.look(w.ctx.database)
    await looked(front, w.ctx.database)
    assert len(statements) == 1


async def test_a_run_that_goes_on_looks_beside_its_claims(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(database_url, submit_concurrency=2) as w:
        await warm(w.url, 8)
        ids = await w.enqueue_many(8)
        urgent: list[UUID] = []
        began: list[str | None] = []
        usual = budget.claim

        async def watched(ctx: Context, limit: int, seconds: float, aim: Aim, *more: Any) -> list[OpenSubmission]:
            began.append(aim.behind)
            if len(began) == 2:
                urgent.append(await w.enqueue(priority=100))
                w.clock.now += 1.0
            permitted = await usual(ctx, limit, seconds, aim, *more)
            if len(began) == 3:
                await run.front.settle()
            return permitted

        monkeypatch.setattr(budget, "claim", watched)
        ctx = replace(w.ctx, monotonic=w.clock)
        async with submitting(ctx, Deadline(w.clock, w.clock() + 600)) as run:
            while await run.claim_due(2):
                await run.settle()
        sent = [row["video_id"] for row in await w.rows("SELECT video_id FROM taxiway.submissions ORDER BY id")]
        assert sent.index(urgent[0]) == 6, "after the claim beside which it was found"
        assert set(sent) == {*ids, *urgent}
        assert None not in began[1:4]


async def test_a_look_does_not_outlive_the_run_that_began_it(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await warm(w.url, 8)
    await w.enqueue_many(2)
    looks: list[str] = []
    has_claimed = asyncio.Event()
    fetch = w.ctx.database.fetch

    async def slow(sql: str, *arguments: object) -> Any:
        if sql != fronts._BEFORE:
            return await fetch(sql, *arguments)
        looks.append("begun")
        await has_claimed.wait()
        await run.settle()
        for _ in range(1_000):
            await asyncio.sleep(0)
        looks.append("ended")
        return []

    monkeypatch.setattr(w.ctx.database, "fetch", slow)
    async with submitting(replace(w.ctx, monotonic=w.clock), Deadline(w.clock, w.clock() + 600)) as run:
        await run.claim_due(1)
        w.clock.now += 1.0
        await run.claim_due(1)
        has_claimed.set()
    assert looks == ["begun", "ended"]


async def test_a_claim_behind_a_place_takes_what_stands_there(w: World) -> None:
    await warm(w.url, 8)
    ids = await w.enqueue_many(4)
    front = Front(w.clock)
    front.behind()
    permitted = await claim(w, 2)
    assert [json.loads(one.place)[2] for one in permitted if one.place] == [str(ids[1])], "the last of them"
    front.note(permitted, 2)
    urgent = await w.enqueue(priority=100)
    assert [one.video_id for one in await claims.claim(w.ctx.database, 1, 60, Aim(behind=front.behind()))] == [ids[2]]
    others = json.dumps({"another": ["infinity", "infinity", str(urgent)]})
    assert [one.video_id for one in await claims.claim(w.ctx.database, 1, 60, Aim(behind=others))] == [urgent]


# Submit


async def test_what_takes_a_place_before_the_last_claim_is_claimed_in_the_same_run(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(database_url, submit_concurrency=2) as w:
        await warm(w.url, 8)
        await w.enqueue_many(2)
        begun: list[bool] = []
        usual = budget.claim

        async def watched(ctx: Context, limit: int, seconds: float, aim: Aim, *more: Any) -> list[OpenSubmission]:
            permitted = await usual(ctx, limit, seconds, aim, *more)
            if not begun:
                await w.enqueue(priority=100)
            begun.append(aim.behind is None)
            return permitted

        monkeypatch.setattr(budget, "claim", watched)
        counts = await submit.run_once(w.ctx, Deadline(w.ctx.monotonic, w.ctx.monotonic() + 60))
        assert counts["claimed"] == 3
        assert begun[:3] == [True, False, True], "nothing stands behind: then from the front"


async def test_two_creates_are_never_sent_for_one_submission(w: World) -> None:
    for _ in range(30):
        await w.enqueue()
    await asyncio.gather(*(w.tick() for _ in range(6)))
    assert len(w.creates) == 30
    assert len({entry.task_id for entry in w.creates}) == 30


@pytest.mark.parametrize(("budget", "hard_limit", "creates"), [(0.001, None, 1), (20, None, 3), (20, 25, 3)])
async def test_a_small_budget_still_makes_progress(
    database_url: str, budget: float, hard_limit: float | None, creates: int
) -> None:
    async with world(database_url, submit_concurrency=1, hard_limit=hard_limit) as w:
        for _ in range(3):
            await w.enqueue()
        counts = await w.tick(budget=budget)
        assert counts["submit"]["accepted"] == creates


def deadline(left: float, hard: float | None = None, stopping: bool = False) -> Deadline:
    return Deadline(lambda: 100.0, 100.0 + left, None if hard is None else 100.0 + hard, lambda: stopping)


@pytest.mark.parametrize(
    ("win", "usual", "may"),
    [
        (deadline(10), 9.9, True),
        (deadline(10), 10.0, False),
        (deadline(-1), None, True),
        (deadline(-1, stopping=True), None, False),
        (deadline(-1), 0.0, False),
        (deadline(10, stopping=True), 0.0, False),
        (deadline(60, hard=15), 1.0, True),
        (deadline(60, hard=14.9), 1.0, False),
    ],
)
async def test_when_claiming_stops(win: Deadline, usual: float | None, may: bool) -> None:
    assert win.can_claim(usual, 60) is may


async def test_a_call_ends_before_the_platform_kills() -> None:
    assert deadline(60).call_seconds(60) == 60
    assert deadline(60, hard=40).call_seconds(60) == 35


async def test_stopping_claims_nothing_more(w: World) -> None:
    await w.enqueue()
    counts = await w.tick(stopping=lambda: True)
    assert counts["submit"]["claimed"] == 0


async def test_the_usual_time_of_a_create_is_read_from_the_ledger(w: World) -> None:
    assert await claims.p95_seconds(w.ctx.database) is None
    for _ in range(3):
        await w.enqueue()
    await w.tick()
    await execute(w.url, "UPDATE taxiway.submissions SET opened_at = closed_at - interval '4 s'")
    assert await claims.p95_seconds(w.ctx.database) == pytest.approx(4)


async def test_what_was_not_sent_waits_and_is_sent_once(database_url: str) -> None:
    async with world(database_url, runway_url="http://127.0.0.1:9") as w:
        # A port without a listener, through the real transport: the refusal is the proof.
        refused = replace(w.ctx, transport=None)
        video_id = await w.enqueue()
        counts = (await tick(refused)).as_json()
        assert counts["submit"]["not_sent"] == 1
        row = await w.row(video_id)
        assert (row["status"], row["retries"]) == ("queued", 1)
        assert (await w.ledger(video_id))[0]["outcome"] == "not_sent"
        assert (await w.tick())["submit"]["claimed"] == 0
        await w.finish()
        assert (await w.row(video_id))["status"] == "completed"
        assert len(w.creates) == 1


async def test_a_refusal_fails_with_runways_words(w: World) -> None:
    w.faults("status=403, body=runway")
    video_id = await w.enqueue()
    await w.tick()
    row = await w.row(video_id)
    assert (row["status"], row["error_code"]) == ("failed", "REJECTED")
    assert row["error_message"].startswith("Runway refused the request: ")


async def test_one_task_id_for_two_submissions_is_stored_once(w: World) -> None:
    await w.enqueue(), await w.enqueue()
    one, two = await claim(w)
    outcome = await send(w, one)
    answers = [
        as_outcome_row(submission.submission_id, submission.video_id, outcome, ACCEPT) for submission in (one, two)
    ]
    await submissions.save_each(w.ctx.database, answers)
    ledger = await w.rows("SELECT outcome FROM taxiway.submissions ORDER BY id")
    assert [row["outcome"] for row in ledger] == ["accepted", "unknown"]
    assert (await w.row(two.video_id))["error_code"] == "SUBMISSION_UNKNOWN"


async def test_saving_goes_on_until_the_database_is_back(w: World) -> None:
    video_id = await w.enqueue()
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            await execute(w.url, "ALTER TABLE taxiway.gone RENAME TO submissions")

    [submission] = await claim(w)
    outcome = await send(w, submission)
    await execute(w.url, "ALTER TABLE taxiway.submissions RENAME TO gone")
    patient = replace(w.ctx, sleep=sleep)
    with pytest.raises(NotConfigured):
        await ledger.of_video(w.ctx.database, video_id)
    await save_answers(patient, [as_outcome_row(submission.submission_id, video_id, outcome, ACCEPT)])
    assert waits == [0.2, 0.4, 0.8]
    assert (await w.row(video_id))["runway_video_id"] == outcome.task_id


async def test_however_long_the_database_is_away_an_answer_is_saved(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await w.enqueue()
    [submission] = await claim(w)
    outcome = await send(w, submission)
    waits: list[float] = []
    save_each = submissions.save_each

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def away(*arguments: Any) -> Any:
        if len(waits) < 10 * saving.HELD_TRIES:
            raise DatabaseUnavailable("no answer")
        return await save_each(*arguments)

    monkeypatch.setattr(submissions, "save_each", away)
    row = as_outcome_row(submission.submission_id, video_id, outcome, ACCEPT)
    left = await saving.save_together(replace(w.ctx, sleep=sleep), [row], Grace(w.ctx.monotonic))
    assert list(left.answers) == []
    assert max(waits) == saving.SAVE_AGAIN_CAP_SECONDS
    assert (await w.row(video_id))["runway_video_id"] == outcome.task_id


# A row that is held while its answer arrives


async def test_an_answer_for_a_held_row_goes_to_the_ledger_and_rescue_completes_it(w: World) -> None:
    video_id = await w.enqueue()
    [submission] = await claim(w)
    outcome = await send(w, submission)
    async with connected(w.url) as app, app.transaction():
        await app.execute("SELECT FROM taxiway.videos FOR UPDATE")
        assert await save(w, submission, outcome, ACCEPT) == "locked"
        assert (await rescue.run_once(w.ctx))["completed"] == 0
        assert (await w.ledger(video_id))[0]["task_id"] == outcome.task_id
    assert (await w.row(video_id))["open_submission_id"] == submission.submission_id
    assert (await rescue.run_once(w.ctx))["completed"] == 1
    row = await w.row(video_id)
    assert (row["status"], row["runway_video_id"]) == ("processing", outcome.task_id)
    assert (await w.ledger(video_id))[0]["unsaved"] is None
    await w.finish()
    assert len(w.creates) == 1


async def test_a_video_has_failed_in_its_history_only_once_it_has(w: World) -> None:
    """Its row is held when Runway's refusal is saved: the ledger says so at once, the end of the video comes later."""
    video_id = await w.enqueue()
    [submission] = await claim(w)

    async def kinds() -> list[str]:
        rows = await w.rows("SELECT kind FROM taxiway.events WHERE video_id = $1 ORDER BY at", video_id)
        return [row["kind"] for row in rows]

    async with connected(w.url) as app, app.transaction():
        await app.execute("SELECT FROM taxiway.videos FOR UPDATE")
        refused = Outcome(Kind.REJECTED, "no")
        assert await save(w, submission, refused, Decision(Status.FAILED, "REJECTED", "no")) == "locked"
        assert "failed" not in await kinds()
    assert (await rescue.run_once(w.ctx))["completed"] == 1
    assert (await w.row(video_id))["status"] == "failed"
    assert (await kinds()).count("failed") == 1


# Rescue, late answers, adoption


async def test_a_lapsed_submission_is_unknown_and_not_before_its_deadline(w: World) -> None:
    video_id = await w.enqueue()
    await claim(w)
    await w.later(seconds=85)
    assert (await rescue.run_once(w.ctx))["lapsed"] == 0
    await w.later(seconds=6)
    assert (await rescue.run_once(w.ctx))["lapsed"] == 1
    row = await w.row(video_id)
    assert (row["status"], row["error_code"]) == ("failed", "SUBMISSION_UNKNOWN")


@pytest.mark.parametrize(
    ("outcome", "decision", "status", "settled"),
    [
        (Outcome(Kind.NOT_SENT, "refused"), Decision(Status.QUEUED, retry=True), "queued", True),
        (Outcome(Kind.REJECTED, "no"), Decision(Status.FAILED, "REJECTED", "no"), "failed", True),
        (Outcome(Kind.UNKNOWN, "again"), Decision(Status.FAILED, "SUBMISSION_UNKNOWN", "x"), "failed", False),
    ],
)
async def test_a_late_answer_resolves_an_unknown(
    w: World, outcome: Outcome, decision: Decision, status: str, settled: bool
) -> None:
    video_id = await w.enqueue()
    [submission] = await claim(w)
    await w.later(minutes=2)
    await rescue.run_once(w.ctx)
    await save(w, submission, outcome, decision)
    assert (await w.row(video_id))["status"] == status
    [entry] = await w.ledger(video_id)
    assert (entry["settled_at"] is not None) is settled
    assert entry["outcome"] == outcome.kind.value


async def lapse(w: World) -> tuple[UUID, OpenSubmission, Outcome]:
    """A video whose holder made the task and stalled; it was given up."""
    video_id = await w.enqueue()
    [submission] = await claim(w)
    outcome = await send(w, submission)
    await w.later(minutes=2)
    await rescue.run_once(w.ctx)
    return video_id, submission, outcome


async def test_a_late_id_is_attached(w: World) -> None:
    video_id, submission, outcome = await lapse(w)
    assert await save(w, submission, outcome, ACCEPT) == "moved"
    assert await save(w, submission, outcome, ACCEPT) == "nothing"
    settled = await w.rows("SELECT code, actor FROM taxiway.events WHERE kind = 'settled'")
    assert [tuple(row) for row in settled] == [("accepted", "submit")], "late evidence has an event, also with a 200"
    await w.finish()
    assert (await w.row(video_id))["status"] == "completed"
    assert len(w.creates) == 1


async def test_a_late_id_takes_a_video_out_of_the_queue_again(w: World) -> None:
    video_id, submission, outcome = await lapse(w)
    await w.api.post(f"/videos/{video_id}/retry", json={"accept_double_charge": True})
    assert await save(w, submission, outcome, ACCEPT) == "moved"
    await w.finish()
    assert (await w.row(video_id))["runway_video_id"] == outcome.task_id
    assert len(w.creates) == 1


async def test_a_late_id_for_a_video_that_is_with_runway_again_is_a_surplus(w: World) -> None:
    video_id, submission, outcome = await lapse(w)
    await w.api.post(f"/videos/{video_id}/retry", json={"accept_double_charge": True})
    await w.tick()
    assert await save(w, submission, outcome, ACCEPT) == "elsewhere"
    assert (await w.tick())["cancel"]["deleted"] == 1
    await w.finish()
    first, second = await w.ledger(video_id)
    assert (first["consent"], first["cancel_reason"], first["task_status"]) == ("operator", "surplus", "DELETED")
    assert second["task_status"] == "SUCCEEDED"
    assert (await w.row(video_id))["status"] == "completed"


async def test_the_answer_for_a_video_cancelled_meanwhile_is_a_surplus(w: World) -> None:
    video_id = await w.enqueue()
    [submission] = await claim(w)
    await w.api.post(f"/videos/{video_id}/cancel")
    assert await save(w, submission, await send(w, submission), ACCEPT) == "elsewhere"
    assert (await w.tick())["cancel"]["deleted"] == 1
    assert (await w.row(video_id))["status"] == "cancelled"


async def test_the_policy_resubmits_at_most_so_often(database_url: str) -> None:
    async with world(database_url, unknown_policy="resubmit", unknown_resubmits=2) as w:
        w.faults({"simulate": "drop_after", "times": 9})
        video_id = await w.enqueue()
        for _ in range(6):
            await w.tick()
            await w.later(minutes=1)
        assert (await w.row(video_id))["error_code"] == "SUBMISSION_UNKNOWN"
        assert len(w.creates) == 3
        assert [entry["consent"] for entry in await w.ledger(video_id)] == ["policy", "policy", None]


async def test_the_policy_resubmits_what_lapsed(database_url: str) -> None:
    async with world(database_url, unknown_policy="resubmit") as w:
        video_id = await w.enqueue()
        await claim(w)
        await w.later(minutes=2)
        await w.finish()
        assert (await w.row(video_id))["status"] == "completed"
        assert (await w.ledger(video_id))[0]["consent"] == "policy"


async def test_an_operator_attaches_a_task(w: World) -> None:
    video_id, _, outcome = await lapse(w)
    other = await w.enqueue()
    assert outcome.task_id is not None
    with pytest.raises(Conflict, match="does not know the task"):
        await attaching.attach(w.ctx, video_id, "5b3a2f0e-0000-4000-8000-000000000001")
    with pytest.raises(Conflict, match="no submission of video"):
        await attaching.attach(w.ctx, other, outcome.task_id)
    assert await attaching.attach(w.ctx, video_id, outcome.task_id) == "moved"
    assert await attaching.attach(w.ctx, video_id, outcome.task_id) == "held"
    await w.finish()
    assert (await w.row(video_id))["status"] == "completed"


async def test_a_task_from_outside_the_submissions_window_is_not_attached(w: World) -> None:
    video_id, _, outcome = await lapse(w)
    [task] = w.runway.state.runway.tasks.values()
    task.created_at = "2020-01-01T00:00:00.000Z"
    assert outcome.task_id is not None
    with pytest.raises(Conflict, match="no submission"):
        await attaching.attach(w.ctx, video_id, outcome.task_id)


# Poll and finalize


async def test_polls_keep_runways_distance(database_url: str) -> None:
    async with world(database_url, options={"speed": 0.01}) as w:
        await w.enqueue()
        assert (await w.tick())["poll"]["polled"] == 0
        await w.later(seconds=4)
        assert (await w.tick())["poll"]["polled"] == 0
        await w.later(seconds=2)
        assert (await w.tick())["poll"]["polled"] == 1
        assert (await w.tick())["poll"]["polled"] == 0


async def test_progress_and_throttling_are_shown(database_url: str) -> None:
    async with world(database_url, options={"concurrency": 1}) as w:
        first, second = await w.enqueue(), await w.enqueue()
        await w.tick()
        await w.later(seconds=6)
        await w.tick()
        rows = [await w.row(first), await w.row(second)]
        assert {row["task_status"] for row in rows} == {"RUNNING", "THROTTLED"}
        assert any(0 < (row["progress"] or 0) < 1 for row in rows)
        await w.finish()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("empty", "NO_OUTPUT"),
        ("vanish", "TASK_VANISHED"),
        ("cancelled", "TASK_CANCELLED"),
        ("fail=SAFETY.INPUT.TEXT", "SAFETY.INPUT.TEXT"),
        ("fail=NEW.CODE", "NEW.CODE"),
    ],
)
async def test_tasks_that_end_badly(w: World, fault: str, code: str) -> None:
    w.faults(fault)
    video_id = await w.enqueue()
    await w.finish()
    row = await w.row(video_id)
    assert (row["status"], row["error_code"]) == ("failed", code)
    assert row["error_message"]
    [entry] = await w.ledger(video_id)
    assert (entry["settled_at"] is None) == (code == "TASK_VANISHED")  # which may have been charged


@pytest.mark.parametrize(("retries", "creates"), [(0, 1), (2, 3)])
async def test_failures_of_runways_own_are_tried_again_up_to_a_cap(
    database_url: str, retries: int, creates: int
) -> None:
    async with world(database_url, task_retries=retries) as w:
        w.faults({"simulate": "fail=INTERNAL", "times": 9})
        video_id = await w.enqueue()
        await w.finish(rounds=60)
        assert (await w.row(video_id))["error_code"] == "INTERNAL"
        assert len(w.creates) == creates


async def test_a_task_that_takes_too_long_fails_and_is_deleted(database_url: str) -> None:
    async with world(database_url, options={"speed": 0.0}, task_timeout=3600) as w:
        video_id = await w.enqueue()
        await w.tick()
        await w.later(minutes=59)
        await w.tick()
        assert (await w.row(video_id))["status"] == "processing"
        await w.later(minutes=2)
        await w.tick()
        assert (await w.row(video_id))["error_code"] == "TASK_TIMEOUT"
        assert (await w.ledger(video_id))[0]["settled_at"] is None
        assert (await w.tick())["cancel"]["deleted"] == 1
        assert (await w.ledger(video_id))[0]["settled_at"] is not None


async def test_a_finished_task_counts_although_it_took_too_long(database_url: str) -> None:
    async with world(database_url, task_timeout=60) as w:
        video_id = await w.enqueue()
        await w.tick()
        await w.later(hours=2)
        await w.tick()
        assert (await w.row(video_id))["status"] == "completed"


async def test_a_poll_that_fails_is_taken_again(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    w.faults({"simulate": "status=500", "on": "retrieve"})
    await w.later(minutes=1)
    assert (await w.tick())["poll"]["unreachable"] == 1
    await w.later(seconds=31)
    assert (await w.tick())["poll"]["completed"] == 1
    assert (await w.row(video_id))["status"] == "completed"


async def test_a_held_row_is_finalized_later(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    await w.later(minutes=1)
    [due] = await tasks.claim_due(w.ctx.database, 10)
    async with connected(w.url) as app, app.transaction():
        await app.execute("SELECT FROM taxiway.videos FOR UPDATE")
        assert (await poll.run_once(w.ctx))["polled"] == 0
    assert due.video.id == video_id
    await w.later(seconds=31)
    await w.tick()
    assert (await w.row(video_id))["status"] == "completed"


async def seen_of(w: World) -> PollResult:
    """What the one task is that is under way, a minute later."""
    await w.later(minutes=1)
    [due] = await tasks.claim_due(w.ctx.database, 10)
    async with w.ctx.runway() as runway:
        seen = (await polling.Poller(w.ctx, runway, unlimited(w.ctx.monotonic)).poll(due)).result
    assert seen is not None
    return seen


async def test_finalizing_twice_changes_nothing(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    seen = await seen_of(w)
    first = await asyncio.gather(*(tasks.finalize(w.ctx.database, [seen]) for _ in range(4)))
    assert sorted(map(len, first)) == [0, 0, 0, 1]
    row = await w.row(video_id)
    late = replace(seen, next_status="failed", error_code="X", output=None)
    assert await tasks.finalize(w.ctx.database, [late]) == set()
    assert await w.row(video_id) == row


async def test_what_is_said_of_an_earlier_task_changes_nothing(w: World) -> None:
    w.faults("fail=INTERNAL")
    video_id = await w.enqueue()
    await w.tick()
    seen = await seen_of(w)
    assert await tasks.finalize(w.ctx.database, [seen]) == {video_id}, "queued again"
    await w.later(minutes=1)
    await w.tick()
    row = await w.row(video_id)
    assert row["runway_video_id"] not in (None, seen.task_id)
    film = "https://films.example.com/another.mp4"
    late = replace(seen, next_status="completed", error_code=None, output=[film], video_url=film)
    assert await tasks.finalize(w.ctx.database, [late]) == set()
    assert await w.row(video_id) == row


async def test_polling_alone(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    await w.later(minutes=1)
    counts = (await poll_only(w.ctx)).as_json()
    assert set(counts) == {"poll", "seconds", "ref"}
    assert (await w.row(video_id))["status"] == "completed"
    assert (await w.rows("SELECT kind FROM taxiway.ticks ORDER BY id DESC LIMIT 1"))[0]["kind"] == "poll"


# Cancel


async def test_a_delete_that_fails_is_sent_again(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    await w.api.post(f"/videos/{video_id}/cancel")
    w.faults({"simulate": "status=502", "on": "delete"})
    assert (await w.tick())["cancel"]["deleted"] == 0
    await w.later(seconds=31)
    assert (await w.tick())["cancel"]["deleted"] == 1


async def test_a_task_that_is_gone_already_counts_as_deleted(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    await w.api.post(f"/videos/{video_id}/cancel")
    async with w.ctx.runway() as runway:
        assert await runway.delete((await w.row(video_id))["runway_video_id"])
    assert (await w.tick())["cancel"]["deleted"] == 0  # one 404 proves nothing
    for _ in range(2):
        await w.later(seconds=160)
        assert (await w.ledger(video_id))[0]["settled_at"] is None
        deleted = (await w.tick())["cancel"]["deleted"]
    assert deleted == 1
    assert (await w.ledger(video_id))[0]["settled_at"] is not None


# Models


@pytest.mark.parametrize(
    ("fault", "reason", "model"),
    [
        ("no_credits", "no_credits", "all"),
        ("key_revoked", "key_refused", "all"),
        ("daily_limit", "daily_limit", "gen4_turbo"),
        ("status=404", "wrong_endpoint", "gen4_turbo"),
        ("status=403, body=html", "not_runway", "gen4_turbo"),
    ],
)
async def test_a_model_pauses_and_resumes_on_a_probe(database_url: str, fault: str, reason: str, model: str) -> None:
    async with world(database_url, submit_concurrency=2) as w:
        w.faults({"simulate": fault, "times": 2})
        ids = [await w.enqueue() for _ in range(6)]
        text = await w.enqueue(operation="text_to_video", input={"promptText": "a boat"})
        await w.tick()
        refused = sum(entry.task_id is None for entry in w.creates)
        assert refused == 2  # what was in flight together; nothing after it
        [paused] = await models.paused(w.ctx.database)
        assert (paused["model"], paused["reason"]) == (model, reason)
        assert {(await w.row(video_id))["status"] for video_id in ids} == {"queued"}
        assert (await w.row(text))["status"] == ("queued" if model == "all" else "processing")
        before = len(w.creates)
        await w.tick()
        assert len(w.creates) == before
        w.faults(fault)
        await w.later(minutes=16)
        await w.tick()
        assert sum(entry.task_id is None for entry in w.creates) == 3  # one probe, refused
        await w.tick()
        assert sum(entry.task_id is None for entry in w.creates) == 3
        await w.later(minutes=16)
        await w.finish()
        assert await models.paused(w.ctx.database) == []
        assert {(await w.row(video_id))["status"] for video_id in [*ids, text]} == {"completed"}


async def test_a_model_is_resumed_by_hand(w: World) -> None:
    await w.enqueue()
    assert await models.pause(w.ctx.database, "gen4_turbo", 900, "daily_limit", "words")
    assert not await models.pause(w.ctx.database, "gen4_turbo", 60, "daily_limit", "words")
    assert (await w.tick())["submit"]["claimed"] == 0
    assert await models.resume(w.ctx.database, "gen4_turbo")
    assert not await models.resume(w.ctx.database, "gen4_turbo")
    assert (await w.tick())["submit"]["claimed"] == 1


# The tick


async def test_a_tick_is_written_down_and_an_old_one_removed(w: World) -> None:
    await w.tick()
    await w.later(days=8)
    counts = await w.tick()
    assert counts["prune"]["pruned"] == 1
    assert await prune.run_once(w.ctx) == {"pruned": 0, "removed": 0}
    [row] = await w.rows("SELECT * FROM taxiway.ticks")
    assert (row["kind"], row["error"]) == ("tick", None)


async def test_a_tick_without_a_key_says_so(database_url: str) -> None:
    async with world(database_url, runway_key=None) as w:
        with pytest.raises(NotConfigured, match="RUNWAYML_API_SECRET"):
            await tick(w.ctx)


async def test_a_step_that_fails_is_named_and_costs_the_others_nothing(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> dict[str, int]:
        raise RuntimeError("a defect")

    await w.enqueue()
    await w.tick()
    await w.later(minutes=1)
    monkeypatch.setattr(poll, "run_once", broken)
    await w.enqueue()
    counts = (await tick(w.ctx)).as_json()
    assert counts["submit"]["accepted"] == 1
    assert counts["errors"] == {"poll": "RuntimeError"}
    assert (await w.rows("SELECT error FROM taxiway.ticks ORDER BY id DESC"))[0]["error"] == "poll: RuntimeError"


async def test_a_tick_that_cannot_be_written_down_still_tells_what_it_did(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(ticks, "record", away)
    await w.enqueue()
    answer = await w.cron.get("/process-queued")
    assert (answer.status_code, answer.json()["submit"]["accepted"]) == (200, 1)
    assert answer.json()["errors"] == {"record": "gone"}


async def test_a_create_that_comes_too_late_is_not_sent(w: World) -> None:
    await w.enqueue()
    [submission] = await claim(w)
    runway = Runway(w.ctx.settings, monotonic=lambda: 10.0)
    result = await runway.create(submission.operation, submission.input, give_up_at=10.0)
    await runway.aclose()
    assert result.sent is False  # type: ignore[union-attr]
    assert w.creates == []


async def test_nothing_is_sent_by_a_machine_that_was_suspended_after_its_claim(w: World) -> None:
    """The monotonic clock stands still meanwhile, and the lease is long over."""
    await w.enqueue()
    slept = [0.0]
    ctx = replace(w.ctx, now=lambda: w.clock() + slept[0])
    of_claim = budget.claim

    async def suspended(*arguments: Any) -> list[OpenSubmission]:
        permitted = await of_claim(*arguments)
        slept[0] = 28 * 60.0
        return permitted

    with patch.object(budget, "claim", suspended):
        counts = await submit.run_once(ctx, Deadline(ctx.monotonic, ctx.monotonic() + 20))
    assert (counts["claimed"], counts["not_sent"], w.creates) == (1, 1, [])


async def test_polls_by_the_client_of_production(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    task_id = (await w.row(video_id))["runway_video_id"]
    ctx = replace(w.ctx, transport=None)
    url = f"{w.ctx.settings.runway_url}/v1/tasks/{task_id}"
    task = {"id": task_id, "createdAt": "2026-01-01T00:00:00.000Z"}
    answers: list[tuple[Any, dict[str, int]]] = [
        (httpx.ReadTimeout, {"polled": 1, "unreachable": 1}),
        (httpx.Response(500, json={"error": "Oops"}), {"polled": 1, "unreachable": 1}),
        (httpx.Response(200, json=task | {"status": "RUNNING", "progress": 0.5}), {"polled": 1, "unreachable": 0}),
        (
            httpx.Response(200, json=task | {"status": "SUCCEEDED", "output": ["https://example.com/a.mp4"]}),
            {"polled": 1, "completed": 1},
        ),
    ]
    for answer, counted in answers:
        await w.later(minutes=5)
        with mocked() as routes:
            routes.get(url).mock(side_effect=[answer])
            counts = await poll.run_once(ctx)
        assert counted.items() <= counts.items()
    assert (await w.row(video_id))["video_url"] == "https://example.com/a.mp4"


async def test_a_task_that_runway_cannot_be_asked_about_ends_all_the_same(database_url: str) -> None:
    async with world(database_url, task_timeout=3600) as w:
        video_id = await w.enqueue()
        await w.tick()
        w.faults({"simulate": "status=401, body=runway", "on": "retrieve", "times": 9})
        for minutes, status in ((119, "processing"), (2, "failed")):
            await w.later(minutes=minutes)
            await w.tick()
            assert (await w.row(video_id))["status"] == status
        assert (await w.row(video_id))["error_code"] == "TASK_TIMEOUT"
        assert (await w.tick())["cancel"]["deleted"] == 1


async def test_the_part_of_a_code_that_is_for_diagnosis_is_not_in_the_message(w: World) -> None:
    w.faults("fail=SAFETY.INPUT.TEXT", "fail=ASSET.INVALID")
    refused = await w.enqueue()
    await w.finish()
    unfit = await w.enqueue()
    await w.finish()
    assert (await w.row(refused))["error_message"].endswith("[SAFETY.INPUT]")
    assert (await w.row(unfit))["error_message"].endswith("[ASSET.INVALID]")


async def test_no_statement_makes_asyncpg_change_the_session(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would set `jit` while it looks types up; behind a transaction pooler that stays with another session."""

    async def look_up(_self: object, typeoids: object, _timeout: object) -> None:
        raise AssertionError(f"types are looked up: {typeoids}")

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", look_up)
    async with world(database_url, max_credits_per_day_by_model="gen4_turbo=500") as w:
        w.faults("drop_after", "fail=ASSET.INVALID")
        unknown = await w.enqueue()
        await w.tick()
        failed = await w.enqueue()
        await w.tick()
        await w.rows("INSERT INTO taxiway.videos (prompt, status) VALUES ('a boat', 'queued')")
        await w.finish()
        await w.api.post(f"/videos/{unknown}/retry", json={"accept_double_charge": True})
        await w.api.post(f"/videos/{failed}/retry")
        await w.tick()
        assert (await w.api.post(f"/videos/{failed}/cancel")).status_code == 200
        assert (await w.tick())["cancel"]["deleted"] == 1
        assert (await w.api.get("/videos?status=completed,cancelled")).status_code == 200
        assert (await w.anyone.get("/health")).status_code == 200


async def test_what_cannot_be_stored_costs_the_others_nothing(w: World) -> None:
    bad, good = await w.enqueue(), await w.enqueue()
    await w.tick()
    await w.later(minutes=1)
    due = await tasks.claim_due(w.ctx.database, 10)
    async with w.ctx.runway() as runway:
        looks = [(await polling.Poller(w.ctx, runway, unlimited(w.ctx.monotonic)).poll(one)).result for one in due]
    broken = [replace(seen, video_url="\x00") if seen.video_id == bad else seen for seen in looks if seen]
    assert await finalize(w.ctx, broken) == {good}
    assert (await w.row(good))["status"] == "completed"
    await w.finish()
    assert (await w.row(bad))["status"] == "completed"


async def test_a_claim_whose_answer_is_lost_is_taken_back(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    claim_for_real = claims.claim

    async def lose(*arguments: object, **options: object) -> list[OpenSubmission]:
        await claim_for_real(*arguments, **options)  # type: ignore[arg-type]  # whatever it is called with
        monkeypatch.setattr(claims, "claim", claim_for_real)
        raise DatabaseUnavailable("the connection is gone")

    async def no_time(_: float) -> None:
        return

    hasty = replace(w.ctx, sleep=no_time)
    ids = [await w.enqueue() for _ in range(3)]
    await warm(w.url, 3)
    monkeypatch.setattr(claims, "claim", lose)
    with pytest.raises(DatabaseUnavailable):  # nothing else was due: the tick did nothing
        await tick(hasty)
    assert [(await w.row(one))["status"] for one in ids] == ["queued"] * 3
    assert {(await w.ledger(one))[0]["outcome"] for one in ids} == {"not_sent"}
    await w.finish()
    assert len(w.creates) == 3


async def test_a_claim_that_cannot_be_taken_back_ends_as_unknown(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def away(*_: object, **__: object) -> list[OpenSubmission]:
        raise DatabaseUnavailable("gone")

    video_id, _ = await w.enqueue(), await w.enqueue()
    await claim(w, 1)
    monkeypatch.setattr(claims, "claim", away)
    monkeypatch.setattr(claims, "of_claim", away)
    with pytest.raises(DatabaseUnavailable):
        await tick(replace(w.ctx, sleep=sleep))
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2]
    await w.later(minutes=2)
    await rescue.run_once(w.ctx)
    assert (await w.row(video_id))["error_code"] == "SUBMISSION_UNKNOWN"
    assert w.creates == []


async def test_a_database_that_goes_between_two_claims_costs_no_count(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable("gone")

    async with world(database_url, submit_concurrency=1) as w:
        await w.enqueue(), await w.enqueue()
        monkeypatch.setattr(claims, "p95_seconds", away)
        assert (await w.tick())["submit"]["accepted"] == 1
