"""Statements on tasks that Runway says it does not know: whether many are, and which to ask about once more."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from service.store import batches
from service.store.batches import ONLY, RAISE, Choosing, Parking
from service.store.database import Database
from service.store.predicates import UNSETTLED
from service.videos import FailureCode

LATELY = "10 minutes"  # each task under way is polled more often than this, known or not
LOOK_EVERY = "1 hour"
LOOK_FOR = "25 hours"  # since it was first missing: then it is asked about no more

# Of the tasks under way that were polled lately: how many, and how many of them Runway did not know.
_LATELY = f"""
SELECT count(*) AS polled, count(*) FILTER (WHERE s.missing > 0) AS unknown
FROM taxiway.videos v JOIN taxiway.submissions s ON s.video_id = v.id AND s.task_id = v.runway_video_id
WHERE v.status = 'processing' AND v.polled_at > taxiway.now() - interval '{LATELY}'
"""


async def polled_lately(database: Database) -> tuple[int, int]:
    """(tasks that were polled lately, those of them that Runway did not know)."""
    row = await database.fetchrow(_LATELY)
    assert row is not None  # noqa: S101  # an aggregate has one row
    return row["polled"], row["unknown"]


@dataclass(frozen=True)
class DueLook:
    """A task that had vanished and is to be asked about once more."""

    submission_id: int
    video_id: UUID
    task_id: str
    model: str


_DUE = f"""
    SELECT l.video_id, l.id FROM taxiway.submissions l WHERE look_due <= taxiway.now() {ONLY}
    ORDER BY look_due LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED"""
# Take tasks to ask about; each is put off by the hour, and after a day it is the last time.
_LOOKS = Choosing(
    "claim_looks",
    f"""
WITH due AS MATERIALIZED ({_DUE})
UPDATE taxiway.submissions s SET look_due = CASE
    WHEN s.missing_since > taxiway.now() - interval '{LOOK_FOR}' THEN taxiway.now() + interval '{LOOK_EVERY}' END
FROM due WHERE s.video_id = due.video_id AND s.id = due.id
RETURNING s.id AS submission_id, s.video_id, s.task_id, s.model
""",
    f"WITH due AS MATERIALIZED ({_DUE}) SELECT id, video_id FROM due",
    "l.id",
    key_type="bigint",
)


async def claim_looks(database: Database, limit: int, parking: Parking = RAISE) -> list[DueLook]:
    """Tasks that had vanished, to be asked about now."""
    return [DueLook(**row) for row in await batches.fetch(database, _LOOKS, limit, parking=parking)]


# One such task, for a caller that has news of it.
_OF_TASK = f"""
SELECT id AS submission_id, video_id, task_id, model FROM taxiway.submissions s
WHERE task_id = $1 AND video_id = $2 AND {UNSETTLED}
"""


async def of_task(database: Database, task_id: str, video_id: UUID) -> DueLook | None:
    """The entry of this video's task, if it had vanished."""
    row = await database.fetchrow(_OF_TASK, task_id, video_id)
    return DueLook(**row) if row else None


# The task is there after all. A video that failed for it, or is queued again, goes on with it; otherwise the task is a
# surplus, to be deleted. Nothing is written while the video is held.
_FOUND = f"""
WITH held AS MATERIALIZED (
    SELECT id, open_submission_id IS NULL
               AND (status = 'queued' OR status = 'failed' AND error_code = '{FailureCode.TASK_VANISHED}') AS waits
    FROM taxiway.videos WHERE id = $1 FOR UPDATE SKIP LOCKED
), entry AS (
    UPDATE taxiway.submissions s SET outcome = 'accepted', look_due = NULL, missing = 0, missing_since = NULL,
        cancel_due = CASE WHEN NOT COALESCE(h.waits, false) THEN taxiway.now() END,
        cancel_reason = CASE WHEN NOT COALESCE(h.waits, false) THEN 'surplus' END
    FROM (SELECT $1::uuid AS id) AS one LEFT JOIN held h ON h.id = one.id
    WHERE s.video_id = $1 AND s.id = $2 AND s.outcome = 'unknown' AND s.task_id IS NOT NULL
      AND (h.id IS NOT NULL OR NOT EXISTS (SELECT FROM taxiway.videos WHERE id = $1))
    RETURNING s.task_id, COALESCE(h.waits, false) AS waits
), moved AS (
    UPDATE taxiway.videos v SET status = 'processing', runway_video_id = e.task_id, error_code = NULL,
        error_message = NULL, finished_at = NULL, poll_after = taxiway.now() + interval '5 seconds', poll_tries = 0,
        submitted_at = COALESCE(v.submitted_at, taxiway.now()), updated_at = taxiway.now()
    FROM entry e WHERE v.id = $1 AND e.waits
), noted AS (
    INSERT INTO taxiway.events (video_id, submission_id, kind, actor, code)
    SELECT $1, $2, $4::text, $3::text, CASE $4::text WHEN 'settled' THEN 'accepted' END FROM entry
)
SELECT CASE WHEN waits THEN 'moved' ELSE 'elsewhere' END AS result FROM entry
"""


async def found(
    database: Database, due: DueLook, parking: Parking = RAISE, *, actor: str = "poll", kind: str = "settled"
) -> str | None:
    """A task that had vanished is there: 'moved' (its video goes on with it) or 'elsewhere' (a surplus, to be deleted).

    `actor` and `kind`: of the event.

    None: its video is held at the moment, or something else was faster.
    """

    async def write(_: object) -> str | None:
        result: str | None = await database.fetchval(_FOUND, due.video_id, due.submission_id, actor, kind)
        return result

    done = await batches.write("found", [due], write, lambda one: (one.submission_id, one.video_id), parking)
    return done[0] if done else None
