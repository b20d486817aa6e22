"""The time that a tick has: until when it may claim, how long a call may take, and what it waits for meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

# With HARD_LIMIT, a call ends this long before the platform kills: time to save what it brought.
SAVING_SECONDS = 5.0
SHORTEST_CALL_SECONDS = 10.0
SHORTEST_ASK_SECONDS = 1.0  # a GET or DELETE with less time than this is not begun
# After SIGTERM, so long is tried to save what was paid for; platforms kill after 10 to 30 s.
SAVE_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Share:
    """What one step may take: called, it says whether to go on. `calls_end`: when its GETs and DELETEs must be over."""

    monotonic: Callable[[], float]
    ends: float
    calls_end: float = math.inf
    stopping: Callable[[], bool] = lambda: False

    def __call__(self) -> bool:
        """Whether more may begin."""
        return not self.stopping() and self.monotonic() < self.ends

    @property
    def may_ask(self) -> bool:
        """Whether there is time for a GET or a DELETE."""
        return self.ask_seconds(SHORTEST_ASK_SECONDS) > 0

    def ask_seconds(self, wanted: float) -> float:
        """How long a GET or DELETE that starts now may take: no longer than wanted; 0 if there is no time for one."""
        left = self.calls_end - self.monotonic()
        return min(wanted, left) if left >= SHORTEST_ASK_SECONDS else 0.0


def unlimited(monotonic: Callable[[], float]) -> Share:
    """The share of a step for which nothing waits."""
    return Share(monotonic, math.inf)


@dataclass
class Deadline:
    """When claiming must stop. Times are on `monotonic`; `hard_stop`: the platform kills at this time."""

    monotonic: Callable[[], float]
    budget_ends: float
    hard_stop: float | None = None
    stopping: Callable[[], bool] = lambda: False

    @property
    def is_open(self) -> bool:
        """Whether more work may begin at all."""
        return not self.stopping() and self.monotonic() < self.budget_ends

    def whole(self) -> Share:
        """The share of a step that runs beside the others: all the time that is left."""
        calls_end = math.inf if self.hard_stop is None else self.hard_stop - SAVING_SECONDS
        return Share(self.monotonic, self.budget_ends, calls_end, self.stopping)

    def share(self, part: float) -> Share:
        """The share of a step that others wait for: this part of the time that is left now, its calls included.

        Of the time before the last POST can begin, if the platform kills: submitting waits for this step, too.
        """
        now, ends = self.monotonic(), self.budget_ends
        if self.hard_stop is not None:
            ends = min(ends, self.hard_stop - SAVING_SECONDS - SHORTEST_CALL_SECONDS)
        ends = now + max(ends - now, 0.0) * part
        return Share(self.monotonic, ends, ends, self.stopping)

    def or_at_least(self, seconds: float) -> Share:
        """The share of a step that has so many seconds even if the budget is used, unless the platform kills."""
        calls_end = math.inf if self.hard_stop is None else self.hard_stop - SAVING_SECONDS
        ends = min(max(self.budget_ends, self.monotonic() + seconds), calls_end)
        return Share(self.monotonic, ends, calls_end, self.stopping)

    def call_seconds(self, post_timeout: float) -> float:
        """How long a call that starts now may take."""
        if self.hard_stop is None:
            return post_timeout
        return min(post_timeout, self.hard_stop - SAVING_SECONDS - self.monotonic())

    def can_claim(self, p95_seconds: float | None, post_timeout: float) -> bool:
        """Whether `p95_seconds` fit into what is left. None: the first claim of a tick, the budget does not stop it."""
        if self.stopping() or self.call_seconds(post_timeout) < SHORTEST_CALL_SECONDS:
            return False
        return p95_seconds is None or self.monotonic() + p95_seconds < self.budget_ends


class Wake:
    """Wakes the submit step. `due`: something may be due, perhaps a `probe`; else what it waited for has come."""

    def __init__(self) -> None:
        self._set = asyncio.Event()
        self.due = self.probe = False

    def set(self, *, due: bool = False, probe: bool = False) -> None:
        """End the wait."""
        self.due, self.probe = self.due or due, self.probe or probe
        self._set.set()

    async def wait(self) -> None:
        """Until it is set, or at once if it was set since the last wait."""
        await self._set.wait()
        self._set.clear()


class Grace:
    """How long saving may go on: for as long as this process lives, and SAVE_GRACE_SECONDS after it is to stop."""

    def __init__(self, monotonic: Callable[[], float], stopping: Callable[[], bool] = lambda: False) -> None:
        self._monotonic = monotonic
        self._stopping = stopping
        self._ends: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether it is time to give up."""
        if self._ends is None and self._stopping():
            self._ends = self._monotonic() + SAVE_GRACE_SECONDS
        return self._ends is not None and self._monotonic() >= self._ends
