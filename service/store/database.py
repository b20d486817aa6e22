"""The connection to PostgreSQL. The only module that knows `databases`, which is archived: one file to change.

`databases` owns the pool. Statements go to asyncpg's own connection, with its `$1` parameters: SQLAlchemy's text()
would cost as much as the query and trips over casts and JSON (`:x::jsonb`, `{"a":1}`).
No session state is ever set, so a transaction pooler may stand in between.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import databases

from service.errors import DatabaseUnavailable, NotConfigured
from service.store.driver_errors import TRANSLATED, UNAVAILABLE, translated, translation
from service.store.memory import Memory
from service.store.url import Target

CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 30.0
ACQUIRE_SECONDS = 15.0
# A connection that rested longer is tried with a small statement first: a thawed process holds dead sockets.
REST_SECONDS = 5.0
PING_SECONDS = 3.0
# Giving a connection back waits for a statement that was cut off; a server that hangs would never confirm that.
RELEASE_SECONDS = 5.0
WAITS_FOR_STANDBY = "SyncRepWaitForLSN"  # the server's function that waits for a synchronous standby, or gives it up
CLOSE_SECONDS = 10.0

Raw = Any  # asyncpg's connection, or its pool's proxy of one


class _Connection(asyncpg.Connection):
    """A pooled connection that knows when it was last used, by both clocks: one may stand still in a freeze."""

    used_at = (0.0, 0.0)
    in_use = False
    recognised_at: float | None = None  # when the database behind it was last found to be the right one (identity.py)
    unconfirmed: str | None = None  # PostgreSQL's words, if a commit may not have reached its standby

    @property
    def itself(self) -> _Connection:
        """The connection behind the pool's proxy, which forgets it on release."""
        return self

    def _process_log_message(self, fields: dict[str, str], last_query: str) -> None:
        """A notice, which asyncpg hands over here before the statement's result: a listener would come after it.

        By the server's function that says it, since the words are in the server's language.
        """
        if fields.get("R") == WAITS_FOR_STANDBY and fields.get("S") != "ERROR":
            self.unconfirmed = fields.get("D") or fields.get("M") or WAITS_FOR_STANDBY
        super()._process_log_message(fields, last_query)  # type: ignore[misc]  # not in the stubs

    def confirm(self) -> None:
        """Raise DatabaseUnavailable if the commit that was just reported may not outlive this server."""
        words, self.unconfirmed = self.unconfirmed, None
        if words is not None:
            raise DatabaseUnavailable(f"the commit is not confirmed by a standby: {words}")

    async def touch(self) -> None:
        self.used_at, self.in_use = (time.monotonic(), time.time()), False

    def rested(self) -> bool:
        monotonic, wall = self.used_at
        return not self.in_use and max(time.monotonic() - monotonic, time.time() - wall) > REST_SECONDS

    async def prove_alive(self) -> None:
        is_rested, self.in_use = self.rested(), True
        if is_rested:
            await self.execute("SELECT 1", timeout=PING_SECONDS)


class _Pool:
    """The connections of one event loop. One that rested is tried before it is handed out."""

    def __init__(self, target: Target, size: int) -> None:
        self._size = size
        self._made: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._opening = asyncio.Lock()
        options: dict[str, Any] = {
            "min_size": 0,
            "max_size": size,
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS,
            "connection_class": _Connection,
            "init": self._begin,
            "reset": _Connection.touch,  # instead of DISCARD ALL and the like: there is no session state to reset
        }
        self._database = databases.Database(target.dsn, **(options | target.options))

    async def _begin(self, connection: Raw) -> None:
        await connection.touch()
        self._made.add(connection.itself)

    async def acquire(self) -> Raw:
        """A connection, alive; every dead one that the pool still holds is passed over."""
        if not self._database.is_connected:
            async with self._opening:
                if not self._database.is_connected:
                    await self._database.connect()
        pool = self._asyncpg()
        async with asyncio.timeout(ACQUIRE_SECONDS):
            for remaining in range(self._size, -1, -1):
                connection = await pool.acquire()
                raw = connection.itself
                try:
                    await raw.prove_alive()
                except BaseException as exc:
                    raw.terminate()
                    await pool.release(connection)  # at once: it is gone
                    if not remaining or not isinstance(exc, UNAVAILABLE):
                        raise
                    self._drop_rested()  # or each would be tried in turn, and cost as long
                else:
                    break
        return connection

    def _asyncpg(self) -> Any:
        """The pool inside `databases`, whose own `Connection` costs as much as a small statement."""
        return self._database._backend._pool  # of PostgresBackend

    async def release(self, connection: Raw) -> None:
        """Give a connection back."""
        await self._asyncpg().release(connection)

    def _drop_rested(self) -> None:
        for connection in [one for one in self._made if one.rested() and not one.is_closed()]:
            connection.terminate()

    async def close(self) -> None:
        """Close every connection, politely if that goes quickly."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._database.disconnect()


class Database:
    """A small pool that opens itself on first use and hides nothing of SQL.

    Every method raises DatabaseUnavailable when the server cannot be reached or does not answer in time, and when a
    commit was not confirmed by a synchronous standby; errors of the statement itself come through as asyncpg raises
    them.
    `memory`: what this process knows to be committed.
    """

    def __init__(self, target: Target | None, *, pool_size: int = 5) -> None:
        self.target = target
        self.memory = Memory()
        self._pool_size = min(pool_size, (target and target.pool_limit) or pool_size)
        # Some serverless hosts run every request on a loop of its own, and sockets belong to their loop.
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}
        self._held: weakref.WeakKeyDictionary[asyncio.Task[Any], Raw] = weakref.WeakKeyDictionary()

    def _pool(self) -> _Pool:
        if self.target is None:
            raise NotConfigured("set DATABASE_URL in the environment", missing=["DATABASE_URL"])
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            self._pools = {known: pool for known, pool in list(self._pools.items()) if not known.is_closed()}
            self._pools[loop] = _Pool(self.target, self._pool_size)
        return self._pools[loop]

    async def close(self) -> None:
        """Close the pool of this event loop; the next use opens a new one."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Raw]:
        """One connection for the current task; inside another `connection()` of the same task, the same one."""
        task = _task()
        held = self._held.get(task)
        with translated():
            if held is not None:
                yield held
                return
            pool = self._pool()
            connection = await pool.acquire()
            raw: _Connection = connection.itself  # now: the pool's proxy forgets it when it breaks
            self._held[task] = connection
            try:
                yield connection
            except asyncpg.ReadOnlySQLTransactionError:
                raw.terminate()  # it would stay so, when the server has long been opened for writing
                raise
            finally:
                del self._held[task]
                await self._release(pool, connection, raw)

    async def _run(self, method: str, sql: str, arguments: tuple[object, ...]) -> Any:
        """One statement: what `connection()` does, without what only a longer stay needs."""
        held = self._held.get(_task())
        try:
            if held is not None:
                result = await getattr(held, method)(sql, *arguments)
                held.itself.confirm()
                return result
            pool = self._pool()
            connection = await pool.acquire()
            raw: _Connection = connection.itself
            try:
                result = await getattr(connection, method)(sql, *arguments)
                raw.confirm()
                return result
            except asyncpg.ReadOnlySQLTransactionError:
                raw.terminate()
                raise
            finally:
                await self._release(pool, connection, raw)
        except TRANSLATED as exc:
            meant = translation(exc)
            if meant is exc:
                raise
            raise meant from exc

    async def _release(self, pool: _Pool, connection: Raw, raw: _Connection) -> None:
        """Give it back. What was done on it is done: that this fails is no error of the statement's."""
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await pool.release(connection)
        except BaseException as exc:
            raw.terminate()
            if not isinstance(exc, UNAVAILABLE):
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Raw]:
        """One transaction. Statements of this task inside it, through any method here, belong to it."""
        async with self.connection() as raw:
            async with raw.transaction():
                yield raw
            raw.itself.confirm()

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """All rows."""
        rows: list[asyncpg.Record] = await self._run("fetch", sql, arguments)
        return rows

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        """The first row, or None."""
        row: asyncpg.Record | None = await self._run("fetchrow", sql, arguments)
        return row

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        return await self._run("fetchval", sql, arguments)

    async def execute(self, sql: str, *arguments: object) -> int:
        """Run it; the number of rows that it touched."""
        status: str = await self._run("execute", sql, arguments)
        last = status.rsplit(" ", 1)[-1]
        return int(last) if last.isdigit() else 0


def _task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # only coroutines call this
    return task
