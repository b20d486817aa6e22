"""Taking over a `videos` table that an app already has: what would happen, and what stands in the way.

Nothing here changes anything but `prepare` and `mend`, which the first migration calls in its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from service.errors import MigrationBlocked
from service.store.adoption import record
from service.store.adoption.columns import (
    column_obstacles,
    constraint_name_obstacles,
    key_obstacles,
    name_obstacles,
)
from service.store.adoption.mend import STUCK, mend
from service.store.adoption.rights import creation_obstacles, ownership_obstacles, row_security_obstacles
from service.store.adoption.status import make_writable, status_obstacles
from service.store.adoption.table import Connection, Footprint, Obstacle, Table, find

__all__ = ["Footprint", "Obstacle", "Plan", "StuckRow", "explain", "mend", "obstacles", "prepare", "survey"]

SHOWN_STUCK_ROWS = 1000
KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table"}


@dataclass(frozen=True)
class StuckRow:
    """A row at `processing` without a task, and the status that the takeover gives it."""

    id: UUID | str
    since: datetime | None
    becomes: str


@dataclass(frozen=True)
class Plan:
    """What the first migration would do to this database. `table` is None where there is no `videos` yet."""

    table: str | None
    adds: tuple[str, ...]  # columns of videos
    shares: tuple[str, ...]  # columns of the app's that Taxiway reads and writes
    constraints: tuple[str, ...]  # on videos
    indexes: tuple[str, ...]  # of all tables
    tables: tuple[str, ...]
    rows: dict[str, int]  # by status, as it is; rows without one under ''
    stuck: int
    stuck_rows: tuple[StuckRow, ...]  # the oldest of them
    obstacles: tuple[Obstacle, ...]


async def obstacles(connection: Connection, footprint: Footprint) -> list[Obstacle]:
    """Everything that would make the first migration fail, or Taxiway on this table afterwards."""
    table = await find(connection)
    schemas = await _schemas(connection, table)
    found = await creation_obstacles(connection, schemas)
    found += await name_obstacles(connection, schemas, footprint)
    if table is None:
        return found
    if table.kind != "r":
        kind = KINDS.get(table.kind, "no table")
        return [(f"{table.name} is {kind}, and Taxiway can only take over an ordinary table", ""), *found]
    return [
        *ownership_obstacles(table),
        *await row_security_obstacles(connection, table),
        *await key_obstacles(connection, table),
        *await status_obstacles(connection, table),
        *column_obstacles(table, footprint),
        *await constraint_name_obstacles(connection, table, footprint),
        *found,
    ]


async def prepare(connection: Connection) -> None:
    """What a table of the app's needs before the first migration, once nothing stands in the way.

    What is there is written down first, for the way back.
    """
    was = await record.snapshot(connection)
    table = await find(connection)
    cast = None if table is None else await make_writable(connection, table)
    await record.write(connection, was, cast)


async def _schemas(connection: Connection, table: Table | None) -> list[str]:
    """Where new tables are made, and where the indexes of `videos` are."""
    current = await connection.fetchval("SELECT current_schema()::text")
    names = [current] if current else []
    return names if table is None or not names else list(dict.fromkeys([*names, table.schema]))


async def survey(connection: Connection, footprint: Footprint, *, requeue_stuck: bool = False) -> Plan:
    """The plan of the takeover, to be shown before it is done."""
    table = await find(connection)
    blocked = tuple(await obstacles(connection, footprint))
    tables = [name for name in footprint.tables if table is None or name != "videos"]
    brings = (footprint.constraints, footprint.indexes, (*tables, "taxiway_migrations", *record.TABLES))
    if table is None or not table.readable:
        return Plan(table.name if table else None, footprint.columns, (), *brings, {}, 0, (), blocked)
    stuck, rows = await _stuck(connection, table, "queued" if requeue_stuck else "failed")
    return Plan(
        table=table.name,
        adds=tuple(name for name in footprint.columns if name not in table.columns),
        shares=tuple(name for name in footprint.columns if name in table.columns),
        constraints=brings[0],
        indexes=brings[1],
        tables=brings[2],
        rows=await _rows(connection, table),
        stuck=stuck,
        stuck_rows=rows,
        obstacles=blocked,
    )


async def _rows(connection: Connection, table: Table) -> dict[str, int]:
    status = "COALESCE(status::text, '')" if "status" in table.columns else "''::text"
    counts = await connection.fetch(f"SELECT {status} AS status, count(*) FROM {table.name} GROUP BY 1 ORDER BY 1")
    return {row["status"]: row["count"] for row in counts}


async def _stuck(connection: Connection, table: Table, becomes: str) -> tuple[int, tuple[StuckRow, ...]]:
    if "status" not in table.columns or "id" not in table.columns:
        return 0, ()
    stuck = STUCK.format(id="runway_video_id" if "runway_video_id" in table.columns else "''")
    since = "created_at::timestamptz" if "created_at" in table.columns else "NULL::timestamptz"
    rows = await connection.fetch(
        f"SELECT id, {since} AS since FROM {table.name} WHERE {stuck} ORDER BY 2, 1 LIMIT {SHOWN_STUCK_ROWS}"
    )
    count = await connection.fetchval(f"SELECT count(*) FROM {table.name} WHERE {stuck}")
    return count, tuple(StuckRow(row["id"], row["since"], becomes) for row in rows)


def explain(exc: MigrationBlocked) -> str:
    """The obstacles as a person reads them in a terminal, with the SQL ready to paste."""
    count = len(exc.obstacles)
    things = "One thing stands" if count == 1 else f"{count} things stand"
    lines = [f"{exc.title}. {things} in the way:"]
    for number, (why, sql) in enumerate(exc.obstacles, 1):
        lines += ["", f"{number}. {why}"]
        lines += [f"       {line}" for line in sql.splitlines()]
    if any(sql for _, sql in exc.obstacles):
        lines += ["", "Run the SQL above as a role that may, then migrate again."]
    return "\n".join(lines)
