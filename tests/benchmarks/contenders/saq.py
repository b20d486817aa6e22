"""SAQ on Redis: 50 coroutines in one worker, and the job's result is where the id is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from tests.benchmarks.contenders import calls
from tests.benchmarks.contenders.base import PAYLOAD, Contender, Enqueuer, Site, peer
from tests.benchmarks.watching import RedisWatcher, Watcher

STORED = "#redis.call('KEYS', 'saq:job:default:*') - redis.call('ZCARD', 'saq:default:incomplete')"


class Saq(Contender):
    """`saq.Worker` with concurrency 50."""

    name = "SAQ"
    store = "redis"
    configuration = (
        "RedisQueue with max_concurrent_ops=50, Worker with concurrency=50; the id is the job's result, kept"
    )
    docs = "https://github.com/tobymao/saq"
    needs = ("saq", "redis")
    worker_module = "tests.benchmarks.contenders.saq"

    async def prepare(self, site: Site) -> None:
        return None

    async def fill(self, site: Site, count: int) -> None:
        queue = _queue(site.redis)
        for start in range(0, count, 200):
            some = range(start, min(start + 200, count))
            await asyncio.gather(*(queue.enqueue("job", body=PAYLOAD, ttl=0) for _ in some))
        await queue.disconnect()

    def watcher(self, site: Site) -> Watcher:
        return RedisWatcher(site, STORED, r'"SET" "(saq:job:[^"]+)" ', r'"SET" "(saq:job:[^"]+)" .*?complete')

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site)


def _queue(url: str) -> Any:
    return peer("saq").Queue.from_url(url, max_concurrent_ops=50)


class _Enqueuer(Enqueuer):
    async def __aenter__(self) -> Enqueuer:
        self.queue = _queue(self.site.redis)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.queue.disconnect()

    async def one(self) -> None:
        await self.queue.enqueue("job", body=PAYLOAD, ttl=0)


async def job(ctx: dict[str, Any], *, body: dict[str, Any]) -> str:
    """Post one; what it returns is stored."""
    return await calls.post(ctx["http"], body)


async def main() -> None:
    """The worker process."""
    http = calls.client()

    async def startup(ctx: dict[str, Any]) -> None:
        ctx["http"] = http

    worker = peer("saq").Worker(
        _queue(calls.REDIS), [job], concurrency=calls.SLOTS, startup=startup, shutdown_grace_period_s=1
    )
    await worker.start()


if __name__ == "__main__":
    uvloop.run(main())
