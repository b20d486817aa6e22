"""Databases that tests hand on to each other: each comes back as it was made, or is dropped.

To copy a template costs PostgreSQL two checkpoints; to empty the few tables that a test has written, and to drop what
it has made, costs a fraction of that. Nothing is taken on trust: in the end the catalogue must be as in the template,
and so must every row.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

import asyncpg

from tests.database import SET_TIME, temporary_database
from tests.kept import PATIENCE_SECONDS, Kept, kept

if TYPE_CHECKING:
    from tests.database import Connection

MOST_USES = 50  # what was deleted stays in the files until a vacuum
LARGEST_BYTES = 128 * 1024  # of a table with its TOAST, or of an index: a larger one would show in plans

# Where DDL leaves its traces: a row of a copied catalogue bears the transaction that made the template, until it is
# written. The newest of them is found by ages, counted from one fixed transaction: to read each number as text takes
# three times as long. Rows without an age are older than all others.
_CATALOGUES = (
    "attrdef", "attribute", "cast", "class", "collation", "constraint", "default_acl", "description", "enum",
    "event_trigger", "extension", "foreign_data_wrapper", "foreign_server", "index", "inherits", "init_privs",
    "language", "largeobject_metadata", "namespace", "operator", "policy", "publication", "rewrite", "sequence",
    "statistic_ext", "trigger", "type",
)  # fmt: skip
_NEWEST_ROW = "COALESCE(age('3'::xid) - NULLIF(min(age(xmin)), 2147483647), 0)"
_TRACES = f"(SELECT count(*) || ':' || {_NEWEST_ROW} FROM pg_catalog.pg_{{}})"
# One text that changes with every DDL, setting, right and statistic. `taxiway.now()` is left out: it is put back.
_FINGERPRINT = f"""
SELECT concat_ws(' ', {", ".join(map(_TRACES.format, _CATALOGUES))},
    {_TRACES.format("proc WHERE oid <> 'taxiway.now()'::regprocedure")},
    (SELECT proacl::text FROM pg_proc WHERE oid = 'taxiway.now()'::regprocedure),
    (SELECT datacl::text FROM pg_database WHERE datname = current_database()),
    (SELECT count(*) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
     WHERE datname = current_database()),
    (SELECT count(*) FROM pg_statistic JOIN pg_class c ON c.oid = starelid
     WHERE relnamespace = 'taxiway'::regnamespace),
    (SELECT sum(reltuples) || ':' || sum(relpages) FROM pg_class WHERE relnamespace = 'taxiway'::regnamespace))
"""
# What would be in the next test's way: connections that are left (but $1, those that are kept), transactions that are
# prepared, and large files.
_IN_THE_WAY = f"""
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
               AND pid::text <> ALL (string_to_array($1, ' ')) AND backend_type = 'client backend')
    OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
    OR EXISTS (SELECT FROM pg_class WHERE relnamespace = 'taxiway'::regnamespace AND
               CASE relkind WHEN 'r' THEN pg_table_size(oid) WHEN 'i' THEN pg_relation_size(oid) END > {LARGEST_BYTES})
"""
# Of the schema: its tables, each with those that refer to it, and a call that sets all its sequences back.
_TABLES = """
SELECT relname::text, ARRAY(SELECT r.relname::text FROM pg_constraint f JOIN pg_class r ON r.oid = f.conrelid
                            WHERE f.confrelid = c.oid AND f.conrelid <> c.oid AND f.contype = 'f')
FROM pg_class c WHERE relnamespace = 'taxiway'::regnamespace AND relkind = 'r' ORDER BY relname
"""
_SEQUENCES = """
SELECT 'SELECT ' || string_agg(format('setval(%s, 1, false)', oid), ', ')
FROM pg_class WHERE relnamespace = 'taxiway'::regnamespace AND relkind = 'S'
"""
# How to drop what was made since the newest object of the template ($1), each with what depends on it.
_MADE = """
SELECT format('DROP %s IF EXISTS %s CASCADE', kind, name) FROM (
    SELECT 1, oid, 'SCHEMA', quote_ident(nspname) FROM pg_namespace
    UNION ALL SELECT 2, oid, CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass::text FROM pg_class
        WHERE relkind IN ('r', 'p', 'v') AND relnamespace = 'public'::regnamespace
    UNION ALL SELECT 3, oid, 'ROUTINE', oid::regprocedure::text FROM pg_proc
    UNION ALL SELECT 4, oid, 'TYPE', oid::regtype::text FROM pg_type WHERE typtype IN ('e', 'd')
) AS made (turn, oid, kind, name) WHERE oid > $1 ORDER BY turn, oid
"""
_NEWEST = """
SELECT max(oid) FROM (SELECT oid FROM pg_class UNION ALL SELECT oid FROM pg_type UNION ALL SELECT oid FROM pg_proc
                      UNION ALL SELECT oid FROM pg_namespace) AS objects
"""
_TIME = "SELECT prosrc FROM pg_proc WHERE oid = 'taxiway.now()'::regprocedure"
_ROWS = "SELECT COALESCE(jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)), '[]')::text FROM taxiway.{} t"
_INSERT = "INSERT INTO taxiway.{0} SELECT * FROM jsonb_populate_recordset(NULL::taxiway.{0}, $1)"


@dataclass(frozen=True)
class _Fresh:
    """A database that no test has had. `newest`: an OID; `rows`: those of each table, as JSON.

    The tables stand in the order in which they are emptied: one that others refer to comes after them.
    """

    fingerprint: str
    newest: int
    time: str
    rows: dict[str, str]
    reset_sequences: str

    @classmethod
    async def of(cls, connection: Connection) -> _Fresh:
        referring = {found[0]: found[1] for found in await connection.fetch(_TABLES)}
        return cls(
            await connection.fetchval(_FINGERPRINT),
            await connection.fetchval(_NEWEST),
            await connection.fetchval(_TIME),
            {
                table: await connection.fetchval(_ROWS.format(table))
                for table in TopologicalSorter(referring).static_order()
            },
            await connection.fetchval(_SEQUENCES),
        )

    async def is_restored(self, connection: Connection, rests: Kept) -> bool:
        """Put everything back; False where that cannot be done, or does not lead to what there was.

        `rests`: the connections that the next test will have, unless their plans speak of what is dropped.
        """
        try:
            await rests.reset()
            if await connection.fetchval(_IN_THE_WAY, rests.backends()):
                return False
            if made := await connection.fetch(_MADE, self.newest):
                await rests.close()
                await connection.execute("; ".join(drop for (drop,) in made))
            if await connection.fetchval(_FINGERPRINT) != self.fingerprint:
                return False
            await self._put_back(connection)
            return await connection.fetchval(_TIME) == self.time and not await self._changed(connection)
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            OSError,
            TimeoutError,
        ):  # a test ended its connection, or its schema
            return False

    async def _put_back(self, connection: Connection) -> None:
        """The rows, the sequences and the time."""
        changed = await self._changed(connection)
        for table in changed:
            await connection.execute(f"DELETE FROM taxiway.{table}")
        for table in reversed(changed):
            if self.rows[table] != "[]":
                await connection.execute(_INSERT.format(table), self.rows[table])
        await connection.execute(self.reset_sequences)
        if await connection.fetchval(_TIME) != self.time:
            await connection.execute(SET_TIME.format("pg_catalog.now()"))

    async def _changed(self, connection: Connection) -> list[str]:
        """The tables whose rows are others than they were."""
        rows = [f"({_ROWS.format(table)}) IS DISTINCT FROM ${n}" for n, table in enumerate(self.rows, 1)]
        differ = await connection.fetchval(f"SELECT jsonb_build_array({', '.join(rows)})", *self.rows.values())
        return [table for table, differs in zip(self.rows, json.loads(differ), strict=True) if differs]


@dataclass
class _Copy:
    """A database of the pool, with a connection that stays, for its caches are what a look at the catalogue costs."""

    database: AbstractContextManager[str]
    url: str
    connection: Connection
    uses: int = 0


class Pool:
    """The databases of one test process, copies of one template. `loop`: where the tests run, and do not now."""

    def __init__(self, server_url: str, template: str, loop: asyncio.AbstractEventLoop) -> None:
        self._server_url, self._template = server_url, template
        self._loop, self._run = loop, loop.run_until_complete
        self._copies: dict[str, _Copy] = {}
        self._free: list[str] = []
        self._fresh: _Fresh | None = None

    def take(self) -> str:
        """The URL of a database that is like the template."""
        url = self._free.pop() if self._free else self._make()
        self._copies[url].uses += 1
        return url

    def give_back(self, url: str) -> None:
        """Restore a database for the next test, or drop it."""
        assert self._fresh is not None
        copy = self._copies[url]
        if copy.uses < MOST_USES and self._run(self._fresh.is_restored(copy.connection, kept[url])):
            self._free.append(url)
        else:
            self._drop(url)

    def close(self) -> None:
        """Drop all."""
        for url in list(self._copies):
            self._drop(url)

    def _make(self) -> str:
        database = temporary_database(self._server_url, template=self._template)
        url = database.__enter__()
        connection = self._run(asyncpg.connect(url, timeout=PATIENCE_SECONDS, command_timeout=PATIENCE_SECONDS))
        self._copies[url], kept[url] = _Copy(database, url, connection), Kept(self._loop)
        if self._fresh is None:
            self._fresh = self._run(_Fresh.of(connection))
        return url

    def _drop(self, url: str) -> None:
        copy = self._copies.pop(url)
        self._run(kept.pop(url).close())
        copy.connection.terminate()
        copy.database.__exit__(None, None, None)
