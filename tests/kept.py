"""Connections that outlive a test, and with them the plans of their statements, which cost more than most tests.

Only a database of the pool (tests/pool.py) is listed here, for as long as the pool has it. All tests of a process run
in one event loop (tests/conftest.py), so that a test can go on with the connections of the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from service.store.database import Database

if TYPE_CHECKING:
    from tests.database import Connection

PATIENCE_SECONDS = 30  # for connecting and for one statement; a loaded CI machine is slow, a hang is longer


@dataclass
class Kept:
    """What rests between two tests, in their `loop`, of the connections to one database.

    `own`: one of the tests themselves. `connections`: the product's, all of one `kind`.
    """

    loop: asyncio.AbstractEventLoop
    own: Connection | None = None
    kind: object = None
    connections: Any = None

    def backends(self) -> str:
        """The server's processes behind them, with spaces in between: asyncpg would look an array's type up."""
        product = [one.raw for one in self.connections._idle] if self.connections else []
        pids = (raw.get_server_pid() for raw in (*product, self.own) if raw is not None and not raw.is_closed())
        return " ".join(map(str, pids))

    async def reset(self) -> None:
        """Undo what a test may have set all the same."""
        if self.own is not None and not self.own.is_closed():
            await self.own.reset(timeout=PATIENCE_SECONDS)

    async def close(self) -> None:
        """End them."""
        connections, own, self.connections, self.own = self.connections, self.own, None, None
        if own is not None:
            own.terminate()
        if connections is not None:
            for one in connections._idle:
                one.raw.terminate()
            await connections.close()


kept: dict[str, Kept] = {}  # by the URL of the database


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Connection]:
    """A connection for statements that change no session; of a database of the pool, the one that is kept for that."""
    rests = kept.get(url)
    if rests is None or rests.loop is not asyncio.get_running_loop():
        rests = Kept(asyncio.get_running_loop())
    own, rests.own = rests.own, None  # a second question at the same time has a new one
    if own is None or own.is_closed():
        own = await asyncpg.connect(url, timeout=PATIENCE_SECONDS, command_timeout=PATIENCE_SECONDS)
    try:
        yield own
    finally:
        if kept.get(url) is rests and rests.own is None and not own.is_in_transaction():
            rests.own = own
        else:
            await own.close(timeout=PATIENCE_SECONDS)


@asynccontextmanager
async def going_on(url: str, database: Database) -> AsyncIterator[None]:
    """Inside, the product has the connections of the test before; the next one has them, if they rest at the end.

    Those of another kind (other options, another size of the pool), and of a second Taxiway, are closed at the end.
    """
    loop, rests, kind = asyncio.get_running_loop(), kept.get(url), (database.target, database._pool_size)
    if rests is not None and rests.loop is loop and rests.connections is not None and rests.kind == kind:
        database._pools[loop], rests.connections = rests.connections, None
    try:
        yield
    finally:
        used = database._pools.get(loop)
        if rests is not None and rests.loop is loop and rests.connections is None and _are_at_rest(used, kind[1]):
            rests.kind, rests.connections = kind, database._pools.pop(loop)
        await database.close()


def _are_at_rest(connections: Any, size: int) -> bool:
    """Whether there are any, and each was given back and lives."""
    return (
        connections is not None
        and connections._free._value == size
        and not any(one.raw.is_closed() for one in connections._idle)
    )
