"""DBOS: a durable queue of workflows with one step each, whose output is where the id is kept."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import uvloop

from tests.benchmarks.contenders import calls
from tests.benchmarks.contenders.base import PAYLOAD, Contender, Enqueuer, Site, peer
from tests.benchmarks.watching import SqlWatcher, Watcher

VERSION = "bench"  # of the app, the same for those who enqueue and those who work
OPTIONS = {"queue_name": "bench", "workflow_name": "job", "app_version": VERSION}
STORED = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS' AND queue_name = 'bench'"
DELAYS = """
SELECT workflow_uuid, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 - (created_at + 0.5) / 1000
FROM dbos.workflow_status WHERE status = 'SUCCESS' AND queue_name = 'bench' ORDER BY created_at
"""


class Dbos(Contender):
    """Workflows on a queue with worker_concurrency 50."""

    name = "DBOS"
    store = "postgres"
    configuration = (
        "queue with worker_concurrency=50, polled every second, as is its default; a workflow of one step, its output "
        "kept; queued by Python's clock in ms, the middle of the millisecond is taken"
    )
    docs = "https://docs.dbos.dev/python/tutorials/queue-tutorial"
    slow = True
    needs = ("dbos", "psycopg")
    worker_module = __name__

    async def prepare(self, site: Site) -> None:
        def migrated() -> None:
            dbos = _configured(site.database)
            dbos.DBOS.launch()
            dbos.DBOS.destroy()

        await asyncio.to_thread(migrated)

    async def fill(self, site: Site, count: int) -> None:
        async with self.enqueuer(site) as enqueuer:
            for start in range(0, count, 50):
                await asyncio.gather(*(enqueuer.one() for _ in range(min(50, count - start))))

    def watcher(self, site: Site) -> Watcher:
        return SqlWatcher(site, STORED, DELAYS)

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site)


class _Enqueuer(Enqueuer):
    async def __aenter__(self) -> Enqueuer:
        self.client = peer("dbos").DBOSClient(system_database_url=self.site.database)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.client.destroy()

    async def one(self) -> None:
        await self.client.enqueue_async(OPTIONS, PAYLOAD)


def _configured(url: str) -> Any:
    dbos = peer("dbos")
    config = {"name": "bench", "system_database_url": url, "application_version": VERSION, "log_level": "WARNING"}
    dbos.DBOS(config=config)
    return dbos


async def main() -> None:
    """The worker process."""
    dbos = _configured(calls.DATABASE).DBOS
    http = calls.client()

    @dbos.step()  # type: ignore[untyped-decorator]  # dbos has none of its types here
    async def post(body: Any) -> str:
        return await calls.post(http, body)

    @dbos.workflow(name="job")  # type: ignore[untyped-decorator]  # the same
    async def job(body: Any) -> str:
        task_id: str = await post(body)
        return task_id

    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    dbos.launch()
    await dbos.register_queue_async("bench", worker_concurrency=calls.SLOTS)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(main())
