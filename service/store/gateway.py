"""Statements on videos that a gateway before Runway refused: whether it is this video alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from uuid import UUID

from service.store.database import Database
from service.store.predicates import READY
from service.videos import FailureCode

REASON = "not_runway"  # why a model is paused then
TIMES = 3  # so often a video is refused that fails for it
LONGEST_CALL = "10 minutes"  # a create that was answered since then was permitted at most so much earlier

# Count refusals. One counts if others of its model were accepted since the one before; or, after a second that did, if
# no other is left that was never refused. With the third the video fails.
_REFUSED = f"""
WITH asked AS MATERIALIZED (
    SELECT v.id, v.model, v.refusals, v.refused_at FROM taxiway.videos v
    WHERE v.id = ANY(ARRAY(SELECT CAST(key AS uuid) FROM jsonb_each_text($1::jsonb))) AND v.status = 'queued'
    ORDER BY v.id FOR UPDATE SKIP LOCKED
), counted AS (
    SELECT a.id, CASE WHEN a.refusals = 0 THEN 1 WHEN EXISTS (
            SELECT FROM taxiway.submissions s
            WHERE s.opened_at > a.refused_at - interval '{LONGEST_CALL}' AND s.closed_at > a.refused_at
              AND s.outcome = 'accepted' AND s.model = a.model AND s.video_id <> a.id
        ) OR a.refusals > 1 AND NOT EXISTS (
            SELECT FROM taxiway.videos v
            WHERE {READY} AND v.model = a.model AND v.refused_at IS NULL
        ) THEN a.refusals + 1 ELSE a.refusals END AS refusals
    FROM asked a
), v AS (
    UPDATE taxiway.videos v SET refusals = c.refusals, refused_at = taxiway.now(), updated_at = taxiway.now(),
        status = CASE WHEN c.refusals >= {TIMES} THEN 'failed' ELSE v.status END,
        finished_at = CASE WHEN c.refusals >= {TIMES} THEN taxiway.now() END,
        error_code = CASE WHEN c.refusals >= {TIMES} THEN '{FailureCode.REFUSED_BY_GATEWAY}' ELSE v.error_code END,
        error_message = CASE WHEN c.refusals >= {TIMES} THEN $1::jsonb ->> v.id::text ELSE v.error_message END
    FROM counted c WHERE v.id = c.id
    RETURNING v.id, v.status, v.error_code
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code)
    SELECT v.id, 'failed', 'submit', v.error_code FROM v WHERE v.status = 'failed'
)
SELECT id, status FROM v
"""


async def refused(database: Database, words: Mapping[UUID, str]) -> list[UUID]:
    """Count a refusal of each of these queued videos; those that have failed for it, with the words that are given."""
    rows = await database.fetch(_REFUSED, json.dumps({str(id): text for id, text in words.items()}))
    return [row["id"] for row in rows if row["status"] == "failed"]
