"""Procrastinate: concurrency 50 in one worker, on its psycopg connector."""

from __future__ import annotations

from typing import Any

import uvloop

from tests.benchmarks.contenders import calls
from tests.benchmarks.contenders.base import PAYLOAD, Contender, Enqueuer, Site, peer
from tests.benchmarks.watching import SqlWatcher, Watcher
from tests.database import execute

DELAYS = """
SELECT r.job, extract(epoch FROM pg_xact_commit_timestamp(r.xmin) - e.at)::float8
FROM results r JOIN procrastinate_events e ON e.job_id = r.job AND e.type = 'deferred' ORDER BY r.job
"""


class Procrastinate(Contender):
    """`App.run_worker_async` with concurrency 50."""

    name = "Procrastinate"
    store = "postgres"
    configuration = (
        "PsycopgConnector with max_size=20, concurrency=50, LISTEN; each id is inserted into a table by asyncpg"
    )
    docs = "https://procrastinate.readthedocs.io/"
    slow = True
    needs = ("procrastinate", "psycopg")
    worker_module = __name__

    async def prepare(self, site: Site) -> None:
        app, _ = _app(site.database)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
        await execute(site.database, calls.RESULTS)

    async def fill(self, site: Site, count: int) -> None:
        app, job = _app(site.database)
        async with app.open_async():
            await job.batch_defer_async(*({"body": PAYLOAD} for _ in range(count)))

    def watcher(self, site: Site) -> Watcher:
        return SqlWatcher(site, calls.STORED, DELAYS)

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site)


class _Enqueuer(Enqueuer):
    async def __aenter__(self) -> Enqueuer:
        self.app, self.job = _app(self.site.database)
        await self.app.open_async()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.app.close_async()

    async def one(self) -> None:
        await self.job.defer_async(body=PAYLOAD)


def _app(url: str, work: Any = None) -> tuple[Any, Any]:
    module = peer("procrastinate")
    app = module.App(connector=module.PsycopgConnector(conninfo=url, max_size=20))

    async def job(context: Any, body: dict[str, Any]) -> None:
        await work(context.job.id, body)

    return app, app.task(name="job", pass_context=True)(job)


async def main() -> None:
    """The worker process."""
    http, database = calls.client(), await calls.pool()

    async def work(number: int, body: dict[str, Any]) -> None:
        await database.execute(calls.STORE, number, await calls.post(http, body))

    app, _ = _app(calls.DATABASE, work)
    async with app.open_async():
        await app.run_worker_async(concurrency=calls.SLOTS)


if __name__ == "__main__":
    uvloop.run(main())
