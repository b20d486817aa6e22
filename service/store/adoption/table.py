"""What PostgreSQL's catalogue says of a `videos` table that is there, and what a migration adds to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Obstacle: TypeAlias = tuple[str, str]  # why, and the SQL that removes it; empty when no SQL can


@dataclass(frozen=True)
class Column:
    """One column. `base` is the plain name of its type; for a domain, of the type underneath."""

    name: str
    number: int
    type: str
    base: str
    kind: str  # pg_type.typtype: b(ase), e(num), d(omain), ...
    width: int | None  # characters, of varchar(n) and char(n)
    nullable: bool


@dataclass(frozen=True)
class Table:
    """The table that the name `videos` leads to. `name` is qualified and quoted, ready for SQL."""

    oid: int
    kind: str  # pg_class.relkind
    schema: str
    name: str
    owner: str  # quoted
    role: str  # who asks, quoted
    mine: bool
    readable: bool
    secured: bool  # row-level security applies to this role, whatever it owns
    columns: dict[str, Column]


@dataclass(frozen=True)
class Footprint:
    """The names that migrations bring: read off their own text, so that there is no second list to keep."""

    tables: tuple[str, ...]
    indexes: tuple[str, ...]
    constraints: tuple[str, ...]  # on videos
    columns: tuple[str, ...]  # of videos, all of them
    own_columns: tuple[str, ...]  # of videos, those that an app's column must not be mistaken for

    @classmethod
    def of(cls, *scripts: str) -> Self:
        """The names in these scripts, which keep to the plain forms of this project's migrations."""
        script = "\n".join(scripts)
        changes = "".join(re.findall(r"^ALTER TABLE videos\b.*?;$", script, re.MULTILINE | re.DOTALL))
        added = re.findall(r"ADD COLUMN (IF NOT EXISTS )?\s*(\w+)", changes)
        return cls(
            tables=tuple(re.findall(r"^CREATE TABLE (\w+)", script, re.MULTILINE)),
            indexes=tuple(re.findall(r"^CREATE (?:UNIQUE )?INDEX (\w+)", script, re.MULTILINE)),
            constraints=tuple(re.findall(r"\bCONSTRAINT (\w+)", changes)),
            columns=tuple(name for _, name in added),
            own_columns=tuple(name for shared, name in added if not shared),
        )


# The table that an app's own statements mean by `videos`.
TABLE = """
    SELECT c.oid::bigint, c.relkind::text, n.nspname::text AS schema,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
           quote_ident(pg_get_userbyid(c.relowner)) AS owner, quote_ident(current_user) AS role,
           pg_has_role(c.relowner, 'USAGE') AS mine, has_table_privilege(c.oid, 'SELECT') AS readable,
           c.relforcerowsecurity AND row_security_active(c.oid) AS secured
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = to_regclass('videos')
"""

# Its columns; for a domain the type underneath tells what it holds.
COLUMNS = """
    SELECT a.attname::text AS name, a.attnum::int AS number, format_type(a.atttypid, a.atttypmod) AS type,
           COALESCE(b.typname, t.typname)::text AS base, t.typtype::text AS kind,
           CASE WHEN COALESCE(b.typname, t.typname) IN ('varchar', 'bpchar')
                THEN NULLIF(CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END, -1) - 4
           END AS width,
           NOT (a.attnotnull OR t.typnotnull) AS nullable
      FROM pg_attribute a
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
     WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attnum
"""


def literal(value: str) -> str:
    """`value` as an SQL string, for statements whose text is shown or that cannot bind."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """`name` as an SQL identifier, quoted only where PostgreSQL would need it or might."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


async def find(connection: Connection) -> Table | None:
    """The `videos` table on this connection's search path, whatever its schema; None when there is none."""
    row = await connection.fetchrow(TABLE)
    if row is None:
        return None
    columns = [Column(**dict(column)) for column in await connection.fetch(COLUMNS, row["oid"])]
    return Table(
        oid=row["oid"],
        kind=row["relkind"],
        schema=row["schema"],
        name=row["name"],
        owner=row["owner"],
        role=row["role"],
        mine=row["mine"],
        readable=row["readable"],
        secured=row["secured"],
        columns={column.name: column for column in columns},
    )
