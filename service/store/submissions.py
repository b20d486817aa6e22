"""Statements on `submissions`: saving what creates came to.

Lock order, everywhere: the video first, then its submission. Rows that others hold are passed over, never
waited for: an app may hold them in a transaction that sleeps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg

from service.errors import StatementRefused
from service.store import accepted, batches
from service.store.batches import RAISE, Parking, Refusal
from service.store.database import Database, Queries
from service.store.deliveries import NOTE_UNDER_WAY, UNDER_WAY
from service.store.driver_errors import LOCK_NOT_AVAILABLE, is_refusal, sqlstate
from service.store.durable import durably
from service.store.outcome_row import FIRST_POLL, OK, PATIENCE, SUBMIT, OutcomeRow
from service.store.recordset import as_records
from service.videos import FailureCode


class Guard(StrEnum):
    """Which submissions an answer may still be written to."""

    LIVE = "s.outcome IS NULL OR s.outcome = 'unknown'"  # also late: its process was not dead
    EXPIRED = "s.outcome IS NULL AND s.deadline <= taxiway.now()"  # by the database's clock, never by age
    UNSAVED = "s.unsaved IS NOT NULL"


# Save what creates came to. For each answer: lock the video, or pass it over if it is held (then the answer
# stays with the submission, and rescue completes the video); close the submission; move the video if it still waits for
# this answer. Both are found by the ids of the answers, named once more as an array: as a join alone, PostgreSQL reads
# a ledger whole that was small when the plan was made. What was moved is asked of a set, for a join would compare each
# answer with each. How the video stands to the submission:
#   holds      it is the video's open submission: the usual
#   waits      the submission was given up as unknown, and no other has taken its place: late evidence attaches the task
#   elsewhere  the video was cancelled, has ended, is gone, or is with Runway again: a task is a surplus, to be deleted
#   erased     the same, and no words are kept: an error may quote what a user wrote
# A held row of the ledger is not waited for. That is rare, and to lock each one first costs a third of a save: so it is
# tried without, for a moment, and only if that was not enough with `free` (below).
_SAVE = """
WITH answer AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS a(submission_id bigint, video_id uuid, outcome text, task_id text, http_status integer, request_id text,
             error text, estimated_credits numeric, next_status text, error_code text, error_message text,
             delay_seconds float8, retry boolean, resubmit boolean, ledger_only boolean)
), held AS MATERIALIZED (
    SELECT v.id, v.open_submission_id, v.status, v.error_code FROM taxiway.videos v
    WHERE v.id = ANY(ARRAY(SELECT video_id FROM answer)) {patience} ORDER BY v.id FOR UPDATE SKIP LOCKED
), {free} entry AS MATERIALIZED (
    SELECT a.*, CASE
        WHEN a.ledger_only THEN 'locked'
        WHEN h.open_submission_id = a.submission_id THEN 'holds'
        WHEN h.open_submission_id IS NULL
            AND (h.status = 'queued' OR h.status = 'failed' AND h.error_code = '{unknown}') THEN 'waits'
        WHEN h.id IS NULL AND EXISTS (SELECT FROM taxiway.videos v WHERE v.id = a.video_id) THEN 'locked'
        WHEN h.status = 'erased' THEN 'erased'
        ELSE 'elsewhere' END AS stand
    FROM answer a {only_free} LEFT JOIN held h ON h.id = a.video_id
), closed AS (
    UPDATE taxiway.submissions s SET
        outcome = e.outcome, closed_at = taxiway.now(), task_id = e.task_id, http_status = e.http_status,
        request_id = COALESCE(e.request_id, s.request_id),
        error = CASE WHEN e.stand = 'erased' AND e.error IS NOT NULL THEN 'erased' ELSE COALESCE(e.error, s.error) END,
        estimated_credits = e.estimated_credits,
        settled_at = CASE WHEN e.outcome IN ('not_sent', 'rejected') THEN taxiway.now() END,
        consent = CASE WHEN e.resubmit AND e.stand = 'holds' THEN 'policy' ELSE s.consent END,
        unsaved = CASE WHEN e.stand = 'locked' THEN to_jsonb(e) - 'stand' END,
        cancel_due = CASE WHEN e.outcome = 'accepted' AND e.stand IN ('elsewhere', 'erased') THEN taxiway.now()
                          ELSE s.cancel_due END,
        cancel_reason = CASE WHEN e.outcome = 'accepted' AND e.stand IN ('elsewhere', 'erased') THEN 'surplus'
                             ELSE s.cancel_reason END
    FROM entry e WHERE s.video_id = e.video_id AND s.id = e.submission_id AND ({guard})
      AND s.video_id = ANY(ARRAY(SELECT video_id FROM answer))
    RETURNING e.*, s.quoted_credits
), moved AS (
    UPDATE taxiway.videos v SET
        status = c.next_status, open_submission_id = NULL, runway_video_id = c.task_id,
        submitted_at = CASE WHEN c.outcome IN ('accepted', 'unknown') THEN COALESCE(v.submitted_at, taxiway.now()) END,
        task_status = CASE WHEN c.outcome = 'accepted' THEN 'PENDING' END,
        poll_after = CASE WHEN c.outcome = 'accepted' THEN {first_poll} END,
        retries = CASE WHEN c.outcome = 'accepted' THEN 0 ELSE v.retries + c.retry::integer END,
        resubmissions = v.resubmissions + c.resubmit::integer,
        run_after = CASE WHEN c.next_status = 'queued' THEN taxiway.now() + make_interval(secs => c.delay_seconds)
                         ELSE v.run_after END,
        finished_at = CASE WHEN c.next_status IN ('failed', 'cancelled') THEN taxiway.now() END,
        error_code = c.error_code, error_message = c.error_message, updated_at = taxiway.now()
    FROM closed c
    WHERE v.id = c.video_id AND (
        c.stand = 'holds'
        OR c.stand = 'waits' AND c.outcome = 'accepted'
        OR c.stand = 'waits' AND c.outcome IN ('not_sent', 'rejected') AND v.status = 'failed'
           AND NOT EXISTS (SELECT FROM taxiway.submissions o WHERE o.video_id = v.id AND o.id <> c.submission_id
                           AND o.settled_at IS NULL AND o.consent IS NULL))
    RETURNING v.id, v.round, v.submitted_at
), webhooks AS ({under_way}
), noted AS (
    INSERT INTO taxiway.events (video_id, submission_id, kind, actor, code, credits, detail)
    SELECT c.video_id, c.submission_id, k.kind, $2,
           CASE WHEN k.kind = 'settled' THEN c.outcome WHEN k.kind <> 'accepted' THEN c.error_code END,
           CASE WHEN k.n = 1 THEN NULLIF(c.estimated_credits, c.quoted_credits) END,
           CASE WHEN k.n = 1 AND c.http_status <> 200 THEN jsonb_build_object('http_status', c.http_status) END
    FROM (SELECT * FROM closed c WHERE ({ledger_says}) IS NOT TRUE) AS c
    CROSS JOIN LATERAL (VALUES
        (1, {outcome_kind}),
        (2, CASE WHEN c.resubmit AND c.stand = 'holds' THEN 'resubmitted' END),
        (3, CASE WHEN c.next_status IN ('failed', 'cancelled') AND c.video_id IN (SELECT id FROM moved)
                 THEN c.next_status END)
    ) AS k(n, kind)
    WHERE k.kind IS NOT NULL ORDER BY c.submission_id, k.n
)
SELECT {submission_id} AS submission_id,
       CASE WHEN c.video_id IN (SELECT id FROM moved) THEN 'moved' ELSE c.stand END AS result
FROM closed c {busy}
"""

# What needs no event, since the ledger has all that one would say: Runway took it with its first answer. The history
# gets its line from there (timeline.py).
_LEDGER_SAYS = f"""$2::text = '{SUBMIT}' AND $3::text IS NULL AND c.outcome = 'accepted' AND c.http_status = {OK}
        AND c.stand <> 'waits' AND c.next_status = 'processing' AND NOT c.resubmit"""
# The outcome, as an event. One that the ledger had already, and that only now reaches the video, has had its own.
_OUTCOME_KIND = """CASE WHEN c.stand = 'waits' AND c.outcome <> 'unknown' THEN COALESCE($3, 'settled')
                 ELSE COALESCE($3, c.outcome) END"""

# Lock the submissions as well, behind the videos, and pass over those that are held.
_FREE = """free AS MATERIALIZED (
    SELECT s.id FROM taxiway.submissions s
    WHERE s.video_id = ANY(ARRAY(SELECT video_id FROM answer)) AND s.id = ANY(ARRAY(SELECT submission_id FROM answer))
      AND ({guard}) AND (SELECT count(*) FROM held) >= 0
    FOR NO KEY UPDATE SKIP LOCKED
),"""
# The answers that were passed over: nothing was written.
_BUSY = """
UNION ALL
SELECT s.id, 'busy' FROM taxiway.submissions s
WHERE (SELECT count(*) FROM free) < (SELECT count(*) FROM answer)
  AND s.video_id = ANY(ARRAY(SELECT video_id FROM answer)) AND s.id = ANY(ARRAY(SELECT submission_id FROM answer))
  AND ({guard}) AND s.id NOT IN (SELECT id FROM free)
"""

# For endpoints that want to know that Runway took it; there are none unless the settings name one.
_UNDER_WAY = NOTE_UNDER_WAY.format(
    event=UNDER_WAY,
    source="""
        SELECT m.id, m.round, c.task_id, 'PENDING' AS task_status, NULL::real AS progress, m.submitted_at
        FROM moved m JOIN closed c ON c.video_id = m.id WHERE c.outcome = 'accepted'""",
)


def _saving(guard: Guard, *, pass_over: bool) -> str:
    """The statement; `pass_over`: held rows of the ledger, at once."""
    return _SAVE.format(
        submission_id=durably("c.submission_id"),
        guard=guard.value,
        unknown=FailureCode.SUBMISSION_UNKNOWN,
        first_poll=FIRST_POLL,
        under_way=_UNDER_WAY,
        ledger_says=_LEDGER_SAYS,
        outcome_kind="$3::text" if guard is Guard.UNSAVED else _OUTCOME_KIND,
        patience="" if pass_over else PATIENCE,
        free=_FREE.format(guard=guard.value) if pass_over else "",
        only_free="JOIN free f ON f.id = a.submission_id" if pass_over else "",
        busy=_BUSY.format(guard=guard.value) if pass_over else "",
    )


_SAVE_BY_GUARD = {guard: _saving(guard, pass_over=False) for guard in Guard}
_SAVE_WHAT_IS_FREE = {guard: _saving(guard, pass_over=True) for guard in Guard}


async def save(
    database: Queries, answers: Sequence[OutcomeRow], *, guard: Guard = Guard.LIVE, actor: str = SUBMIT,
    kind: str | None = None,
) -> dict[int, str]:  # fmt: skip
    """Write outcomes. By submission: 'moved' (the video followed), 'locked', 'waits', 'elsewhere' or 'erased' (see
    above).

    'busy': another transaction holds the ledger's row, so nothing was written. A submission that is missing from the
    result had its outcome already; nothing was changed. `actor`: who brings them; `kind`: of their events, where it is
    not the outcome.
    """
    results: dict[int, str] = {}
    try:
        if (guard, actor, kind) == (Guard.LIVE, SUBMIT, None) and all(answer.is_usual for answer in answers):
            results = dict.fromkeys(await accepted.save(database, answers), "moved")
            answers = [answer for answer in answers if answer.submission_id not in results]
        rows = await database.fetch(_SAVE_BY_GUARD[guard], as_records(answers), actor, kind) if answers else []
    except StatementRefused as exc:
        if sqlstate(exc) != LOCK_NOT_AVAILABLE:
            raise
        rows = await database.fetch(_SAVE_WHAT_IS_FREE[guard], as_records(answers), actor, kind)
    return results | {row["submission_id"]: row["result"] for row in rows}


def key_of(answer: OutcomeRow) -> tuple[int, UUID]:
    """What names an outcome in events: its submission, and its video."""
    return answer.submission_id, answer.video_id


async def save_batch(
    database: Database,
    answers: Sequence[OutcomeRow],
    parking: Parking,
    *,
    guard: Guard = Guard.LIVE,
    name: str = "save",
    actor: str = SUBMIT,
) -> dict[int, str]:
    """Write outcomes; those that PostgreSQL refuses are parked under that name, and missing from the result."""
    parts = await batches.write(
        name, answers, lambda part: save(database, part, guard=guard, actor=actor), key_of, parking
    )
    return {id: result for part in parts for id, result in part.items()}


async def save_each(database: Database, answers: Sequence[OutcomeRow], parking: Parking = RAISE) -> dict[int, str]:
    """Write outcomes; a row that is refused is written as far as PostgreSQL takes it, above all its task's id.

    An answer that the ledger itself refuses (a task id that another submission has) is unknown, and is saved as that.
    What is refused in every form goes to `parking`, and is missing from the result; without one, the error is raised.
    """
    refused: dict[int, Refusal] = {}
    results: dict[int, str] = {}
    try:
        results = await save_batch(database, answers, _Collecting(refused))
    except Exception as exc:
        if len(refused) < len(answers) or not is_refusal(exc):
            raise  # too many to try each in another form
    failure: Exception | None = None
    for answer in answers:
        if refusal := refused.get(answer.submission_id):
            try:
                results |= await _save_less(database, answer, refusal.error)
            except Exception as exc:
                if not is_refusal(exc):
                    raise
                failure = refusal.error
                if parking is not RAISE:
                    await parking.park(refusal)
    if failure is not None and parking is RAISE:
        raise failure
    return results


class _Collecting:
    """A parking that only remembers."""

    def __init__(self, refused: dict[int, Refusal]) -> None:
        self._refused = refused

    def passed_over(self, _statement: str) -> list[str]:
        return []

    async def park(self, refusal: Refusal) -> None:
        self._refused[int(refusal.key)] = refusal


async def _save_less(database: Database, answer: OutcomeRow, error: Exception) -> dict[int, str]:
    """One answer in other forms, until one is taken. Raises what refused the last."""
    if isinstance(error, asyncpg.UniqueViolationError) and answer.task_id is not None:
        forms = [_taken(answer)]
    else:
        bare = replace(answer, http_status=None, request_id=None, error=None, estimated_credits=None)
        forms = [bare, replace(answer, ledger_only=True), replace(bare, ledger_only=True)]
    for form in forms:
        try:
            return await save(database, [form])
        except Exception as exc:
            if not is_refusal(exc) or form is forms[-1]:
                raise
    return {}


def _taken(answer: OutcomeRow) -> OutcomeRow:
    words = f"Runway answered with a task id that cannot be stored ({answer.task_id})"
    return replace(
        answer, outcome="unknown", task_id=None, error=words, next_status="failed", request_id=None,
        error_code=FailureCode.SUBMISSION_UNKNOWN, error_message=words, retry=False, resubmit=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Lapsed:
    """A submission without an outcome at its deadline: the process that held it is gone, or hangs."""

    submission_id: int
    video_id: UUID
    model: str
    quoted_credits: Decimal | None
    retries: int
    resubmissions: int


_LAPSED = """
SELECT s.id AS submission_id, s.video_id, s.model, s.quoted_credits,
       COALESCE(v.retries, 0) AS retries, COALESCE(v.resubmissions, 0) AS resubmissions
FROM taxiway.submissions s LEFT JOIN taxiway.videos v ON v.id = s.video_id
WHERE s.outcome IS NULL AND s.deadline <= taxiway.now() AND NOT $2::jsonb @> to_jsonb(s.id) ORDER BY s.id LIMIT $1
"""


async def lapsed(database: Database, limit: int, passed_over: Sequence[int] = ()) -> list[Lapsed]:
    """Open submissions past their deadline, but those that were refused a moment ago."""
    return [Lapsed(**row) for row in await database.fetch(_LAPSED, limit, json.dumps(list(passed_over)))]


_UNSAVED = """
SELECT unsaved FROM taxiway.submissions WHERE unsaved IS NOT NULL AND NOT $2::jsonb @> to_jsonb(id) ORDER BY id LIMIT $1
"""


async def unsaved(database: Database, limit: int, passed_over: Sequence[int] = ()) -> list[OutcomeRow]:
    """Answers that were saved to the ledger alone, because the video's row was held, or refused them."""
    rows = await database.fetch(_UNSAVED, limit, json.dumps(list(passed_over)))
    return [_answer(json.loads(row["unsaved"], parse_float=Decimal)) for row in rows]


def _answer(stored: dict[str, Any]) -> OutcomeRow:
    typed = {
        "video_id": UUID(stored["video_id"]),
        "delay_seconds": float(stored["delay_seconds"]),
        "ledger_only": False,
    }
    return OutcomeRow(**(stored | typed))
