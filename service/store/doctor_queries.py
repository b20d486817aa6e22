"""Statements of `taxiway doctor`: what the server says of itself, and the rhythm of the ticks."""

from __future__ import annotations

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


_MISSING_RIGHTS = """
SELECT wanted || ' on ' || name AS missing
FROM unnest(ARRAY['videos', 'submissions', 'models', 'inbox', 'ticks', 'maintenance', 'search', 'events', 'links',
    'rows',
                  'mirror_queue']) AS name,
     unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted
WHERE NOT has_table_privilege('taxiway.' || name, wanted)
ORDER BY name, wanted
"""


async def missing_rights(database: Database) -> list[str]:
    """What this role may not do and would have to, such as `INSERT on videos`."""
    return [row["missing"] for row in await database.fetch(_MISSING_RIGHTS)]


# A poll alone sends nothing: a second cron that only polls must not hide that the first has stopped.
_RECENT = """
SELECT kind, error, extract(epoch FROM now() - started_at)::float8 AS began_seconds_ago
FROM taxiway.ticks WHERE kind <> 'poll' ORDER BY id DESC LIMIT $1
"""


async def recent_ticks(database: Database) -> list[dict[str, Any]]:
    """The last ticks that could send something, newest first: kind, error, began_seconds_ago."""
    return [dict(row) for row in await database.fetch(_RECENT, RECENT_TICKS)]
