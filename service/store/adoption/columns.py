"""Whether the columns, keys and names of a `videos` table leave room for Taxiway's."""

from __future__ import annotations

from dataclasses import dataclass

from service.store.adoption.table import Column, Connection, Footprint, Obstacle, Table, identifier

TEXTS = frozenset({"text", "varchar", "citext"})
MOMENTS = frozenset({"timestamptz", "timestamp"})
ERROR_CHARACTERS = 1000  # Runway's words are kept in full, and a validation error can be long
URL_CHARACTERS = 2000  # signed URLs carry a token
MODEL_CHARACTERS = 40
UUID_CHARACTERS = 36
MOVE_OVER = "the app's must be called something else, in its code too"
UUID_FORM = "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"


@dataclass(frozen=True)
class Rule:
    """What a column that Taxiway shares with the app must be able to hold."""

    types: frozenset[str]
    target: str
    convertible: frozenset[str] = frozenset()  # other types whose values survive the change to `target`
    width: int = 0
    emptied: bool = False  # Taxiway writes NULL into it


RULES = {
    "error_message": Rule(TEXTS, "text", frozenset({"bpchar"}), ERROR_CHARACTERS, emptied=True),
    "runway_video_id": Rule(TEXTS, "text", frozenset({"bpchar", "uuid"}), UUID_CHARACTERS, emptied=True),
    "created_at": Rule(MOMENTS, "timestamptz", frozenset({"date", "text", "varchar"})),
    "updated_at": Rule(MOMENTS, "timestamptz", frozenset({"date", "text", "varchar"})),
    "model": Rule(TEXTS, "text", frozenset({"bpchar"}), MODEL_CHARACTERS),
    "metadata": Rule(frozenset({"jsonb"}), "jsonb", frozenset({"json"})),
    "progress": Rule(frozenset({"float4", "float8", "numeric"}), "real", emptied=True),
    "video_url": Rule(TEXTS, "text", frozenset({"bpchar"}), URL_CHARACTERS, emptied=True),
}


def rename(table: Table, column: str) -> str:
    """The way out for a column that means something else: both keep what they mean."""
    return f"ALTER TABLE {table.name} RENAME COLUMN {identifier(column)} TO {identifier('app_' + column)};"


def column_obstacles(table: Table, footprint: Footprint) -> list[Obstacle]:
    """Columns of the app's that have a name of Taxiway's and another meaning, or are too narrow for it."""
    found = [
        (
            f"the column {name} is the app's own, and Taxiway adds one of that name: {MOVE_OVER}",
            rename(table, name),
        )
        for name in footprint.own_columns
        if name in table.columns
    ]
    for name, rule in RULES.items():
        column = table.columns.get(name)
        if column is not None:
            found += _unfit(table, column, rule)
    return found


def _unfit(table: Table, column: Column, rule: Rule) -> list[Obstacle]:
    alter = f"ALTER TABLE {table.name} ALTER COLUMN {identifier(column.name)}"
    narrow = column.width is not None and column.width < rule.width
    found = []
    if column.base in rule.convertible or (column.base in rule.types and narrow):
        using = f"USING {identifier(column.name)}::{rule.target}"
        why = f"the column {column.name} is {column.type}, and Taxiway needs {rule.target} in it"
        found.append((why, f"{alter} TYPE {rule.target} {using};"))
    elif column.base not in rule.types:
        why = f"the column {column.name} is {column.type}, and Taxiway needs {rule.target} under that name: {MOVE_OVER}"
        return [(why, rename(table, column.name))]
    if rule.emptied and not column.nullable:
        why = f"the column {column.name} is NOT NULL, and Taxiway leaves it empty at times"
        found.append((why, f"{alter} DROP NOT NULL;"))
    return found


# Whether a unique index covers the column alone, for all rows.
UNIQUE = """
    SELECT EXISTS (
        SELECT FROM pg_index
         WHERE indrelid = $1::bigint::oid AND indisunique AND indisvalid AND indpred IS NULL
           AND indnkeyatts = 1 AND indkey[0] = $2::int)
"""


async def key_obstacles(connection: Connection, table: Table) -> list[Obstacle]:
    """`id` must be a uuid that names one row."""
    column = table.columns.get("id")
    alter = f"ALTER TABLE {table.name}"
    if column is None:
        return [("there is no column id", f"{alter} ADD COLUMN id uuid PRIMARY KEY DEFAULT gen_random_uuid();")]
    if column.base != "uuid":
        return [await _wrong_key_type(connection, table, column)]
    found = []
    if column.nullable:
        fill = f"UPDATE {table.name} SET id = gen_random_uuid() WHERE id IS NULL;"
        found.append(("the column id may be NULL", f"{fill}\n{alter} ALTER COLUMN id SET NOT NULL;"))
    if not await connection.fetchval(UNIQUE, table.oid, column.number):
        found.append(("nothing makes the column id unique", f"{alter} ADD UNIQUE (id);"))
    return found


async def _wrong_key_type(connection: Connection, table: Table, column: Column) -> Obstacle:
    why = f"the column id is {column.type}, and Taxiway needs uuid"
    alter = f"ALTER TABLE {table.name}"
    odd = f"SELECT EXISTS (SELECT FROM {table.name} WHERE id IS NULL OR id::text !~ '{UUID_FORM}')"
    if column.base in {"text", "varchar", "bpchar"} and table.readable and not await connection.fetchval(odd):
        return (
            f"{why}: its values allow it (columns that refer to it must change with it)",
            f"{alter} ALTER COLUMN id DROP DEFAULT, ALTER COLUMN id TYPE uuid USING id::uuid, "
            f"ALTER COLUMN id SET DEFAULT gen_random_uuid();",
        )
    return (
        f"{why}: {MOVE_OVER}",
        f"{rename(table, 'id')}\n{alter} ADD COLUMN id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid();",
    )


# Relations that have a name of ours, where ours will be made.
TAKEN = """
    SELECT c.relname::text AS name, c.relkind IN ('i', 'I') AS is_index,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS full_name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relname = ANY($2::text[])
        OR n.nspname = ANY($3::text[]) AND c.relname = ANY($4::text[])
     ORDER BY c.relname
"""


async def name_obstacles(connection: Connection, schemas: list[str], footprint: Footprint) -> list[Obstacle]:
    """Tables and indexes of the app's that have a name of ours.

    `schemas`: where ours will be made, the tables in the first, the indexes beside their tables in any.
    """
    tables = [name for name in footprint.tables if name != "videos"]
    rows = await connection.fetch(TAKEN, next(iter(schemas), None), tables, schemas, list(footprint.indexes))
    found = [
        (
            f"there is an index {row['full_name']} already, and Taxiway needs the name",
            f"ALTER INDEX {row['full_name']} RENAME TO {identifier('app_' + row['name'])};",
        )
        for row in rows
        if row["is_index"]
    ]
    taken = [row["full_name"] for row in rows if not row["is_index"]]
    return found + ([await _own_schema(connection, taken)] if taken else [])


async def _own_schema(connection: Connection, tables: list[str]) -> Obstacle:
    role = await connection.fetchval("SELECT quote_ident(current_user)")
    why = (
        f"the app has {', '.join(tables)} of its own, and Taxiway needs the name: make a schema for Taxiway "
        f"and put search_path=taxiway,{tables[0].partition('.')[0]} into the query of its DATABASE_URL"
    )
    return why, f"CREATE SCHEMA taxiway AUTHORIZATION {role};"


# Constraints of the table that have a name of ours.
TAKEN_CONSTRAINTS = """
    SELECT conname::text FROM pg_constraint
     WHERE conrelid = $1::bigint::oid AND conname = ANY($2::text[]) ORDER BY conname
"""


async def constraint_name_obstacles(connection: Connection, table: Table, footprint: Footprint) -> list[Obstacle]:
    """Constraints of the app's on `videos` that have a name of ours."""
    rows = await connection.fetch(TAKEN_CONSTRAINTS, table.oid, list(footprint.constraints))
    return [
        (
            f"there is a constraint {row['conname']} on {table.name} already, and Taxiway needs the name",
            f"ALTER TABLE {table.name} RENAME CONSTRAINT {row['conname']} TO app_{row['conname']};",
        )
        for row in rows
    ]
