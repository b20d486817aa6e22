"""Whether the table lets a video through all of its states. Types and CHECKs are tried out, not read."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from service.store.adoption.columns import ERROR_CHARACTERS, TEXTS, rename
from service.store.adoption.table import Column, Connection, Obstacle, Table, identifier, literal
from service.videos import Status

STATES = tuple(status.value for status in Status)


async def status_obstacles(connection: Connection, table: Table) -> list[Obstacle]:
    """What the column's type and the table's CHECKs say to every state that Taxiway writes."""
    column = table.columns.get("status")
    if column is None:
        return []
    refused = [state for state in STATES if not await _holds(connection, column, state)]
    found = []
    if refused or column.base == "bpchar":  # char(n) gives values back with blanks at the end
        words = f"cannot hold {', '.join(refused)}" if refused else "pads what it holds"
        why = f"the column status is {column.type}, which {words}"
        found.append((why, await _wider_type(connection, table, column, refused)))
    found += await _assignment_obstacles(connection, table)
    return found + await _check_obstacles(connection, table, frozenset(STATES) - frozenset(refused))


# The enum of the column, and whether text can be written into it.
ENUM = """
    SELECT format_type(e.oid, NULL) AS name, pg_has_role(e.typowner, 'USAGE') AS mine,
           EXISTS (SELECT FROM pg_cast WHERE castsource = 'text'::regtype AND casttarget = e.oid
                                         AND castcontext <> 'e') AS writable
      FROM pg_attribute a
      JOIN pg_type e ON e.oid = a.atttypid AND e.typtype = 'e'
     WHERE a.attrelid = $1::bigint::oid AND a.attname = 'status'
"""
CREATE_CAST = "CREATE CAST (text AS {}) WITH INOUT AS ASSIGNMENT;"


async def make_writable(connection: Connection, table: Table) -> str | None:
    """Let text be written into a status that is an enum: Taxiway's statements work for any table.

    The enum for which a cast had to be made, if any.
    """
    enum = await connection.fetchrow(ENUM, table.oid)
    if enum is None or enum["writable"]:
        return None
    await connection.execute(CREATE_CAST.format(enum["name"]))
    return str(enum["name"])


async def _assignment_obstacles(connection: Connection, table: Table) -> list[Obstacle]:
    enum = await connection.fetchrow(ENUM, table.oid)
    if enum is None or enum["writable"] or enum["mine"]:
        return []
    why = f"the type {enum['name']} of the column status belongs to another role, and needs a cast from text"
    return [(why, CREATE_CAST.format(enum["name"]))]


async def _holds(connection: Connection, column: Column, state: str) -> bool:
    try:
        async with connection.transaction():
            value = f"CAST({literal(state)} AS {column.type})"
            # Statements compare it with a literal, which a domain over an enum does not allow.
            kept = await connection.fetchval(f"SELECT CASE WHEN {value} = {literal(state)} THEN {value}::text END")
    except asyncpg.PostgresError:
        return False
    return bool(kept == state)


async def _wider_type(connection: Connection, table: Table, column: Column, refused: list[str]) -> str:
    if column.kind == "e":
        return "\n".join(f"ALTER TYPE {column.type} ADD VALUE IF NOT EXISTS {literal(state)};" for state in refused)
    if column.kind == "d" and column.base in TEXTS and column.width is None:
        return await _wider_domain(connection, column, refused)
    if column.kind in {"d", "e"} or column.base in {*TEXTS, "bpchar"}:
        return f"ALTER TABLE {table.name} ALTER COLUMN status TYPE text USING status::text;"
    return rename(table, "status")


# The CHECKs of a domain.
DOMAIN_CHECKS = """
    SELECT quote_ident(conname) AS name, pg_get_expr(conbin, 0) AS expression FROM pg_constraint
     WHERE contypid = to_regtype($1::text) AND contype = 'c' ORDER BY conname
"""


async def _wider_domain(connection: Connection, column: Column, refused: list[str]) -> str:
    also = f"VALUE IN ({', '.join(map(literal, refused))})"
    return "\n".join(
        f"ALTER DOMAIN {column.type} DROP CONSTRAINT {row['name']};\n"
        f"ALTER DOMAIN {column.type} ADD CONSTRAINT {row['name']} CHECK (({row['expression']}) OR {also});"
        for row in await connection.fetch(DOMAIN_CHECKS, column.type)
    )


@dataclass(frozen=True)
class Sample:
    """The values that Taxiway writes as a video reaches a state; what is not named is empty."""

    state: str
    values: dict[str, str]


_TASK = {"runway_video_id": "6f9a1c3e-2b47-4d58-9e06-1c2d3e4f5a6b"}
_ASKED = {"prompt": "A plane waits for the runway", "image_url": "https://example.com/plane.png"}
SAMPLES = (
    Sample(Status.QUEUED.value, {}),
    Sample(Status.PROCESSING.value, {}),  # between the claim and Runway's answer
    Sample(Status.PROCESSING.value, _TASK),
    Sample(Status.COMPLETED.value, {**_TASK, "video_url": "https://example.com/plane.mp4", "progress": "1"}),
    Sample(Status.FAILED.value, {"error_message": "x" * ERROR_CHARACTERS}),
    Sample(Status.FAILED.value, {**_TASK, "error_message": "Runway failed"}),
    Sample(Status.CANCELLED.value, {}),
)
# Only the app knows what its other columns hold, so CHECKs that look at those are not tried.
KNOWN = frozenset({"status", "error_message", "video_url", "progress", *_TASK, *_ASKED})

# The table's CHECKs; a NOT VALID one still judges every row that is written.
CHECKS = """
    SELECT quote_ident(conname) AS name, pg_get_expr(conbin, conrelid) AS expression, convalidated AS valid,
           ARRAY(SELECT attname::text FROM pg_attribute
                  WHERE attrelid = conrelid AND attnum = ANY(conkey)) AS columns
      FROM pg_constraint
     WHERE conrelid = $1::bigint::oid AND contype = 'c' ORDER BY conname
"""


async def _check_obstacles(connection: Connection, table: Table, holdable: frozenset[str]) -> list[Obstacle]:
    found = []
    for check in await connection.fetch(CHECKS, table.oid):
        if not KNOWN.issuperset(check["columns"]):
            continue
        columns = [table.columns[name] for name in check["columns"]]
        tried = [sample for sample in SAMPLES if sample.state in holdable]
        refused = [s.state for s in tried if await _refuses(connection, check["expression"], columns, s)]
        if refused:
            found.append(_loosened(table, check, list(dict.fromkeys(refused))))
    return found


def _loosened(table: Table, check: asyncpg.Record, states: list[str]) -> Obstacle:
    name = check["name"]
    wider = f"CHECK (({check['expression']}) OR status IN ({', '.join(map(literal, states))}))"
    as_before = "" if check["valid"] else " NOT VALID"
    return (
        f"the constraint {name} on {table.name} refuses what Taxiway writes: {', '.join(states)}",
        f"ALTER TABLE {table.name} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {wider}{as_before};",
    )


async def _refuses(connection: Connection, expression: str, columns: list[Column], sample: Sample) -> bool:
    values = {**_ASKED, **sample.values, "status": sample.state}
    row = ", ".join(_cast(column, values.get(column.name)) for column in columns)
    try:
        async with connection.transaction():
            verdict = await connection.fetchval(f"SELECT ({expression}) FROM (SELECT {row}) AS videos")
    except asyncpg.PostgresError:
        return False  # the sample does not fit the column's type, which is an obstacle of its own
    return verdict is False


def _cast(column: Column, value: str | None) -> str:
    # Without its width: a value cut to fit varchar(n) would be judged for what it is not.
    wide = "text" if column.base in {"text", "varchar", "bpchar"} else column.type
    return f"CAST({'NULL' if value is None else literal(value)} AS {wide}) AS {identifier(column.name)}"
