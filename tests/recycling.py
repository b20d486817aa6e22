"""One database for many tests: a copy of the template is emptied after each, and made anew if more than rows changed.

To empty a few tables takes a tenth of the time of a new database, which is some hundred files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import asyncpg

from tests.database import connected, run, temporary_database

if TYPE_CHECKING:
    from tests.database import Connection

LEAVE_SECONDS = 5  # for a connection that is told to go
FIRST_OF_OURS = 16_384  # PostgreSQL's own objects have smaller numbers
CATALOGS = {
    "pg_attrdef": "adrelid",
    "pg_attribute": "attrelid",
    "pg_constraint": "oid",
    "pg_description": "objoid",
    "pg_enum": "oid",
    "pg_extension": "oid",
    "pg_index": "indrelid",
    "pg_inherits": "inhrelid",
    "pg_policy": "oid",
    "pg_proc": "oid",
    "pg_rewrite": "ev_class",
    "pg_trigger": "oid",
    "pg_type": "oid",
}

# The same text as long as nobody changes the schema: TRUNCATE and ANALYZE write to pg_class alone.
SCHEMA = f"""
SELECT concat_ws(' ',
    {
    ", ".join(
        f"(SELECT count(*) || '/' || sum(xmin::text::bigint) FROM {catalog} WHERE {number} >= {FIRST_OF_OURS})"
        for catalog, number in CATALOGS.items()
    )
},
    (SELECT md5(string_agg(concat_ws('/', oid, relname, relkind, relowner, relacl, reloptions, relrowsecurity), ' '
                           ORDER BY oid)) FROM pg_class WHERE oid >= {FIRST_OF_OURS}),
    (SELECT string_agg(concat_ws('/', nspname, nspowner, nspacl), ' ' ORDER BY oid) FROM pg_namespace),
    (SELECT string_agg(setconfig::text, ' ' ORDER BY setrole) FROM pg_db_role_setting
       JOIN pg_database ON setdatabase = pg_database.oid WHERE datname = current_database()),
    (SELECT concat_ws('/', datacl, datallowconn, datconnlimit) FROM pg_database WHERE datname = current_database()))
"""
# Whoever a test has left behind would write into the next one.
LEFT_BEHIND = f"""
SELECT pg_terminate_backend(pid, {LEAVE_SECONDS * 1000})
  FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# The tables that hold, or once held, anything.
USED = """
SELECT relname::text FROM pg_class
 WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND (pg_relation_size(oid) > 0 OR reltuples > 0)
"""
# What ANALYZE found out about rows that are gone.
FORGET = f"DELETE FROM pg_statistic WHERE starelid >= {FIRST_OF_OURS}"


class Recycler:
    """Lends one database at a time."""

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url, self._template = server_url, template
        self._held = ExitStack()
        self._url = ""
        self._schema = ""
        self._seeds: dict[str, bytes] = {}

    @contextmanager
    def lend(self) -> Iterator[str]:
        """The URL of a database that is as the template is."""
        if not self._url:
            self._url = self._held.enter_context(temporary_database(self._server_url, template=self._template))
            run(self._learn())
        yield self._url
        try:
            clean = run(self._clean())
        except (OSError, asyncpg.PostgresError):  # dropped, renamed or locked by its test
            clean = False
        if not clean:
            self.close()

    def close(self) -> None:
        """Drop the database."""
        self._url = ""
        self._held.close()

    async def _learn(self) -> None:
        async with connected(self._url) as connection:
            self._schema = await connection.fetchval(SCHEMA)
            self._seeds = {}
            for [table] in await connection.fetch(USED):
                await connection.copy_from_table(table, output=(rows := io.BytesIO()))
                self._seeds[table] = rows.getvalue()

    async def _clean(self) -> bool:
        """Whether it is as it was."""
        async with connected(self._url) as connection:
            await connection.execute(LEFT_BEHIND)
            if await connection.fetchval(SCHEMA) != self._schema:
                return False
            await self._empty(connection)
            return True

    async def _empty(self, connection: Connection) -> None:
        used = ", ".join(f'"{table}"' for [table] in await connection.fetch(USED))
        async with connection.transaction():
            await connection.execute(f"TRUNCATE {used} RESTART IDENTITY CASCADE; {FORGET}")
            for table, rows in self._seeds.items():
                await connection.copy_to_table(table, source=io.BytesIO(rows))
