"""Statements on the limits of an installation. A day is UTC's, as Runway's own books are."""

from __future__ import annotations

from decimal import Decimal

from service.store.database import Database

# Queued videos, but no more than are asked for.
_QUEUED = "SELECT count(*) FROM (SELECT FROM taxiway.videos WHERE status = 'queued' LIMIT $1) AS queued"


async def queued(database: Database, most: int) -> int:
    """How many videos are queued, counted up to `most`."""
    count: int = await database.fetchval(_QUEUED, most)
    return count


# What one key has asked for today, by the price of each video that it enqueued or retried; and the rest of the day.
_TODAY = """
SELECT COALESCE(sum(credits), 0) AS credits,
       extract(epoch FROM date_trunc('day', taxiway.now() AT TIME ZONE 'UTC') + interval '1 day'
                          - taxiway.now() AT TIME ZONE 'UTC')::float8 AS seconds_left
FROM taxiway.events
WHERE at >= date_trunc('day', taxiway.now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
  AND actor = $1 AND kind IN ('enqueued', 'retried')
"""


async def credits_today(database: Database, actor: str) -> tuple[Decimal, float]:
    """(credits that it asked for today, seconds until the day ends)."""
    row = await database.fetchrow(_TODAY, actor)
    assert row is not None  # noqa: S101  # an aggregate has one row
    return row["credits"], row["seconds_left"]
