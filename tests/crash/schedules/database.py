"""The database of one simulated process: the product's own, over a pool whose statements stop at the switch.

Real connections are shared by all processes, for they hold no session state, and opening one costs more than a
schedule may take. A statement outside of a transaction may be run in one, so that others run before it is committed:
as they do where statements overlap.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from service.store import database as product
from service.store.url import Target
from tests.crash.schedules import ground
from tests.crash.schedules.loop import VirtualLoop

if TYPE_CHECKING:
    from tests.crash.schedules.processes import Process
    from tests.database import Connection

# What the product waits for a row is real time, which means nothing here: it is as short as may be.
_LOCK_TIMEOUT = re.compile(r"(lock_timeout'?,? ?=? ?'?)\d+")
_SHORT_LOCK_TIMEOUT = r"\g<1>15"


class Shared:
    """The real connections. `writes`: statements that may have changed something, so far."""

    def __init__(self, loop: VirtualLoop, url: str) -> None:
        self.loop, self._url = loop, url
        self._free: list[Real] = []
        self._all: list[Real] = []
        self.writes = 0
        self.running: dict[Real, str] = {}
        self.blocked: set[Real] = set()  # of these, those that wait for a lock of another
        self.planted: list[tuple[str, str]] = []  # (what stands in a statement, what stands there instead)
        self.planted_hits = 0
        self.texts: dict[str, str] = {}

    def plant(self, *bugs: tuple[str, str]) -> None:
        """Change every statement that has these words, from here on; without any, none."""
        self.planted, self.planted_hits = list(bugs), 0
        self.texts.clear()

    def text(self, sql: str) -> str:
        """The statement as it is run."""
        if sql not in self.texts:
            text = _LOCK_TIMEOUT.sub(_SHORT_LOCK_TIMEOUT, sql)
            for old, new in self.planted:
                self.planted_hits += text.count(old)
                text = text.replace(old, new)
            self.texts[sql] = text
        return self.texts[sql]

    async def take(self) -> Real:
        """A connection that nobody uses."""
        if self._free:
            return self._free.pop()
        self.loop.in_flight += 1
        try:
            real = Real(await ground.connect(self._url))
        finally:
            self.loop.in_flight -= 1
        self._all.append(real)
        return real

    async def give_back(self, real: Real) -> None:
        """For the next one. What was begun on it and not committed is rolled back."""
        if real.connection.is_closed():
            self._all.remove(real)
            return
        if real.in_transaction:
            await self.run(real, "execute", "ROLLBACK")
            real.in_transaction = False
        self._free.append(real)

    async def end(self, real: Real) -> None:
        """Its process is dead: the server ends what was begun and not committed."""
        if real in self.running:  # it waits for a lock
            self._all.remove(real)
            real.connection.terminate()
        else:
            await self.give_back(real)

    async def run(self, real: Real, method: str, sql: str, *arguments: object) -> Any:
        """One statement, now."""
        real.gives_up = "lock_timeout" in sql or (real.gives_up and real.in_transaction)
        self.running[real] = sql
        self.loop.in_flight += 1
        try:
            result = await getattr(real.connection, method)(sql, *arguments)
            # RETURNING is in the order of the table's pages, in which earlier schedules had their rows.
            is_ordered = method != "fetch" or sql.lstrip().startswith("SELECT")
            return result if is_ordered else sorted(result, key=lambda row: str(tuple(row)))
        finally:
            del self.running[real]
            if real in self.blocked:
                self.blocked.discard(real)
            else:
                self.loop.in_flight -= 1

    def block(self, real: Real) -> None:
        """It waits for a lock: do not wait for it."""
        self.blocked.add(real)
        self.loop.in_flight -= 1

    def unblock(self, real: Real) -> None:
        """It waits no more."""
        self.blocked.discard(real)
        self.loop.in_flight += 1

    async def renew(self) -> None:
        """After a schedule that was broken off: only connections that nothing was begun on are kept."""
        for real in [one for one in self._all if one not in self._free]:
            real.connection.terminate()
            self._all.remove(real)
        self.blocked.clear()
        self.running.clear()
        self.loop.in_flight = 0
        for real in self._free:
            real.clock = -1.0

    async def close(self) -> None:
        """Close them."""
        for real in self._all:
            await real.connection.close()


class Real:
    """One real connection, and what is known of its session."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.pid: int = connection.get_server_pid()
        self.clock = 0.0
        self.in_transaction = False
        self.gives_up = False  # a lock_timeout ends what waits for a lock


class Session:
    """A connection as the product sees it, one of its process's pool."""

    def __init__(self, process: Process) -> None:
        self.process, self.is_broken = process, False
        self.real: Real | None = None
        self._shared = process.simulation.shared

    @property
    def itself(self) -> Session:
        """There is no proxy in front of it."""
        return self

    def confirm(self) -> None:
        """Every commit is confirmed: there is no standby."""

    def terminate(self) -> None:
        """It is not used again."""
        self.is_broken = True

    async def fetch(self, sql: str, *arguments: object) -> Any:
        """All rows."""
        return await self._run("fetch", sql, arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> Any:
        """The first row, or None."""
        return await self._run("fetchrow", sql, arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        """The first column of the first row, or None."""
        return await self._run("fetchval", sql, arguments)

    async def execute(self, sql: str, *arguments: object) -> Any:
        """The status."""
        return await self._run("execute", sql, arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """BEGIN, and at the end COMMIT or ROLLBACK."""
        await self._begin()
        try:
            yield
        except BaseException:
            await self._end("ROLLBACK")
            raise
        await self._commit("the transaction")

    async def _run(self, method: str, sql: str, arguments: tuple[object, ...]) -> Any:
        text, name = self._shared.text(sql), _caller()
        is_read = text.lstrip().startswith("SELECT")
        order = await self.process.switch(f"{'read' if is_read else 'statement'} {name}")
        self._lose(order, "before")
        real = await self._ready()
        if order == "held" and not real.in_transaction:
            await self._begin()
            try:
                result = await self._shared.run(real, method, text, *arguments)
            except BaseException:
                await self._end("ROLLBACK")
                raise
            await self._commit(name)
            return result
        result = await self._shared.run(real, method, text, *arguments)
        has_changed = result.rpartition(" ")[2] != "0" if isinstance(result, str) else bool(result)
        self._shared.writes += has_changed and not is_read and not real.in_transaction
        self._lose(order, "after")
        if order == "dies after":
            await self.process.die()
        return result

    async def _ready(self) -> Real:
        """The real connection, with its clock turned, unless it is in a transaction: there now() stands still."""
        if self.real is None:
            self.real = await self._shared.take()
        now = self._shared.loop.now
        if self.real.clock != now and not self.real.in_transaction:
            await self._shared.run(self.real, "execute", ground.setting_time(now))
            self.real.clock = now
        return self.real

    async def _begin(self) -> None:
        real = await self._ready()
        await self._shared.run(real, "execute", "BEGIN")
        real.in_transaction = True

    async def _commit(self, name: str) -> None:
        order = await self.process.switch(f"commit of {name}")
        if order == "lost before":
            await self._end("ROLLBACK")
        self._lose(order, "before")
        await self._end("COMMIT")
        self._lose(order, "after")
        if order == "dies after":
            await self.process.die()

    async def _end(self, word: str) -> None:
        real = self.real
        if real is None or self.process.is_dead:
            return  # the server rolls back
        await self._shared.run(real, "execute", word)
        real.in_transaction = False
        self._shared.writes += word == "COMMIT"

    def _lose(self, order: str, when: str) -> None:
        if order == f"lost {when}":
            self.is_broken = True
            raise asyncpg.ConnectionDoesNotExistError(f"the connection was lost {when} the statement")

    async def release(self) -> None:
        """Give the real connection back, also when the process is dead: the server notices."""
        real, self.real = self.real, None
        if real is not None:
            await self._shared.give_back(real)


@dataclass(frozen=True)
class Lent:
    """A connection as `databases` lends it."""

    raw_connection: Session


class _Pool:
    """What service/store/database.py expects of its own pool."""

    def __init__(self, process: Process) -> None:
        self._process, self._free = process, list[product.Connection]()

    async def acquire(self, _work: str) -> product.Connection:
        connection = self._free.pop() if self._free else product.Connection(Lent(Session(self._process)))
        self._process.sessions[connection.raw] = None
        return connection

    async def release(self, connection: product.Connection, _exc: BaseException | None) -> None:
        session: Session = connection.raw
        await session.release()
        self._process.sessions.pop(session, None)
        if not session.is_broken:
            self._free.append(connection)

    async def close(self) -> None:
        self._free.clear()


class SimulatedDatabase(product.Database):
    """The product's own database over such a pool."""

    def __init__(self, target: Target, process: Process) -> None:
        super().__init__(target)
        self._simulated = _Pool(process)

    def _pool(self) -> Any:
        return self._simulated


def _caller() -> str:
    """Which function of the service asks, as `module.function`."""
    frame = sys._getframe(2)
    while frame is not None and not (
        "/service/" in (file := frame.f_code.co_filename) and not file.endswith(_CARRIERS)
    ):
        frame = frame.f_back  # type: ignore[assignment]
    return "?" if frame is None else f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"


_CARRIERS = ("store/database.py", "store/batches.py")  # what only hands a statement on
