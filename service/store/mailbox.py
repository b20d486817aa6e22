"""Keeping callbacks: those that come while a write is under way are written together, on one connection."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence

from service.errors import Conflict
from service.store import inbox
from service.store.database import Database
from service.store.inbox import Callback
from service.store.together import Together

TOGETHER = 500
# So many are checked and kept at the same time; the others wait in line, so that a storm of them fills no process's
# event loop, and other requests find theirs almost as free as before.
AT_ONCE = 6


class Mailbox:
    """Keeps callbacks in the inbox."""

    def __init__(self) -> None:
        self._together: Together[Callback, str | None] = Together(TOGETHER)
        # Some serverless hosts run every request on a loop of its own, and a lock belongs to its loop.
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._turns = weakref.WeakKeyDictionary()

    def turn(self) -> asyncio.Semaphore:
        """To be held while a callback is checked and kept."""
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))

    async def keep(self, database: Database, callback: Callback) -> bool:
        """Keep one; whether it is new. Raises Conflict if its id came before with another body."""

        async def receive(callbacks: list[Callback]) -> list[str | None]:
            return await _receive(database, callbacks)

        known = await self._together.ask(callback, receive)
        if known is not None and known != callback.body_hash:
            raise Conflict("this webhook-id was used before with another body")
        return known is None


async def _receive(database: Database, callbacks: Sequence[Callback]) -> list[str | None]:
    """Keep these; for each that was there already, or came twice, the hash of the body that was kept."""
    firsts = {callback.id: callback for callback in reversed(callbacks)}
    known = await inbox.receive(database, list(firsts.values()))
    found = []
    for callback in callbacks:
        found.append(known.get(callback.id))
        known.setdefault(callback.id, callback.body_hash)
    return found
