"""Statements on the ledger as a book: what must be deleted, what an app put back in the queue, what one video cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from service import videos
from service.store.database import Database
from service.store.search import OF_TASK

# A queued video whose earlier submission was accepted, or may have been, was put back by an UPDATE: without consent it
# is not sent again. It returns to its task, or to the reason why it had failed.
_RESTORE = """
WITH dragged AS MATERIALIZED (
    SELECT DISTINCT ON (v.id) v.id, s.outcome, s.task_id
    FROM (SELECT * FROM taxiway.submissions WHERE settled_at IS NULL AND outcome = 'accepted'
          UNION ALL
          SELECT * FROM taxiway.submissions WHERE settled_at IS NULL AND outcome = 'unknown' AND consent IS NULL) s
    JOIN taxiway.videos v ON v.id = s.video_id
    WHERE s.cancel_due IS NULL AND s.unsaved IS NULL AND v.status = 'queued'
    ORDER BY v.id, s.outcome, s.id DESC LIMIT $1
), held AS MATERIALIZED (
    SELECT v.id FROM taxiway.videos v WHERE v.id = ANY(ARRAY(SELECT id FROM dragged)) AND v.status = 'queued'
    ORDER BY v.id FOR UPDATE SKIP LOCKED
)
UPDATE taxiway.videos v SET status = CASE d.outcome WHEN 'accepted' THEN 'processing' ELSE 'failed' END,
    runway_video_id = d.task_id, open_submission_id = NULL, poll_after = NULL, updated_at = now(),
    submitted_at = COALESCE(v.submitted_at, now()),
    finished_at = CASE d.outcome WHEN 'unknown' THEN now() END,
    error_code = CASE d.outcome WHEN 'unknown' THEN $2 END, error_message = CASE d.outcome WHEN 'unknown' THEN $3 END
FROM dragged d WHERE v.id = d.id AND v.id = ANY(ARRAY(SELECT id FROM held))
RETURNING v.id
"""


async def restore(database: Database, words: str, limit: int) -> int:
    """Take back what an UPDATE queued again although its last submission may have cost something; how many."""
    return len(await database.fetch(_RESTORE, limit, videos.SUBMISSION_UNKNOWN, words))


# A task whose video was ended, replaced or removed in the table itself: no video waits for it, and it may go on to
# cost. It is deleted; but where the app calls the video anything else (completed, or a word of its own), it may use the
# file, and the entry is closed with its bound instead.
_ORPHANS = """
UPDATE taxiway.submissions s SET
    cancel_due = CASE WHEN o.unwanted THEN now() END,
    cancel_reason = CASE WHEN o.unwanted THEN 'orphan' END,
    settled_at = CASE WHEN NOT o.unwanted THEN now() END
FROM (
    SELECT e.video_id, e.id, COALESCE(v.status, 'failed') IN ('failed', 'cancelled', 'processing') AS unwanted
    FROM taxiway.submissions e LEFT JOIN taxiway.videos v ON v.id = e.video_id
    WHERE e.settled_at IS NULL AND e.outcome = 'accepted'
      AND e.cancel_due IS NULL AND e.unsaved IS NULL AND v.status IS DISTINCT FROM 'queued'
      AND (v.status IS DISTINCT FROM 'processing' OR v.runway_video_id IS DISTINCT FROM e.task_id)
    ORDER BY e.id LIMIT $1
) o
WHERE s.video_id = o.video_id AND s.id = o.id
"""


async def end_orphans(database: Database, limit: int) -> int:
    """Close or cancel tasks that no video waits for any more; how many."""
    return await database.execute(_ORPHANS, limit)


# Whatever must be deleted at Runway; the entry is put off while this caller tries.
_CANCELS = """
WITH due AS MATERIALIZED (
    SELECT video_id, id FROM taxiway.submissions WHERE cancel_due <= now()
        ORDER BY cancel_due LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE taxiway.submissions s SET cancel_due = now() + make_interval(secs => $2)
FROM due WHERE s.video_id = due.video_id AND s.id = due.id
RETURNING s.id, s.video_id, s.task_id, s.cancel_reason
"""


async def claim_cancels(database: Database, limit: int, lease_seconds: float) -> list[asyncpg.Record]:
    """Tasks to delete: id, video_id, task_id, cancel_reason."""
    return await database.fetch(_CANCELS, limit, lease_seconds)


# The task is gone. Its cost can no longer be asked for: the estimate stays as the bound.
_CANCELLED = """
UPDATE taxiway.submissions SET cancel_due = NULL, settled_at = COALESCE(settled_at, now()),
    task_status = COALESCE(task_status, 'DELETED')
WHERE task_id IN (SELECT value FROM jsonb_array_elements_text($1::jsonb))
"""


async def cancelled(database: Database, task_ids: Sequence[str]) -> None:
    """Book tasks as deleted."""
    await database.execute(_CANCELLED, json.dumps(list(task_ids)))


_OF_VIDEO = """
SELECT id, model, opened_at, closed_at, outcome, http_status, request_id, error, task_id, task_status,
       quoted_credits, estimated_credits, cost_credits, consent, cancel_due, cancel_reason, settled_at
FROM taxiway.submissions WHERE video_id = $1 ORDER BY id
"""


async def of_video(database: Database, video_id: UUID) -> list[dict[str, Any]]:
    """The ledger of one video, oldest first."""
    return [dict(row) for row in await database.fetch(_OF_VIDEO, video_id)]


_HOLDER = OF_TASK.format(task="$1")


async def holder(database: Database, task_id: str) -> UUID | None:
    """The video that has or had this task, if any."""
    video_id: UUID | None = await database.fetchval(_HOLDER, task_id)
    return video_id


# The unknown submission that may have made a task created at $2: inside that submission's window, with a minute for
# clocks that disagree.
_CANDIDATE = """
SELECT id FROM taxiway.submissions
WHERE video_id = $1 AND outcome = 'unknown' AND settled_at IS NULL
  AND ($2::timestamptz IS NULL OR $2 BETWEEN opened_at - interval '1 minute' AND call_deadline + interval '1 minute')
ORDER BY id DESC LIMIT 1
"""


async def candidate(database: Database, video_id: UUID, created_at: datetime | None) -> int | None:
    """The submission of unknown outcome that can have made a task created at that time."""
    submission_id: int | None = await database.fetchval(_CANDIDATE, video_id, created_at)
    return submission_id
