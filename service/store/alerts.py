"""Statements on `alerts`: what is wrong, and was reported; and what some of the checks are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from service.store.database import Database
from service.store.queue_stats import MODERATED
from service.store.recordset import as_records

NAME = "alerts"  # of their row in `maintenance`
EVERY_SECONDS = 60.0

# One process evaluates them: for all others they are not due any more.
_TAKE_TURN = """
UPDATE taxiway.maintenance SET due_at = taxiway.now() + make_interval(secs => $2), taken_at = taxiway.now()
WHERE name = $1 AND due_at <= taxiway.now()
"""


async def take_turn(database: Database) -> bool:
    """Whether this caller, and no other, is to evaluate them now."""
    return await database.execute(_TAKE_TURN, NAME, EVERY_SECONDS) > 0


@dataclass(frozen=True)
class Problem:
    """Something that is wrong now. `name`: of its check, the same for as long as it lasts; `payload`: what is said."""

    name: str
    payload: Mapping[str, Any]


# What is new is reported, and what is over, each once for every endpoint of alerts, in the transaction that notes it.
_WRITE = """
WITH found AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS f(name text, payload jsonb)
), raised AS (
    INSERT INTO taxiway.alerts (name, payload)
    SELECT name, payload || jsonb_build_object('raised_at', taxiway.now()) FROM found
    ON CONFLICT (name) DO NOTHING RETURNING payload
), cleared AS (
    DELETE FROM taxiway.alerts a WHERE NOT EXISTS (SELECT FROM found f WHERE f.name = a.name) RETURNING a.payload
), said AS MATERIALIZED (
    SELECT 'alert.raised' AS event, payload, 'msg_alert_' || replace(gen_random_uuid()::text, '-', '') AS webhook_id
    FROM raised
    UNION ALL
    SELECT 'alert.cleared', payload || jsonb_build_object(
               'cleared_at', taxiway.now(), 'text', 'Over: ' || (payload ->> 'text')),
           'msg_alert_' || replace(gen_random_uuid()::text, '-', '')
    FROM cleared
)
INSERT INTO taxiway.deliveries (event, webhook_id, endpoint_id, url, payload)
SELECT s.event, s.webhook_id, e.id, e.url, s.payload FROM said s CROSS JOIN LATERAL taxiway.wanting(s.event) AS e
ORDER BY s.webhook_id, e.id
"""


async def write(database: Database, found: Sequence[Problem]) -> int:
    """Let the table say what is wrong now; how many deliveries that makes."""
    return await database.execute(_WRITE, as_records(found))


# What ended in the last hour, and how much of that failed for another reason than its contents; credits, as Runway said
# last.
_MARGINS = f"""
SELECT count(*) FILTER (WHERE status IN ('completed', 'failed')) AS ended,
       count(*) FILTER (WHERE status = 'failed' AND NOT COALESCE({MODERATED}, false)) AS failed,
       (SELECT (m.facts ->> 'credits')::numeric FROM taxiway.maintenance m WHERE m.name = 'account') AS credits
FROM taxiway.videos WHERE finished_at > taxiway.now() - interval '1 hour'
"""


@dataclass(frozen=True)
class Margins:
    """How many videos ended within an hour, and how many failed; credits left at Runway, None if that is not known."""

    ended: int
    failed: int
    credits: Decimal | None


async def margins(database: Database) -> Margins:
    """How far from trouble this is."""
    row = await database.fetchrow(_MARGINS)
    assert row is not None  # noqa: S101  # an aggregate without GROUP BY has one row
    return Margins(**row)
