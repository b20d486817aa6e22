"""Statements on `taxiway.links`: the linked tables and how they stand, in one look, and what is noted of them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import asyncpg

from service.link_mapping import Column, Link, Mapping
from service.logs import VIDEO, event
from service.store import link_statements
from service.store.database import Database
from service.store.link_catalogue import COLUMNS, FoundTable, column_of
from service.store.link_fit import judge
from service.store.linked_table import LinkedTable

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # for one statement that reads an app's table: an ALTER TABLE may hold it for hours
ANSWER_SECONDS = 1.0  # for one that reads no row of it
PAUSE_SECONDS = 60.0  # until a table that does not fit, or cannot be read, is tried again
ROLE = "taxiway_link_{id}"  # of one link, if the operator made it: may touch that table and nothing else

# Every link that is at work, with its table as the catalogue has it: by name, else by oid. Nothing here takes a lock on
# an app's table. A paused link is tried again when it is due; one that waits for the operator never is.
_OPEN = f"""
SELECT l.id, l.schema_name, l.table_name, l.table_oid::bigint AS table_oid, l.mapping, l.columns AS known, l.state,
       l.reason, l.seen_until, l.sweep_seconds, l.sweep_due <= taxiway.now() AS sweep_is_due,
       l.look_due <= taxiway.now() AS look_is_due,
       EXISTS (SELECT FROM taxiway.mirror_queue q WHERE q.link_id = l.id)
       OR EXISTS (SELECT FROM taxiway.rows r WHERE r.due_at <= taxiway.now() AND r.link_id = l.id) AS is_behind,
       (SELECT rolname FROM pg_roles
        WHERE rolname = 'taxiway_link_' || l.id AND pg_has_role(oid, 'MEMBER')) AS role,
       EXISTS (SELECT FROM taxiway.rows r WHERE r.video_id IS NULL AND r.link_id = l.id) AS has_left_alone, t.*
FROM taxiway.links l LEFT JOIN LATERAL (
    SELECT c.oid::bigint AS oid, n.nspname::text AS found_schema, c.relname::text AS found_table,
           quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS sql_name,
           c.relkind::text AS kind, row_security_active(c.oid) AS is_secured,
           ({
    COLUMNS.format(
        which="(a.attname IN (SELECT value ->> 'name' FROM jsonb_each(l.columns)) "
        "OR a.attnum IN (SELECT (value ->> 'attnum')::int FROM jsonb_each(l.columns)))"
    )
}) AS columns,
           (SELECT array_agg(i.indkey[0]::int) FROM pg_index i
            WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL) AS indexed,
           EXISTS (SELECT FROM pg_depend d JOIN pg_index i ON i.indexrelid = d.objid
                   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                     AND d.refobjsubid = (l.columns -> 'status' ->> 'attnum')::int
                     AND i.indisvalid AND i.indpred IS NOT NULL) AS has_partial_index,
           GREATEST(c.relpages, (SELECT sum(p.relpages) FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhrelid
                                 WHERE h.inhparent = c.oid), 0)::int AS pages
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = COALESCE((SELECT named.oid FROM pg_class named JOIN pg_namespace s ON s.oid = named.relnamespace
                            WHERE s.nspname = l.schema_name AND named.relname = l.table_name), l.table_oid)
) AS t ON true
WHERE l.state IN ('open', 'closing') OR l.state = 'paused' AND l.look_due <= taxiway.now()
ORDER BY l.id
"""
_PAUSE = """
UPDATE taxiway.links SET state = CASE WHEN state = 'closing' THEN state ELSE 'paused' END, reason = $2,
    look_due = CASE WHEN $3::float8 IS NULL THEN 'infinity' ELSE taxiway.now() + make_interval(secs => $3::float8) END
WHERE id = $1 AND state IN ('open', 'paused', 'closing')
"""
_OPENED = (
    "UPDATE taxiway.links SET state = 'open', reason = NULL "
    "WHERE id = $1 AND state = 'paused' AND look_due <= taxiway.now()"
)
_COLUMNS = "UPDATE taxiway.links SET columns = $2::jsonb WHERE id = $1"


# Classes of SQLSTATE that pass by themselves: the connection, rollbacks, resources, locks, interventions, the system.
PASSING = ("08", "25", "40", "53", "55", "57", "58", "XX")


class TableTrouble(Exception):
    """PostgreSQL refuses a statement on an app's table, or the table is held for too long.

    `sqlstate` is None for a statement that took too long; `is_apps`: code of the app's own (a trigger) raised it.
    """

    def __init__(self, message: str, sqlstate: str | None = None, *, is_apps: bool = False) -> None:
        super().__init__(message)
        self.message, self.sqlstate, self.is_apps = message, sqlstate, is_apps

    @property
    def is_passing(self) -> bool:
        """Whether the same statement may succeed in a moment: a deadlock, a lock, a cancelled statement."""
        return self.sqlstate is not None and self.sqlstate.startswith(PASSING)

    @property
    def is_late(self) -> bool:
        """Whether the statement took too long: because another transaction holds the table, or because it is slow."""
        return self.sqlstate is None

    @property
    def is_of_a_row(self) -> bool:
        """Whether one row may be at fault, and not the statement, the table or the moment."""
        return self.sqlstate is not None and not self.sqlstate.startswith((*PASSING, "42", "0A"))


# The server itself is the trouble, not a table.
_SERVER = (
    asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError, asyncpg.ReadOnlySQLTransactionError,
)  # fmt: skip


def trouble(exc: Exception) -> TableTrouble:
    """What an error of a statement on an app's table says, in PostgreSQL's words. An error of the server is raised."""
    if isinstance(exc, TableTrouble):
        return exc
    if isinstance(exc, TimeoutError):
        return TableTrouble("it did not answer in time: another transaction may hold the table")
    if not isinstance(exc, asyncpg.PostgresError) or isinstance(exc, _SERVER):
        raise exc
    context = str(getattr(exc, "context", None) or "")
    return TableTrouble(str(exc.message or exc), exc.sqlstate, is_apps=bool(context))


async def ask(database: Database, sql: str, *arguments: object, seconds: float = LOOK_SECONDS) -> list[asyncpg.Record]:
    """Read an app's table, for so long at the most. Raises TableTrouble, or DatabaseUnavailable for the server."""
    async with database.connection() as connection:
        try:
            rows: list[asyncpg.Record] = await connection.raw.fetch(sql, *arguments, timeout=seconds)
        except (TimeoutError, asyncpg.PostgresError) as exc:
            raise trouble(exc) from exc
    return rows


async def answers(database: Database, table: LinkedTable) -> bool:
    """Whether the table can be read at this moment: no other transaction holds the whole of it."""
    try:
        await ask(database, link_statements.nothing(table), seconds=ANSWER_SECONDS)
    except TableTrouble:
        return False
    return True


async def open_links(database: Database) -> list[LinkedTable]:
    """Every link at work whose table fits. One that does not is paused, with the reason and what fixes it."""
    tables = []
    for row in await database.fetch(_OPEN):
        link, found = _link(row), _found(row)
        fit = judge(link, found)
        if found is None or fit.reasons:
            await pause(database, link, " ".join(map(str, fit.reasons)))
            continue
        if link.state == "paused":
            await database.execute(_OPENED, link.id)
            event(log, VIDEO, "link_opened", f"The linked table {link.name} fits again", link=link.name)
        if link.columns != fit.columns:
            await database.execute(_COLUMNS, link.id, json.dumps({key: vars(one) for key, one in fit.columns.items()}))
        tables.append(_table(replace(link, columns=fit.columns), found, row))
    return tables


_GATES = "SELECT id, COALESCE((mapping ->> 'gate')::boolean, false) AS is_gated FROM taxiway.links"


async def gates(database: Database) -> dict[int, bool]:
    """Whether each link has a gate."""
    return {row["id"]: row["is_gated"] for row in await database.fetch(_GATES)}


async def pause(database: Database, link: Link, reason: str, *, seconds: float | None = PAUSE_SECONDS) -> None:
    """Leave a link alone, for so long or (None) until the operator decides; say so if the reason is new."""
    await database.execute(_PAUSE, link.id, reason, seconds)
    if reason != link.reason:
        event(log, VIDEO, "link_paused", f"Linked table paused: {reason}", level=logging.ERROR, link=link.name)


def _link(row: asyncpg.Record) -> Link:
    known = {key: Column(**value) for key, value in json.loads(row["known"]).items()}
    return Link(
        id=row["id"], schema_name=row["schema_name"], table_name=row["table_name"], table_oid=row["table_oid"],
        mapping=Mapping.model_validate_json(row["mapping"]), columns=known, state=row["state"], reason=row["reason"],
    )  # fmt: skip


def _found(row: asyncpg.Record) -> FoundTable | None:
    if row["oid"] is None:
        return None
    columns = tuple(map(column_of, json.loads(row["columns"] or "[]")))
    return FoundTable(
        oid=row["oid"], schema_name=row["found_schema"], table_name=row["found_table"], sql_name=row["sql_name"],
        kind=row["kind"], is_secured=row["is_secured"], columns=columns,
    )  # fmt: skip


def _table(link: Link, found: FoundTable, row: asyncpg.Record) -> LinkedTable:
    leading = set(row["indexed"] or ())
    by_key = {key: column for key, one in link.columns.items() if (column := found.named(one.name)) is not None}
    return LinkedTable(
        link=link, oid=found.oid, kind=found.kind, is_secured=found.is_secured,
        bases={key: column.base for key, column in by_key.items()}, pages=row["pages"],
        indexed=frozenset(key for key, column in by_key.items() if column.attnum in leading), role=row["role"],
        seen_until=row["seen_until"], sweep_seconds=row["sweep_seconds"], sweep_is_due=row["sweep_is_due"],
        look_is_due=row["look_is_due"], is_behind=row["is_behind"], has_left_alone=row["has_left_alone"],
        has_partial_index=row["has_partial_index"],
    )  # fmt: skip


_EVENT = """
INSERT INTO taxiway.events (video_id, kind, actor, detail) SELECT e.video_id, e.kind, $2, e.detail
FROM jsonb_to_recordset($1::jsonb) AS e(video_id uuid, kind text, detail jsonb)
"""


async def note(raw: Any, actor: str, entries: list[dict[str, Any]]) -> None:
    """Append events ({video_id, kind, detail}). `raw`: the database, or a connection inside a transaction."""
    if entries:
        await raw.execute(_EVENT, json.dumps(entries, default=str), actor)
