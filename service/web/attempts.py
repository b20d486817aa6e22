"""Wrong logins, counted in this process, so that guessing is slow: for each address, and for all of them together.

They are not in the database: a stranger could then make it write. Several processes allow as many attempts each.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from service.errors import TooMany
from service.logs import VIDEO, event

log = logging.getLogger(__name__)

ALLOWED = 5  # wrong attempts of one address before it has to wait
LONGEST_WAIT_SECONDS = 60.0
FORGOTTEN_SECONDS = 900.0  # after the last wrong attempt
MOST_ADDRESSES = 1_000  # remembered; the one that was seen longest ago is forgotten first
# Of all addresses together: the answer to a wrong attempt takes longer, the more there were in the last minute.
SPAN_SECONDS = 60.0
DELAY_OF_EACH_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 2.0
MOST_WAITING = 10  # wrong attempts that are being delayed
LINES_A_MINUTE = 5  # of the log about refused logins and keys, each; what comes beyond that is counted


class Attempts:
    """The wrong logins of late."""

    def __init__(self, monotonic: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._of: OrderedDict[str, tuple[int, float]] = OrderedDict()  # by address: how many, and when the last was
        self._all: deque[float] = deque(maxlen=int(LONGEST_DELAY_SECONDS / DELAY_OF_EACH_SECONDS))
        self._waiting = 0

    def check(self, address: str) -> None:
        """Refuse an attempt before its token is checked. Raises TooMany, which says when to try again."""
        count, last = self._of.get(address, (0, -math.inf))
        if count >= ALLOWED:
            wait = last + min(2.0 ** (count - ALLOWED), LONGEST_WAIT_SECONDS) - self._monotonic()
            if wait > 0:
                raise TooMany("wait before you try to log in again", wait)
        if self._waiting >= MOST_WAITING:
            raise TooMany("many wrong logins are being answered: try again in a moment", LONGEST_DELAY_SECONDS)

    async def wrong(self, address: str) -> None:
        """Remember a wrong attempt; it takes a while if there are many."""
        now = self._monotonic()
        count, last = self._of.pop(address, (0, now))
        self._of[address] = (min(count + 1, ALLOWED + 10) if now - last < FORGOTTEN_SECONDS else 1, now)
        while len(self._of) > MOST_ADDRESSES:
            self._of.popitem(last=False)
        delay = sum(now - at < SPAN_SECONDS for at in self._all) * DELAY_OF_EACH_SECONDS
        self._all.append(now)
        self._waiting += 1
        try:
            await self._sleep(delay)
        finally:
            self._waiting -= 1

    def right(self, address: str) -> None:
        """A right token: the address begins again."""
        self._of.pop(address, None)


class RefusedLog:
    """Refused logins and keys in the log, sampled: a flood of them fills no disk and hides nothing else."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lines: dict[str, deque[float]] = {}  # by name: when the last ones were written
        self._left_out: dict[str, int] = {}

    def add(self, name: str, words: str) -> None:
        """Log one, or count it."""
        lines, now = self._lines.setdefault(name, deque(maxlen=LINES_A_MINUTE)), self._monotonic()
        if len(lines) == LINES_A_MINUTE and now - lines[0] < SPAN_SECONDS:
            self._left_out[name] = self._left_out.get(name, 0) + 1
            return
        lines.append(now)
        more = self._left_out.pop(name, 0)
        event(
            log, VIDEO, name, words + (f" (and {more} more since the last line)" if more else ""), level=logging.WARNING
        )
