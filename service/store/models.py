"""Statements on `models`: one row for each model, and 'all' for all of them."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from service.actors import TAXIWAY
from service.store.database import Database, Queries
from service.store.predicates import READY
from service.store.throughput import IN_FLIGHT

# Pause; the longer of two pauses stands, and so does the reason of a database that was restored. True if the model was
# open before.
_PAUSE = """
WITH before AS (SELECT reason FROM taxiway.models WHERE model = $1), paused AS (
    INSERT INTO taxiway.models AS l (model, paused_until, reason, detail, paused_at)
    VALUES ($1, taxiway.now() + make_interval(secs => $2), $3, $4, taxiway.now())
    ON CONFLICT (model) DO UPDATE SET paused_until = GREATEST(l.paused_until, EXCLUDED.paused_until),
        reason = CASE WHEN l.reason = 'restored' THEN l.reason ELSE EXCLUDED.reason END,
        detail = CASE WHEN l.reason = 'restored' THEN l.detail ELSE EXCLUDED.detail END,
        paused_at = COALESCE(l.paused_at, taxiway.now())
    RETURNING model
), noted AS (
    INSERT INTO taxiway.events (kind, actor, code, detail)
    SELECT 'paused', $5, $3, jsonb_build_object('model', model, 'seconds', $2::float8) FROM paused
)
SELECT (SELECT reason FROM before) IS NULL AS newly FROM paused
"""


async def pause(database: Queries, model: str, seconds: float, reason: str, detail: str, actor: str = TAXIWAY) -> bool:
    """Pause a model; whether it was open before."""
    return bool(await database.fetchval(_PAUSE, model, seconds, reason, detail, actor))


# The same, for a process that must not wait: a row that is held is passed over, and nothing is returned.
_TRY_PAUSE = """
WITH made AS (
    INSERT INTO taxiway.models (model, paused_until, reason, detail, paused_at, last_video)
    VALUES ($1, taxiway.now() + make_interval(secs => $2), $3, $4, taxiway.now(), $5)
    ON CONFLICT DO NOTHING RETURNING model
), held AS MATERIALIZED (
    SELECT model, reason IS NULL AS newly FROM taxiway.models WHERE model = $1 FOR UPDATE SKIP LOCKED
), paused AS (
    UPDATE taxiway.models l SET paused_until = GREATEST(l.paused_until, taxiway.now() + make_interval(secs => $2)),
        reason = $3, detail = $4, paused_at = COALESCE(l.paused_at, taxiway.now()),
        last_video = COALESCE($5, l.last_video)
    FROM held WHERE l.model = held.model RETURNING held.newly
), done AS (
    SELECT true AS newly FROM made UNION ALL SELECT newly FROM paused
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code, detail)
    SELECT $5, 'paused', 'submit', $3, jsonb_build_object('model', $1::text, 'seconds', $2::float8) FROM done
    WHERE newly
)
SELECT newly FROM done
"""


async def try_pause(
    database: Database, model: str, seconds: float, reason: str, detail: str, video_id: UUID | None = None
) -> bool | None:
    """Pause a model because of a video's create; whether it was open before, None if another transaction holds it."""
    newly: bool | None = await database.fetchval(_TRY_PAUSE, model, seconds, reason, detail, video_id)
    return newly


# A model whose time is over and that has something to send. It is put off for the time of the probe, so that one
# process probes. While all models are paused, only 'all' is probed, with a video whose own model is open or due
# as well.
_PROBE = f"""
UPDATE taxiway.models SET paused_until = taxiway.now() + make_interval(secs => $1)
WHERE model = (
    SELECT l.model FROM taxiway.models l
    WHERE l.reason IS NOT NULL AND l.paused_until <= taxiway.now()
      AND (l.model = 'all' OR NOT EXISTS (SELECT FROM taxiway.models a WHERE a.model = 'all' AND a.reason IS NOT NULL))
      AND EXISTS (SELECT FROM taxiway.videos v JOIN taxiway.models own ON own.model = v.model
                  WHERE {READY} AND v.run_after <= taxiway.now()
                    AND (v.model = l.model
                         OR l.model = 'all' AND (own.reason IS NULL OR own.paused_until <= taxiway.now())))
    ORDER BY l.model LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING model, reason
"""


async def take_probe(database: Database, lease_seconds: float) -> tuple[str, str] | None:
    """The model that this caller may probe with one create, if any, and why it is paused."""
    row = await database.fetchrow(_PROBE, lease_seconds)
    return None if row is None else (row["model"], row["reason"])


# A database that was restored is accepted by an operator alone (identity.py).
_RESUME = """
WITH opened AS (
    UPDATE taxiway.models SET paused_until = NULL, reason = NULL, detail = NULL, paused_at = NULL, last_video = NULL,
        unknown_videos = '{}', pauses = 0
    WHERE model = $1 AND reason <> 'restored' RETURNING model
)
INSERT INTO taxiway.events (kind, actor, detail)
SELECT 'resumed', $2, jsonb_build_object('model', model) FROM opened
"""


async def resume(database: Database, model: str, actor: str = TAXIWAY) -> bool:
    """Open a model; whether it was paused, for any reason but that the database was restored."""
    return await database.execute(_RESUME, model, actor) > 0


# Open, without waiting for a row that is held.
_TRY_RESUME = """
WITH held AS MATERIALIZED (
    SELECT model FROM taxiway.models WHERE model = $1 AND reason IS NOT NULL FOR UPDATE SKIP LOCKED
), opened AS (
    UPDATE taxiway.models l SET paused_until = NULL, reason = NULL, detail = NULL, paused_at = NULL, last_video = NULL,
        unknown_videos = '{}', pauses = 0
    FROM held WHERE l.model = held.model RETURNING l.model
), noted AS (
    INSERT INTO taxiway.events (kind, actor, detail)
    SELECT 'resumed', 'submit', jsonb_build_object('model', model) FROM opened
)
SELECT EXISTS (SELECT FROM opened)
       OR NOT EXISTS (SELECT FROM taxiway.models WHERE model = $1 AND reason IS NOT NULL)
"""


async def try_resume(database: Database, model: str) -> bool:
    """Open a model; False if another transaction holds its row."""
    return bool(await database.fetchval(_TRY_RESUME, model))


_PAUSED = """
SELECT model, NULLIF(paused_until, 'infinity') AS paused_until, reason, detail, paused_at
FROM taxiway.models WHERE reason IS NOT NULL ORDER BY model
"""


async def paused(database: Database) -> list[asyncpg.Record]:
    """Every paused model: model, paused_until (None: until an operator resumes it), reason, detail, paused_at."""
    return await database.fetch(_PAUSED)


# Every model, 'all' first, with what waits in it and what is at Runway; those of 'all' are the sums.
_EVERY = f"""
WITH waiting AS (
    SELECT v.model, count(*) AS n FROM taxiway.videos v
    WHERE {READY} GROUP BY 1
), flying AS ({IN_FLIGHT})
SELECT named.model, l.reason, l.detail, NULLIF(l.paused_until, 'infinity') AS paused_until, l.paused_at,
       CASE WHEN named.model <> 'all' THEN taxiway.allowed(l) END AS may_be_in_flight,
       (SELECT COALESCE(sum(n), 0) FROM waiting w WHERE named.model IN (w.model, 'all'))::bigint AS queued,
       (SELECT COALESCE(sum(n), 0) FROM flying f WHERE named.model IN (f.model, 'all'))::bigint AS in_flight
FROM (SELECT model FROM taxiway.models UNION SELECT 'all') AS named LEFT JOIN taxiway.models l ON l.model = named.model
ORDER BY named.model <> 'all', named.model
"""


async def every(database: Database) -> list[asyncpg.Record]:
    """Every model, 'all' first: model, reason (None: open), detail, paused_until, paused_at, queued, in_flight,
    may_be_in_flight (creates at once; None for 'all').

    `paused_until`: None also for a pause that lasts until an operator resumes it.
    """
    return await database.fetch(_EVERY)
