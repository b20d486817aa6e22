"""Four worker processes behind one PgBouncer in transaction mode, which has fewer sessions than they ask for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.crash import linked_app
from tests.crash.harness import ACCOUNT, assert_invariants
from tests.crash.pgbouncer import Pooler, pooler_of
from tests.crash.processes import PATIENCE_SECONDS, ForkServer, Process, fork_server
from tests.simulator_server import on_socket
from tests.world import API_KEY, CRON_SECRET, RUNWAY_KEY, World, warm, world

pytestmark = [pytest.mark.anyio, pytest.mark.crash]

VIDEOS = 120
FILMS = 60
PROCESSES = 4
AT_ONCE = 4  # creates, of each
# The app's own rows, all at once: workers make requests of them, claim them and finish them, side by side.
ROWS = """
INSERT INTO taxiway.videos (prompt, image_url, status)
SELECT 'video ' || n, 'https://example.com/boat.jpg', 'queued' FROM generate_series(1, $1) AS n
"""


# And rows of a table that is linked, whose trigger charges for each.
FILM_ROWS = f"""
INSERT INTO studio."Film" ("promptText", "imageUrl", "userId", "isStubborn")
SELECT 'film ' || n, 'https://example.com/boat.jpg', '{linked_app.RICH}', false FROM generate_series(1, $1) AS n
"""


@pytest.fixture
def forks() -> Iterator[ForkServer]:
    with fork_server() as running:
        yield running


@pytest.fixture
def pooler(server_url: str) -> Iterator[Pooler]:
    with pooler_of(server_url) as made:
        yield made


class HoldsCreates:
    """Runway, which answers no create before it is let go on."""

    def __init__(self, runway: ASGIApp) -> None:
        self._runway = runway
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            await self.go_on.wait()
        await self._runway(scope, receive, send)


async def all_claimed(workers: list[Process]) -> None:
    """Each of them holds a video of its own."""
    while not all(claimed(worker) for worker in workers):
        assert not [one.output for one in workers if one.has_ended]
        await asyncio.sleep(0.05)


_UNDER_WAY = """
(SELECT id::text FROM taxiway.videos WHERE finished_at IS NULL LIMIT 1)
UNION ALL (SELECT id FROM studio."Film" WHERE status <> 'READY' LIMIT 1)
"""


async def all_ended(w: World, workers: list[Process]) -> None:
    """Let time pass at Runway, and every task be due, until no video is under way, and every row shows its end."""
    while await w.rows(_UNDER_WAY):
        w.clock.now += 60
        await w.rows(
            "UPDATE taxiway.videos SET poll_after = taxiway.now() "
            "WHERE status = 'processing' AND runway_video_id IS NOT NULL"
        )
        await asyncio.sleep(0.1)
        assert not [one.output for one in workers if one.has_ended]


def claimed(worker: Process) -> list[str]:
    """The videos that this process claimed, by its own log."""
    lines = [json.loads(line) for line in worker.output.splitlines() if line.startswith("{")]
    return [line["video"] for line in lines if line.get("event") == "claimed"]


async def test_four_workers_behind_one_pooler_share_the_queue(
    database_url: str, forks: ForkServer, pooler: Pooler
) -> None:
    await linked_app.install(database_url)
    async with (
        world(database_url, options=ACCOUNT) as w,
        on_socket(runway := HoldsCreates(w.runway)) as runway_url,
    ):
        env = {
            "PATH": os.environ.get("PATH", ""),
            "DATABASE_URL": pooler.url(database_url),
            "RUNWAYML_BASE_URL": runway_url,
            "RUNWAYML_API_SECRET": RUNWAY_KEY,
            "API_KEYS": API_KEY,
            "CRON_SECRET": CRON_SECRET,
            "SUBMIT_CONCURRENCY": str(AT_ONCE),
            "LOG_FORMAT": "json",
        }
        await warm(database_url, PROCESSES * AT_ONCE)
        workers = [forks.start("worker", "--every", "0.1", env=env) for _ in range(PROCESSES)]
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                await w.rows(ROWS, VIDEOS)
                await w.rows(FILM_ROWS, FILMS)
                await all_claimed(workers)  # three cannot hold them all: nothing but the fourth is slow
                runway.go_on.set()
                await all_ended(w, workers)
            for worker in workers:
                worker.send(signal.SIGTERM)
            await asyncio.gather(*(worker.end() for worker in workers))
        finally:
            for worker in workers:
                worker.kill()
        shares = [claimed(worker) for worker in workers]
        assert set(Counter(video for share in shares for video in share).values()) == {1}
        assert len(w.creates) == sum(map(len, shares)) == VIDEOS + FILMS
        assert dict((await assert_invariants(w)).statuses) == {"completed": VIDEOS + FILMS}
        assert not await w.rows("SELECT error FROM taxiway.ticks WHERE error IS NOT NULL")
