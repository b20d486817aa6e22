"""A Runway that accepts everything after a fixed time: `python -m tests.benchmarks.mock PORT`.

aiohttp's server without its router, so that the mock costs as little as it can. It counts what it was sent.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from uuid import uuid4

from aiohttp import web

LOOK_SECONDS = 0.1  # a GET takes its time, as Runway's does: no peer looks at what its jobs became
TASK = '{"id":"%s","status":"RUNNING","createdAt":"2026-01-01T00:00:00.000Z","progress":0.5}'


class Mock:
    """What was asked, when, and how many creates were open over time."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.reset(0.0)

    def reset(self, delay: float) -> None:
        self.delay = delay
        self.creates = self.answered = self.looks = self.open = self.most_open = 0
        self.first_at = self.last_at = self._changed_at = 0.0
        self.busy = self.busy_at_last = 0.0  # slot-seconds: the integral of `open`

    def _move(self, by: int) -> float:
        now = time.time()
        self.busy += self.open * (now - self._changed_at)
        self._changed_at = now
        self.open += by
        return now

    async def create(self) -> web.Response:
        """POST: an id, after the delay."""
        now = self._move(1)
        self.first_at = self.first_at or now
        self.last_at, self.busy_at_last = now, self.busy
        self.creates += 1
        self.most_open = max(self.most_open, self.open)
        if self.delay:
            await asyncio.sleep(self.delay)
        self._move(-1)
        self.answered += 1
        body = f'{{"id":"{uuid4()}","estimatedCost":{{"credits":25}}}}'
        return web.Response(text=body, content_type="application/json")

    def state(self) -> dict[str, float]:
        names = ("creates", "answered", "looks", "most_open", "first_at", "last_at", "busy_at_last")
        return {name: getattr(self, name) for name in names}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path == "/_state":
            return web.Response(text=json.dumps(self.state()), content_type="application/json")
        if path == "/_reset":
            self.reset(float(request.query["seconds"]))
            return web.Response(text="{}", content_type="application/json")
        if request.method == "POST":
            await request.read()
            return await self.create()
        self.looks += 1
        await asyncio.sleep(LOOK_SECONDS)
        return web.Response(text=TASK % path.rpartition("/")[2], content_type="application/json")


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    runner = web.ServerRunner(web.Server(Mock().handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
