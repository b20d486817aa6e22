"""Hearing NOTIFY, and letting those who enqueue know that a worker listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg

from service.store.database import CONNECT_SECONDS
from service.store.driver_errors import UNAVAILABLE
from service.store.url import Target

AGAIN_SECONDS = 60.0
# Transactions that notify commit one after the other, which is dear where no worker listens: so it is written down that
# one does, and believed for a while, for a worker may be in the middle of a long tick.
_LISTENS = "UPDATE taxiway.maintenance SET taken_at = taxiway.now() WHERE name = 'listener'"
HAS_LISTENER = """EXISTS (
    SELECT FROM taxiway.maintenance WHERE name = 'listener' AND taken_at > taxiway.now() - interval '15 minutes')"""


class Listener:
    """Hears NOTIFY on a connection of its own. Behind a transaction pooler it hears nothing, and costs nothing."""

    def __init__(self, target: Target | None, channel: str, wake: Callable[[], None]) -> None:
        self._target = target
        self._channel = channel
        self._wake = wake
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._said_at = 0.0

    async def ensure(self) -> None:
        """Listen, if that is possible and not so already. Without it, the worker wakes by the clock."""
        if self._target is None or self._target.pooler:
            return
        now = asyncio.get_running_loop().time()
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(**(self._target.options | {"timeout": CONNECT_SECONDS}))
                await self._connection.add_listener(self._channel, lambda *_: self._wake())
            elif now < self._said_at + AGAIN_SECONDS:
                return
            await self._connection.execute(_LISTENS)
            self._said_at = now
        except (*UNAVAILABLE, asyncpg.PostgresError):  # also a trigger or a missing right: the clock does as well
            await self.close()

    async def close(self) -> None:
        """Stop listening."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()  # nothing is in flight on it
