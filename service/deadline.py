"""The time that a tick has: until when it may claim, how long a call may take, and what it waits for meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

# With HARD_LIMIT, a call ends this long before the platform kills: time to save what it brought.
SAVING_SECONDS = 5.0
SHORTEST_CALL_SECONDS = 10.0


@dataclass
class Window:
    """When claiming must stop. Times are on `clock`; `hard_stop`: the platform kills at this time."""

    clock: Callable[[], float]
    budget_ends: float
    hard_stop: float | None = None
    stopping: Callable[[], bool] = lambda: False

    @property
    def is_open(self) -> bool:
        """Whether more work may begin at all."""
        return not self.stopping() and self.clock() < self.budget_ends

    def call_seconds(self, post_timeout: float) -> float:
        """How long a call that starts now may take."""
        if self.hard_stop is None:
            return post_timeout
        return min(post_timeout, self.hard_stop - SAVING_SECONDS - self.clock())

    def may_claim(self, usual_seconds: float | None, post_timeout: float) -> bool:
        """Whether what is left covers a usual call. None: the first claim of a tick, which the budget does not stop."""
        if self.stopping() or self.call_seconds(post_timeout) < SHORTEST_CALL_SECONDS:
            return False
        return usual_seconds is None or self.clock() + usual_seconds < self.budget_ends


class Bell:
    """Rings when a claim may be worth it: a call came back, or (`news`) something is due, perhaps a `probe`."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self.news = asyncio.Event()
        self.probe = False

    def ring(self, *, news: bool = False, probe: bool = False) -> None:
        """Wake whoever waits."""
        self.probe = self.probe or probe
        if news:
            self.news.set()
        self._rung.set()

    async def wait(self) -> None:
        """Until it rings, or at once if it has rung since the last wait."""
        await self._rung.wait()
        self._rung.clear()
