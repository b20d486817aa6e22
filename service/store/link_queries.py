"""What doctor, `/health` and the page ask of linked tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.store.database import Database
from service.store.link_intake import count_died
from service.store.links import open_links

_REFUSED = """
SELECT l.schema_name || '.' || l.table_name AS link, count(*) AS rows, min(r.refused_at) AS since,
       (array_agg(r.error ORDER BY r.refused_at DESC))[1] AS words,
       (array_agg(r.app_id ORDER BY r.refused_at DESC))[1] AS app_id
FROM taxiway.rows r JOIN taxiway.links l ON l.id = r.link_id WHERE r.due_at IS NOT NULL GROUP BY l.id ORDER BY 1
"""


@dataclass(frozen=True)
class Refusing:
    """Rows of one linked table that refuse to show their video, with PostgreSQL's words about the newest of them."""

    link: str
    rows: int
    since: datetime
    words: str
    app_id: str


async def refusing(database: Database) -> list[Refusing]:
    """The linked tables with rows that refuse to show their video."""
    return [Refusing(**row) for row in await database.fetch(_REFUSED)]


_PAUSED = "SELECT schema_name || '.' || table_name AS link, reason FROM taxiway.links WHERE state = 'paused' ORDER BY 1"


async def paused(database: Database) -> dict[str, str]:
    """Why each paused link is paused, with what fixes it."""
    return {row["link"]: row["reason"] for row in await database.fetch(_PAUSED)}


_GATE_REFUSED = """
SELECT count(*) AS videos, (array_agg(detail ORDER BY id DESC))[1] AS newest
FROM taxiway.events WHERE kind = 'gate_refused' AND at > now() - interval '1 day'
"""


async def refused_at_gate(database: Database) -> tuple[int, str | None]:
    """Videos that an app's table refused to let pass in the last day, and the newest refusal as JSON."""
    row = await database.fetchrow(_GATE_REFUSED)
    assert row is not None  # noqa: S101  # an aggregate without GROUP BY has one row
    return row["videos"], row["newest"]


_WITHOUT_ROLE = """
SELECT l.id, l.schema_name || '.' || l.table_name AS link FROM taxiway.links l
WHERE l.state <> 'closed' AND NOT EXISTS (
    SELECT FROM pg_roles WHERE rolname = 'taxiway_link_' || l.id AND pg_has_role(oid, 'MEMBER'))
ORDER BY 1
"""


async def without_role(database: Database) -> dict[str, str]:
    """Linked tables whose triggers run with the rights of Taxiway's own role, and the role that would prevent it."""
    return {row["link"]: f"taxiway_link_{row['id']}" for row in await database.fetch(_WITHOUT_ROLE)}


async def left_at_processing(database: Database, seconds: float) -> dict[str, int]:
    """By linked table: rows that the app's own code set to processing so long ago, and left. Raises TableTrouble."""
    counts: dict[str, Any] = {}
    for table in await open_links(database):
        counts[table.link.name] = await count_died(database, table, seconds)
    return {name: count for name, count in counts.items() if count}
