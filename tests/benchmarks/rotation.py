"""A database whose days pass in seconds: `taxiway.now()` is replaced, and videos come, live and end in it."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

from service.context import Context
from service.installer.migrate import migrate
from service.operations import observe
from service.operations.saving import as_outcome_row
from service.runway.outcomes import Decision, Kind, Outcome
from service.steps import prune
from service.store import claim as claims
from service.store import tasks, ticks
from service.store.claim import OpenSubmission
from service.store.outcome_row import OutcomeRow
from service.store.pending_work import pending_work
from service.store.tasks import PollResult
from service.videos import FailureCode, Status
from tests.benchmarks.contenders.taxiway import enqueue_one, learn, multiply
from tests.benchmarks.history import FINISHED
from tests.database import connected, execute
from tests.saved import save_answers

CALL_SECONDS = 60.0
UNKNOWN_EACH = 50  # one in so many of those that live their whole life ends with an outcome that stays unknown

# `past`: how long ago it is. PostgreSQL puts the function's words in the place of its call, so that it costs nothing.
CLOCK = """
CREATE OR REPLACE FUNCTION taxiway.now() RETURNS timestamptz STABLE PARALLEL SAFE LANGUAGE sql AS
$$ SELECT pg_catalog.now() - CAST(current_setting('month.past') AS interval) $$
"""
# What was planned when the schema was made was planned at the clock's beginning.
PLANNED_THEN = """
UPDATE taxiway.maintenance SET taken_at = taken_at - CAST(current_setting('month.past') AS interval),
    due_at = due_at - CAST(current_setting('month.past') AS interval)
"""
# What POST /videos writes for the search; and the ledger of those that are written as they end.
SEARCH = """
INSERT INTO taxiway.search (video_id, created_at, model, words)
SELECT id, created_at, model, to_tsvector('simple', prompt) FROM taxiway.videos
WHERE status IN ('queued', 'completed', 'failed') AND created_at >= taxiway.now() - CAST('{}' AS interval)
ON CONFLICT DO NOTHING
"""
LEDGER = """
INSERT INTO taxiway.submissions (video_id, model, opened_at, call_deadline, deadline, quoted_credits, outcome,
                                 closed_at, http_status, task_id, estimated_credits, task_status, cost_credits,
                                 settled_at, polls, recent_polls)
SELECT id, model, created_at, created_at + interval '60 s', created_at + interval '70 s', quoted_credits, 'accepted',
       created_at + interval '1 s', 200, runway_video_id, quoted_credits, 'SUCCEEDED', cost_credits, finished_at, 6,
       (SELECT jsonb_agg(jsonb_build_array(1700000000.123 + n, 'RUNNING', n / 10.0)) FROM generate_series(1, 6) AS n)
FROM taxiway.videos v
WHERE status IN ('completed', 'failed') AND created_at >= taxiway.now() - CAST('{}' AS interval)
  AND NOT EXISTS (SELECT FROM taxiway.submissions s WHERE s.video_id = v.id) ORDER BY created_at
"""
TICKS = """
INSERT INTO taxiway.ticks (kind, started_at, finished_at, counts)
SELECT 'tick', at, at, '{}'
FROM generate_series(1, $1) AS n, LATERAL (SELECT taxiway.now() - n * interval '1 minute' AS at) AS minute
"""

AT_ONCE = 50  # with Runway, as many as a worker has slots


async def found(url: str, past: str) -> None:
    """The schema, made at the clock's beginning, and one video to copy."""
    await migrate(url)
    await turn(url, past)
    await execute(url, CLOCK, PLANNED_THEN)
    await learn(url)
    await enqueue_one(url)
    await execute(url, "CREATE TABLE template AS SELECT * FROM taxiway.videos")


async def turn(url: str, past: str) -> None:
    """Turn the clock, for connections that are made from now on."""
    await execute(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET month.past = '{past}'")


async def _write(url: str, count: int, within: str, changes: dict[str, str]) -> None:
    """Videos that were created over the last while, as POST /videos writes them, but for `changes`."""
    at = f"taxiway.now() - interval '{within}' * n / {count + 1}"
    fresh = dict.fromkeys(("created_at", "run_after", "queued_at", "updated_at"), at)
    fresh |= {"prompt": FINISHED["prompt"], "expires_at": "taxiway.now() + interval '7 days'"}
    await multiply(url, count, fresh | changes, source="template")


async def arrive(url: str, count: int, within: str) -> None:
    """So many wait."""
    await _write(url, count, within, {})
    await execute(url, SEARCH.format(within))


async def go_by(url: str, count: int, within: str) -> None:
    """So many have come, and have ended."""
    at = f"taxiway.now() - interval '{within}' * n / {count + 1}"
    ended = {name: value for name, value in FINISHED.items() if not name.endswith(("_at", "_after", "prompt"))}
    await _write(url, count, within, ended | dict.fromkeys(("submitted_at", "finished_at"), at))
    await execute(url, LEDGER.format(within))


async def live(ctx: Context, count: int) -> None:
    """Claim them, save what the creates came to, look at each task while it runs, and finish it; a few at a time."""
    for begun in range(0, count, AT_ONCE):
        await _live(ctx, min(AT_ONCE, count - begun))


async def _live(ctx: Context, count: int) -> None:
    claimed = await claims.claim(ctx.database, count, CALL_SECONDS, claim_id=None)
    assert len(claimed) == count
    made = [None if submission.submission_id % UNKNOWN_EACH == 0 else str(uuid4()) for submission in claimed]
    await save_answers(ctx, [_answer(*one) for one in zip(claimed, made, strict=True)])
    under_way = [(submission, task_id) for submission, task_id in zip(claimed, made, strict=True) if task_id]
    await tasks.finalize(ctx.database, [_seen(submission, task_id, "processing") for submission, task_id in under_way])
    ends = ("failed" if submission.submission_id % 10 == 0 else "completed" for submission, _ in under_way)
    seen = [_seen(submission, task_id, end) for (submission, task_id), end in zip(under_way, ends, strict=True)]
    assert len(await tasks.finalize(ctx.database, seen)) == len(under_way)


def _answer(submission: OpenSubmission, task_id: str | None) -> OutcomeRow:
    """What a create came to; without a task, nobody knows."""
    if task_id is None:
        lost = Outcome(Kind.UNKNOWN, "the answer was lost")
        decision = Decision(Status.FAILED, FailureCode.SUBMISSION_UNKNOWN, "It is not known whether Runway took it")
        return as_outcome_row(submission.submission_id, submission.video_id, lost, decision)
    created = Outcome(Kind.ACCEPTED, "task created", http_status=200, task_id=task_id)
    return as_outcome_row(
        submission.submission_id, submission.video_id, created, Decision(Status.PROCESSING),
        announced=submission.announced,
    )  # fmt: skip


def _seen(submission: OpenSubmission, task_id: str, status: str) -> PollResult:
    """One poll of a task."""
    ended, completed = status != "processing", status == "completed"
    return PollResult(
        submission.video_id, task_id, status, {"processing": "RUNNING", "completed": "SUCCEEDED"}.get(status, "FAILED"),
        1.0 if completed else 0.5, "INTERNAL" if status == "failed" else None, None, 30.0, task_retry=False,
        output=["https://example.com/film.mp4"] if completed else None,
        video_url="https://example.com/film.mp4" if completed else None, video_url_expires_at=None,
        cost_credits=Decimal(25) if ended else None, settled=ended, cancel_reason=None,
    )  # fmt: skip


async def tick_on(url: str, ctx: Context, count: int) -> None:
    """What so many ticks leave behind, and what they remove."""
    async with connected(url) as connection:
        await connection.execute(TICKS, count - 1)
    due = await ticks.record(ctx.database, "tick", 0.0, {}, None)
    await observe.refresh(ctx, [name for name in due if name == "counts"])
    for _ in range(count):
        if not (await pending_work(ctx.database, ctx.settings.video_retention)).prune:
            break
        await prune.run_once(ctx)
