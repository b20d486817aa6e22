"""arq on Redis: 50 jobs at once in one worker, and the job's result is where the id is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from tests.benchmarks.contenders import calls
from tests.benchmarks.contenders.base import PAYLOAD, Contender, Enqueuer, Site, peer
from tests.benchmarks.watching import RedisWatcher, Watcher

STORED = "#redis.call('KEYS', 'arq:result:*')"


class Arq(Contender):
    """`arq.Worker` with max_jobs 50."""

    name = "arq"
    store = "redis"
    configuration = "Worker with max_jobs=50; the id is the job's result, kept"
    docs = "https://arq-docs.helpmanual.io"
    needs = ("arq",)
    worker_module = "tests.benchmarks.contenders.arq"

    async def prepare(self, site: Site) -> None:
        return None

    async def fill(self, site: Site, count: int) -> None:
        pool = await _pool(site.redis)
        for start in range(0, count, 100):
            some = range(start, min(start + 100, count))
            await asyncio.gather(*(pool.enqueue_job("job", PAYLOAD) for _ in some))
        await pool.aclose()

    def watcher(self, site: Site) -> Watcher:
        return RedisWatcher(site, STORED, r'"PSETEX" "arq:job:(\w+)" ', r'"(?:PSETEX|SET)" "arq:result:(\w+)" ')

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site)


async def _pool(url: str) -> Any:
    return await peer("arq").create_pool(peer("arq.connections").RedisSettings.from_dsn(url))


class _Enqueuer(Enqueuer):
    async def __aenter__(self) -> Enqueuer:
        self.pool = await _pool(self.site.redis)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.pool.aclose()

    async def one(self) -> None:
        await self.pool.enqueue_job("job", PAYLOAD)


async def job(ctx: dict[str, Any], body: dict[str, Any]) -> str:
    """Post one; what it returns is stored."""
    return await calls.post(ctx["http"], body)


async def main() -> None:
    """The worker process."""
    http = calls.client()

    async def startup(ctx: dict[str, Any]) -> None:
        ctx["http"] = http

    settings = peer("arq.connections").RedisSettings.from_dsn(calls.REDIS)
    worker = peer("arq").Worker([job], redis_settings=settings, max_jobs=calls.SLOTS, on_startup=startup)
    await worker.async_run()


if __name__ == "__main__":
    uvloop.run(main())
