"""Why videos failed, counted by reason."""

from __future__ import annotations

from dataclasses import dataclass

from service.store import search
from service.store.database import Database
from service.store.search import Arguments, Wanted
from service.videos import Status

MOST_REASONS = 20
MOST_COUNTED = 10_000  # of one reason: what is more is shown as "more than"
# Of the newest failures, so many are tried for filters: some 50 ms of work.
FILTERED_ROWS = 5_000


@dataclass(frozen=True)
class Reason:
    """One `error_code`, how many videos failed for it (at most MOST_COUNTED are counted), and the newest message."""

    code: str
    videos: int
    message: str | None


# Each reason once, by jumps from one to the next in the index; then a bounded count, and one message as an example.
_REASONS = """
WITH RECURSIVE reason AS (
    (SELECT v.error_code FROM taxiway.videos v WHERE v.error_code IS NOT NULL ORDER BY v.error_code LIMIT 1)
    UNION ALL
    SELECT (SELECT v.error_code FROM taxiway.videos v WHERE v.error_code > r.error_code ORDER BY v.error_code LIMIT 1)
    FROM reason r WHERE r.error_code IS NOT NULL
)
SELECT r.error_code AS code, counted.n AS videos, newest.error_message AS message
FROM reason r
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM taxiway.videos v WHERE v.error_code = r.error_code AND v.status = 'failed' LIMIT $2) AS some_of_them
) AS counted
CROSS JOIN LATERAL (
    SELECT v.error_message FROM taxiway.videos v WHERE v.error_code = r.error_code AND v.status = 'failed'
    ORDER BY v.created_at DESC, v.id DESC LIMIT 1
) AS newest
WHERE r.error_code IS NOT NULL AND counted.n > 0
ORDER BY counted.n DESC, r.error_code LIMIT $1
"""

# With filters: among the newest failures.
_FILTERED = """
SELECT v.error_code AS code, count(*) AS videos,
       (array_agg(v.error_message ORDER BY v.created_at DESC, v.id DESC))[1] AS message
FROM (
    SELECT v.id, v.model, v.error_code, v.error_message, v.created_at, v.finished_at FROM taxiway.videos v
    WHERE v.status = 'failed' ORDER BY v.created_at DESC, v.id DESC LIMIT {rows}
) AS v
WHERE v.error_code IS NOT NULL AND {where}
GROUP BY v.error_code ORDER BY count(*) DESC, v.error_code LIMIT {most}
"""


async def failure_counts(database: Database, wanted: Wanted) -> list[Reason]:
    """Why the videos that are wanted failed, the most frequent reason first.

    With a filter, the newest FILTERED_ROWS failures are counted.
    """
    if Status.FAILED not in wanted.states:
        return []
    arguments = Arguments()
    conditions = await search.one_by_one(database, wanted, arguments)
    if not conditions:
        return [Reason(**row) for row in await database.fetch(_REASONS, MOST_REASONS, MOST_COUNTED)]
    sql = _FILTERED.format(rows=FILTERED_ROWS, where=" AND ".join(conditions), most=arguments.bind(MOST_REASONS))
    return [Reason(**row) for row in await database.fetch(sql, *arguments)]
