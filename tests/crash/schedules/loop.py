"""An event loop whose time stands still until the simulation moves it, and that says when nothing moves any more.

Sockets are real, for the database is. So the loop is quiet when no callback is ready and no statement is on its way.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine, Generator
from typing import Any

STALL_SECONDS = 0.004  # real time in which an answer of the database should come, if nothing holds it up
PATIENCE_SECONDS = 0.05
SECONDS_BETWEEN_TIMERS = 1e-9

# What a task belongs to, for a task that it starts belongs to the same.
owner: contextvars.ContextVar[dict[asyncio.Task[Any], None] | None] = contextvars.ContextVar("owner", default=None)


class _Selector(selectors.DefaultSelector):
    """Is asked with a timeout other than 0 only if no callback is ready: that is the moment to look."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:
            return super().select(0)
        waiting = self.loop.waiting
        if waiting is None:
            return super().select(PATIENCE_SECONDS)
        if self.loop.in_flight == 0:
            self.loop.wake(True)
            return []
        events = super().select(STALL_SECONDS)
        if not events:
            self.loop.wake(False)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """`now`: its time in seconds, set by hand; `in_flight`: statements that the database works on."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers = 0
        self.in_flight = 0
        self.waiting: asyncio.Future[bool] | None = None
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self.set_task_factory(_owned_task)

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def call_at(  # type: ignore[override]  # the stubs tie the arguments to the callback
        self, when: float, callback: Callable[..., object], *arguments: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """As ever; but of two timers that end together, the one that was set first is the first."""
        self._timers += 1
        return super().call_at(when + self._timers * SECONDS_BETWEEN_TIMERS, callback, *arguments, context=context)

    def begin_again(self) -> None:
        """Back to 0."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # no public word for it
        assert all(timer.cancelled() for timer in timers), timers
        timers.clear()
        self._timer_cancelled_count = 0
        self._timers, self.now = 0, 0.0

    def wake(self, quiet: bool) -> None:
        """Answer whoever waits in `rest`."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(quiet)

    async def rest(self) -> bool:
        """Until nothing moves: True; or until a statement takes suspiciously long: False."""
        self.waiting = self.create_future()
        return await self.waiting

    def next_timer(self) -> float | None:
        """When the next timer ends, if there is one."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # no public word for it
        return min((timer.when() for timer in timers if not timer.cancelled()), default=None)


def _owned_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any] | Generator[Any, None, Any], **options: Any
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    tasks = owner.get()
    if tasks is not None:
        tasks[task] = None
        task.add_done_callback(lambda done: tasks.pop(done, None))
    return task
