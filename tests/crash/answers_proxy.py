"""A proxy in front of Runway that is no friend: it gives answers twice, late, and to others.

An answer that comes twice lies on its connection before the next request is written there. Answers to two polls change
places; those to creates do not, for between two connections no proxy mixes them up: what belongs to a create is
proved by the connection alone, while an answer to a poll names its task.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

from tests.crash.http_proxy import read_http
from tests.crash.proxy import Proxy

RATE = 0.06  # of each
LONGEST_DELAY_SECONDS = 1.5
SWAP_SECONDS = 0.5  # how long an answer waits for another one to change places with


@dataclass
class Mischief:
    """What becomes of answers; `did` counts it. Without a `rate`, nothing."""

    dice: Random
    rate: float = RATE
    did: Counter[str] = field(default_factory=Counter)
    _held: tuple[bytes, asyncio.Future[bytes]] | None = None

    async def of(self, request: bytes, answer: bytes) -> bytes:
        """The bytes to send instead of this answer."""
        kind = self.dice.random() / self.rate if self.rate else 3
        if kind < 1:
            self.did["answers given twice"] += 1
            return answer + answer
        if kind < 2:
            self.did["answers delayed"] += 1
            await asyncio.sleep(self.dice.random() * LONGEST_DELAY_SECONDS)
        elif kind < 3 and request.startswith(b"GET /v1/tasks/"):
            return await self._swapped(answer)
        return answer

    async def _swapped(self, answer: bytes) -> bytes:
        """The answer to another poll, if one comes by in time."""
        if self._held is not None and not self._held[1].done():
            other, waiting = self._held
            self._held = None
            waiting.set_result(answer)
            self.did["answers swapped"] += 2
            return other
        waiting = asyncio.get_running_loop().create_future()
        self._held = (answer, waiting)
        try:
            async with asyncio.timeout(SWAP_SECONDS):
                return await waiting
        except TimeoutError:
            return answer


@asynccontextmanager
async def answers_proxy(url: str, mischief: Mischief, port: int = 0) -> AsyncIterator[Proxy]:
    """Such a proxy; its `url` is the RUNWAYML_BASE_URL to use instead."""
    parts = urlsplit(url)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            while True:
                request, whole = await read_http(reader)
                to_server.write(request)
                if not whole:
                    return
                answer, whole = await read_http(server, of_request=request)
                writer.write(await mischief.of(request, answer) if whole else answer)
                await writer.drain()
                if not whole or b"\r\nconnection: close\r\n" in request.lower():
                    writer.close()
                    await writer.wait_closed()  # what is written is sent first
                    return
        finally:
            to_server.transport.abort()

    async with Proxy(handle).listening(port) as proxy:
        proxy.url = f"http://127.0.0.1:{proxy.port}"
        yield proxy
