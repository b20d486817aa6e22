"""Statements on rows that the app wrote itself, and on those that waited too long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from service.store import batches
from service.store.batches import ONLY, RAISE, Choosing, Parking
from service.store.database import Database
from service.store.predicates import FOR_INTAKE, IS_WHOLE
from service.store.recordset import as_records
from service.store.search import WORDS
from service.videos import FailureCode

# Rows that the app wrote itself, oldest first, with their blockers left to the rescue step.
_UNMAPPED = f"""
SELECT v.id, v.origin, v.model, v.prompt, v.image_url AS image, NOT ({IS_WHOLE}) AS is_blanked
FROM taxiway.videos v
WHERE {FOR_INTAKE} AND NOT $2::jsonb ? v.id::text
ORDER BY v.run_after LIMIT $1
"""


@dataclass(frozen=True)
class Unmapped:
    """A row that the app put in the queue itself. `origin` 'api': its request stays as it was.

    `is_blanked`: its input is not whole any more, or it is to be erased.
    """

    id: UUID
    origin: str | None
    model: str | None
    prompt: str | None
    image: str | None
    is_blanked: bool = False


async def unmapped(database: Database, limit: int, passed_over: Sequence[str] = ()) -> list[Unmapped]:
    """Rows that have no request yet, or that the app put back in the queue; but those."""
    return [Unmapped(**row) for row in await database.fetch(_UNMAPPED, limit, json.dumps(list(passed_over)))]


@dataclass(frozen=True)
class Mapped:
    """What intake makes of a row: a request, or (`refusal`) the reason why there is none."""

    id: UUID
    operation: str | None = None
    model: str | None = None
    input: dict[str, Any] | None = None
    quoted_credits: Any = None
    refusal: str | None = None


_WORDS = WORDS.format(prompt="v.input ->> 'promptText', v.prompt")

# Give the app's rows their request and their words, or fail them. Only what is still unmapped; a row that the app
# holds comes later.
_MAP = f"""
WITH mapped AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS m(id uuid, operation text, model text, input jsonb, quoted_credits numeric, refusal text)
), held AS MATERIALIZED (
    SELECT v.id FROM taxiway.videos v
    WHERE v.id = ANY(ARRAY(SELECT id FROM mapped))
      AND {FOR_INTAKE}
    ORDER BY v.id FOR UPDATE SKIP LOCKED
), model AS (
    INSERT INTO taxiway.models (model) SELECT DISTINCT model FROM mapped WHERE model IS NOT NULL ON CONFLICT DO NOTHING
), v AS (
    UPDATE taxiway.videos v SET
        operation = COALESCE(m.operation, v.operation), model = COALESCE(m.model, v.model),
        input = COALESCE(m.input, v.input), quoted_credits = COALESCE(m.quoted_credits, v.quoted_credits),
        origin = COALESCE(v.origin, 'table'),
        status = CASE WHEN m.refusal IS NULL THEN v.status ELSE 'failed' END,
        error_code = CASE WHEN m.refusal IS NOT NULL THEN $2 END,
        error_message = m.refusal,
        finished_at = CASE WHEN m.refusal IS NOT NULL THEN taxiway.now() END,
        -- Put back: it starts again.
        queued_at = CASE WHEN v.finished_at IS NULL THEN v.queued_at ELSE taxiway.now() END,
        expires_at = taxiway.now() + make_interval(secs => $3),
        retries = 0, task_retries = 0, updated_at = taxiway.now()
    FROM mapped m WHERE m.id = v.id AND v.id = ANY(ARRAY(SELECT id FROM held))
    RETURNING v.id, v.created_at, v.model, v.user_id, v.input, v.metadata, v.prompt, v.quoted_credits, m.refusal
), found AS (
    INSERT INTO taxiway.search (video_id, created_at, model, user_id, words)
    SELECT v.id, v.created_at, v.model, v.user_id, {_WORDS} FROM v
    ON CONFLICT (video_id) DO UPDATE
    SET created_at = excluded.created_at, model = excluded.model, user_id = excluded.user_id, words = excluded.words
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code, credits)
    SELECT v.id, CASE WHEN v.refusal IS NULL THEN 'enqueued' ELSE 'failed' END, 'intake',
           CASE WHEN v.refusal IS NOT NULL THEN $2 END, v.quoted_credits FROM v
)
SELECT id, refusal FROM v
"""


async def map_rows(
    database: Database, rows: Sequence[Mapped], timeout_seconds: float, parking: Parking = RAISE
) -> list[asyncpg.Record]:
    """Write what intake made of these rows; (id, refusal) of those that were written."""

    async def write(part: Sequence[Mapped]) -> list[asyncpg.Record]:
        return await database.fetch(_MAP, as_records(part), FailureCode.INVALID_REQUEST, timeout_seconds)

    parts = await batches.write("map_rows", rows, write, lambda row: (row.id, row.id), parking)
    return [row for part in parts for row in part]


# Patience is over: what is still queued by now fails, and says so.
_OVER = f"""
    SELECT id FROM taxiway.videos WHERE status = 'queued' AND expires_at <= taxiway.now() AND finished_at IS NULL {ONLY}
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED"""
_EXPIRE = Choosing(
    "expire",
    f"""
WITH ended AS (
    UPDATE taxiway.videos v
    SET status = 'failed', error_code = $2, finished_at = taxiway.now(), updated_at = taxiway.now(),
        error_message = 'It was still queued when its time was over (expires_at); nothing was sent and nothing paid'
                        || COALESCE('. Last reason: ' || v.error_message, '') || '.'
    WHERE v.id = ANY(ARRAY({_OVER})) RETURNING v.id
)
INSERT INTO taxiway.events (video_id, kind, actor, code) SELECT id, 'expired', 'intake', $2 FROM ended
""",
    f"WITH due AS MATERIALIZED ({_OVER}) SELECT id, id FROM due",
    "id",
    takes=1,
)


async def expire(database: Database, limit: int, parking: Parking = RAISE) -> int:
    """Fail what waited too long; how many."""
    return await batches.execute(database, _EXPIRE, limit, FailureCode.EXPIRED, parking=parking)
