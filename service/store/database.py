"""The connection to PostgreSQL. The only module that knows `databases`, which is archived: one file to change.

`databases` owns the pool. Statements go to asyncpg's own connection, with its `$1` parameters: SQLAlchemy's text()
would cost as much as the query and trips over casts and JSON (`:x::jsonb`, `{"a":1}`).
No session state is ever set, so a transaction pooler may stand in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import databases

from service.errors import DatabaseAway, NotConfigured
from service.store.url import Target

CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 30.0
ACQUIRE_SECONDS = 15.0
# A connection that rested longer is tried with an empty statement first: a thawed process holds dead sockets.
REST_SECONDS = 5.0
PING_SECONDS = 3.0

# What means that the server, not the statement, is the trouble.
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,
)

Raw = Any  # asyncpg's connection, or its pool's proxy of one


class _Connection(asyncpg.Connection):
    """A pooled connection that knows when it was last used, by both clocks: one may stand still in a freeze."""

    used_at = (0.0, 0.0)

    def touch(self) -> None:
        self.used_at = (time.monotonic(), time.time())

    def rested(self) -> float:
        monotonic, wall = self.used_at
        return max(time.monotonic() - monotonic, time.time() - wall)


async def _try_if_rested(connection: Raw) -> None:
    if connection.rested() > REST_SECONDS:
        await connection.execute("", timeout=PING_SECONDS)


async def _touch(connection: Raw) -> None:
    connection.touch()


class Database:
    """A small pool that opens itself on first use and hides nothing of SQL.

    Every method raises DatabaseAway when the server cannot be reached or does not answer in time; errors of the
    statement itself come through as asyncpg raises them.
    """

    def __init__(self, target: Target | None, *, pool_size: int = 5) -> None:
        self.target = target
        self._pool_size = min(pool_size, (target and target.pool_limit) or pool_size)
        self._database: databases.Database | None = None
        self._opening = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def _pool(self) -> databases.Database:
        if self.target is None:
            raise NotConfigured("set DATABASE_URL in the environment", missing=["DATABASE_URL"])
        if self._loop is not asyncio.get_running_loop():
            # Some serverless hosts run every request on a loop of its own: the old loop's sockets died with it.
            self._loop, self._database, self._opening = asyncio.get_running_loop(), None, asyncio.Lock()
        async with self._opening:
            if self._database is None:
                options: dict[str, Any] = {
                    "min_size": 0,
                    "max_size": self._pool_size,
                    "timeout": CONNECT_SECONDS,
                    "command_timeout": STATEMENT_SECONDS,
                    "connection_class": _Connection,
                    "init": _touch,
                    "setup": _try_if_rested,
                    "reset": _touch,  # instead of DISCARD ALL and the like: there is no session state to reset
                }
                database = databases.Database(self.target.dsn, **(options | self.target.options))
                await database.connect()
                self._database = database
            return self._database

    async def close(self) -> None:
        """Close the pool; the next use opens a new one."""
        async with self._opening:
            database, self._database = self._database, None
        if database is not None:
            await database.disconnect()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Raw]:
        """One connection for the current task; inside another `connection()` of the same task, the same one."""
        with _translated():
            pool = await self._pool()
            connection = pool.connection()
            await self._acquire(connection)
            try:
                yield connection.raw_connection
            finally:
                await connection.__aexit__()

    async def _acquire(self, connection: Any) -> None:
        """Acquire, passing over every dead connection that the pool still holds, within ACQUIRE_SECONDS."""
        async with asyncio.timeout(ACQUIRE_SECONDS):
            for remaining in range(self._pool_size, -1, -1):
                try:
                    await connection.__aenter__()
                except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, TimeoutError):
                    if not remaining:
                        raise
                else:
                    return

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Raw]:
        """One transaction. Statements of this task inside it, through any method here, belong to it."""
        async with self.connection() as raw, raw.transaction():
            yield raw

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows."""
        async with self.connection() as raw:
            rows: list[asyncpg.Record] = await raw.fetch(sql, *arguments)
            return rows

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        """The first row, or None."""
        async with self.connection() as raw:
            row: asyncpg.Record | None = await raw.fetchrow(sql, *arguments)
            return row

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        async with self.connection() as raw:
            return await raw.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: object) -> int:
        """Run it; the number of rows that it touched."""
        async with self.connection() as raw:
            status: str = await raw.execute(sql, *arguments)
            last = status.rsplit(" ", 1)[-1]
            return int(last) if last.isdigit() else 0


class Listener:
    """Hears NOTIFY on a connection of its own. Behind a transaction pooler it never hears anything, and costs nothing."""

    def __init__(self, target: Target | None, channel: str, wake: Callable[[], None]) -> None:
        self._target = target
        self._channel = channel
        self._wake = wake
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def ensure(self) -> None:
        """Listen, if that is possible and not so already. Without it, whoever waits wakes by the clock."""
        if self._target is None or self._target.pooler or (self._connection and not self._connection.is_closed()):
            return
        try:
            self._connection = await asyncpg.connect(**(self._target.options | {"timeout": CONNECT_SECONDS}))
            await self._connection.add_listener(self._channel, lambda *_: self._wake())
        except _AWAY:
            await self.close()

    async def close(self) -> None:
        """Stop listening."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()  # nothing is in flight on it


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError) as exc:
        raise NotConfigured(f"the database's schema is not up to date: run `taxiway migrate` ({exc})") from exc
    except _AWAY as exc:
        if isinstance(exc, ValueError):  # asyncpg's word for a wrong argument: our mistake, not the server's
            raise
        raise DatabaseAway(f"PostgreSQL does not answer ({type(exc).__name__}: {exc})".strip()) from exc
