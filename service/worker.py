"""The resident process: ticks in a loop; beside them a submit step, woken by NOTIFY where the database allows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import asyncpg

from service.context import Context
from service.errors import NotConfigured, TaxiwayError
from service.logs import VIDEO, event
from service.store.listener import Listener
from service.tick import SubmitLoop, submit_now, tick

log = logging.getLogger(__name__)

CHANNEL = "taxiway"  # notified by every POST /videos
AFTER_ERROR_SECONDS = 5.0


class Stop:
    """Set by SIGTERM and SIGINT: no new claims; what was sent is finished."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._others: list[Callable[[], None]] = []

    def __call__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """Ask to stop."""
        self._event.set()
        for other in self._others:
            other()

    def then(self, other: Callable[[], None]) -> None:
        """Call this as well, to wake what waits for something else."""
        self._others.append(other)

    async def within(self, seconds: float) -> None:
        """Return when stopped, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)


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


async def run_forever(ctx: Context, work: Callable[[], Awaitable[object]], *, every: float, stop: Stop) -> None:
    """Do `work` every so many seconds until stopped. What fails as a TaxiwayError is tried again later."""
    due_at = ctx.monotonic()
    while not stop():
        try:
            await work()
            due_at = ctx.monotonic() + every
        except (TaxiwayError, asyncpg.PostgresError) as exc:
            words = f"{exc.title}: {exc.detail}" if isinstance(exc, TaxiwayError) else f"PostgreSQL refused: {exc}"
            event(log, VIDEO, "tick_failed", words, level=logging.ERROR)
            due_at = ctx.monotonic() + max(every, AFTER_ERROR_SECONDS)
        await stop.within(max(due_at - ctx.monotonic(), 0.0))


async def work_forever(ctx: Context, *, every: float, stop: Stop) -> None:
    """The worker: a tick every so many seconds; and beside it, with nothing to wait for, the submit step.

    Each tick and each new video wakes it.
    """
    submitting = SubmitLoop()

    async with ctx.shared_client() as resident, asyncio.TaskGroup() as both:

        async def whole() -> None:
            await tick(resident, stopping=stop, kind="worker", beside=submitting)

        both.create_task(_submit_forever(resident, submitting, every=every, stop=stop))
        both.create_task(run_forever(resident, whole, every=every, stop=stop))


async def _submit_forever(ctx: Context, submitting: SubmitLoop, *, every: float, stop: Stop) -> None:
    wake = submitting.wake
    listener = Listener(ctx.database.target, CHANNEL, partial(wake.set, due=True))
    stop.then(wake.set)
    try:
        while not stop():
            await listener.ensure()
            if wake.due:
                wake.due = False
                with contextlib.suppress(NotConfigured):  # each tick says so
                    submitting.add(await submit_now(ctx, stopping=stop, wake=wake))
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await wake.wait()
    finally:
        await listener.close()
