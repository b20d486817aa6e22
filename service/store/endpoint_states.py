"""Statements that show endpoints and how they are, and what people do with one: enable it, or listen at it."""

from __future__ import annotations

import json
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


_LISTEN = """
INSERT INTO taxiway.endpoints (kind, url, events, listen_until)
SELECT 'listen', $1, ARRAY(SELECT jsonb_array_elements_text($2::jsonb)), taxiway.now() + make_interval(secs => $3)
RETURNING id
"""
# Go on; and end it. What was not sent need not be any more.
_RENEW = """
UPDATE taxiway.endpoints SET listen_until = taxiway.now() + make_interval(secs => $2) WHERE id = $1
"""
_STOP = """
WITH e AS (
    DELETE FROM taxiway.endpoints WHERE id = $1 AND kind = 'listen' RETURNING id
)
UPDATE taxiway.deliveries d SET state = 'superseded', ended_at = taxiway.now(), leased_until = NULL
FROM e WHERE d.endpoint_id = e.id AND d.state = 'due'
"""


async def listen(database: Database, url: str, events: Sequence[str], seconds: float) -> int:
    """Let a laptop listen for so many seconds; the id of its endpoint. `url`: no other may have the same."""
    made: int = await database.fetchval(_LISTEN, url, json.dumps(list(events)), seconds)
    return made


async def renew(database: Database, endpoint_id: int, seconds: float) -> bool:
    """Let it listen for so many seconds from now; False if it has been removed meanwhile."""
    return await database.execute(_RENEW, endpoint_id, seconds) > 0


async def stop(database: Database, endpoint_id: int) -> None:
    """It listens no more."""
    await database.execute(_STOP, endpoint_id)


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
