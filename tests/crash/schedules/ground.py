"""A database with a clock that can be turned: `taxiway.now()` and `gen_random_uuid()` are the simulation's own.

The product writes the second without a schema, so the first of the search_path wins, and `sim` stands there before
`pg_catalog`. Columns' defaults were resolved when they were made: they are replaced.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

from tests.database import TABLES, connected

if TYPE_CHECKING:
    from tests.database import Connection

BEGINNING = 1_790_000_000.0  # Unix seconds at which every schedule begins
SEARCH_PATH = "sim, pg_catalog, public"

_INSTALL = """
CREATE SCHEMA sim;
CREATE SEQUENCE sim.ids;
CREATE OR REPLACE FUNCTION taxiway.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    $$SELECT pg_catalog.current_setting('sim.now')::timestamptz$$;
CREATE FUNCTION sim.gen_random_uuid() RETURNS uuid LANGUAGE sql VOLATILE AS
    $$SELECT pg_catalog.md5(pg_catalog.nextval('sim.ids')::text)::uuid$$;
DO $$
DECLARE place record;
BEGIN
    FOR place IN
        SELECT c.oid::regclass AS relation, a.attname AS name, pg_get_expr(d.adbin, d.adrelid) AS was
        FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum
        WHERE n.nspname = 'taxiway' AND pg_get_expr(d.adbin, d.adrelid) = 'gen_random_uuid()'
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER %I SET DEFAULT sim.%s', place.relation, place.name, place.was);
    END LOOP;
END $$;
"""
# Emptied by DELETE: TRUNCATE would throw away every plan that the connections keep, and costs more than a schedule.
_FORGET = f"""
{" ".join(f"DELETE FROM {table};" for table in TABLES.split(", "))}
SELECT setval(c.oid, 1, false) FROM pg_class c
WHERE relkind = 'S' AND (relnamespace = 'sim'::regnamespace OR relnamespace = 'taxiway'::regnamespace);
UPDATE taxiway.maintenance SET taken_at = NULL, facts = CASE WHEN name LIKE '%_walk' THEN facts END,
    due_at = CASE WHEN name = 'counts' THEN taxiway.now() + interval '30 seconds' ELSE 'infinity' END
"""


async def install(url: str) -> None:
    """Put the clock into a migrated database."""
    async with connected(url) as connection:
        await connection.execute(_INSTALL)


async def connect(url: str) -> Connection:
    """A connection for which time is what `set_time` says."""
    settings = {"search_path": SEARCH_PATH, "sim.now": at(0.0)}
    # 0: for ever. Else each statement would set a timer in the loop, and time would stop there.
    return await asyncpg.connect(url, server_settings=settings, max_cached_statement_lifetime=0)


def at(seconds: float) -> str:
    """A moment of the simulation as PostgreSQL reads it."""
    return datetime.fromtimestamp(BEGINNING + seconds, UTC).isoformat(timespec="microseconds")


def setting_time(seconds: float) -> str:
    """The statement that turns one connection's clock; in a transaction, where time stands still, it is not run."""
    return f"SET sim.now = '{at(seconds)}'"


async def forget(connection: Connection) -> None:
    """Begin again, with every sequence."""
    await connection.execute(setting_time(0.0))
    await connection.execute(_FORGET)
