"""Statements on `ticks`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from service.store.database import Database
from service.store.maintenance import DUE

# Asked along with it: which snapshots are due.
_RECORD = f"""
INSERT INTO taxiway.ticks (kind, started_at, finished_at, counts, error, ref)
VALUES ($1, taxiway.now() - make_interval(secs => $2), taxiway.now(), $3::jsonb, $4, $5)
RETURNING ({DUE}) AS due, id
"""


async def record(
    database: Database, kind: str, seconds: float, counts: dict[str, Any], error: str | None, ref: str | None = None
) -> list[str]:
    """Write down one tick that ended now and took `seconds`. `ref`: the short id that its log lines bear.

    Returns the names of the snapshots that are due.
    """
    row = await database.fetchrow(_RECORD, kind, seconds, json.dumps(counts), error, ref)
    assert row is not None  # noqa: S101  # an INSERT returns its row
    database.memory.tick = (row["id"], ref)
    due: str = row["due"]
    return due.split(",") if due else []


_RECENT = """
SELECT id, ref, kind, started_at, finished_at,
       extract(epoch FROM finished_at - started_at)::float8 AS seconds, counts, error
FROM taxiway.ticks ORDER BY id DESC LIMIT $1
"""


async def recent(database: Database, limit: int) -> list[dict[str, Any]]:
    """The last ticks, newest first: id, ref, kind, started_at, finished_at, seconds, counts (by step), error."""
    rows = await database.fetch(_RECENT, limit)
    return [dict(row) | {"counts": json.loads(row["counts"] or "{}")} for row in rows]


# A poll alone sends nothing: a second cron that only polls must not hide that the first has stopped.
_LAST = """
SELECT kind, finished_at, extract(epoch FROM taxiway.now() - finished_at)::float8 AS age_seconds
FROM taxiway.ticks WHERE kind <> 'poll' ORDER BY id DESC LIMIT 1
"""


async def last(database: Database) -> tuple[str, datetime, float] | None:
    """The last tick that could send something: its kind, when it ended, and how many seconds ago."""
    row = await database.fetchrow(_LAST)
    return (row["kind"], row["finished_at"], row["age_seconds"]) if row else None
