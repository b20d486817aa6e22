"""What the rows of a table say before it is linked: read in one transaction, changed never."""

from __future__ import annotations

from dataclasses import dataclass, field

import asyncpg

from service.installer.inspect import Connection, LinkRefused, Table
from service.installer.vocabulary import DELETED, PROVIDERS, bare

MOST_WORDS = 50  # a status with more is no status
AHEAD_SECONDS = 60  # clocks differ by less

# How many rows have which status.
WORDS = "SELECT {status}::text AS word, count(*) AS rows FROM {table} GROUP BY 1 ORDER BY 2 DESC LIMIT {limit}"
# How many rows have which provider.
PROVIDER = "SELECT {column}::text AS word, count(*) AS rows FROM {table} GROUP BY 1 ORDER BY 2 DESC LIMIT {limit}"
# How many rows are marked as deleted.
MARKED = "SELECT count(*) FROM {table} WHERE {condition}"
# Whether the newest time lies ahead, read as UTC and read as the database's own time.
AHEAD = """
    SELECT max({column}) AT TIME ZONE 'UTC' > taxiway.now() + make_interval(secs => {seconds}) AS as_utc,
           max({column}) AT TIME ZONE $1 > taxiway.now() + make_interval(secs => {seconds}) AS as_local
      FROM {table}
"""
# A key that two rows share, or that a row lacks.
SHARED = "SELECT {key}::text FROM {table} GROUP BY {key} HAVING count(*) > 1 OR {key} IS NULL LIMIT 1"


@dataclass(frozen=True)
class Facts:
    """Counts that proposals rest on. `providers`, `marks`: by column."""

    words: dict[str, int] = field(default_factory=dict)
    providers: dict[str, dict[str | None, int]] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    ahead_as_utc: bool = False
    ahead_as_local: bool = False


def sql_of(table: Table, name: str) -> str:
    """A column's name, quoted where PostgreSQL needs it."""
    return table.columns[name].sql_name


def mark_of(table: Table, name: str) -> str:
    """The condition that a row is not marked as deleted."""
    column = table.columns[name]
    return f"{column.sql_name} IS NOT TRUE" if column.base == "bool" else f"{column.sql_name} IS NULL"


async def read(connection: Connection, table: Table, columns: dict[str, str]) -> Facts:
    """Count. Raises LinkRefused where a key is shared by rows or the status is none."""
    rows = await connection.fetch(
        WORDS.format(status=sql_of(table, columns["status"]), table=table.sql_name, limit=MOST_WORDS + 1)
    )
    if len(rows) > MOST_WORDS:
        raise LinkRefused(f"the column {columns['status']} has more than {MOST_WORDS} different words: it is no status")
    if "id" in columns and not table.is_guaranteed(columns["id"]):
        await _check_key(connection, table, columns["id"])
    ahead_as_utc, ahead_as_local = await _ahead(connection, table, columns)
    return Facts(
        words={row["word"]: row["rows"] for row in rows if row["word"] is not None},
        providers=await _providers(connection, table),
        marks=await _marks(connection, table),
        ahead_as_utc=ahead_as_utc,
        ahead_as_local=ahead_as_local,
    )


async def _check_key(connection: Connection, table: Table, key: str) -> None:
    try:
        rows = await connection.fetch(SHARED.format(key=sql_of(table, key), table=table.sql_name))
    except asyncpg.UndefinedFunctionError as exc:
        raise LinkRefused(f"the column {key} of {table.name} cannot be compared ({exc})") from exc
    if rows:
        what = "is empty in a row" if rows[0][0] is None else f"is {rows[0][0]} in more than one row"
        raise LinkRefused(f"the column {key} of {table.name} does not identify rows: it {what}")


async def _providers(connection: Connection, table: Table) -> dict[str, dict[str | None, int]]:
    found = {}
    for column in table.columns.values():
        if bare(column.name) in PROVIDERS and column.readable and not column.is_array:
            sql = PROVIDER.format(column=column.sql_name, table=table.sql_name, limit=MOST_WORDS)
            found[column.name] = {row["word"]: row["rows"] for row in await connection.fetch(sql)}
    return found


async def _marks(connection: Connection, table: Table) -> dict[str, int]:
    found = {}
    for column in table.columns.values():
        if bare(column.name) in DELETED and column.readable:
            condition = f"NOT ({mark_of(table, column.name)})"
            found[column.name] = await connection.fetchval(MARKED.format(table=table.sql_name, condition=condition))
    return found


async def _ahead(connection: Connection, table: Table, columns: dict[str, str]) -> tuple[bool, bool]:
    name = columns.get("created_at")
    if name is None or table.columns[name].base != "timestamp":
        return False, False
    sql = AHEAD.format(column=table.columns[name].sql_name, table=table.sql_name, seconds=AHEAD_SECONDS)
    row = await connection.fetchrow(sql, table.zone)
    return (False, False) if row is None else (bool(row["as_utc"]), bool(row["as_local"]))
