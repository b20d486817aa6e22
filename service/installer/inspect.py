"""What PostgreSQL's catalogue says of a table that is to be linked: read once, changed never."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import asyncpg

from service.errors import TaxiwayError
from service.store.link_catalogue import COLUMNS, FoundColumn

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

UPDATABLE = 4  # the bit of UPDATE in pg_relation_is_updatable()
KINDS = {"r": "table", "p": "partitioned table", "v": "view"}
WIDTH_HEADER = 4  # what atttypmod counts beyond the characters of a varchar


class LinkRefused(TaxiwayError):
    """This table cannot be linked like this."""

    status = 422
    slug = "link-refused"


@dataclass(frozen=True)
class TableColumn(FoundColumn):
    """A column with what matters before linking."""

    is_required: bool  # NOT NULL
    default: str | None  # the expression, as SQL
    is_identity: bool
    width: int | None  # characters, of varchar(n) and char(n)
    checks: tuple[str, ...]  # of its domain

    @property
    def default_word(self) -> str | None:
        """The literal that the default is, if it is one."""
        found = re.fullmatch(r"'((?:[^']|'')*)'(?:::.*)?", self.default or "", re.DOTALL)
        return found[1].replace("''", "'") if found else None


@dataclass(frozen=True)
class Check:
    """A CHECK or an exclusion constraint, with the columns that it names."""

    name: str
    definition: str
    columns: frozenset[str]


@dataclass(frozen=True)
class Index:
    """An index: its key columns in order, and all columns that it or its predicate names."""

    name: str
    keys: tuple[str, ...]
    uses: frozenset[str]
    method: str
    is_unique: bool
    is_primary: bool
    is_whole: bool  # valid, immediate, without predicate or expressions


@dataclass(frozen=True)
class Trigger:
    """A trigger that an UPDATE fires; `columns` of UPDATE OF, empty for any."""

    name: str
    function: str
    columns: frozenset[str]
    is_instead: bool


@dataclass(frozen=True)
class Table:
    """A table of the app, as far as a link depends on it. `bases`: tables under a view, quoted."""

    oid: int
    schema_name: str
    table_name: str
    sql_name: str
    schema_sql: str  # quoted where PostgreSQL needs it
    kind: str
    role: str
    is_visible: bool  # the search path leads to it
    has_policies: bool
    is_secured: bool
    lacks_identity: bool  # published, and nothing identifies its rows: PostgreSQL refuses every UPDATE
    search_path: tuple[str, ...]  # schemas on this connection's path, quoted
    zone: str  # the database's TimeZone
    partition_keys: frozenset[str]
    columns: dict[str, TableColumn]
    checks: tuple[Check, ...]
    indexes: tuple[Index, ...]
    triggers: tuple[Trigger, ...]
    bases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Schema and table for people."""
        return f"{self.schema_name}.{self.table_name}"

    @property
    def kind_name(self) -> str:
        """What it is, in words."""
        return KINDS[self.kind]

    def unique_columns(self) -> list[str]:
        """Columns that identify a row: the primary key first, then `id`, then others.

        PostgreSQL guarantees it for a table. Of a view the column has the name of such a column underneath; of a
        partitioned table it may be the key but for the columns that partition it: those are counted by the caller.
        """
        found: list[tuple[bool, bool, str]] = []
        for index in self.indexes:
            own = [key for key in index.keys if key not in self.partition_keys] or list(index.keys)
            names = own if self.kind == "p" else list(index.keys)
            if not (index.is_unique and index.is_whole and len(names) == 1 and names[0] in self.columns):
                continue
            if self.kind == "v" or self.columns[names[0]].is_required:
                found.append((not index.is_primary, names[0] != "id", names[0]))
        return list(dict.fromkeys(name for _, _, name in sorted(found)))

    def is_guaranteed(self, key: str) -> bool:
        """Whether PostgreSQL itself keeps the key unique."""
        return self.kind != "v" and any(
            index.is_unique and index.is_whole and index.keys == (key,) for index in self.indexes
        )


# Relations of a name ($2), in a schema ($1) or in any; the name is compared more loosely from rank to rank.
CANDIDATES = """
    SELECT c.oid::bigint AS oid, c.relkind::text AS kind, n.nspname::text AS schema_name,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name,
           pg_table_is_visible(c.oid) AS is_visible,
           CASE WHEN c.relname = $3 THEN 0 WHEN c.relname = $2 THEN 1 ELSE 2 END AS rank
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE lower(c.relname) = lower($2) AND ($1::text IS NULL OR lower(n.nspname) = lower($1))
       AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'taxiway') AND n.nspname !~ '^pg_(toast|temp)'
     ORDER BY rank, is_visible DESC, sql_name
"""
# Relations with columns for a status and a prompt, but for views of Taxiway's own tables.
LIKELY = """
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'taxiway') AND n.nspname !~ '^pg_(toast|temp)'
       AND NOT EXISTS (
           SELECT FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
             JOIN pg_class u ON d.refclassid = 'pg_class'::regclass AND u.oid = d.refobjid
            WHERE w.ev_class = c.oid AND u.relnamespace = to_regnamespace('taxiway'))
     GROUP BY 1 HAVING bool_or(lower(a.attname) = 'status') AND bool_or(lower(a.attname) LIKE '%prompt%')
     ORDER BY 1 LIMIT 10
"""
# Whether a name parses as PostgreSQL's own identifiers do: folded to lower case unless it is quoted.
PARSE = "SELECT parse_ident($1, true)"

# The relation itself.
RELATION = """
    SELECT c.oid::bigint AS oid, n.nspname::text AS schema_name, c.relname::text AS table_name,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name,
           quote_ident(n.nspname) AS schema_sql, c.relkind::text AS kind,
           quote_ident(current_user) AS role, pg_table_is_visible(c.oid) AS is_visible,
           c.relrowsecurity AS has_policies, row_security_active(c.oid) AS is_secured,
           pg_relation_is_updatable(c.oid, true) AS updatable, current_setting('TimeZone') AS zone,
           c.relreplident IN ('d', 'n') AND EXISTS (
               SELECT FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname AND p.pubupdate
                WHERE t.schemaname = n.nspname AND t.tablename = c.relname)
             AND NOT (c.relreplident = 'd' AND EXISTS (
               SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)) AS lacks_identity,
           ARRAY(SELECT quote_ident(s) FROM unnest(current_schemas(false)) s) AS search_path,
           ARRAY(SELECT a.attname::text FROM pg_partitioned_table p
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(p.partattrs)
                  WHERE p.partrelid = c.oid) AS partition_keys
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = $1::bigint::oid
"""
# All columns as JSON, as the check reads them at each tick.
ALL_COLUMNS = f"SELECT ({COLUMNS.format(which='true')}) FROM pg_class c WHERE c.oid = $1::bigint::oid"
# What matters of them before linking only. A view's column is written if the view allows it, or if it has a trigger
# INSTEAD OF UPDATE (bits 64 and 16).
MORE_COLUMNS = """
    SELECT a.attname::text AS name, a.attnotnull OR t.typnotnull AS is_required, a.attidentity <> '' AS is_identity,
           pg_get_expr(d.adbin, d.adrelid) AS default,
           CASE WHEN t.typname IN ('varchar', 'bpchar') THEN NULLIF(a.atttypmod, -1) END AS width,
           ARRAY(SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
                  WHERE k.contypid = a.atttypid AND k.contype = 'c') AS checks,
           c.relkind <> 'v' OR pg_column_is_updatable(c.oid, a.attnum, true)
             OR EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgtype & 80 = 80) AS updatable
      FROM pg_class c
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.oid = $1::bigint::oid
"""
# The relation and, of a view, the tables underneath: their rules are the view's.
BASES = """
    WITH RECURSIVE base AS (
        SELECT $1::bigint::oid AS oid
        UNION
        SELECT d.refobjid FROM base b JOIN pg_rewrite w ON w.ev_class = b.oid
          JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
                          AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> b.oid)
    SELECT b.oid::bigint AS oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name
      FROM base b JOIN pg_class c ON c.oid = b.oid JOIN pg_namespace n ON n.oid = c.relnamespace
     ORDER BY b.oid <> $1::bigint::oid, 2
"""
# CHECK and exclusion constraints with the columns that they name.
CHECKS = """
    SELECT k.conname::text AS name, pg_get_constraintdef(k.oid) AS definition,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = k.conrelid AND a.attnum = ANY(k.conkey)) AS columns
      FROM pg_constraint k WHERE k.conrelid = ANY($1::bigint[]::oid[]) AND k.contype IN ('c', 'x') ORDER BY 1
"""
# Indexes. Which columns a predicate or an expression names is in pg_depend.
INDEXES = """
    SELECT i.indexrelid::regclass::text AS name, m.amname::text AS method, i.indisunique AS is_unique,
           i.indisprimary AS is_primary,
           i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AS is_whole,
           ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
                   JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                  WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS keys,
           ARRAY(SELECT DISTINCT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = i.indrelid AND a.attnum > 0 AND (a.attnum = ANY(i.indkey) OR EXISTS (
                      SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                         AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
                         AND d.refobjsubid = a.attnum))) AS uses
      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
     WHERE i.indrelid = ANY($1::bigint[]::oid[]) ORDER BY 1
"""
# Triggers that an UPDATE fires (bit 16) and that are enabled for an ordinary session.
TRIGGERS = """
    SELECT t.tgname::text AS name, n.nspname || '.' || p.proname AS function, (t.tgtype & 64) <> 0 AS is_instead,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = t.tgrelid AND a.attnum = ANY(t.tgattr)) AS columns
      FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE t.tgrelid = ANY($1::bigint[]::oid[]) AND NOT t.tgisinternal AND (t.tgtype & 16) <> 0
       AND t.tgenabled IN ('O', 'A')
     ORDER BY 1
"""


async def inspect(connection: Connection, wanted: str) -> Table:
    """The table that this name means: `videos`, `app.videos`, `"Video"`. Raises LinkRefused."""
    oid = await _oid_of(connection, wanted)
    row = dict(await connection.fetchrow(RELATION, oid) or {})
    if not row.pop("updatable") & UPDATABLE:
        raise LinkRefused(
            f"{row['sql_name']} is a view that PostgreSQL cannot update: give it an INSTEAD OF UPDATE trigger, "
            "or link the table underneath"
        )
    bases = await connection.fetch(BASES, oid)
    oids = [base["oid"] for base in bases]
    if any(base["sql_name"].startswith("taxiway.") for base in bases):
        raise LinkRefused(f"{row['sql_name']} is a view of Taxiway's own tables: its rows are videos already")
    columns = await _columns(connection, oid)
    for base in oids[1:]:
        _inherit(columns, await _columns(connection, base))
    row["search_path"], row["partition_keys"] = tuple(row["search_path"]), frozenset(row["partition_keys"])
    return Table(
        **row,
        columns=columns,
        checks=tuple(
            Check(each["name"], each["definition"], frozenset(each["columns"]))
            for each in await connection.fetch(CHECKS, oids)
        ),
        indexes=tuple(
            Index(**{**each, "keys": tuple(each["keys"]), "uses": frozenset(each["uses"])})
            for each in await connection.fetch(INDEXES, oids)
        ),
        triggers=tuple(
            Trigger(each["name"], each["function"], frozenset(each["columns"]), each["is_instead"])
            for each in await connection.fetch(TRIGGERS, oids)
        ),
        bases=tuple(base["sql_name"] for base in bases[1:]),
    )


async def likely(connection: Connection) -> list[str]:
    """The names of relations that have a status and a prompt, quoted."""
    return [row["sql_name"] for row in await connection.fetch(LIKELY)]


async def _oid_of(connection: Connection, wanted: str) -> int:
    schema, name, folded = await _parsed(connection, wanted)
    rows = await connection.fetch(CANDIDATES, schema, name, folded)
    if not rows:
        others = await likely(connection)
        hint = f"; with a status and a prompt there is {', '.join(others)}" if others else ""
        raise LinkRefused(f"there is no table or view {wanted}{hint}")
    best = [row for row in rows if row["rank"] == rows[0]["rank"]]
    best = [row for row in best if row["is_visible"]] or best
    if len(best) > 1:
        raise LinkRefused(f"{wanted} may be {' or '.join(row['sql_name'] for row in best)}: name one with its schema")
    [row] = best
    if row["kind"] == "m":
        raise LinkRefused(
            f"{row['sql_name']} is a materialized view, which cannot be written: link the table underneath"
        )
    if row["kind"] == "f":
        raise LinkRefused(
            f"{row['sql_name']} is a foreign table, whose rows cannot be locked: link it in the database where it is"
        )
    return int(row["oid"])


async def _parsed(connection: Connection, wanted: str) -> tuple[str | None, str, str]:
    """(schema, name as it was given, name as PostgreSQL folds it)."""
    try:
        parts: list[str] = await connection.fetchval(PARSE, wanted)
    except asyncpg.PostgresError:
        parts = wanted.split(".")
    if len(parts) > 2 or not all(parts):
        raise LinkRefused(f"{wanted} is no name of a table: write it as name, or schema.name")
    raw = wanted.strip().rpartition(".")[2] if '"' not in wanted else parts[-1]
    return (parts[0] if len(parts) == 2 else None), raw, parts[-1]


async def _columns(connection: Connection, oid: int) -> dict[str, TableColumn]:
    entries: list[dict[str, Any]] = json.loads(await connection.fetchval(ALL_COLUMNS, oid) or "[]")
    more = {row["name"]: dict(row) for row in await connection.fetch(MORE_COLUMNS, oid)}
    columns = {}
    for entry in entries:
        extra = more[entry["name"]]
        width = extra.pop("width")
        entry["writable"] = entry["writable"] and extra.pop("updatable")
        entry["labels"] = None if entry["labels"] is None else tuple(entry["labels"])
        extra |= {"width": None if width is None else width - WIDTH_HEADER, "checks": tuple(extra["checks"])}
        columns[entry["name"]] = TableColumn(
            **{**entry, **{k: v for k, v in extra.items() if k != "name" and k != "updatable"}}
        )
    return columns


def _inherit(columns: dict[str, TableColumn], under: dict[str, TableColumn]) -> None:
    """A view has no defaults of its own: those of columns underneath that have the same name and type are its own."""
    for name, column in columns.items():
        base = under.get(name)
        if base is not None and base.type == column.type:
            columns[name] = replace(
                column, default=column.default or base.default, checks=column.checks or base.checks,
                is_generated=column.is_generated or base.is_generated,
                is_identity=column.is_identity or base.is_identity,
            )  # fmt: skip
