"""What a cron service does for a deployed Taxiway: it calls /process-queued, over HTTP, with the secret."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import httpx

log = logging.getLogger(__name__)


class Cron:
    """Calls `url` every so many seconds, one call at a time, each for at most `timeout` seconds.

    What goes wrong is said once, and again when it changes. Nothing that happens in a call ends it.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        every: float,
        timeout: float,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._headers = url, {"authorization": f"Bearer {secret}"}
        self._every, self._timeout, self._transport = every, timeout, transport
        self._sleep, self._clock = sleep, clock
        self._complaint: str | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call while inside. A call that is under way at the end is hung up on; its handler goes on."""
        task = asyncio.create_task(self.run_forever())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def run_forever(self) -> None:
        """Call until cancelled."""
        while True:
            begun = self._clock()
            self._say(await self._call())
            await self._sleep(max(0.0, self._every - (self._clock() - begun)))

    async def _call(self) -> str | None:
        """Call once; what was wrong, in one line."""
        try:
            # Like a real caller: no proxy of this machine's environment, no connection kept from call to call.
            async with httpx.AsyncClient(transport=self._transport, timeout=self._timeout, trust_env=False) as client:
                return _complaint(await client.post(self._url, headers=self._headers))
        except Exception as exc:
            return f"{type(exc).__name__} {exc}".strip()

    def _say(self, complaint: str | None) -> None:
        if complaint == self._complaint:
            return
        self._complaint = complaint
        if complaint:
            log.warning("cron: %s answers: %s", self._url, complaint)
        else:
            log.info("cron: %s works again", self._url)


def _complaint(response: httpx.Response) -> str | None:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.status_code != HTTPStatus.OK:
        said = ": ".join(str(body[name]) for name in ("title", "detail") if name in body)
        return f"{response.status_code} {said or response.reason_phrase}"
    errors = body.get("errors") or {}
    return "; ".join(f"{step}: {error}" for step, error in errors.items()) or None
