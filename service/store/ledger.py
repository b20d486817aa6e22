"""Statements on the ledger as a book: what must be deleted, what an app put back in the queue, what one video cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from service.store import batches
from service.store.batches import ONLY, RAISE, Choosing, Parking
from service.store.database import Database
from service.store.predicates import UNCONSENTED, UNSETTLED
from service.store.search import OF_TASK
from service.videos import FailureCode

# A queued video whose earlier submission was accepted, or may have been, was put back by an UPDATE: without consent it
# is not sent again. It returns to its task, or to the reason why it had failed.
_DRAGGED = f"""
    SELECT DISTINCT ON (v.id) v.id, s.outcome, s.task_id
    FROM (SELECT * FROM taxiway.submissions WHERE settled_at IS NULL AND outcome = 'accepted'
          UNION ALL
          SELECT s.* FROM taxiway.submissions s WHERE {UNCONSENTED}) s
    JOIN taxiway.videos v ON v.id = s.video_id
    WHERE s.cancel_due IS NULL AND s.unsaved IS NULL AND v.status = 'queued' {ONLY}
    ORDER BY v.id, s.outcome, s.id DESC LIMIT $1"""
_RESTORE = Choosing(
    "restore",
    f"""
WITH dragged AS MATERIALIZED ({_DRAGGED}
), held AS MATERIALIZED (
    SELECT v.id FROM taxiway.videos v WHERE v.id = ANY(ARRAY(SELECT id FROM dragged)) AND v.status = 'queued'
    ORDER BY v.id FOR UPDATE SKIP LOCKED
), v AS (
    UPDATE taxiway.videos v SET status = CASE d.outcome WHEN 'accepted' THEN 'processing' ELSE 'failed' END,
        runway_video_id = d.task_id, open_submission_id = NULL, poll_after = NULL, updated_at = taxiway.now(),
        submitted_at = COALESCE(v.submitted_at, taxiway.now()),
        finished_at = CASE d.outcome WHEN 'unknown' THEN taxiway.now() END,
        error_code = CASE WHEN d.outcome = 'unknown' AND d.task_id IS NOT NULL THEN '{FailureCode.TASK_VANISHED}'
                          WHEN d.outcome = 'unknown' THEN $2 END,
        error_message = CASE d.outcome WHEN 'unknown' THEN $3 END
    FROM dragged d WHERE v.id = d.id AND v.id = ANY(ARRAY(SELECT id FROM held))
    RETURNING v.id, v.error_code
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code) SELECT v.id, 'put_back', 'rescue', v.error_code FROM v
)
SELECT id FROM v
""",
    f"WITH dragged AS MATERIALIZED ({_DRAGGED}) SELECT id, id FROM dragged",
    "v.id",
    takes=1,
)


async def restore(database: Database, words: str, limit: int, parking: Parking = RAISE) -> int:
    """Take back what an UPDATE queued again although its last submission may have cost something; how many."""
    return len(await batches.fetch(database, _RESTORE, limit, FailureCode.SUBMISSION_UNKNOWN, words, parking=parking))


# A task whose video was ended, replaced or removed in the table itself: no video waits for it, and it may go on to
# cost. It is deleted; but where the app calls the video anything else (completed, or a word of its own), it may use the
# file, and the entry is closed with its bound instead.
_ORPHANED = f"""
    SELECT e.video_id, e.id, COALESCE(v.status, 'failed') IN ('failed', 'cancelled', 'processing') AS unwanted
    FROM taxiway.submissions e LEFT JOIN taxiway.videos v ON v.id = e.video_id
    WHERE e.settled_at IS NULL AND e.outcome = 'accepted'
      AND e.cancel_due IS NULL AND e.unsaved IS NULL AND v.status IS DISTINCT FROM 'queued'
      AND (v.status IS DISTINCT FROM 'processing' OR v.runway_video_id IS DISTINCT FROM e.task_id) {ONLY}
    ORDER BY e.id LIMIT $1 FOR NO KEY UPDATE OF e SKIP LOCKED"""
_ORPHANS = Choosing(
    "end_orphans",
    f"""
WITH o AS MATERIALIZED ({_ORPHANED}), s AS (
    UPDATE taxiway.submissions s SET
        cancel_due = CASE WHEN o.unwanted THEN taxiway.now() END,
        cancel_reason = CASE WHEN o.unwanted THEN 'orphan' END,
        settled_at = CASE WHEN NOT o.unwanted THEN taxiway.now() END
    FROM o WHERE s.video_id = o.video_id AND s.id = o.id
    RETURNING s.video_id, s.id, o.unwanted
)
INSERT INTO taxiway.events (video_id, submission_id, kind, actor, code)
SELECT s.video_id, s.id, CASE WHEN s.unwanted THEN 'delete_due' ELSE 'settled' END, 'rescue',
       CASE WHEN s.unwanted THEN 'orphan' ELSE 'accepted' END FROM s
""",
    f"WITH o AS MATERIALIZED ({_ORPHANED}) SELECT id, video_id FROM o",
    "e.id",
    key_type="bigint",
)


async def end_orphans(database: Database, limit: int, parking: Parking = RAISE) -> int:
    """Close or cancel tasks that no video waits for any more; how many."""
    return await batches.execute(database, _ORPHANS, limit, parking=parking)


# Whatever must be deleted at Runway; the entry is put off while this caller tries.
_TO_CANCEL = f"""
    SELECT c.video_id, c.id FROM taxiway.submissions c WHERE cancel_due <= taxiway.now() {ONLY}
    ORDER BY cancel_due LIMIT $1 FOR UPDATE SKIP LOCKED"""
_CANCELS = Choosing(
    "claim_cancels",
    f"""
WITH due AS MATERIALIZED ({_TO_CANCEL})
UPDATE taxiway.submissions s SET cancel_due = taxiway.now() + make_interval(secs => $2)
FROM due WHERE s.video_id = due.video_id AND s.id = due.id
RETURNING s.id, s.video_id, s.task_id, s.cancel_reason, s.missing,
    COALESCE(extract(epoch FROM taxiway.now() - s.missing_since), 0)::float8 AS missing_seconds
""",
    f"WITH due AS MATERIALIZED ({_TO_CANCEL}) SELECT id, video_id FROM due",
    "c.id",
    key_type="bigint",
    takes=1,
)


async def claim_cancels(
    database: Database, limit: int, lease_seconds: float, parking: Parking = RAISE
) -> list[asyncpg.Record]:
    """Tasks to delete: id, video_id, task_id, cancel_reason, and how often Runway did not know them, since when."""
    return await batches.fetch(database, _CANCELS, limit, lease_seconds, parking=parking)


# The task is gone. Its cost can no longer be asked for: the estimate stays as the bound. An entry that is locked is
# booked with the next DELETE, which finds the task gone.
_CANCELLED = """
WITH s AS (
    UPDATE taxiway.submissions SET cancel_due = NULL, settled_at = COALESCE(settled_at, taxiway.now()),
        task_status = COALESCE(task_status, 'DELETED')
    WHERE (video_id, id) IN (
        SELECT video_id, id FROM taxiway.submissions
        WHERE task_id = ANY(ARRAY(SELECT value FROM jsonb_array_elements_text($1::jsonb)))
        FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING video_id, id, cancel_reason
)
INSERT INTO taxiway.events (video_id, submission_id, kind, actor, code)
SELECT video_id, id, 'deleted', 'cancel', cancel_reason FROM s
"""


async def cancelled(database: Database, tasks: Sequence[tuple[str, UUID | None]], parking: Parking = RAISE) -> int:
    """Book tasks as deleted, each with its video's id; how many were."""

    async def book(part: Sequence[tuple[str, UUID | None]]) -> int:
        return await database.execute(_CANCELLED, json.dumps([task_id for task_id, _ in part]))

    return sum(await batches.write("cancelled", tasks, book, lambda one: one, parking))


# Runway does not know a task that is to be deleted: that is asked once more.
_MISSING = """
UPDATE taxiway.submissions SET missing = missing + 1, missing_since = COALESCE(missing_since, taxiway.now()),
    cancel_due = taxiway.now() + make_interval(secs => $2)
WHERE (video_id, id) IN (
    SELECT video_id, id FROM taxiway.submissions
    WHERE task_id = ANY(ARRAY(SELECT value FROM jsonb_array_elements_text($1::jsonb))) AND cancel_due IS NOT NULL
    FOR NO KEY UPDATE SKIP LOCKED)
"""


async def cancel_later(
    database: Database, tasks: Sequence[tuple[str, UUID | None]], seconds: float, parking: Parking = RAISE
) -> None:
    """Note that Runway did not know these tasks; they are to be deleted again after so many seconds."""

    async def note(part: Sequence[tuple[str, UUID | None]]) -> int:
        return await database.execute(_MISSING, json.dumps([task_id for task_id, _ in part]), seconds)

    await batches.write("cancel_later", tasks, note, lambda one: one, parking)


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
_CANDIDATE = f"""
SELECT id FROM taxiway.submissions s
WHERE video_id = $1 AND {UNSETTLED} AND task_id IS NULL
  AND ($2::timestamptz IS NULL OR $2 BETWEEN opened_at - interval '1 minute' AND call_deadline + interval '1 minute')
ORDER BY id DESC LIMIT 1
"""


async def candidate(database: Database, video_id: UUID, created_at: datetime | None) -> int | None:
    """The submission of unknown outcome that can have made a task created at that time."""
    submission_id: int | None = await database.fetchval(_CANDIDATE, video_id, created_at)
    return submission_id
