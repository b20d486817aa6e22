"""One answer for all who ask within a moment: what it costs does not grow with them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from service.errors import TaxiwayError

T = TypeVar("T")


class Fresh(Generic[T]):
    """A value, or the error that came instead, at most `seconds` old. Who asks meanwhile waits for the same."""

    def __init__(self, make: Callable[[], Awaitable[T]], seconds: float, monotonic: Callable[[], float]) -> None:
        self._make = make
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._found: list[T] = []
        self._error: TaxiwayError | None = None
        self._at = -math.inf

    async def get(self) -> T:
        """The value. Raises what making it raised."""
        async with self._lock:
            if self._monotonic() - self._at >= self._seconds:
                try:
                    self._found, self._error = [await self._make()], None
                except TaxiwayError as exc:
                    self._error = exc
                self._at = self._monotonic()
            if self._error is not None:
                raise self._error.with_traceback(None)
            return self._found[0]
