"""The connection to PostgreSQL. The only module that knows `databases`, which is archived: one file to change.

`databases` makes the connections and ends them. Statements go to `Connection.raw_connection`, which is asyncpg's own,
with its `$1` parameters: SQLAlchemy's text() would cost as much as the query and trips over casts and JSON (`x::json`,
`{"a":1}`). Between two statements a connection rests here: to give it back each time would cost a task and two timers.
No session state is ever set, so a transaction pooler may stand in between.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import databases

from service.errors import DatabaseUnavailable, NotConfigured
from service.store.driver_errors import READ_ONLY, UNAVAILABLE, is_refusal, sqlstate, translated
from service.store.memory import Memory
from service.store.url import Target

CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 30.0
ACQUIRE_SECONDS = 15.0
# A connection that rested longer is tried with a small statement first: a thawed process holds dead sockets.
REST_SECONDS = 5.0
PING_SECONDS = 3.0
IDLE_SECONDS = 300.0  # what was not used for so long is ended: some hosts count connections, or sleep without any
# Giving a connection back waits for a statement that was cut off; a server that hangs would never confirm that.
RELEASE_SECONDS = 5.0
WAITS_FOR_STANDBY = "SyncRepWaitForLSN"  # the server's function that waits for a synchronous standby, or gives it up
CLOSE_SECONDS = 10.0
# PostgreSQL plans a prepared statement five times, and then keeps one plan until a table of it is analyzed, a minute
# later or more. One that was made while a table was small reads it whole when it is large: so a statement is prepared
# again when it has run so many times.
PREPARED_AGAIN_AT = (32, 256, 2_048)

Raw = Any  # asyncpg's connection


class _Raw(asyncpg.Connection):
    """asyncpg's connection, which remembers a commit that is not confirmed. `unconfirmed`: PostgreSQL's words."""

    unconfirmed: str | None = None

    @property
    def itself(self) -> _Raw:
        """The connection behind asyncpg's proxy, which forgets it once it is closed."""
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


class Queries:
    """Where statements run: a Database lends each a connection; a Connection is one, perhaps inside a transaction.

    Every method raises DatabaseUnavailable when the server cannot be reached or does not answer in time, and when a
    commit was not confirmed by a synchronous standby; errors of the statement itself come through as asyncpg raises
    them.
    """

    async def _run(self, method: str, sql: str, arguments: tuple[object, ...]) -> Any:
        raise NotImplementedError

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


class Connection(Queries):
    """One connection, lent by `databases`. `raw`: asyncpg's own, for statements with a time limit of their own.

    `recognised_at`: when the database behind it was last found to be the right one (identity.py).
    """

    recognised_at: float | None = None

    def __init__(self, lent: Any) -> None:
        self.lent = lent
        self.raw: Raw = lent.raw_connection.itself
        self._ran: Counter[str] = Counter()
        self._done: set[str] = set()
        self.touch()

    def begin(self, work: str) -> None:
        """It is lent for this now."""
        self._done.add(work)

    def has_done(self, work: str) -> bool:
        """Whether it was lent for this before."""
        return work in self._done

    def touch(self) -> None:
        """It was used just now, by both clocks: one may stand still in a freeze."""
        self._used_at = time.monotonic(), time.time()

    def has_rested(self, seconds: float) -> bool:
        """Whether it was not used for longer than that, or is closed."""
        monotonic, wall = self._used_at
        return self.raw.is_closed() or max(time.monotonic() - monotonic, time.time() - wall) > seconds

    async def _run(self, method: str, sql: str, arguments: tuple[object, ...]) -> Any:
        with translated:
            result = await getattr(self.raw, method)(self._planned(sql), *arguments)
            self.raw.confirm()
            return result

    def _planned(self, sql: str) -> str:
        """The statement, with another comment when it is to be prepared, and so planned, again."""
        self._ran[sql] = ran = self._ran[sql] + 1
        times = bisect_right(PREPARED_AGAIN_AT, ran)
        return f"{sql}-- {times}" if times else sql

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """One transaction of what runs on this connection; inside another, a part of it that can be undone alone."""
        with translated:
            async with self.raw.transaction():
                yield
            self.raw.confirm()


class _Pool:
    """The connections of one event loop."""

    def __init__(self, target: Target, size: int) -> None:
        self._place = target.place
        self._free = asyncio.Semaphore(size)
        self._idle: list[Connection] = []  # used again from the end, so that what is not needed grows old
        self._is_open = True
        self._connecting = asyncio.Lock()
        self._sweeper: asyncio.TimerHandle | None = None
        options: dict[str, Any] = {
            "min_size": 0,
            "max_size": size,
            "timeout": CONNECT_SECONDS,
            "command_timeout": STATEMENT_SECONDS,
            "connection_class": _Raw,
            "reset": _nothing,  # instead of DISCARD ALL and the like: there is no session state to reset
        }
        self._database = databases.Database(target.dsn, **(options | target.options))

    async def acquire(self, work: str) -> Connection:
        """A connection, alive: one that rested is tried before it is handed out, and the dead are passed over.

        One that has done this work before, if there is one: PostgreSQL plans a statement for each connection, and more
        than once, and a plan takes longer than most statements do.
        """
        at = self._used_to(work)
        if self._idle and not self._free.locked() and not self._idle[at].has_rested(REST_SECONDS):
            await self._free.acquire()  # at once
            return self._idle.pop(at)
        async with asyncio.timeout(ACQUIRE_SECONDS):
            await self._free.acquire()
            try:
                while True:
                    if not self._idle:
                        await self._open()
                    elif await self._is_alive(connection := self._idle.pop(self._used_to(work))):
                        return connection
            except BaseException:
                self._free.release()
                raise

    def _used_to(self, work: str) -> int:
        """The place of such a connection; that of the last, if there is none."""
        last = len(self._idle) - 1
        return next((at for at in range(last, -1, -1) if self._idle[at].has_done(work)), last)

    async def release(self, connection: Connection, exc: BaseException | None) -> None:
        """Take it back. `exc`: what ended its use; unless PostgreSQL itself said no, the connection is in doubt."""
        raw = connection.raw
        if exc is not None and sqlstate(exc) == READ_ONLY:
            raw.terminate()  # it would stay so, when the server has long been opened for writing
        is_in_doubt = exc is not None and not is_refusal(exc)
        try:
            if is_in_doubt or not self._is_open or raw.is_closed() or raw.is_in_transaction():
                await _give_back(connection)
            else:
                connection.touch()
                self._idle.append(connection)
                self._sweeper = self._sweeper or asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)
        finally:
            self._free.release()

    async def _open(self) -> None:
        """One more connection. In a task of its own, for `databases` lends each task only one."""
        opening = asyncio.create_task(self._borrow())
        opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, whether or not awaited
        await opening

    async def _borrow(self) -> None:
        async with self._connecting:
            if not self._database.is_connected:
                await self._database.connect()
        lent = self._database.connection()
        try:
            await lent.__aenter__()
        except OSError as exc:
            words = f"PostgreSQL does not answer at {self._place} ({type(exc).__name__}: {exc})"
            raise DatabaseUnavailable(words) from exc
        self._idle.append(Connection(lent))

    async def _is_alive(self, connection: Connection) -> bool:
        if not connection.has_rested(REST_SECONDS):
            return True
        try:
            await connection.raw.execute("SELECT 1", timeout=PING_SECONDS)
        except BaseException as exc:
            connection.raw.terminate()
            if not isinstance(exc, UNAVAILABLE):
                raise
            self._end_rested(REST_SECONDS)  # or each would be tried in turn, and cost as long
            return False
        return True

    def _end_rested(self, seconds: float) -> None:
        rested = [one for one in self._idle if one.has_rested(seconds)]
        self._idle = [one for one in self._idle if one not in rested]
        for one in rested:
            one.raw.terminate()

    def _sweep(self) -> None:
        self._sweeper = None
        self._end_rested(IDLE_SECONDS)
        if self._idle:
            self._sweeper = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)

    async def close(self) -> None:
        """Close every connection, politely if that goes quickly."""
        self._is_open = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._idle:
                    await _give_back(self._idle.pop())
                await self._database.disconnect()


async def _nothing(_: Raw) -> None:
    """Nothing needs to be undone."""


async def _give_back(connection: Connection) -> None:
    """To `databases`, which ends what was cut off. What was done on it is done: that this fails is no error of that."""
    try:
        async with asyncio.timeout(RELEASE_SECONDS):
            await connection.lent.__aexit__()
    except BaseException as exc:
        connection.raw.terminate()
        if not isinstance(exc, UNAVAILABLE):
            raise


class _Loan:
    """A connection of the pool, for as long as a `with` lasts. `work`: what for; a statement, or a name."""

    def __init__(self, pool: _Pool, work: str) -> None:
        self._pool, self._work = pool, work

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool.acquire(self._work)
        self._connection.begin(self._work)
        return self._connection

    async def __aexit__(self, _: object, exc: BaseException | None, _traceback: object) -> None:
        await self._pool.release(self._connection, exc)


class Database(Queries):
    """A small pool that opens itself on first use and hides nothing of SQL.

    `memory`: what this process knows to be committed.
    """

    def __init__(self, target: Target | None, *, pool_size: int = 5) -> None:
        self.target = target
        self.memory = Memory()
        self._pool_size = min(pool_size, (target and target.pool_limit) or pool_size)
        # Some serverless hosts run every request on a loop of its own, and sockets belong to their loop.
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}

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
    async def connection(self, work: str = "") -> AsyncIterator[Connection]:
        """One connection, for several statements. What its `raw` raises comes out as what it means.

        `work`: a name for them, if they run often: then they run, if they can, where they ran before.
        """
        with translated:
            async with _Loan(self._pool(), work) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction: of the statements that run on the connection that this gives, and of no other."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def _run(self, method: str, sql: str, arguments: tuple[object, ...]) -> Any:
        with translated:
            async with _Loan(self._pool(), sql) as connection:
                return await connection._run(method, sql, arguments)
