"""PgQueuer: batches of 25, at most 50 in flight, on an asyncpg pool and uvloop, as its own command line runs it."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import timedelta
from typing import Any

import asyncpg
import uvloop

from tests.benchmarks.contenders import calls
from tests.benchmarks.contenders.base import PAYLOAD, Contender, Enqueuer, Site, peer
from tests.benchmarks.watching import SqlWatcher, Watcher
from tests.database import execute

# Its queue deletes a job that is done and logs it; the log has when it was queued.
DELAYS = """
SELECT r.job, extract(epoch FROM pg_xact_commit_timestamp(r.xmin) - l.created)::float8
FROM results r JOIN pgqueuer_log l ON l.job_id = r.job AND l.status = 'queued' ORDER BY r.job
"""


class PgQueuer(Contender):
    """`PgQueuer.run` with batches of half the slots, the most that it takes for 50 in flight."""

    name = "PgQueuer"
    store = "postgres"
    configuration = "batch_size=25, max_concurrent_tasks=50, asyncpg pool; each id is inserted into a table"
    docs = "https://janbjorge.github.io/pgqueuer/"
    needs = ("pgqueuer",)
    worker_module = __name__

    async def prepare(self, site: Site) -> None:
        connection = await asyncpg.connect(site.database)
        await _queries(connection).install()
        await connection.close()
        await execute(site.database, calls.RESULTS)

    async def fill(self, site: Site, count: int) -> None:
        connection = await asyncpg.connect(site.database)
        body = json.dumps(PAYLOAD).encode()
        await _queries(connection).enqueue(["job"] * count, [body] * count, [0] * count)
        await connection.close()

    def watcher(self, site: Site) -> Watcher:
        return SqlWatcher(site, calls.STORED, DELAYS)

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site)


def _queries(connection: Any) -> Any:
    queries = peer("pgqueuer.queries").Queries
    return queries.from_asyncpg_connection(connection)


class _Enqueuer(Enqueuer):
    async def __aenter__(self) -> Enqueuer:
        self.connection = await asyncpg.connect(self.site.database)
        self.queries = _queries(self.connection)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.connection.close()

    async def one(self) -> None:
        await self.queries.enqueue("job", json.dumps(PAYLOAD).encode())


async def main() -> None:
    """The worker process."""
    http, database = calls.client(), await calls.pool()
    runner = peer("pgqueuer").PgQueuer.from_asyncpg_pool(await calls.pool())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.shutdown.set)

    async def job(job: Any) -> None:
        task_id = await calls.post(http, json.loads(job.payload))
        await database.execute(calls.STORE, job.id, task_id)

    runner.entrypoint("job")(job)
    await runner.run(dequeue_timeout=timedelta(seconds=30), batch_size=25, max_concurrent_tasks=calls.SLOTS)


if __name__ == "__main__":
    uvloop.run(main())
