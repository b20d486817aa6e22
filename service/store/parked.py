"""Statements on rows that PostgreSQL refused: an event each, at most one an hour, and an end after a day."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from service.store.batches import PARKED
from service.store.database import Database
from service.videos import FailureCode

HOURS = 24  # a video that is refused for so long, and is refused again, fails as UNSTORABLE
SHOWN_HOURS = 24  # doctor shows what was refused within so many

# Park: say in the history that this row was refused, unless that stands there within the hour. A row without a video (a
# tick, a callback) is known by its key. Returns whether it is refused for so long already, and when it was first.
_PARK = f"""
WITH known AS (
    SELECT min(at) AS first, max(at) AS last FROM taxiway.events
    WHERE kind = '{PARKED}' AND detail ->> 'statement' = $3 AND detail ->> 'key' = $4
      AND ($1::uuid IS NULL AND video_id IS NULL AND at > taxiway.now() - interval '{HOURS + 1} hours' OR video_id = $1)
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, detail)
    SELECT $1, '{PARKED}', $2, jsonb_build_object('statement', $3::text, 'key', $4::text) || $5::jsonb
    FROM known WHERE last IS NULL OR last <= taxiway.now() - interval '1 hour'
)
SELECT COALESCE(first <= taxiway.now() - interval '{HOURS} hours', false) AS is_over FROM known
"""


async def park(
    database: Database, video_id: UUID | None, step: str, statement: str, key: str, facts: dict[str, Any]
) -> bool:
    """Note that a row was refused; whether that began so long ago that its video is to fail."""
    is_over = await database.fetchval(_PARK, video_id, step, statement, key, json.dumps(facts))
    return bool(is_over)


# A video that cannot be stored as what it became ends as that. A row that is held, or has ended, is left alone.
_FAIL = """
WITH ended AS (
    UPDATE taxiway.videos v SET status = 'failed', open_submission_id = NULL, error_code = $2, error_message = $3,
        finished_at = taxiway.now(), updated_at = taxiway.now()
    WHERE v.id = ANY(ARRAY(
        SELECT id FROM taxiway.videos WHERE id = $1 AND status IN ('queued', 'processing') FOR UPDATE SKIP LOCKED))
    RETURNING v.id
)
INSERT INTO taxiway.events (video_id, kind, actor, code) SELECT id, 'failed', $4, $2 FROM ended
"""


async def fail(database: Database, video_id: UUID, words: str, step: str) -> bool:
    """Fail a video as UNSTORABLE; whether it had not ended."""
    return await database.execute(_FAIL, video_id, FailureCode.UNSTORABLE, words, step) > 0


# What was refused lately, by video and statement; the newest first.
_RECENT = f"""
SELECT count(*) OVER () AS rows, at, video_id, actor, detail FROM (
    SELECT DISTINCT ON (video_id, detail ->> 'statement', detail ->> 'key') at, video_id, actor, detail
    FROM taxiway.events WHERE kind = '{PARKED}' AND at > taxiway.now() - make_interval(hours => $1)
    ORDER BY video_id, detail ->> 'statement', detail ->> 'key', at DESC) AS each
ORDER BY at DESC LIMIT 1
"""


async def newest(database: Database) -> dict[str, Any] | None:
    """The row that was refused last, and `rows`, how many were within the day: at, video_id, actor, detail."""
    row = await database.fetchrow(_RECENT, SHOWN_HOURS)
    return None if row is None else dict(row) | {"detail": json.loads(row["detail"])}
