"""The floors: what asyncpg and httptools can do on uvloop when nothing is promised.

No retries, no errors, no models, no ledger.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any, Literal

import asyncpg
import uvloop

from tests.benchmarks.contenders.base import PAYLOAD, Contender, Enqueuer, Site, scalar
from tests.benchmarks.contenders.calls import DATABASE, SLOTS, client, pool, post
from tests.benchmarks.contenders.client import Client
from tests.benchmarks.watching import SqlWatcher, Watcher
from tests.database import execute

SCHEMA = """
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    status text NOT NULL DEFAULT 'queued',
    task_id text,
    payload jsonb NOT NULL
) WITH (fillfactor = 60)
"""
READY = "CREATE INDEX jobs_ready ON jobs (id) WHERE status = 'queued'"
FILL = "INSERT INTO jobs (payload) SELECT $1::jsonb FROM generate_series(1, $2)"
ONE = "WITH one AS (INSERT INTO jobs (payload) VALUES ($1::jsonb)) SELECT pg_notify('jobs', '')"
CLAIM = """
UPDATE jobs SET status = 'sent' WHERE id = ANY(ARRAY(
    SELECT id FROM jobs WHERE status = 'queued' ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING id, payload
"""
SAVE_ROW = "UPDATE jobs SET task_id = $2, status = 'stored' WHERE id = $1"
SAVE_BATCH = """
UPDATE jobs SET task_id = a.task_id, status = 'stored'
FROM unnest($1::bigint[], $2::text[]) AS a(id, task_id) WHERE jobs.id = a.id
"""
DELAYS = """
SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin) - created_at)::float8 FROM jobs
WHERE task_id IS NOT NULL ORDER BY id
"""


class Floor(Contender):
    """Hand-written. `storing`: an UPDATE for each answer, or one for all that have come back."""

    store = "postgres"
    ours = True
    worker_module = __name__

    def __init__(self, storing: Literal["row", "batch"]) -> None:
        self.storing = storing

    @property
    def name(self) -> str:  # type: ignore[override]  # each instance has its own
        return f"floor, by {self.storing}"

    @property
    def configuration(self) -> str:  # type: ignore[override]  # a constant elsewhere
        how = "an UPDATE for each answer" if self.storing == "row" else "an UPDATE for all answers that are there"
        return (
            f"hand-written with asyncpg, httptools and uvloop: claims of up to 50, {how}; no errors, retries or ledger"
        )

    def arguments(self) -> list[str]:
        return [self.storing]

    async def prepare(self, site: Site) -> None:
        await execute(site.database, SCHEMA, READY)

    async def fill(self, site: Site, count: int) -> None:
        await scalar(site.database, FILL, json.dumps(PAYLOAD), count)

    def watcher(self, site: Site) -> Watcher:
        return SqlWatcher(site, "SELECT count(*) FROM jobs WHERE task_id IS NOT NULL", DELAYS)

    def enqueuer(self, site: Site) -> Enqueuer:
        return _Enqueuer(site)


class _Enqueuer(Enqueuer):
    async def __aenter__(self) -> Enqueuer:
        self.connection = await asyncpg.connect(self.site.database)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.connection.close()

    async def one(self) -> None:
        await self.connection.fetchval(ONE, json.dumps(PAYLOAD))


class _Worker:
    def __init__(self, database: asyncpg.Pool[asyncpg.Record], by_row: bool) -> None:
        self.database, self.by_row = database, by_row
        self.woken = asyncio.Event()
        self.returned = asyncio.Event()
        self.answers: list[tuple[int, str]] = []
        self.in_flight = 0

    async def send(self, http: Client, job: int, body: Any) -> None:
        task_id = await post(http, body)
        if self.by_row:
            await self.database.execute(SAVE_ROW, job, task_id)
        else:
            self.answers.append((job, task_id))
        self.in_flight -= 1
        self.returned.set()

    async def save(self) -> None:
        if self.answers:
            answers, self.answers = self.answers, []
            await self.database.execute(SAVE_BATCH, *map(list, zip(*answers, strict=True)))

    async def run(self) -> None:
        """Claim as many as are free, and save what is back, until ended."""
        running = set()
        listener = await asyncpg.connect(DATABASE)
        await listener.add_listener("jobs", lambda *_: self.woken.set())
        http = client()
        while True:
            self.woken.clear()
            self.returned.clear()
            free = SLOTS - self.in_flight
            rows = await self.database.fetch(CLAIM, free) if free else []
            self.in_flight += len(rows)
            for row in rows:
                task = asyncio.create_task(self.send(http, row["id"], json.loads(row["payload"])))
                running.add(task)
                task.add_done_callback(running.discard)
            await self.save()
            if self.in_flight or self.answers:
                await self.returned.wait()
            elif not rows:
                await self.woken.wait()


async def main(by_row: bool) -> None:
    """The worker process."""
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await _Worker(await pool(), by_row).run()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1] == "row"))
