"""What was spent, from the ledger: by day (UTC), model and user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from service.store.database import Database
from service.store.spending import COUNTS, CREDITS

# The newest day first, and of each day what cost the most. `total`: of all rows, also of those beyond the limit.
_USAGE = f"""
SELECT (s.opened_at AT TIME ZONE 'UTC')::date AS day, s.model, s.user_id, count(*) AS submissions,
       COALESCE(sum(s.cost_credits), 0) AS paid, sum({CREDITS}) AS credits, sum(sum({CREDITS})) OVER () AS total
FROM taxiway.submissions s
WHERE s.opened_at >= (date_trunc('day', taxiway.now() AT TIME ZONE 'UTC') - make_interval(days => $1 - 1))
                     AT TIME ZONE 'UTC'
  AND {COUNTS} AND ($2::text IS NULL OR s.user_id = $2) AND ($3::text IS NULL OR s.model = $3)
GROUP BY 1, 2, 3 ORDER BY day DESC, credits DESC, s.model, s.user_id LIMIT $4
"""


@dataclass(frozen=True)
class Spent:
    """What the creates of one day, model and user cost: `paid`, as Runway reports it, and `credits`, the most.

    `user_id`: None for videos without one, and for those that were erased.
    """

    day: date
    model: str
    user_id: str | None
    submissions: int
    paid: Decimal
    credits: Decimal


@dataclass(frozen=True)
class Usage:
    """Rows, the newest day first. `total`: credits of all that match; `has_more`: than there are rows here."""

    rows: list[Spent]
    total: Decimal
    has_more: bool


async def usage(database: Database, days: int, limit: int, user_id: str | None, model: str | None) -> Usage:
    """What the last so many days cost, today included; of this user or this model alone, if one is given."""
    found = [dict(row) for row in await database.fetch(_USAGE, days, user_id, model, limit + 1)]
    total = found[0]["total"] if found else Decimal(0)
    rows = [Spent(**{name: value for name, value in row.items() if name != "total"}) for row in found[:limit]]
    return Usage(rows, total, len(found) > limit)
