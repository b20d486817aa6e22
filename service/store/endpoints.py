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


_NAMED = "jsonb_to_recordset({given}::jsonb) AS c(kind text, url text, events text[])"

# Whether what is named differs from what is there. A laptop that listens is not named anywhere.
DIFFERS = f"""EXISTS (
    SELECT FROM (SELECT * FROM taxiway.endpoints WHERE kind <> 'listen') AS e
    FULL JOIN {_NAMED} ON c.kind = e.kind AND c.url = e.url
    WHERE e.id IS NULL OR (c.url IS NULL) <> (e.removed_at IS NOT NULL) OR c.events <> e.events)"""

# Make them the same. One that is not named any more is kept; one that is named again begins as a new one.
_CONFIGURE = f"""
WITH c AS MATERIALIZED (
    SELECT * FROM {_NAMED.format(given="$1")}
), gone AS (
    UPDATE taxiway.endpoints e SET removed_at = taxiway.now()
    WHERE e.kind <> 'listen' AND e.removed_at IS NULL
      AND NOT EXISTS (SELECT FROM c WHERE c.kind = e.kind AND c.url = e.url)
)
INSERT INTO taxiway.endpoints AS e (kind, url, events) SELECT kind, url, events FROM c ORDER BY kind, url
ON CONFLICT (kind, url) DO UPDATE SET events = EXCLUDED.events, removed_at = NULL,
    disabled_at = CASE WHEN e.removed_at IS NULL THEN e.disabled_at END,
    disabled_reason = CASE WHEN e.removed_at IS NULL THEN e.disabled_reason END,
    failures = CASE WHEN e.removed_at IS NULL THEN e.failures ELSE 0 END,
    failing_since = CASE WHEN e.removed_at IS NULL THEN e.failing_since END
"""
_DIFFERS = f"SELECT {DIFFERS.format(given='$1')}"


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


async def configure(database: Database, named: Sequence[Configured]) -> None:
    """Let the table say what the settings say."""
    await database.execute(_CONFIGURE, as_records(named))


async def differ(database: Database, named: Sequence[Configured]) -> bool:
    """Whether the settings say something else than the table."""
    return bool(await database.fetchval(_DIFFERS, as_records(named)))
