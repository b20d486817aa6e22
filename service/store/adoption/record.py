"""What was there before the first migration: written down in its transaction, so that it can be undone exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from service.store.adoption.table import Connection

TABLES = ("taxiway_adoption", "taxiway_adopted_rows")

# The names that `videos` had before; table is null where there was none. Names are as the catalogue has them, but
# for schema, table and cast, which are quoted and ready for SQL.
SNAPSHOT = """
    SELECT jsonb_build_object(
        'schema', quote_ident(current_schema()),
        'table', (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
                    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('videos')),
        'columns', (SELECT COALESCE(jsonb_agg(attname::text ORDER BY attnum), '[]') FROM pg_attribute
                     WHERE attrelid = to_regclass('videos') AND attnum > 0 AND NOT attisdropped),
        'constraints', (SELECT COALESCE(jsonb_agg(conname::text ORDER BY conname), '[]') FROM pg_constraint
                         WHERE conrelid = to_regclass('videos')),
        'indexes', (SELECT COALESCE(jsonb_agg(c.relname::text ORDER BY c.relname), '[]')
                      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                     WHERE i.indrelid = to_regclass('videos')))
"""
# One row in the first; in the second, every row that the takeover writes to: what it wrote over, and whether it stood
# at processing without a task.
CREATE = """
    CREATE TABLE taxiway_adoption (
        adopted_at  timestamptz NOT NULL DEFAULT now(),
        was         jsonb       NOT NULL);
    CREATE TABLE taxiway_adopted_rows (
        video_id    uuid        PRIMARY KEY,
        stuck       boolean     NOT NULL,
        was         jsonb       NOT NULL);
"""
WRITE = "INSERT INTO taxiway_adoption (was) VALUES ($1::jsonb)"
EXISTS = "SELECT to_regclass('taxiway_adoption') IS NOT NULL"
READ = "SELECT adopted_at, was FROM taxiway_adoption"


@dataclass(frozen=True)
class Before:
    """What `videos` was before Taxiway. `table` is None where there was none; `cast`: the enum that got a cast."""

    adopted_at: datetime
    schema: str
    table: str | None
    columns: tuple[str, ...]
    constraints: tuple[str, ...]
    indexes: tuple[str, ...]
    cast: str | None

    @classmethod
    def of(cls, adopted_at: datetime, was: str) -> Self:
        """From the row of taxiway_adoption."""
        told = json.loads(was)
        lists = {name: tuple(told[name]) for name in ("columns", "constraints", "indexes")}
        return cls(adopted_at=adopted_at, schema=told["schema"], table=told["table"], cast=told["cast"], **lists)


async def snapshot(connection: Connection) -> str:
    """What is there now, as `write` takes it."""
    was: str = await connection.fetchval(SNAPSHOT)
    return was


async def write(connection: Connection, was: str, cast: str | None) -> None:
    """Keep a snapshot, and the cast that was made since."""
    await connection.execute(CREATE)
    await connection.execute(WRITE, json.dumps(json.loads(was) | {"cast": cast}))


async def read(connection: Connection) -> Before | None:
    """What was there before; None where nobody wrote it down."""
    if not await connection.fetchval(EXISTS):
        return None
    row = await connection.fetchrow(READ)
    return None if row is None else Before.of(row["adopted_at"], row["was"])
