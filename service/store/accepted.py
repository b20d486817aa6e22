"""Saving the usual: Runway took what was sent, and each video waits for just this answer.

The same as the statement of submissions.py for that case alone, in two thirds of the time. What is not the usual after
all, or is held, is not among what these have written, and is left to that one.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.store.database import Queries
from service.store.durable import durably
from service.store.outcome_row import FIRST_POLL, OK, PATIENCE, OutcomeRow
from service.store.recordset import as_records

# What the submission `s` and the video `v` say from then on.
_CLOSED = f"""outcome = 'accepted', closed_at = taxiway.now(), task_id = {{task}}, http_status = {OK},
        request_id = COALESCE({{request}}, s.request_id), estimated_credits = {{credits}}"""
_MOVED = f"""open_submission_id = NULL, runway_video_id = {{task}}, task_status = 'PENDING', retries = 0,
        poll_after = {FIRST_POLL}, updated_at = taxiway.now()"""

# One, as without load.
_SAVE_ONE = f"""
WITH held AS MATERIALIZED (
    SELECT v.id FROM taxiway.videos v WHERE v.id = $2 AND v.open_submission_id = $1 {PATIENCE} FOR UPDATE SKIP LOCKED
), closed AS (
    UPDATE taxiway.submissions s SET {_CLOSED.format(task="$3", request="$4", credits="$5")}
    FROM held h WHERE s.video_id = h.id AND s.id = $1 AND s.outcome IS NULL RETURNING s.id, s.video_id
), moved AS (
    UPDATE taxiway.videos v SET {_MOVED.format(task="$3")} FROM closed c WHERE v.id = c.video_id
)
SELECT {durably("id")} AS submission_id FROM closed
"""

# Several. All are found by the ids of the answers, named once more as an array, as in submissions.py.
_SAVE_MANY = f"""
WITH answer AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS a(submission_id bigint, video_id uuid, task text, request text, credits numeric)
), held AS MATERIALIZED (
    SELECT v.id, v.open_submission_id FROM taxiway.videos v
    WHERE v.id = ANY(ARRAY(SELECT video_id FROM answer)) {PATIENCE} ORDER BY v.id FOR UPDATE SKIP LOCKED
), closed AS (
    UPDATE taxiway.submissions s SET {_CLOSED.format(task="a.task", request="a.request", credits="a.credits")}
    FROM answer a JOIN held h ON h.id = a.video_id AND h.open_submission_id = a.submission_id
    WHERE s.video_id = a.video_id AND s.id = a.submission_id AND s.outcome IS NULL
      AND s.video_id = ANY(ARRAY(SELECT video_id FROM answer))
    RETURNING s.id, s.video_id, s.task_id
), moved AS (
    UPDATE taxiway.videos v SET {_MOVED.format(task="c.task_id")} FROM closed c WHERE v.id = c.video_id
)
SELECT {durably("id")} AS submission_id FROM closed
"""


async def save(database: Queries, answers: Sequence[OutcomeRow]) -> list[int]:
    """Write usual outcomes; the submissions of which that was done."""
    if len(answers) == 1:
        one = answers[0]
        rows = await database.fetch(
            _SAVE_ONE, one.submission_id, one.video_id, one.task_id, one.request_id, one.estimated_credits
        )
    else:
        rows = await database.fetch(_SAVE_MANY, as_records([_narrow(answer) for answer in answers]))
    return [row["submission_id"] for row in rows]


def _narrow(answer: OutcomeRow) -> dict[str, object]:
    """What is not the same for all."""
    return {
        "submission_id": answer.submission_id, "video_id": answer.video_id, "task": answer.task_id,
        "request": answer.request_id, "credits": answer.estimated_credits,
    }  # fmt: skip
