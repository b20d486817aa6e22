"""What this process was refused a moment ago, so that one tick does not try it twice."""

from __future__ import annotations

import time
from collections.abc import Callable

REST_SECONDS = 30.0
MOST = 10_000  # of one statement; more are forgotten, and are refused again


class Recently:
    """Keys by the name of a statement, each for REST_SECONDS."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._until: dict[str, dict[str, float]] = {}

    def add(self, statement: str, key: str) -> None:
        """Remember one from now."""
        known = self._until.setdefault(statement, {})
        if len(known) < MOST:
            known[key] = self._monotonic() + REST_SECONDS

    def keys(self, statement: str) -> list[str]:
        """Those that are still remembered."""
        known = self._until.get(statement)
        if not known:
            return []
        now = self._monotonic()
        self._until[statement] = {key: until for key, until in known.items() if until > now}
        return list(self._until[statement])

    def clear(self) -> None:
        """Forget all."""
        self._until.clear()
