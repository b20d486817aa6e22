"""Statements on `submissions`: the permit, its outcome, and what must be deleted at Runway.

Lock order, everywhere: the video first, then its submission. Rows that somebody else holds are passed over, never
waited for: an app may hold them in a transaction that sleeps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg

from service import videos
from service.settings import LEASE_MARGIN_SECONDS
from service.store.database import Database

# What forbids another create for the video `v`.
_BLOCKED = """EXISTS (
    SELECT FROM submissions s WHERE s.video_id = v.id AND s.settled_at IS NULL AND s.consent IS NULL)"""

# Claim: take due videos, permit one submission for each, and say so in the video, in one statement whose commit is
# the permission to POST. $3 picks one paused lane for a probe ('*': any, although all are paused); NULL: the open ones.
# MATERIALIZED keeps LIMIT and SKIP LOCKED honest; LATERAL passes over a paused lane without reading its rows.
_CLAIM = f"""
WITH lane AS (
    SELECT l.model FROM lanes l
    WHERE l.model <> '*' AND CASE
        WHEN $3::text = '*' THEN l.reason IS NULL OR l.paused_until <= now()
        WHEN $3 IS NOT NULL THEN l.model = $3
        ELSE l.reason IS NULL AND NOT EXISTS (SELECT FROM lanes a WHERE a.model = '*' AND a.reason IS NOT NULL)
    END
), due AS MATERIALIZED (
    SELECT d.* FROM lane CROSS JOIN LATERAL (
        SELECT v.id, v.model, v.quoted_credits, v.priority, v.run_after FROM videos v
        WHERE v.status = 'queued' AND v.input IS NOT NULL AND v.finished_at IS NULL AND v.model = lane.model
          AND v.run_after <= now() AND (v.expires_at IS NULL OR v.expires_at > now()) AND NOT {_BLOCKED}
        ORDER BY v.priority DESC, v.run_after, v.id
        LIMIT $1 FOR UPDATE OF v SKIP LOCKED
    ) d ORDER BY d.priority DESC, d.run_after, d.id LIMIT $1
), permit AS (
    INSERT INTO submissions (video_id, model, quoted_credits, call_deadline, deadline)
    SELECT id, model, quoted_credits, now() + make_interval(secs => $2), now() + make_interval(secs => $2 + {LEASE_MARGIN_SECONDS})
    FROM due RETURNING id, video_id
)
UPDATE videos v SET status = 'processing', permit_id = p.id, runway_video_id = NULL, poll_after = NULL,
    polled_at = NULL, submitted_at = NULL, task_status = NULL, progress = NULL, error_code = NULL,
    error_message = NULL, finished_at = NULL, cost_credits = NULL, updated_at = now()
FROM permit p WHERE p.video_id = v.id AND v.id = ANY(ARRAY(SELECT id FROM due))
RETURNING p.id AS submission_id, v.id AS video_id, v.operation, v.model, v.input, v.setbacks, v.resubmits, v.quoted_credits
"""


@dataclass(frozen=True)
class Permit:
    """The permission to send one create for one video."""

    submission_id: int
    video_id: UUID
    operation: str
    model: str
    input: dict[str, Any]
    setbacks: int
    resubmits: int
    quoted_credits: Decimal | None


async def claim(database: Database, limit: int, call_seconds: float, lane: str | None = None) -> list[Permit]:
    """Permit at most `limit` creates, each to end within `call_seconds` from before this call."""
    rows = await database.fetch(_CLAIM, limit, call_seconds, lane)
    return [Permit(**(dict(row) | {"input": json.loads(row["input"])})) for row in rows]


@dataclass(frozen=True)
class Answer:
    """The outcome of a submission and what becomes of its video, as the statement takes it."""

    submission_id: int
    video_id: UUID
    outcome: str
    task_id: str | None
    http_status: int | None
    request_id: str | None
    error: str | None
    estimated_credits: Decimal | None
    next_status: str
    error_code: str | None
    error_message: str | None
    delay_seconds: float
    setback: bool
    resubmit: bool


class Guard(StrEnum):
    """Which submissions an answer may still be written to."""

    LIVE = "s.outcome IS NULL OR s.outcome = 'unknown'"  # also late: whoever was thought dead has its answer after all
    EXPIRED = "s.outcome IS NULL AND s.deadline <= now()"  # by the database's clock, never by age
    UNSAVED = "s.unsaved IS NOT NULL"


# Save what creates came to. For each answer: lock the video, or pass it over if somebody holds it (then the answer
# stays with the submission, and rescue completes the video); close the submission; move the video if it still waits
# for this answer. How the video stands to the submission:
#   holds      it is the video's permit: the usual
#   waits      the submission was given up as unknown, and no other has taken its place: late evidence adopts the task
#   elsewhere  the video was cancelled, has ended, is gone, or is with Runway again: a task is a surplus, to be deleted
_SAVE = """
WITH answer AS (
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[],
                         $8::numeric[], $9::text[], $10::text[], $11::text[], $12::float8[], $13::boolean[], $14::boolean[])
        AS a(submission_id, video_id, outcome, task_id, http_status, request_id, error,
             estimated_credits, next_status, error_code, error_message, delay_seconds, setback, resubmit)
), held AS MATERIALIZED (
    SELECT v.id, v.permit_id, v.status::text AS status, v.error_code FROM videos v
    WHERE v.id = ANY($2) ORDER BY v.id FOR UPDATE SKIP LOCKED
), entry AS MATERIALIZED (
    SELECT a.*, CASE
        WHEN h.permit_id = a.submission_id THEN 'holds'
        WHEN h.permit_id IS NULL AND (h.status = 'queued' OR h.status = 'failed' AND h.error_code = '{unknown}') THEN 'waits'
        WHEN h.id IS NULL AND EXISTS (SELECT FROM videos v WHERE v.id = a.video_id) THEN 'locked'
        ELSE 'elsewhere' END AS stand
    FROM answer a LEFT JOIN held h ON h.id = a.video_id
), closed AS (
    UPDATE submissions s SET
        outcome = e.outcome, closed_at = now(), task_id = e.task_id, http_status = e.http_status,
        request_id = e.request_id, error = e.error, estimated_credits = e.estimated_credits,
        settled_at = CASE WHEN e.outcome IN ('not_sent', 'rejected') THEN now() END,
        consent = CASE WHEN e.resubmit AND e.stand = 'holds' THEN 'policy' ELSE s.consent END,
        unsaved = CASE WHEN e.stand = 'locked' THEN to_jsonb(e) - 'stand' END,
        cancel_due = CASE WHEN e.outcome = 'accepted' AND e.stand = 'elsewhere' THEN now() ELSE s.cancel_due END,
        cancel_reason = CASE WHEN e.outcome = 'accepted' AND e.stand = 'elsewhere' THEN 'surplus' ELSE s.cancel_reason END
    FROM entry e WHERE s.id = e.submission_id AND ({guard})
    RETURNING e.*
), moved AS (
    UPDATE videos v SET
        status = c.next_status, permit_id = NULL, runway_video_id = c.task_id,
        submitted_at = CASE WHEN c.outcome = 'accepted' THEN now() END,
        task_status = CASE WHEN c.outcome = 'accepted' THEN 'PENDING' END,
        poll_after = CASE WHEN c.outcome = 'accepted' THEN now() + make_interval(secs => $15) END,
        setbacks = CASE WHEN c.outcome = 'accepted' THEN 0 ELSE v.setbacks + c.setback::integer END,
        resubmits = v.resubmits + c.resubmit::integer,
        run_after = CASE WHEN c.next_status = 'queued' THEN now() + make_interval(secs => c.delay_seconds) ELSE v.run_after END,
        finished_at = CASE WHEN c.next_status = 'failed' THEN now() END,
        error_code = c.error_code, error_message = c.error_message, updated_at = now()
    FROM closed c
    WHERE v.id = c.video_id AND (
        c.stand = 'holds'
        OR c.stand = 'waits' AND c.outcome = 'accepted'
        OR c.stand = 'waits' AND c.outcome IN ('not_sent', 'rejected') AND v.status = 'failed'
           AND NOT EXISTS (SELECT FROM submissions o WHERE o.video_id = v.id AND o.id <> c.submission_id
                           AND o.settled_at IS NULL AND o.consent IS NULL))
    RETURNING v.id
)
SELECT c.submission_id, CASE WHEN m.id IS NOT NULL THEN 'moved' ELSE c.stand END AS result
FROM closed c LEFT JOIN moved m ON m.id = c.video_id
"""

_SAVE_BY_GUARD = {guard: _SAVE.format(guard=guard.value, unknown=videos.SUBMISSION_UNKNOWN) for guard in Guard}


async def save(
    database: Database, answers: Sequence[Answer], *, first_poll_seconds: float, guard: Guard = Guard.LIVE
) -> dict[int, str]:
    """Write outcomes. By submission: 'moved' (the video followed), 'locked', 'waits' or 'elsewhere' (see above).

    A submission that is missing from the result had its outcome already; nothing was changed.
    """
    columns = zip(*(tuple(asdict(answer).values()) for answer in answers), strict=True)
    rows = await database.fetch(_SAVE_BY_GUARD[guard], *map(list, columns), first_poll_seconds)
    return {row["submission_id"]: row["result"] for row in rows}


async def save_each(database: Database, answers: Sequence[Answer], *, first_poll_seconds: float) -> dict[int, str]:
    """Write outcomes; if the batch fails, row by row, so that one bad row costs the others nothing.

    An answer that the ledger itself refuses (a task id that another submission has) is unknown, and is saved as that.
    """
    try:
        return await save(database, answers, first_poll_seconds=first_poll_seconds)
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError):
        if len(answers) == 1:
            answers = [_refused(answers[0])]
            return await save(database, answers, first_poll_seconds=first_poll_seconds)
    results: dict[int, str] = {}
    for answer in answers:
        results |= await save_each(database, [answer], first_poll_seconds=first_poll_seconds)
    return results


def _refused(answer: Answer) -> Answer:
    words = f"Runway answered with a task id that cannot be stored ({answer.task_id})"
    return replace(
        answer, outcome="unknown", task_id=None, error=words, next_status="failed", request_id=None,
        error_code=videos.SUBMISSION_UNKNOWN, error_message=words, setback=False, resubmit=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Lapsed:
    """A submission without an outcome at its deadline: whoever held it is gone, or hangs."""

    submission_id: int
    video_id: UUID
    model: str
    quoted_credits: Decimal | None
    setbacks: int
    resubmits: int


_LAPSED = """
SELECT s.id AS submission_id, s.video_id, s.model, s.quoted_credits,
       COALESCE(v.setbacks, 0) AS setbacks, COALESCE(v.resubmits, 0) AS resubmits
FROM submissions s LEFT JOIN videos v ON v.id = s.video_id
WHERE s.outcome IS NULL AND s.deadline <= now() ORDER BY s.id LIMIT $1
"""


async def lapsed(database: Database, limit: int) -> list[Lapsed]:
    """Open submissions past their deadline."""
    return [Lapsed(**row) for row in await database.fetch(_LAPSED, limit)]


_UNSAVED = "SELECT unsaved FROM submissions WHERE unsaved IS NOT NULL ORDER BY id LIMIT $1"


async def unsaved(database: Database, limit: int) -> list[Answer]:
    """Answers that were saved to the ledger alone, because the video's row was held by somebody."""
    rows = await database.fetch(_UNSAVED, limit)
    return [_answer(json.loads(row["unsaved"], parse_float=Decimal)) for row in rows]


def _answer(stored: dict[str, Any]) -> Answer:
    return Answer(**(stored | {"video_id": UUID(stored["video_id"]), "delay_seconds": float(stored["delay_seconds"])}))


# A queued video whose earlier submission was accepted, or may have been, was put back by hand: without consent it is
# not sent again. It returns to its task, or to the reason why it had failed.
_RESTORE = """
WITH dragged AS MATERIALIZED (
    SELECT DISTINCT ON (v.id) v.id, s.outcome, s.task_id
    FROM submissions s JOIN videos v ON v.id = s.video_id
    WHERE s.settled_at IS NULL AND s.consent IS NULL AND s.outcome IN ('accepted', 'unknown') AND s.cancel_due IS NULL
      AND s.unsaved IS NULL AND v.status = 'queued'
    ORDER BY v.id, s.outcome, s.id DESC LIMIT $1
), held AS MATERIALIZED (
    SELECT v.id FROM videos v WHERE v.id = ANY(ARRAY(SELECT id FROM dragged)) AND v.status = 'queued'
    ORDER BY v.id FOR UPDATE SKIP LOCKED
)
UPDATE videos v SET status = CASE d.outcome WHEN 'accepted' THEN 'processing' ELSE 'failed' END,
    runway_video_id = d.task_id, permit_id = NULL, poll_after = NULL, updated_at = now(),
    submitted_at = COALESCE(v.submitted_at, now()),
    finished_at = CASE d.outcome WHEN 'unknown' THEN now() END,
    error_code = CASE d.outcome WHEN 'unknown' THEN $2 END, error_message = CASE d.outcome WHEN 'unknown' THEN $3 END
FROM dragged d WHERE v.id = d.id AND v.id = ANY(ARRAY(SELECT id FROM held))
RETURNING v.id
"""


async def restore(database: Database, words: str, limit: int) -> int:
    """Take back what was queued again by hand although its last submission may have cost something; how many."""
    return len(await database.fetch(_RESTORE, limit, videos.SUBMISSION_UNKNOWN, words))


# A task that is not in the ledger was written into the row by hand. It is booked, so that it can be cancelled and counted.
_BOOK = """
WITH found AS MATERIALIZED (
    SELECT v.id, v.runway_video_id, COALESCE(v.model, 'unknown') AS model FROM videos v
    WHERE v.status = 'processing' AND v.runway_video_id IS NOT NULL AND v.submitted_at IS NULL
    ORDER BY v.id LIMIT $1 FOR UPDATE SKIP LOCKED
), booked AS (
    INSERT INTO submissions (video_id, model, call_deadline, deadline, outcome, closed_at, task_id)
    SELECT id, model, now() + interval '1 second', now() + interval '6 seconds', 'accepted', now(), runway_video_id
    FROM found ON CONFLICT DO NOTHING
)
UPDATE videos v SET submitted_at = now() FROM found f WHERE v.id = f.id
"""


async def book_foreign_tasks(database: Database, limit: int) -> int:
    """Open a ledger entry for tasks that somebody else wrote into `videos`; how many."""
    return await database.execute(_BOOK, limit)


# Whatever must be deleted at Runway; the entry is put off while this caller tries.
_CANCELS = """
UPDATE submissions s SET cancel_due = now() + make_interval(secs => $2)
WHERE s.id = ANY(ARRAY(
    SELECT id FROM submissions WHERE cancel_due <= now() ORDER BY cancel_due LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING s.id, s.video_id, s.task_id, s.cancel_reason
"""


async def claim_cancels(database: Database, limit: int, lease_seconds: float) -> list[asyncpg.Record]:
    """Tasks to delete: id, video_id, task_id, cancel_reason."""
    return await database.fetch(_CANCELS, limit, lease_seconds)


# The task is gone. What it did cost can no longer be asked: the estimate stays as the bound.
_CANCELLED = """
UPDATE submissions SET cancel_due = NULL, settled_at = COALESCE(settled_at, now()),
    task_status = COALESCE(task_status, 'DELETED') WHERE id = ANY($1::bigint[])
"""


async def cancelled(database: Database, submission_ids: Sequence[int]) -> None:
    """Book tasks as deleted."""
    await database.execute(_CANCELLED, list(submission_ids))


_OF_VIDEO = """
SELECT id, model, opened_at, closed_at, outcome, http_status, request_id, error, task_id, task_status,
       quoted_credits, estimated_credits, cost_credits, consent, cancel_due, cancel_reason, settled_at
FROM submissions WHERE video_id = $1 ORDER BY id
"""


async def of_video(database: Database, video_id: UUID) -> list[dict[str, Any]]:
    """The ledger of one video, oldest first."""
    return [dict(row) for row in await database.fetch(_OF_VIDEO, video_id)]


_USUAL = """
SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - opened_at))::float8
FROM (SELECT opened_at, closed_at FROM submissions WHERE outcome = 'accepted' ORDER BY id DESC LIMIT 50) AS recent
"""


async def usual_seconds(database: Database) -> float | None:
    """The 95th percentile of how long recent creates took, claim to answer; None without any."""
    seconds: float | None = await database.fetchval(_USUAL)
    return seconds


_HOLDER = "SELECT video_id FROM submissions WHERE task_id = $1"


async def holder(database: Database, task_id: str) -> UUID | None:
    """The video in whose ledger this task stands, if any."""
    video_id: UUID | None = await database.fetchval(_HOLDER, task_id)
    return video_id


# The unknown submission that may have made a task created at $2: inside the permit's window, with a minute for clocks
# that disagree.
_CANDIDATE = """
SELECT id FROM submissions
WHERE video_id = $1 AND outcome = 'unknown' AND settled_at IS NULL
  AND ($2::timestamptz IS NULL OR $2 BETWEEN opened_at - interval '1 minute' AND call_deadline + interval '1 minute')
ORDER BY id DESC LIMIT 1
"""


async def candidate(database: Database, video_id: UUID, created_at: datetime | None) -> int | None:
    """The submission of unknown outcome that can have made a task created at that time."""
    submission_id: int | None = await database.fetchval(_CANDIDATE, video_id, created_at)
    return submission_id
