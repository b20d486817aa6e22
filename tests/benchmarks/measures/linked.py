"""A linked table: intake and mirror of many rows, a tick's look beside a million that have ended, an idle tick."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.installer.migrate import migrate
from tests.benchmarks import linked
from tests.benchmarks.contenders.base import scalar
from tests.benchmarks.contenders.taxiway import Web, environment
from tests.benchmarks.figures import Figure, Measured, Values, percentile
from tests.benchmarks.lab import Lab, settle
from tests.benchmarks.measures.idle import WARM_UP, Statement, Ticks, mean, ticking
from tests.database import execute

NEW_ROWS = 50  # for each look
QUIET_TICKS = 5  # behind a look without an index
PATIENCE_TICKS = 200

FIGURES = (
    Figure("intake", "intake, rows/s"),
    Figure("mirror", "mirror, rows/s"),
    Figure("together", "together, rows/s"),
    Figure("look_ms", "look, p50 ms", 2),
    Figure("slowest_ms", "slowest statement on the table, ms", 2),
    Figure("late", "ticks that left new rows waiting"),
    Figure("spacing", "until the next look, of what it should be", 2),
    Figure("early", "looks before that"),
    Figure("statements", "statements of an idle tick", 1),
    Figure("database_ms", "its database ms", 2),
)
RATES, INDEX, NO_INDEX, IDLE = "5,000 rows", "index (status, created_at)", "no index", "one link, idle"
SPACING_SECONDS, SPACING_TIMES = 10.0, 10.0  # without an index: so long, or so many times its own duration

# What becomes of the videos, as claim, save, poll and finalize leave them for the mirror to show.
SUBMITTED = """
UPDATE taxiway.videos SET status = 'processing', runway_video_id = gen_random_uuid()::text, submitted_at = now(),
    poll_after = now() + interval '1 hour', updated_at = now()
"""
COMPLETED = """
UPDATE taxiway.videos SET status = 'completed', progress = 1, video_url = 'https://example.com/film.mp4',
    finished_at = now(), updated_at = now()
"""
TAKEN = "SELECT count(*) FROM taxiway.rows"
TAKEN_NOW = "SELECT count(*) FROM taxiway.videos"
STANDS = "SELECT concat_ws(': ', state, reason) FROM taxiway.links"
BEHIND = "SELECT count(*) FROM taxiway.mirror_queue"
SHOWN = f"SELECT count(*) FROM {linked.TABLE} WHERE status::text = $1"
LOOK_DUE = "UPDATE taxiway.links SET look_due = now(), sweep_seconds = 0"
# Before each run: nothing is queued, and a look is due.
CLEARED = (
    "DELETE FROM taxiway.rows r USING taxiway.videos v WHERE v.id = r.video_id",
    "DELETE FROM taxiway.mirror_queue",
    "DELETE FROM taxiway.videos",
    f"DELETE FROM {linked.TABLE} WHERE status = 'PENDING'",
    "UPDATE taxiway.links SET sweep_due = now(), seen_until = NULL",
    LOOK_DUE,
)
CREATE_INDEX = f'CREATE INDEX generation_queue ON {linked.TABLE} (status, "createdAt")'
DROP_INDEX = "DROP INDEX IF EXISTS generation_queue"
NOW = "SELECT extract(epoch FROM clock_timestamp())::float8"
NEXT_LOOK = "SELECT extract(epoch FROM look_due)::float8 FROM taxiway.links"


async def run(lab: Lab) -> Measured:
    """All over the tick's own route. Every model is paused: what is left of a tick are the linked table's steps."""
    count, past = lab.size(5_000, 100), lab.size(1_000_000, 40_000)
    async with _past(lab, past) as url:
        runs = {
            RATES: lambda: _rates(lab, count),
            INDEX: lambda: _indexed(lab, url),
            NO_INDEX: lambda: _not_indexed(lab, url),
            IDLE: lambda: _idle(lab),
        }
        rounds = await lab.in_rounds(list(runs), lambda name: runs[name]())
    title = f"A linked table: {count:,} rows to completed, each shown twice; looks beside {past:,} rows that have ended"
    result = Measured("linked", title, FIGURES, rounds)
    result.bar("intake and mirror together, rows/s", result.middle(RATES, "together"), least=1_000)
    result.bar(f"a look with {NEW_ROWS} new rows and an index, ms", result.middle(INDEX, "look_ms"), most=5)
    result.bar("with an index, ticks that left new rows waiting", max(result.values(INDEX, "late")), most=0)
    spacing = min(result.values(NO_INDEX, "spacing"))
    result.bar("without one, until the next look, of what it should be", spacing, least=1)
    result.bar("without one, looks before that", max(result.values(NO_INDEX, "early")), most=0)
    result.bar("statements of an idle tick with one link", result.middle(IDLE, "statements"), most=6)
    return result


@asynccontextmanager
async def _past(lab: Lab, count: int) -> AsyncIterator[str]:
    """A database with a linked table, and so many rows in it that have ended."""
    async with lab.database() as url:
        lab.say(f"    filling {count:,} rows of a linked table")
        await migrate(url)
        await linked.link(url)
        await execute(url, linked.PAUSE)
        await linked.fill(url, count)
        yield url


async def _rates(lab: Lab, count: int) -> Values:
    """Seconds of ticks: until every row is a video, and until every row has shown two changes of it."""
    async with lab.database() as url:
        await migrate(url)
        await linked.link(url)
        await execute(url, linked.PAUSE)
        await linked.add(url, count)
        await settle(url)
        async with Web(environment(url, lab.servers.runway.url), lab.cores.worker) as web:
            ticks = Ticks(web, lab.servers.postgres.folder / "postgres.log")
            intake = await _until(ticks, url, TAKEN, count)
            mirror = 0.0
            for change, word in ((SUBMITTED, "PROCESSING"), (COMPLETED, "COMPLETED")):
                await execute(url, change)
                mirror += await _until(ticks, url, BEHIND, 0)
                assert await scalar(url, SHOWN, word) == count, f"not every row says {word}"
            ticks.close()
    return {"intake": count / intake, "mirror": 2 * count / mirror, "together": count / (intake + mirror)}


async def _until(ticks: Ticks, url: str, counted: str, wanted: int) -> float:
    """Seconds of so many ticks as it takes."""
    seconds = 0.0
    for _ in range(PATIENCE_TICKS):
        await ticks.one()
        seconds += ticks.seconds
        if (found := await scalar(url, counted)) == wanted:
            return seconds
    stands = await scalar(url, STANDS)
    raise TimeoutError(f"{found} instead of {wanted} after {seconds:.1f} s of ticks: {counted}. The link: {stands}")


async def _indexed(lab: Lab, url: str) -> Values:
    """New rows before each tick; one before those that are not counted, for what was taken in stays queued there."""
    await execute(url, *CLEARED, DROP_INDEX, CREATE_INDEX, f"VACUUM ANALYZE {linked.TABLE}")
    count, late, added = lab.size(20, 2), 0, 0
    looks: list[float] = []
    others: list[float] = []
    async with ticking(lab, url) as ticks:
        for number in range(WARM_UP + count):
            new = NEW_ROWS if number >= WARM_UP else 1
            await linked.add(url, new)
            added += new
            found = await ticks.one()
            if await scalar(url, TAKEN_NOW) < added:  # one slow look, and it rests
                late += number >= WARM_UP
                await execute(url, LOOK_DUE)
            elif number >= WARM_UP:
                looks.append(sum(_looks(found)))
                others += [one.ms for one in found if linked.TABLE in one.sql]
    return {"look_ms": percentile(looks, 0.5), "slowest_ms": max(others), "late": late}


async def _not_indexed(lab: Lab, url: str) -> Values:
    """One look, and the ticks behind it."""
    await execute(url, *CLEARED, DROP_INDEX, f"VACUUM ANALYZE {linked.TABLE}")
    async with ticking(lab, url) as ticks:
        await linked.add(url, NEW_ROWS)
        began = await scalar(url, NOW)
        own = sum(_looks(await ticks.one()))
        spacing = await scalar(url, NEXT_LOOK) - began
        early = sum([len(_looks(await ticks.one())) for _ in range(QUIET_TICKS)])
    due = max(SPACING_SECONDS, SPACING_TIMES * own / 1000)
    return {"look_ms": own, "spacing": spacing / due, "early": early}


def _looks(found: list[Statement]) -> list[float]:
    """Milliseconds of the statements that look for queued rows, and do not find them by their keys."""
    return [
        one.ms for one in found if linked.TABLE in one.sql and "'PENDING'" in one.sql and "$1::jsonb" not in one.sql
    ]


async def _idle(lab: Lab) -> Values:
    async with lab.database() as url:
        await migrate(url)
        await linked.link(url)
        async with ticking(lab, url) as ticks:
            return await mean(ticks, lab.size(30, 3))
