"""Applies a plan: the link, what was consented to, and what becomes of rows that are there; and the way back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from service.actors import cli_user
from service.errors import Conflict, NotFound
from service.installer import stuck
from service.installer.inspect import Connection, LinkRefused, Table, inspect
from service.installer.plan import Addition, Plan, link_of
from service.installer.survey import parts_of
from service.link_mapping import Column, Link, Mapping
from service.settings import Settings
from service.store.link_closing import close_finished

TURN_KEY = 0x7461_7869_6C69_6E6B  # "taxilink": one link is changed at a time
# While an ALTER TABLE waits for its lock, every query of the app waits behind it: better to give up soon.
LOCK_SECONDS = 5

# The link, new or again: what is known of its rows stays.
SAVE = """
    INSERT INTO taxiway.links (schema_name, table_name, table_oid, mapping, columns, made)
    VALUES ($1, $2, $3::bigint::oid, $4::jsonb, $5::jsonb, $6::jsonb)
    ON CONFLICT (schema_name, table_name) DO UPDATE
       SET table_oid = EXCLUDED.table_oid, mapping = EXCLUDED.mapping, columns = EXCLUDED.columns,
           made = links.made || EXCLUDED.made, state = 'open', reason = NULL,
           linked_at = CASE WHEN links.state IN ('closing', 'closed') THEN taxiway.now() ELSE links.linked_at END,
           seen_until = NULL, sweep_due = taxiway.now(), look_due = taxiway.now()
    RETURNING id
"""
# A link whose table was renamed gets the new name first.
RENAME = "UPDATE taxiway.links SET schema_name = $2, table_name = $3 WHERE id = $1"
HAS_ROWS = "SELECT EXISTS (SELECT FROM taxiway.rows WHERE link_id = $1)"
# Rows that say queued now are known with their word, and so are not taken. One whose video is under way stays as it is.
IGNORE = """
    INSERT INTO taxiway.rows (link_id, app_id, app_word)
    SELECT $1, a.{id}::text, a.{status}::text FROM {table} a WHERE {queued}
    ON CONFLICT (link_id, app_id) DO UPDATE SET app_word = EXCLUDED.app_word
     WHERE rows.app_word IS DISTINCT FROM EXCLUDED.app_word
       AND NOT EXISTS (SELECT FROM taxiway.videos v
                        WHERE v.id = rows.video_id AND v.status IN ('queued', 'processing'))
"""
# Rows that were left alone when the table was linked are new to intake from now on.
TAKE = "DELETE FROM taxiway.rows WHERE link_id = $1 AND video_id IS NULL"
# What was added with consent is remembered, and forgotten again.
FORGET = """
    UPDATE taxiway.links SET made = COALESCE((SELECT jsonb_agg(m) FROM jsonb_array_elements(made) m
                                               WHERE m ->> 'kind' <> 'index' OR m ->> 'name' <> $2), '[]')
     WHERE id = $1
"""

# Every link, with what is queued, under way, behind, refused and left alone.
LIST = """
    SELECT l.id, l.schema_name, l.table_name, l.table_oid::bigint AS table_oid, l.mapping, l.columns, l.state, l.reason,
           l.linked_at, l.made, c.*
      FROM taxiway.links l CROSS JOIN LATERAL (
          SELECT count(*) FILTER (WHERE v.status = 'queued') AS queued,
                 count(*) FILTER (WHERE v.status = 'processing') AS processing,
                 count(*) FILTER (WHERE v.version > r.mirrored_version) AS behind,
                 count(*) FILTER (WHERE v.version > r.mirrored_version AND r.refused_at IS NOT NULL) AS refused,
                 count(*) FILTER (WHERE r.video_id IS NULL) AS left_alone
            FROM taxiway.rows r LEFT JOIN taxiway.videos v ON v.id = r.video_id
           WHERE r.link_id = l.id) c
     ORDER BY l.schema_name, l.table_name
"""
# Intake and gate stop; the mirror goes on until nothing is behind.
CLOSE = "UPDATE taxiway.links SET state = 'closing', reason = NULL WHERE id = $1"
# Cancel what is queued or under way: the video at once, its task at Runway by the cancel step.
CANCEL = """
    WITH asked AS MATERIALIZED (
        SELECT v.id, v.runway_video_id FROM taxiway.videos v
         WHERE v.status IN ('queued', 'processing')
           AND v.id = ANY(ARRAY(SELECT video_id FROM taxiway.rows WHERE link_id = $1))
         ORDER BY v.id FOR UPDATE
    ), due AS (
        UPDATE taxiway.submissions s SET cancel_due = taxiway.now(), cancel_reason = 'cancelled' FROM asked a
         WHERE s.video_id = a.id AND s.task_id = a.runway_video_id AND s.settled_at IS NULL
    ), ended AS (
        UPDATE taxiway.videos v
           SET status = 'cancelled', open_submission_id = NULL, finished_at = taxiway.now(), updated_at = taxiway.now(),
               error_code = NULL, error_message = NULL
          FROM asked a WHERE v.id = a.id RETURNING v.id
    )
    INSERT INTO taxiway.events (video_id, kind, actor, code) SELECT id, 'cancelled', $2, 'unlinked' FROM ended
"""


@dataclass(frozen=True)
class Linked:
    """What linking came to."""

    link_id: int
    name: str
    left_alone: int
    stuck: stuck.Taken
    added: tuple[Addition, ...]
    index_error: str | None = None


@dataclass(frozen=True)
class LinkState:
    """A link with the counts of its rows."""

    link: Link
    made: list[dict[str, Any]]
    queued: int
    processing: int
    behind: int
    refused: int
    left_alone: int

    @property
    def made_columns(self) -> list[str]:
        """Columns that were added with consent: they hold the app's data, and stay."""
        return list(dict.fromkeys(each["name"] for each in self.made if each["kind"] == "column"))

    @property
    def made_indexes(self) -> list[str]:
        """Indexes that were added with consent, quoted and with their schema."""
        return list(dict.fromkeys(each["sql_name"] for each in self.made if each["kind"] == "index"))


@dataclass(frozen=True)
class Unlinked:
    """What unlinking came to. `state`: closed, or closing until nothing is under way or behind."""

    name: str
    state: str
    cancelled: int
    dropped: tuple[str, ...]
    columns: tuple[str, ...]
    left: LinkState = field(repr=False)


@asynccontextmanager
async def _turn(connection: Connection) -> AsyncIterator[None]:
    """One transaction that changes links, or nothing. Raises Conflict if another holds the table."""
    try:
        # Each statement sees what was committed before it, whatever the server's default.
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; SET LOCAL statement_timeout = 0")
            await connection.execute("SET LOCAL synchronous_commit = on")  # what is forgotten may be paid for twice
            await connection.execute(f"SELECT pg_advisory_xact_lock({TURN_KEY})")
            yield
    except asyncpg.LockNotAvailableError as exc:
        raise Conflict(f"another transaction holds the table, and nothing was changed: {exc}") from exc


async def apply(connection: Connection, plan: Plan, settings: Settings) -> Linked:
    """Do what the plan says. Raises LinkRefused, having changed nothing, for a plan with open questions."""
    if plan.mapping is None or plan.questions:
        raise LinkRefused(" ".join(question.shown for question in plan.questions) or "a column or a word is unknown")
    mapping = plan.mapping
    columns = [each for each in plan.additions if each.kind == "column"]
    index = next((each for each in plan.additions if each.kind == "index"), None)
    async with _turn(connection):
        for addition in columns:
            await connection.execute(addition.sql)
        table = await inspect(connection, mapping.table)
        link_id = await _save(connection, plan, table, mapping)
        left_alone = await _existing(connection, plan, table, mapping, link_id)
        taken = stuck.Taken()
        if plan.wishes.stuck != "leave":
            requeue = plan.wishes.stuck == "requeue"
            taken = await stuck.take(connection, table, mapping, link_id, settings, requeue=requeue)
    error = None if index is None else await _create_index(connection, link_id, index, table)
    return Linked(link_id, table.name, left_alone, taken, plan.additions, error)


async def _save(connection: Connection, plan: Plan, table: Table, mapping: Mapping) -> int:
    if table.oid != plan.table.oid:
        raise Conflict(f"{table.name} was made again meanwhile, and nothing was changed: run this again")
    columns = columns_of(table, mapping)
    if plan.link is not None:
        await _keep_key(connection, plan.link, table, columns["id"])
        if (plan.link.schema_name, plan.link.table_name) != (table.schema_name, table.table_name):
            await connection.execute(RENAME, plan.link.id, table.schema_name, table.table_name)
    made = [_remembered(each, table) for each in plan.additions]
    shown = json.dumps({key: vars(column) for key, column in columns.items()})
    link_id: int = await connection.fetchval(
        SAVE, table.schema_name, table.table_name, table.oid, mapping.model_dump_json(), shown, json.dumps(made)
    )
    return link_id


def columns_of(table: Table, mapping: Mapping) -> dict[str, Column]:
    """The mapped columns as they are now, by key, and `id`."""
    names = {"id": mapping.id} | mapping.columns
    found = {key: table.columns[name] for key, name in names.items()}
    return {key: Column(column.name, column.attnum, column.type) for key, column in found.items()}


async def _keep_key(connection: Connection, link: Link, table: Table, key: Column) -> None:
    """Rows are known by their key: another one would forget them all, and pay for them again."""
    before = link.columns["id"]
    same = key.name == before.name or (table.oid == link.table_oid and key.attnum == before.attnum)
    if not same and await connection.fetchval(HAS_ROWS, link.id):
        raise LinkRefused(
            f"the rows of {link.name} are known by the column {before.name}, and would be paid for again "
            f"under {key.name}: keep it with --column id={before.name}"
        )


async def _existing(connection: Connection, plan: Plan, table: Table, mapping: Mapping, link_id: int) -> int:
    """Rows that say queued already: left alone unless they are taken with consent. How many are left alone."""
    if mapping.existing == "take":
        await connection.execute(TAKE, link_id)
    elif plan.asks_existing:
        return _count(await connection.execute(IGNORE.format(**parts_of(table, mapping)), link_id))
    return 0


def _remembered(addition: Addition, table: Table) -> dict[str, str]:
    return {"kind": addition.kind, "name": addition.name, "sql_name": f"{table.schema_sql}.{addition.sql_name}"}


async def _create_index(connection: Connection, link_id: int, index: Addition, table: Table) -> str | None:
    """Outside of a transaction, without a lock that the app would wait for. Returns PostgreSQL's words if it fails."""
    try:
        await connection.execute(index.sql, timeout=None)
    except asyncpg.PostgresError as exc:
        left = await _drop_invalid(connection, exc, _remembered(index, table)["sql_name"])
        if left is None:
            await connection.execute(FORGET, link_id, index.name)
        return f"{exc}{left or ''}"
    return None


async def _drop_invalid(connection: Connection, exc: asyncpg.PostgresError, name: str) -> str | None:
    """Drop what is left of an index that failed: it is invalid, and would only cost writes. Words if it stays."""
    if isinstance(exc, asyncpg.DuplicateTableError):
        return None  # something of that name was there, and is not ours
    try:
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", timeout=None)
    except asyncpg.PostgresError as second:
        return f"; an invalid index is left ({second}): DROP INDEX CONCURRENTLY {name}"
    return None


async def links(connection: Connection) -> list[LinkState]:
    """Every link, also those that were undone."""
    return [_state(dict(row)) for row in await connection.fetch(LIST)]


def _state(row: dict[str, Any]) -> LinkState:
    counts = {key: row[key] for key in ("queued", "processing", "behind", "refused", "left_alone")}
    keys = ("id", "schema_name", "table_name", "table_oid", "mapping", "columns", "state", "reason")
    return LinkState(link_of({key: row[key] for key in keys}), json.loads(row["made"]), **counts)


async def find(connection: Connection, wanted: str) -> LinkState:
    """The link of this name: `videos`, `app.videos`, as it is shown or quoted. Raises NotFound."""
    known = await links(connection)
    for names in (lambda link: (link.name, link.mapping.table), lambda link: (link.table_name,)):
        found = [state for state in known if wanted in names(state.link)]
        if len(found) == 1:
            return found[0]
    listed = ", ".join(state.link.name for state in known) or "none"
    raise NotFound(f"no link is called {wanted}; there is {listed}")


async def unlink(connection: Connection, wanted: str, *, cancel: bool) -> Unlinked:
    """Undo a link: nothing new is taken, what is under way is finished or (`cancel`) cancelled, then it closes.

    What is known of the rows stays, so that a table which is linked again pays for none of them twice. Raises
    NotFound and Conflict.
    """
    async with _turn(connection):
        state = await find(connection, wanted)
        if state.link.state == "closed":
            raise Conflict(f"{state.link.name} is not linked any more")
        await connection.execute(CLOSE, state.link.id)
        cancelled = _count(await connection.execute(CANCEL, state.link.id, cli_user())) if cancel else 0
        await close_finished(connection)
    dropped = []
    for index in state.made_indexes:
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}", timeout=None)
        await connection.execute(FORGET, state.link.id, index.rpartition(".")[2].strip('"'))
        dropped.append(index)
    after = next(each for each in await links(connection) if each.link.id == state.link.id)
    return Unlinked(
        after.link.name, after.link.state, cancelled, tuple(dropped), tuple(after.made_columns), after
    )  # fmt: skip


def _count(status: str) -> int:
    return int(status.rpartition(" ")[2])
