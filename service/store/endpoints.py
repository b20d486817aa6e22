"""Statements on `endpoints`: the addresses to which every event is sent. The settings name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service.store.database import Database
from service.store.recordset import as_records


@dataclass(frozen=True)
class Configured:
    """An endpoint as the settings name it. `kind`: 'webhook' or 'alert'; `events`: those that it wants."""

    kind: str
    url: str
    events: tuple[str, ...]


# Whether what is named, in the order of `as_named`, differs from what is there. A laptop that listens is not named
# anywhere: it goes when it has not been heard of for a while. Every tick asks, and most name nothing.
DIFFERS = """EXISTS (
    SELECT FROM taxiway.endpoints
    WHERE CASE WHEN kind = 'listen' THEN listen_until <= taxiway.now() ELSE removed_at IS NULL AND {given} = '[]' END
) OR {given} <> '[]' AND {given}::jsonb <> (
    SELECT COALESCE(jsonb_agg(jsonb_build_object('kind', kind, 'url', url, 'events', events)
                              ORDER BY kind COLLATE "C", url COLLATE "C"), '[]')
    FROM taxiway.endpoints WHERE kind <> 'listen' AND removed_at IS NULL)"""

# Make them the same. One that is not named any more is kept; one that is named again begins as a new one.
_CONFIGURE = """
WITH c AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS c(kind text, url text, events text[])
), gone AS (
    UPDATE taxiway.endpoints e SET removed_at = taxiway.now()
    WHERE e.kind <> 'listen' AND e.removed_at IS NULL
      AND NOT EXISTS (SELECT FROM c WHERE c.kind = e.kind AND c.url = e.url)
), silent AS (
    DELETE FROM taxiway.endpoints WHERE kind = 'listen' AND listen_until <= taxiway.now() RETURNING id
), unsent AS (
    UPDATE taxiway.deliveries d SET state = 'superseded', ended_at = taxiway.now(), leased_until = NULL
    FROM silent WHERE d.endpoint_id = silent.id AND d.state = 'due'
)
INSERT INTO taxiway.endpoints AS e (kind, url, events) SELECT kind, url, events FROM c ORDER BY kind, url
ON CONFLICT (kind, url) DO UPDATE SET events = EXCLUDED.events, removed_at = NULL,
    disabled_at = CASE WHEN e.removed_at IS NULL THEN e.disabled_at END,
    disabled_reason = CASE WHEN e.removed_at IS NULL THEN e.disabled_reason END,
    failures = CASE WHEN e.removed_at IS NULL THEN e.failures ELSE 0 END,
    failing_since = CASE WHEN e.removed_at IS NULL THEN e.failing_since END
"""
_DIFFERS = f"SELECT {DIFFERS.format(given='$1::text')}"


# Endpoints that fail, or are disabled, and how much waits for each.
_TROUBLED = """
SELECT e.id, e.kind, e.url, e.disabled_at, e.disabled_reason, e.failures, e.failing_since, e.last_error,
       (SELECT count(*) FROM taxiway.deliveries d WHERE d.state = 'due' AND d.receiver = e.id::text) AS waiting
FROM taxiway.endpoints e
WHERE e.removed_at IS NULL AND COALESCE(e.listen_until, 'infinity') > taxiway.now()
  AND (e.disabled_at IS NOT NULL OR e.failures >= $1)
ORDER BY e.id
"""


@dataclass(frozen=True)
class TroubledEndpoint:
    """An endpoint that fails, or said that it is gone. `waiting`: deliveries that are due to it."""

    id: int
    kind: str
    url: str
    disabled_at: datetime | None
    disabled_reason: str | None
    failures: int
    failing_since: datetime | None
    last_error: str | None
    waiting: int


async def troubled(database: Database, failures: int) -> list[TroubledEndpoint]:
    """The endpoints that are disabled, or have failed at least so often in a row."""
    return [TroubledEndpoint(**row) for row in await database.fetch(_TROUBLED, failures)]


def as_named(named: Sequence[Configured]) -> str:
    """What the settings name, as the argument of DIFFERS."""
    in_order: list[Configured] = sorted(named, key=lambda one: (one.kind, one.url))
    return as_records(in_order)


async def configure(database: Database, named: Sequence[Configured]) -> None:
    """Let the table say what the settings say."""
    await database.execute(_CONFIGURE, as_records(named))


async def differ(database: Database, named: Sequence[Configured]) -> bool:
    """Whether the settings say something else than the table."""
    return bool(await database.fetchval(_DIFFERS, as_named(named)))
