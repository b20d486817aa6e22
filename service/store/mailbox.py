"""Keeping callbacks: those that come while a write is under way are written together, on one connection.

So a storm of them costs the database a statement for many, and every other request keeps its connections. Each caller
waits until its own is kept: nothing runs after its answer.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass, field

from service.errors import Conflict
from service.store import inbox
from service.store.database import Database
from service.store.driver_errors import is_refusal
from service.store.inbox import Callback

TOGETHER = 500
# So many are checked and kept at the same time; the others wait in line, so that a storm of them fills no process's
# event loop, and other requests find theirs almost as free as before.
AT_ONCE = 6

Waiting = tuple[Callback, "asyncio.Future[str | None]"]


@dataclass
class _Desk:
    """The callbacks that wait in one event loop, and who writes."""

    waiting: list[Waiting] = field(default_factory=list)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))


class Mailbox:
    """Keeps callbacks in the inbox."""

    def __init__(self) -> None:
        # Some serverless hosts run every request on a loop of its own, and a lock belongs to its loop.
        self._desks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Desk] = weakref.WeakKeyDictionary()

    def _desk(self) -> _Desk:
        return self._desks.setdefault(asyncio.get_running_loop(), _Desk())

    def turn(self) -> asyncio.Semaphore:
        """To be held while a callback is checked and kept."""
        return self._desk().turns

    async def keep(self, database: Database, callback: Callback) -> bool:
        """Keep one; whether it is new. Raises Conflict if its id came before with another body."""
        desk = self._desk()
        kept: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        desk.waiting.append((callback, kept))
        async with desk.writing:
            if not kept.done():
                await _write(database, desk)
        known = await kept
        if known is not None and known != callback.body_hash:
            raise Conflict("this webhook-id was used before with another body")
        return known is None


async def _write(database: Database, desk: _Desk) -> None:
    """Write what waits, and say to each what became of it; a caller that is cut off leaves it to the next."""
    batch, desk.waiting = desk.waiting[:TOGETHER], desk.waiting[TOGETHER:]
    firsts = {callback.id: callback for callback, _ in reversed(batch)}
    try:
        known = await _receive(database, firsts)
    except Exception as exc:
        for _, kept in batch:
            if not kept.done():
                kept.set_exception(exc)
        return
    except BaseException:
        desk.waiting[:0] = [one for one in batch if not one[1].cancelled()]
        raise
    for callback, kept in batch:
        was = known.get(callback.id)
        if not kept.done():
            if isinstance(was, Exception):
                kept.set_exception(was)
            else:
                kept.set_result(was)
        known.setdefault(callback.id, callback.body_hash)  # the second of the same id


async def _receive(database: Database, callbacks: dict[str, Callback]) -> dict[str, str | Exception]:
    """By id: the hash of the body that was kept before, or why PostgreSQL refuses this one."""
    try:
        return dict(await inbox.receive(database, list(callbacks.values())))
    except Exception as exc:
        if len(callbacks) == 1 or not is_refusal(exc):
            raise
    known: dict[str, str | Exception] = {}
    for id, callback in callbacks.items():
        try:
            known |= await inbox.receive(database, [callback])
        except Exception as exc:
            if not is_refusal(exc):
                raise
            known[id] = exc
    return known
