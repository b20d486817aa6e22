"""The resident process: ticks in a loop, woken by NOTIFY where the database allows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator

from service.errors import TaxiwayError
from service.house import House
from service.logs import VIDEO, event
from service.store.listener import Listener

log = logging.getLogger(__name__)

CHANNEL = "taxiway"  # notified by every POST /videos
AFTER_ERROR_SECONDS = 5.0


class Stop:
    """Set by SIGTERM and SIGINT: no new claims; what was sent is finished."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __call__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """Ask to stop."""
        self._event.set()

    async def within(self, seconds: float, *others: asyncio.Event) -> None:
        """Return when stopped, when one of `others` is set, or after `seconds`."""
        waits = [asyncio.create_task(one.wait()) for one in (self._event, *others)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


@contextlib.contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop` while inside."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def run_forever(
    house: House, work: Callable[[], Awaitable[object]], *, every: float, stop: Stop, listen: bool = True
) -> None:
    """Do `work` until stopped: at once when a video is handed in, and at least once in `every` seconds."""
    woken = asyncio.Event()
    listener = Listener(house.database.target if listen else None, CHANNEL, woken.set)
    try:
        while not stop():
            await listener.ensure()
            woken.clear()
            wait = every
            try:
                await work()
            except TaxiwayError as exc:
                event(log, VIDEO, "tick_failed", f"{exc.title}: {exc.detail}", level=logging.ERROR)
                wait = max(every, AFTER_ERROR_SECONDS)
            await stop.within(wait, woken)
    finally:
        await listener.close()
        await house.database.close()
