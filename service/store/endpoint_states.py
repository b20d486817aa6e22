"""Statements that show endpoints and how they are, and what people do with one: enable it, or listen at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from service.store.database import Database
from service.store.deliveries import FAILING_AT

MOST_WAITING = 10_000  # that are counted


@dataclass(frozen=True)
class EndpointState:
    """An endpoint and how it is. `waiting`: deliveries that are due to it, at most MOST_WAITING."""

    id: int
    kind: str
    url: str
    events: Sequence[str]
    removed_at: datetime | None
    listen_until: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    failures: int
    failing_since: datetime | None
    last_error: str | None
    last_ok_at: datetime | None
    waiting: int

    @property
    def state(self) -> str:
        """In a word: ok, failing, disabled, or removed (the settings do not name it any more)."""
        if self.removed_at is not None:
            return "removed"
        if self.disabled_at is not None:
            return "disabled"
        return "failing" if self.failures >= FAILING_AT else "ok"


# Every endpoint that is in use, or has something due to it.
_EVERY = f"""
SELECT e.id, e.kind, e.url, e.events, e.removed_at, e.listen_until, e.disabled_at, e.disabled_reason, e.failures,
       e.failing_since, e.last_error, e.last_ok_at, w.waiting
FROM taxiway.endpoints e CROSS JOIN LATERAL (
    SELECT count(*) AS waiting FROM (
        SELECT FROM taxiway.deliveries d WHERE d.state = 'due' AND d.receiver = e.id::text LIMIT {MOST_WAITING}
    ) AS those) AS w
WHERE (e.removed_at IS NULL OR w.waiting > 0) AND COALESCE(e.listen_until, 'infinity') > taxiway.now()
ORDER BY e.id
"""


async def every(database: Database) -> list[EndpointState]:
    """Every endpoint, the oldest first."""
    return [EndpointState(**row) for row in await database.fetch(_EVERY)]


# Send to it again: at once, and as if it had never failed. What ended because it was disabled is due again.
_ENABLE = """
WITH e AS (
    UPDATE taxiway.endpoints SET disabled_at = NULL, disabled_reason = NULL, failures = 0, failing_since = NULL,
        probe_after = NULL
    WHERE id = $1 AND removed_at IS NULL RETURNING id
), again AS (
    UPDATE taxiway.deliveries d SET state = 'due', ended_at = NULL, due_at = taxiway.now() FROM e
    WHERE d.endpoint_id = e.id AND d.state = 'disabled'
)
SELECT id FROM e
"""


async def enable(database: Database, endpoint_id: int) -> bool:
    """Send to this endpoint again; False if there is none."""
    return await database.fetchval(_ENABLE, endpoint_id) is not None
