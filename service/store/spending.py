"""Statements on the day's credits. A day is UTC's, as Runway's own books are."""

from __future__ import annotations

from decimal import Decimal

import asyncpg

from service.store.database import Connection, Queries
from service.store.predicates import READY

# One claim at a time while there is a limit: two that counted side by side would both find room. It holds only until
# the claim commits; a process that freezes in between is cut off by the server.
_PATIENCE = "SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '10s'"
_TURN = (
    "INSERT INTO taxiway.models AS l (model) VALUES ('all') ON CONFLICT (model) DO UPDATE SET model = EXCLUDED.model"
)


async def take_turn(tx: Connection) -> None:
    """Wait until no other claim is counting; the turn ends with this transaction."""
    await tx.execute(_PATIENCE)
    await tx.execute(_TURN)


# What a submission `s` costs. Until that is known, the higher of our price and Runway's estimate: neither alone is a
# bound. It counts unless it came to nothing.
CREDITS = "COALESCE(s.cost_credits, GREATEST(s.quoted_credits, s.estimated_credits), 0)"
COUNTS = "(s.outcome IS NULL OR s.outcome IN ('accepted', 'unknown'))"
# That it counts, and was permitted today.
TODAY = f"""s.opened_at >= date_trunc('day', taxiway.now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
  AND {COUNTS}"""

# What each user has in flight, at Runway or on the way there, and what today costs of his: for limits on either, of
# which one that is NULL costs nothing. Who is not in it has neither.
BUSY = f"""busy AS MATERIALIZED (
    SELECT user_id, sum(n) AS in_flight, sum(credits) AS credits FROM (
        SELECT v.user_id, 1 AS n, 0 AS credits FROM taxiway.videos v
        WHERE ${{slots}}::integer IS NOT NULL AND v.status = 'processing' AND v.user_id IS NOT NULL
        UNION ALL
        SELECT s.user_id, 0, {CREDITS} FROM taxiway.submissions s
        WHERE ${{credits}}::numeric IS NOT NULL AND s.user_id IS NOT NULL AND {TODAY}
    ) AS one GROUP BY user_id
)"""

_TODAY = f"SELECT s.model, sum({CREDITS}) AS credits FROM taxiway.submissions s WHERE {TODAY} GROUP BY s.model"


async def today(database: Queries) -> dict[str, Decimal]:
    """Credits by model: what today's submissions cost, or may cost."""
    return {row["model"]: row["credits"] for row in await database.fetch(_TODAY)}


# Seconds until the day ends.
_DAY_ENDS = """extract(epoch FROM date_trunc('day', taxiway.now() AT TIME ZONE 'UTC') + interval '1 day'
                          - taxiway.now() AT TIME ZONE 'UTC')::float8"""
# The price of what each open model would send next.
_NEXT = f"""
SELECT l.model, d.quoted_credits, {_DAY_ENDS} AS day_ends_in_seconds
FROM taxiway.models l CROSS JOIN LATERAL (
    SELECT COALESCE(v.quoted_credits, 0) AS quoted_credits FROM taxiway.videos v
    WHERE {READY} AND v.model = l.model
      AND v.run_after <= taxiway.now()
    ORDER BY v.claim_order, v.run_after, v.id LIMIT 1
) d WHERE l.reason IS NULL
"""


async def next_prices(database: Queries) -> list[asyncpg.Record]:
    """For each open model with something due: model, quoted_credits, day_ends_in_seconds."""
    return await database.fetch(_NEXT)
