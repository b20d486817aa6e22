"""Drain: a queue that is full when the worker starts, until the last id is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.benchmarks.contenders.base import Contender, Site
from tests.benchmarks.figures import Figure, Measured, Values
from tests.benchmarks.lab import Lab, now, settle, usage
from tests.benchmarks.processes import cpu_seconds

PATIENCE_SECONDS = 180.0
STEP_SECONDS = 0.02

FIGURES = (
    Figure("per_second", "jobs/s"),
    Figure("cpu_us", "CPU µs/job"),
    Figure("transactions", "transactions/job", 2),
    Figure("wal_bytes", "WAL B/job"),
    Figure("dead_rows", "dead rows/job", 2),
    Figure("doubles", "sent twice"),
)
FLOOR = "floor, by row"
POSTGRES_PEERS = ("PgQueuer", "Procrastinate")
PEERS = ("BullMQ", "PgQueuer", "SAQ", "Procrastinate", "arq")


@asynccontextmanager
async def nothing(_url: str) -> AsyncIterator[None]:
    """What usually happens meanwhile."""
    yield


async def drain(
    lab: Lab,
    contender: Contender,
    count: int,
    seconds: float,
    around: Callable[[str], AbstractAsyncContextManager[None]] = nothing,
) -> Values:
    """One drain of so many jobs, with a mock that answers after so many seconds. `around`: what happens meanwhile."""
    async with lab.site(contender) as site:
        await contender.fill(site, count)
        await settle(site.database)
        before = await usage(site.database)
        await lab.servers.runway.reset(seconds)
        async with around(site.database):
            values, asked = await _timed(lab, contender, site, count)
        if contender.store == "postgres":
            used = await usage(site.database)
            values |= used.since(before, count)
            values["transactions"] -= asked / count
    return values


async def _timed(lab: Lab, contender: Contender, site: Site, count: int) -> tuple[Values, int]:
    """From the first create to the last id stored: what it took, and how often the store was asked."""
    runway, asked = lab.servers.runway, 0
    give_up = now() + PATIENCE_SECONDS
    async with lab.worker(contender, site) as process:
        state = await runway.state()
        while not state["creates"]:
            _check(lab, process.poll(), give_up)
            await asyncio.sleep(STEP_SECONDS)
            state = await runway.state()
        cpu, seen = cpu_seconds(process.pid), state["creates"]
        while state["answered"] < count:
            _check(lab, process.poll(), give_up)
            await asyncio.sleep(STEP_SECONDS)
            state = await runway.state()
        while (stored := await contender.stored(site)) < count:
            asked += 1
            _check(lab, process.poll(), give_up)
            await asyncio.sleep(STEP_SECONDS / 4)
        ended, used = now(), cpu_seconds(process.pid) - cpu
    state = await runway.state()
    doubles = state["creates"] - count
    assert stored == count, f"{stored} of {count} stored"
    assert not doubles or contender.needs, f"{contender.name} sent {doubles:g} creates twice"
    seconds = ended - state["first_at"]
    rest = max(1.0, count - seen)
    return {"per_second": count / seconds, "cpu_us": used / rest * 1e6, "doubles": doubles}, asked + 1


def _check(lab: Lab, ended: int | None, give_up: float) -> None:
    if ended is not None or now() > give_up:
        words = lab.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the worker {'ended' if ended is not None else 'does not get on'}: {words}")


async def fast(lab: Lab) -> Measured:
    """5,000 jobs, answered at once."""
    count = lab.size(5_000, 200)
    result = await _all(lab, "drain", f"Drain of {count:,} jobs, answered at once", count, 0.0)
    for name, least in (("BullMQ", 1.3), ("PgQueuer", 1.5), ("Procrastinate", 5.0), (FLOOR, 1.0)):
        result.bar(f"jobs/s against {name}", result.ratio("per_second", "Taxiway", name), least=least)
    for name in ("SAQ", "arq"):
        result.bar(f"jobs/s against {name}", result.ratio("per_second", "Taxiway", name), least=1.0)
    result.bar("transactions per video", result.middle("Taxiway", "transactions"), most=0.2)
    result.bar("WAL bytes per video", result.middle("Taxiway", "wal_bytes"), most=1_800)
    result.bar("dead rows per video", result.middle("Taxiway", "dead_rows"), most=4)
    return result


async def slow(lab: Lab) -> Measured:
    """1,500 jobs, answered after 200 ms."""
    count = lab.size(1_500, 100)
    result = await _all(lab, "drain-200", f"Drain of {count:,} jobs, answered after 200 ms (ceiling 250/s)", count, 0.2)
    ratios = {name: result.ratio("per_second", "Taxiway", name) for name in PEERS}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    best = min(known, key=lambda name: known[name]) if known else None
    result.bar(f"jobs/s against the best peer ({best or 'none here'})", known.get(best or ""), least=0.98)
    for name in POSTGRES_PEERS:
        result.bar(f"jobs/s against {name}", known.get(name), least=1.0)
    return result


async def _all(lab: Lab, name: str, title: str, count: int, seconds: float) -> Measured:
    by_name = {one.name: one for one in lab.contenders}
    rounds = await lab.in_rounds(list(by_name), lambda one: drain(lab, by_name[one], count, seconds))
    return Measured(name, title, FIGURES, rounds, missing=dict(lab.missing), plot="per_second")
