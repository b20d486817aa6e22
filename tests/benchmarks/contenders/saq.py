"""SAQ on Redis: 50 coroutines in one worker, and the job's result is where the id is kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.benchmarks.contenders import calls
from tests.benchmarks.contenders.base import PAYLOAD, Contender, Enqueuer, Site, peer


class Saq(Contender):
    """`saq.Worker` with concurrency 50."""

    name = "SAQ"
    store = "redis"
    configuration = (
        "RedisQueue with max_concurrent_ops=50, Worker with concurrency=50; the id is the job's result, kept"
    )
    needs = ("saq", "redis")
    worker_module = "tests.benchmarks.contenders.saq"
    filled = 0

    async def prepare(self, site: Site) -> None:
        return None

    async def fill(self, site: Site, count: int) -> None:
        self.filled = count
        queue = _queue(site.redis)
        for start in range(0, count, 200):
            some = range(start, min(start + 200, count))
            await asyncio.gather(*(queue.enqueue("job", body=PAYLOAD, ttl=0) for _ in some))
        await queue.disconnect()

    async def stored(self, site: Site) -> int:
        redis = peer("redis.asyncio").from_url(site.redis)
        left: int = await redis.zcard("saq:default:incomplete")
        await redis.aclose()
        return self.filled - left

    async def delays(self, site: Site) -> list[float]:
        jobs = sorted((job["queued"], job["completed"]) for job in await _jobs(site) if job.get("result"))
        return [(completed - queued) / 1000 for queued, completed in jobs]

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site)


def _queue(url: str) -> Any:
    return peer("saq").Queue.from_url(url, max_concurrent_ops=50)


async def _jobs(site: Site) -> list[dict[str, Any]]:
    redis = peer("redis.asyncio").from_url(site.redis)
    keys = [key async for key in redis.scan_iter("saq:job:default:*", count=1000)]
    values = [await redis.mget(keys[start : start + 1000]) for start in range(0, len(keys), 1000)]
    await redis.aclose()
    return [json.loads(value) for some in values for value in some if value]


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
    return await calls.post(ctx["session"], body)


async def main() -> None:
    """The worker process."""
    async with calls.client() as session:

        async def startup(ctx: dict[str, Any]) -> None:
            ctx["session"] = session

        worker = peer("saq").Worker(
            _queue(calls.REDIS), [job], concurrency=calls.SLOTS, startup=startup, shutdown_grace_period_s=1
        )
        await worker.start()


if __name__ == "__main__":
    asyncio.run(main())
