"""What PostgreSQL's catalogue says of a linked table at this moment: one statement for one link."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from service.link_mapping import Link


class Reader(Protocol):
    """What a statement is read with: the service's `Database`, or a connection of asyncpg's."""

    async def fetchrow(self, sql: str, /, *arguments: Any) -> Any: ...


@dataclass(frozen=True)
class FoundColumn:
    """A column that is there now. `base` is the type's plain name, for a domain that of the type underneath."""

    name: str
    sql_name: str  # quoted where PostgreSQL needs it
    attnum: int
    type: str  # ready for a cast under any search_path
    base: str
    is_array: bool
    labels: tuple[str, ...] | None  # of an enum, in its order
    is_generated: bool
    readable: bool
    writable: bool


@dataclass(frozen=True)
class FoundTable:
    """The table to which a link's name leads, else the one that has its oid: then it was renamed, or moved."""

    oid: int
    schema_name: str
    table_name: str
    sql_name: str  # schema and name, quoted where PostgreSQL needs it
    kind: str  # pg_class.relkind
    is_secured: bool  # row-level security hides rows from this role
    columns: tuple[FoundColumn, ...]

    def named(self, name: str) -> FoundColumn | None:
        """The column of this name."""
        return next((column for column in self.columns if column.name == name), None)

    def numbered(self, attnum: int) -> FoundColumn | None:
        """The column of this number: a rename leaves it as it is."""
        return next((column for column in self.columns if column.attnum == attnum), None)


# Columns as JSON. A domain, also one over another, is followed to the type underneath; {which} is a condition on `a`.
COLUMNS = """
    SELECT json_agg(json_build_object(
               'name', a.attname, 'sql_name', quote_ident(a.attname), 'attnum', a.attnum,
               'type', CASE WHEN own.typnamespace = 'pg_catalog'::regnamespace THEN format_type(a.atttypid, a.atttypmod)
                            ELSE own.typnamespace::regnamespace || '.' || quote_ident(own.typname) END,
               'base', t.typname, 'is_array', t.typcategory = 'A', 'is_generated', a.attgenerated <> '',
               'labels', CASE WHEN t.typtype = 'e' THEN (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder)
                                                           FROM pg_enum e WHERE e.enumtypid = t.oid) END,
               'readable', has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
               'writable', has_column_privilege(a.attrelid, a.attnum, 'UPDATE')
           ) ORDER BY a.attnum)
      FROM pg_attribute a
      JOIN pg_type own ON own.oid = a.atttypid
      CROSS JOIN LATERAL (
          WITH RECURSIVE under AS (
              SELECT * FROM pg_type WHERE oid = a.atttypid
              UNION ALL SELECT b.* FROM pg_type b JOIN under u ON u.typtype = 'd' AND b.oid = u.typbasetype)
          SELECT oid, typname, typtype, typcategory FROM under WHERE typtype <> 'd') t
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND {which}
"""

_MAPPED = """EXISTS (SELECT FROM jsonb_to_recordset($4::jsonb) AS k(name text, attnum int)
                         WHERE k.name = a.attname OR k.attnum = a.attnum)"""
# The table of a link ($1, $2: its name; $3: its oid) with the mapped columns ($4: [{name, attnum}]).
FIND = f"""
    SELECT c.oid::bigint AS oid, n.nspname::text AS schema_name, c.relname::text AS table_name,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name, c.relkind::text AS kind,
           row_security_active(c.oid) AS is_secured,
           ({COLUMNS.format(which=_MAPPED)}) AS columns
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = COALESCE((SELECT named.oid FROM pg_class named JOIN pg_namespace s ON s.oid = named.relnamespace
                              WHERE s.nspname = $1 AND named.relname = $2), $3::bigint::oid)
"""


async def find(reader: Reader, link: Link) -> FoundTable | None:
    """The link's table with its mapped columns, as they are now; None if neither its name nor its oid is there."""
    known = json.dumps([{"name": column.name, "attnum": column.attnum} for column in link.columns.values()])
    row = await reader.fetchrow(FIND, link.schema_name, link.table_name, link.table_oid, known)
    if row is None:
        return None
    return FoundTable(
        oid=row["oid"],
        schema_name=row["schema_name"],
        table_name=row["table_name"],
        sql_name=row["sql_name"],
        kind=row["kind"],
        is_secured=row["is_secured"],
        columns=tuple(map(column_of, json.loads(row["columns"] or "[]"))),
    )


def column_of(entry: dict[str, Any]) -> FoundColumn:
    """A column from the JSON of `COLUMNS`."""
    labels = entry["labels"]
    return FoundColumn(**{**entry, "labels": None if labels is None else tuple(labels)})
