"""What one process remembers of webhooks between two requests: whether to ask the database for what is due."""

from __future__ import annotations

import math

ASK_SECONDS = 1.0  # a burst of requests asks once


class Outbox:
    """`is_configured`: the table of endpoints says what this process's settings say."""

    def __init__(self) -> None:
        self.is_configured = False
        self._asked_at = -math.inf
        self._has_news = False

    def note(self) -> None:
        """Something has ended: ask again, however short the time since the last question."""
        self._has_news = True

    def take(self, now: float) -> bool:
        """Whether it is time to ask; `now`: monotonic seconds. The caller then does."""
        if not self._has_news and now - self._asked_at < ASK_SECONDS:
            return False
        self._has_news, self._asked_at = False, now
        return True
