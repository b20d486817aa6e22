"""Statements on `ticks`, and the report that /health makes of everything."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from service.store.database import Database

_RECORD = """
INSERT INTO ticks (kind, started_at, finished_at, counts, error, ref)
VALUES ($1, now() - make_interval(secs => $2), now(), $3::jsonb, $4, $5)
"""


async def record(
    database: Database, kind: str, seconds: float, counts: dict[str, Any], error: str | None, ref: str | None = None
) -> None:
    """Write down one tick that ended now and took `seconds`. `ref`: the short id that its log lines bear."""
    await database.execute(_RECORD, kind, seconds, json.dumps(counts), error, ref)


_RECENT = """
SELECT id, ref, kind, started_at, finished_at,
       extract(epoch FROM finished_at - started_at)::float8 AS seconds, counts, error
FROM ticks ORDER BY id DESC LIMIT $1
"""


async def recent(database: Database, limit: int) -> list[dict[str, Any]]:
    """The last ticks, newest first: id, ref, kind, started_at, finished_at, seconds, counts (by step), error."""
    rows = await database.fetch(_RECENT, limit)
    return [dict(row) | {"counts": json.loads(row["counts"] or "{}")} for row in rows]


_LAST = """
SELECT kind, finished_at, extract(epoch FROM now() - finished_at)::float8 AS age_seconds
FROM ticks ORDER BY id DESC LIMIT 1
"""

# `stuck` counts what the promises exclude: a permit long past its deadline, a task long past its time to be looked at.
_REPORT = """
SELECT
    (SELECT json_object_agg(COALESCE(status, 'none'), n)
     FROM (SELECT status::text, count(*) AS n FROM videos GROUP BY 1) AS s) AS counts,
    (SELECT extract(epoch FROM now() - min(run_after))::float8 FROM videos
     WHERE status = 'queued' AND run_after <= now()) AS oldest_queued_seconds,
    (SELECT count(*) FROM submissions WHERE outcome IS NULL AND deadline < now() - interval '10 minutes')
    + (SELECT count(*) FROM videos WHERE status = 'processing' AND runway_video_id IS NOT NULL
       AND COALESCE(poll_after, '-infinity') < now() - interval '1 hour') AS stuck,
    (SELECT count(*) FROM submissions WHERE outcome = 'unknown' AND settled_at IS NULL AND consent IS NULL) AS unknown,
    (SELECT COALESCE(sum(COALESCE(estimated_credits, quoted_credits)), 0)::float8 FROM submissions
     WHERE outcome = 'unknown' AND settled_at IS NULL) AS unknown_credits
"""


async def report(database: Database) -> dict[str, Any]:
    """Counts by status, oldest queued age (seconds), stuck, unknown outcomes and the most they may have cost."""
    row = await database.fetchrow(_REPORT)
    assert row is not None  # noqa: S101  # a SELECT without FROM has one row
    return dict(row) | {"counts": json.loads(row["counts"] or "{}")}


async def last(database: Database) -> tuple[str, datetime, float] | None:
    """The last tick: its kind, when it ended, and how many seconds ago."""
    row = await database.fetchrow(_LAST)
    return (row["kind"], row["finished_at"], row["age_seconds"]) if row else None


KEEP_DAYS = 7

_PRUNE_TICKS = """
DELETE FROM ticks WHERE id = ANY(ARRAY(
    SELECT id FROM ticks WHERE started_at < now() - make_interval(days => $1) ORDER BY started_at LIMIT $2))
"""
_PRUNE_INBOX = """
DELETE FROM inbox WHERE id = ANY(ARRAY(
    SELECT id FROM inbox WHERE received_at < now() - make_interval(days => $1) ORDER BY received_at LIMIT $2))
"""


async def prune(database: Database, limit: int) -> int:
    """Remove ticks and callbacks older than KEEP_DAYS, at most `limit` of each; how many."""
    ticks = await database.execute(_PRUNE_TICKS, KEEP_DAYS, limit)
    return ticks + await database.execute(_PRUNE_INBOX, KEEP_DAYS, limit)
