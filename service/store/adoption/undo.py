"""The way back: removes from a database what Taxiway added to it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from service.store.adoption import record
from service.store.adoption.mend import LEDGER_NOTE
from service.store.adoption.table import Connection, Footprint, Obstacle, identifier

NOBODY = "Taxiway has not taken over this database: there is nothing to undo"
NO_RECORD = "this database was migrated by a version of Taxiway that wrote down nothing of what was there before"


@dataclass(frozen=True)
class Undo:
    """What the way back would do. `columns`: the rows that have a value in each; `open`, `under_way`: submissions."""

    adopted_at: datetime
    schema: str
    table: str
    drops_table: bool  # Taxiway made it, and it is empty
    columns: dict[str, int]
    constraints: tuple[str, ...]
    indexes: tuple[str, ...]
    tables: tuple[str, ...]  # qualified
    cast: str | None
    restored: int  # mended rows that are put back to what they were
    moved_on: int  # mended rows that have become something else since, and stay so
    submissions: int
    queued: int
    open: int
    under_way: int

    @property
    def obstacles(self) -> list[Obstacle]:
        """What is still going on, and would be forgotten."""
        found = []
        if self.open:
            found.append(f"{self.open} requests to Runway are open: wait until a tick has written down their answers")
        if self.under_way:
            found.append(f"{self.under_way} tasks are under way at Runway: wait until they end, or cancel their videos")
        return [(f"{why}. --force forgets them: they may cost, and nobody fetches what they make", "") for why in found]


# Names that are on `videos` now.
COLUMNS = """
    SELECT attname::text AS name, attnotnull AS full FROM pg_attribute
     WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
CONSTRAINTS = "SELECT conname::text AS name FROM pg_constraint WHERE conrelid = $1::text::regclass ORDER BY conname"
INDEXES = """
    SELECT c.relname::text AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
     WHERE i.indrelid = $1::text::regclass ORDER BY c.relname
"""
# Of these tables, in this schema, those that exist.
TABLES = """
    SELECT $1 || '.' || quote_ident(name) AS name FROM jsonb_array_elements_text($2::jsonb) AS name
     WHERE to_regclass($1 || '.' || quote_ident(name)) IS NOT NULL
"""
# What is to be known before anything is forgotten.
COUNTS = """
    SELECT count(*) AS submissions, count(*) FILTER (WHERE outcome IS NULL) AS open,
           count(*) FILTER (WHERE outcome = 'accepted' AND settled_at IS NULL) AS under_way,
           (SELECT count(*) FROM {table} WHERE status::text = 'queued') AS queued,
           (SELECT count(*) FROM {table}) AS videos
      FROM {schema}.submissions
"""

# A row `v` that is still what the takeover made of it (`r`): nothing was sent for it since, or its task goes on.
_UNTOUCHED = """
    CASE WHEN r.stuck
         THEN (v.status::text = 'queued' OR v.status::text = 'failed' AND v.error_code = 'SUBMISSION_UNKNOWN')
              AND NOT EXISTS (SELECT FROM {schema}.submissions s
                               WHERE s.video_id = v.id AND s.error IS DISTINCT FROM $1)
         ELSE v.status::text = 'processing' AND v.runway_video_id = r.was ->> 'runway_video_id' END
"""
MENDED = f"""
    SELECT count(*) FILTER (WHERE {_UNTOUCHED}) AS restored, count(*) FILTER (WHERE NOT {_UNTOUCHED}) AS moved_on
      FROM {{schema}}.taxiway_adopted_rows r JOIN {{table}} v ON v.id = r.video_id
"""
RESTORE = f"""
    UPDATE {{table}} v SET status = w.status, error_message = w.error_message,
           runway_video_id = w.runway_video_id, updated_at = w.updated_at
      FROM {{schema}}.taxiway_adopted_rows r
     CROSS JOIN LATERAL jsonb_populate_record(NULL::{{table}}, r.was) w
     WHERE v.id = r.video_id AND {_UNTOUCHED}
"""

# The app's triggers, such as one that moves updated_at, must not fire for rows that are put back to what they were.
TRIGGERS = """
    SELECT quote_ident(tgname) AS name,
           CASE tgenabled WHEN 'R' THEN 'REPLICA ' WHEN 'A' THEN 'ALWAYS ' ELSE '' END AS kind
      FROM pg_trigger WHERE tgrelid = $1::text::regclass AND NOT tgisinternal AND tgenabled <> 'D'
"""


async def survey(connection: Connection, footprint: Footprint) -> Undo | str:
    """What the way back would do; or, in words, why there is none."""
    before = await record.read(connection)
    if before is None:
        known = await connection.fetchval("SELECT to_regclass('taxiway_migrations') IS NOT NULL")
        return NO_RECORD if known else NOBODY
    table = before.table or f"{before.schema}.videos"
    names = {"table": table, "schema": before.schema}
    counts = await connection.fetchrow(COUNTS.format(**names))
    mended = await connection.fetchrow(MENDED.format(**names), LEDGER_NOTE)
    assert counts is not None  # noqa: S101  # an aggregate has one row
    assert mended is not None  # noqa: S101  # so has this one
    if before.table is None and counts["videos"]:
        return f"Taxiway made {table} itself, and it has {counts['videos']} videos: there is nothing to go back to"
    own = [*(name for name in footprint.tables if name != "videos"), "taxiway_migrations", *record.TABLES]
    tables = await connection.fetch(TABLES, before.schema, _as_json(own))
    return Undo(
        adopted_at=before.adopted_at, schema=before.schema, table=table, drops_table=before.table is None,
        columns=await _columns(connection, table, [n for n in footprint.columns if n not in before.columns]),
        constraints=await _added(connection, CONSTRAINTS, table, footprint.constraints, before.constraints),
        indexes=await _added(connection, INDEXES, table, footprint.indexes, before.indexes),
        tables=tuple(row["name"] for row in tables), cast=before.cast, **dict(mended),
        **{name: counts[name] for name in ("submissions", "queued", "open", "under_way")},
    )  # fmt: skip


async def _added(
    connection: Connection, sql: str, table: str, ours: tuple[str, ...], before: tuple[str, ...]
) -> tuple[str, ...]:
    names = [row["name"] for row in await connection.fetch(sql, table)]
    return tuple(name for name in names if name in ours and name not in before)


async def _columns(connection: Connection, table: str, added: list[str]) -> dict[str, int]:
    there = {row["name"]: row["full"] for row in await connection.fetch(COLUMNS, table)}
    names = [name for name in added if name in there]
    values = [name for name in names if not there[name]]
    counts = {}
    if values:
        row = await connection.fetchrow(f"SELECT {', '.join(f'count({identifier(n)})' for n in values)} FROM {table}")
        assert row is not None  # noqa: S101  # an aggregate has one row
        counts = dict(zip(values, row, strict=True))
    return {name: counts.get(name, 0) for name in names}


def _as_json(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


async def take_back(connection: Connection, undo: Undo) -> None:
    """Do what `survey` said, in the caller's transaction."""
    table = undo.table
    # The open submissions go first: `videos_never_stuck` would refuse the rows as they were.
    await _alter(connection, table, [f"DROP CONSTRAINT {identifier(name)}" for name in undo.constraints])
    triggers = await connection.fetch(TRIGGERS, table)
    await _alter(connection, table, [f"DISABLE TRIGGER {one['name']}" for one in triggers])
    await connection.execute(RESTORE.format(table=table, schema=undo.schema), LEDGER_NOTE)
    await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    await _alter(connection, table, [f"ENABLE {one['kind']}TRIGGER {one['name']}" for one in triggers])
    schema = table.rpartition(".")[0]
    if undo.indexes:
        await connection.execute(f"DROP INDEX {', '.join(f'{schema}.{identifier(name)}' for name in undo.indexes)}")
    await _alter(connection, table, [f"DROP COLUMN {identifier(name)}" for name in undo.columns])
    if undo.cast:
        await connection.execute(f"DROP CAST IF EXISTS (text AS {undo.cast})")
    await connection.execute(f"DROP TABLE {', '.join([*undo.tables, *([table] if undo.drops_table else [])])}")


async def _alter(connection: Connection, table: str, changes: list[str]) -> None:
    if changes:
        await connection.execute(f"ALTER TABLE {table} {', '.join(changes)}")
