"""Hearing NOTIFY."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from service.store.away import AWAY
from service.store.database import CONNECT_SECONDS
from service.store.url import Target


class Listener:
    """Hears NOTIFY on a connection of its own. Behind a transaction pooler it hears nothing, and costs nothing."""

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
        except AWAY:
            await self.close()

    async def close(self) -> None:
        """Stop listening."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()  # nothing is in flight on it
