"""A sliding window of calls: each that comes back makes room for the next, so that none waits for the slowest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LEAST_SHARE = 10  # items are claimed once this part (1 / n) of the slots is free: a claim for five costs what one does


class Window(Generic[Item, Result]):
    """Calls in a window of `slots`.

    `claim`: at most so many items, none when nothing is due; `call`: one of them; `save`: the results that have come
    back since the last save, while other calls go on. Whatever one of them raises ends it, and cuts off the calls under
    way.
    """

    def __init__(
        self,
        slots: int,
        claim: Callable[[int], Awaitable[Sequence[Item]]],
        call: Callable[[Item], Awaitable[Result]],
        save: Callable[[list[Result]], Awaitable[None]],
    ) -> None:
        self._slots = slots
        self._claim, self._call, self._save = claim, call, save
        self._calls: set[asyncio.Task[Result]] = set()

    async def run(self, may_go_on: Callable[[], bool]) -> None:
        """Until nothing is due, or `may_go_on` says that the time is over; then to the end of what was begun.

        The first claim asks for no time, so that a small budget makes progress.
        """
        more = first = True
        try:
            while more or self._calls:
                free = self._slots - len(self._calls)
                if more and (free >= max(1, self._slots // LEAST_SHARE) or not self._calls):
                    items = await self._claim(free) if first or may_go_on() else []
                    more, first = bool(items), False
                    self._calls.update(asyncio.create_task(self._begin(item)) for item in items)
                else:
                    await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
                await self._save_done()
        finally:
            await self._end()

    async def _begin(self, item: Item) -> Result:
        return await self._call(item)

    async def _save_done(self) -> None:
        done = {call for call in self._calls if call.done()}
        self._calls -= done
        if done:
            await self._save([call.result() for call in done])

    async def _end(self) -> None:
        """Nothing is left running, whatever went wrong."""
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)
