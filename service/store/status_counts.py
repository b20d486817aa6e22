"""How many videos there are of each status, with the filters of a list: a bounded count, in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.store import search
from service.store.database import Database
from service.store.search import KNOWN_STATUSES, Arguments, Wanted

MOST_COUNTED = 10_000  # of one status; more are "at least so many"
FILTERED_ROWS = 5_000  # of one status that are tried for filters, the newest first


@dataclass(frozen=True)
class Count:
    """So many videos; `at_least`: there may be more, which were not counted."""

    videos: int
    at_least: bool


# The newest of one status, and how many of them pass the filters.
_COUNT = """
SELECT '{status}' AS status, count(*) FILTER (WHERE {where}) AS videos, count(*) AS walked
FROM (SELECT v.id, v.model, v.error_code, v.created_at, v.finished_at FROM taxiway.videos v
      WHERE v.status = '{status}' ORDER BY v.created_at DESC, v.id DESC LIMIT {rows}) AS v
"""


async def status_counts(database: Database, wanted: Wanted) -> dict[str, Count]:
    """Each status with its count. All filters hold but the one by status, which a tab replaces."""
    arguments = Arguments()
    conditions = await search.one_by_one(database, replace(wanted, statuses=None), arguments)
    rows = FILTERED_ROWS if conditions else MOST_COUNTED
    where = " AND ".join(conditions) or "true"
    parts = [_COUNT.format(status=status, where=where, rows=rows) for status in KNOWN_STATUSES]
    found = await database.fetch(" UNION ALL ".join(parts), *arguments)
    return {row["status"]: Count(row["videos"], row["walked"] >= rows) for row in found}
