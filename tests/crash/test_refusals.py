"""A worker whose database refuses one row of many: the others end, and SIGTERM ends the process in time."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from service.deadline import SAVE_GRACE_SECONDS
from tests.crash.harness import ACCOUNT
from tests.crash.processes import PATIENCE_SECONDS, ForkServer, Process, fork_server
from tests.refusing import codes_for, refuse
from tests.simulator_server import on_socket
from tests.world import API_KEY, CRON_SECRET, RUNWAY_KEY, World, world

pytestmark = [pytest.mark.anyio, pytest.mark.crash]

VIDEOS = 6
# Where one row is refused, and when: what the worker does with it from then on fails each time.
PLACES = (("claim", "videos"), ("claim", "submissions"), ("save", "videos"), ("save", "submissions"))
CASES = [(*place, code) for number, place in enumerate(PLACES) for code in codes_for(number)]


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with fork_server() as running:
        yield running


@asynccontextmanager
async def working(w: World, forks: ForkServer) -> AsyncIterator[Process]:
    """A worker of this world, over a socket."""
    async with on_socket(w.runway) as runway_url:
        env = {
            "PATH": os.environ.get("PATH", ""),
            "DATABASE_URL": w.url,
            "RUNWAYML_BASE_URL": runway_url,
            "RUNWAYML_API_SECRET": RUNWAY_KEY,
            "API_KEYS": API_KEY,
            "CRON_SECRET": CRON_SECRET,
            "LOG_FORMAT": "json",
        }
        process = forks.start("worker", "--every", "0.1", env=env)
        try:
            yield process
        finally:
            process.kill()
            await process.end()


async def others_end(w: World, process: Process, bad: UUID) -> None:
    """Let time pass at Runway, and every task be due, until all but one have ended."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await w.rows("SELECT FROM taxiway.videos WHERE finished_at IS NULL AND id <> $1 LIMIT 1", bad):
            w.clock.now += 60
            await w.rows(
                "UPDATE taxiway.videos SET poll_after = taxiway.now() WHERE status = 'processing'"
                " AND runway_video_id IS NOT NULL AND id <> $1",
                bad,
            )
            await asyncio.sleep(0.1)
            assert not process.has_ended, process.output


async def ends_in_time(process: Process) -> None:
    began = time.monotonic()
    process.send(signal.SIGTERM)
    await process.end()
    assert time.monotonic() - began < SAVE_GRACE_SECONDS + 5


@pytest.mark.parametrize(("stage", "table", "code"), CASES)
async def test_one_of_six_videos_is_refused(
    database_url: str, forks: ForkServer, stage: str, table: str, code: str
) -> None:
    async with world(database_url, options=ACCOUNT) as w:
        ids = [await w.enqueue() for _ in range(VIDEOS)]
        # `save`: the claim passes, and each write after it is refused.
        await refuse(database_url, table, ids[0], code, on="INSERT OR UPDATE" if stage == "claim" else "UPDATE")
        if stage == "save" and table == "videos":
            await w.rows("DROP TRIGGER refuse ON taxiway.videos")
            await w.rows(
                "CREATE TRIGGER refuse BEFORE UPDATE ON taxiway.videos FOR EACH ROW WHEN (NEW.task_status = 'PENDING')"
                f" EXECUTE FUNCTION public.refuse('id', '{ids[0]}', '{code}')"
            )
        async with working(w, forks) as process:
            await others_end(w, process, ids[0])
            await ends_in_time(process)
        rows = await w.rows("SELECT status FROM taxiway.videos WHERE id <> $1", ids[0])
        assert [row["status"] for row in rows] == ["completed"] * (VIDEOS - 1)
        assert await w.rows("SELECT FROM taxiway.events WHERE kind = 'refused_row' AND video_id = $1", ids[0])
        assert len(w.creates) == VIDEOS - (stage == "claim")


async def test_a_database_that_refuses_everything_lets_a_worker_end(database_url: str, forks: ForkServer) -> None:
    async with world(database_url, options=ACCOUNT) as w:
        await w.enqueue()
        for table in ("videos", "submissions", "ticks", "events", "maintenance", "models"):
            await w.rows(f"CREATE RULE refuse AS ON UPDATE TO taxiway.{table} DO INSTEAD SELECT 1 / 0")
        async with working(w, forks) as process:
            while '"step_failed"' not in process.output:
                assert not process.has_ended, process.output
                await asyncio.sleep(0.1)
            await ends_in_time(process)
