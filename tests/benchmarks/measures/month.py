"""A month of 25,000 videos a day, with retention on: what it costs to claim, list and count at its end, and at first.

The database's clock is turned: `taxiway.now()` says what time it is in that month. One in twenty videos lives its whole
life, written by the statements that write it in production; the others are written as they end, with their ledger. What
is old is removed by the prune step alone, run no more often than the ticks of a cron by the minute would.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from statistics import median

from service import context as contexts
from service.context import Context
from service.store import claim as claims
from service.store import listing, queue_stats
from service.store.pending_work import pending_work
from service.store.search import Wanted
from tests.benchmarks.contenders.taxiway import learn
from tests.benchmarks.figures import Figure, Measured, Values, percentile
from tests.benchmarks.lab import Lab
from tests.benchmarks.rotation import CALL_SECONDS, arrive, found, go_by, live, tick_on, turn
from tests.database import execute
from tests.world import settings

RETENTION_DAYS = 7
SETTLED_DAYS = RETENTION_DAYS + 2  # from then on as much goes as comes
WAITING = 1_000  # always in the queue, behind what the day brings
LIVING = 20  # one in so many lives its whole life
TICKS_A_DAY = 1_440  # of a cron by the minute
MOST = 1.3

# The month goes by in minutes, and so must what the server does by the clock.
HURRY = {"autovacuum_naptime": "1s", "autovacuum_vacuum_cost_delay": "0"}
SIZES = """
SELECT pg_total_relation_size('taxiway.videos') + pg_total_relation_size('taxiway.search') AS videos,
       pg_total_relation_size('taxiway.submissions') AS ledger, (SELECT count(*) FROM taxiway.submissions) AS entries,
       pg_total_relation_size('taxiway.ticks') AS ticks
"""
LOOKS: dict[str, Wanted] = {
    "newest": Wanted(),
    "failed": Wanted(statuses=["failed"]),
    "words": Wanted(q="boat dusk"),
    "rare": Wanted(q="number 7"),
}
FIGURES = (
    Figure("claim", "claim of 10, ms", 2),
    Figure("overview", "a tick's first look, ms", 2),
    *(Figure(name, f"list: {name}, ms", 2) for name in LOOKS),
    Figure("health", "/health, ms", 2),
    Figure("claim_p99", "claim, p99 ms", 2),
    Figure("videos_mb", "videos MB"),
    Figure("ledger_mb", "ledger MB"),
    Figure("entry_bytes", "B/ledger entry"),
    Figure("ticks_mb", "ticks MB", 1),
)
TIMED = ("claim", "overview", *LOOKS, "health")
FIRST, LAST = "first third", "last third"


@dataclass(frozen=True)
class Sizes:
    """How much goes by. `hours`: how often a day's videos come, and something goes."""

    days: int
    a_day: int
    parts: int
    repeats: int


async def run(lab: Lab) -> Measured:
    """The days after retention has set in, the first third of them against the last."""
    sizes = Sizes(lab.size(30, 12), lab.size(25_000, 40), lab.size(6, 1), lab.size(20, 1))
    days: list[Values] = []
    async with _hurrying(lab), lab.database() as url:
        ctx = await _begin(lab, url, sizes)
        try:
            for day in range(sizes.days):
                values = await _day(url, ctx, sizes, day)
                if values:
                    days.append(values)
                    lab.say(f"    day {day + 1}: " + ", ".join(f"{k} {v:.3g}" for k, v in values.items()))
        finally:
            await ctx.database.close()
    third = len(days) // 3
    rounds = [{FIRST: _middle(days[:third]), LAST: _middle(days[-third:])}]
    title = f"A month of {sizes.a_day:,} videos a day, kept for {RETENTION_DAYS} days, once that has set in"
    result = Measured("month", title, FIGURES, rounds)
    for key in (*TIMED, "videos_mb", "entry_bytes", "ticks_mb"):
        head = next(figure.head for figure in FIGURES if figure.key == key)
        result.bar(f"{head}: last third against first", result.ratio(key, LAST, FIRST), most=MOST)
    return result


def _middle(days: list[Values]) -> Values:
    return {key: median(day[key] for day in days) for key in days[0]}


@asynccontextmanager
async def _hurrying(lab: Lab) -> AsyncIterator[None]:
    server = lab.servers.postgres.url()
    await execute(server, *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in HURRY.items()))
    await execute(server, "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        await execute(server, *(f"ALTER SYSTEM RESET {name}" for name in HURRY), "SELECT pg_reload_conf()")


async def _begin(lab: Lab, url: str, sizes: Sizes) -> Context:
    """The schema, made in the clock's beginning, and what always waits."""
    await found(url, f"{sizes.days} days")
    await arrive(url, min(WAITING, sizes.a_day), f"{sizes.days} days")
    retention = RETENTION_DAYS * 86_400.0
    return contexts.build(settings(url, runway_url=lab.servers.runway.url, video_retention=retention))


async def _day(url: str, ctx: Context, sizes: Sizes, day: int) -> Values:
    """One day, in parts; what was measured at its end, with the queue full, once retention has set in."""
    count = sizes.a_day // sizes.parts
    values: Values = {}
    for part in range(sizes.parts):
        hours = 24 / sizes.parts
        await ctx.database.close()
        await turn(url, f"{(sizes.days - day) * 24 - (part + 1) * hours} hours")
        await go_by(url, count - count // LIVING, f"{hours} hours")
        await arrive(url, count // LIVING, f"{hours} hours")
        if day >= SETTLED_DAYS and part == sizes.parts - 1:
            values = await _measured(ctx, sizes)
        await learn(url)  # after the hours that have gone by, few creates would be permitted at once
        await live(ctx, count // LIVING)
        await tick_on(url, ctx, TICKS_A_DAY // sizes.parts)
    return values


async def _measured(ctx: Context, sizes: Sizes) -> Values:
    """Milliseconds, and megabytes."""
    database = ctx.database
    await _claim(ctx)  # a new connection plans everything once
    claims = [await _claim(ctx) for _ in range(sizes.repeats)]
    values = {"claim": 1000 * median(claims), "claim_p99": 1000 * percentile(claims, 0.99)}
    reads: dict[str, Callable[[], Awaitable[object]]] = {
        "overview": lambda: pending_work(database, ctx.settings.video_retention),
        "health": lambda: queue_stats.report(database),
    }
    for name, wanted in LOOKS.items():
        reads[name] = partial(listing.page, database, wanted, before=None, limit=50)
    for name, read in reads.items():
        await read()
        took = []
        for _ in range(sizes.repeats):
            began = time.perf_counter()
            await read()
            took.append(time.perf_counter() - began)
        values[name] = 1000 * median(took)
    row = await database.fetchrow(SIZES)
    assert row
    sizes_mb = {f"{name}_mb": row[name] / 1e6 for name in ("videos", "ledger", "ticks")}
    return values | sizes_mb | {"entry_bytes": row["ledger"] / max(row["entries"], 1)}


class _Undo(Exception):
    """Ends a transaction without a trace."""


async def _claim(ctx: Context) -> float:
    """Seconds of a claim, which is taken back."""
    with suppress(_Undo):
        async with ctx.database.transaction() as tx:
            began = time.perf_counter()
            await claims.claim(tx, 10, CALL_SECONDS)
            took = time.perf_counter() - began
            raise _Undo
    return took
