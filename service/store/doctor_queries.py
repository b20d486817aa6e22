"""Statements of `taxiway doctor`: what the server says of itself, and the rhythm of the ticks."""

from __future__ import annotations

import json
from typing import Any

import asyncpg

from service.store.database import Database

RECENT_TICKS = 50

# TLS is that of the server's own connection: behind a pooler, the one between pooler and server.
_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
       COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS tls,
       current_setting('transaction_read_only') = 'on' AS read_only
"""


async def server(database: Database) -> asyncpg.Record:
    """The server's version (`version` for people, `number` such as 150004), `tls`, `read_only`."""
    row = await database.fetchrow(_SERVER)
    assert row is not None  # noqa: S101  # a SELECT without FROM has one row
    return row


async def clock(database: Database) -> float:
    """The server's time, in seconds since 1970."""
    seconds: float = await database.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    return seconds


# Of every table and function in the schema; by the catalogue, which a role may read that may not use the schema.
_MISSING_RIGHTS = """
SELECT 'USAGE on the schema taxiway' AS missing FROM pg_namespace
WHERE nspname = 'taxiway' AND NOT has_schema_privilege(oid, 'USAGE')
UNION ALL (
    SELECT wanted || ' on ' || c.relname
    FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'taxiway') AND c.relkind = 'r'
      AND (c.relname <> 'migrations' OR wanted = 'SELECT') AND NOT has_table_privilege(c.oid, wanted)
    ORDER BY c.relname, wanted)
UNION ALL (
    SELECT 'EXECUTE on ' || p.proname FROM pg_proc p
    WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'taxiway')
      AND p.prorettype <> 'trigger'::regtype AND NOT has_function_privilege(p.oid, 'EXECUTE')
    ORDER BY p.proname)
"""


async def missing_rights(database: Database) -> list[str]:
    """What this role may not do and would have to, such as `INSERT on videos`."""
    return [row["missing"] for row in await database.fetch(_MISSING_RIGHTS)]


# What a power cut and a failover would take. Of standbys a role without pg_monitor sees that they are there, no more.
_DURABILITY = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit, quote_ident(current_user) AS role,
       current_setting('synchronous_standby_names') AS synchronous_standby_names,
       (SELECT count(*) FROM pg_stat_replication) AS standbys
"""


async def durability(database: Database) -> dict[str, Any]:
    """The settings that decide what survives, the number of `standbys`, and this connection's `role`."""
    row = await database.fetchrow(_DURABILITY)
    assert row is not None  # noqa: S101  # a SELECT without FROM has one row
    return dict(row)


_IDENTITY = "SELECT taxiway.server_identity()"


async def identity(database: Database) -> dict[str, Any]:
    """What this role can read of which server and database this is: system, timeline, database, submissions."""
    facts: dict[str, Any] = json.loads(await database.fetchval(_IDENTITY))
    return facts


# A poll alone sends nothing: a second cron that only polls must not hide that the first has stopped.
_RECENT = """
SELECT kind, error, extract(epoch FROM taxiway.now() - started_at)::float8 AS began_seconds_ago
FROM taxiway.ticks WHERE kind <> 'poll' ORDER BY id DESC LIMIT $1
"""


async def recent_ticks(database: Database) -> list[dict[str, Any]]:
    """The last ticks that could send something, newest first: kind, error, began_seconds_ago."""
    return [dict(row) for row in await database.fetch(_RECENT, RECENT_TICKS)]


_HAS_LINKS = "SELECT EXISTS (SELECT FROM taxiway.links WHERE state IN ('open', 'paused'))"


async def has_links(database: Database) -> bool:
    """Whether any table of the app's is linked."""
    return bool(await database.fetchval(_HAS_LINKS))
