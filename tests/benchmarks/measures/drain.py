"""Drain: a queue that is full when the worker starts, until the last id is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.benchmarks.contenders.all import PEERS
from tests.benchmarks.contenders.base import Contender, Site
from tests.benchmarks.contenders.taxiway import DEFAULT
from tests.benchmarks.contenders.taxiway import KEPT as KEPT_CONNECTIONS
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
    Figure("connections", "connections/job", 2),
    Figure("doubles", "sent twice"),
)
USED = (("transactions", "transactions", 0.2), ("wal_bytes", "WAL bytes", 2_400), ("dead_rows", "dead rows", 5))
WARM_UP = 200  # jobs before those that are counted: code, plans and connections are warm
SLOW_SHARE = 3  # of the jobs, one in so many is enough for a contender that is slow
LESSON = 5_500  # jobs, in another process before that: a contender learns how many it may send at once
TAXIWAY, KEPT, FLOOR, BATCH, BULLMQ = DEFAULT.name, KEPT_CONNECTIONS.name, "floor, by row", "floor, by batch", "BullMQ"
POSTGRES_PEERS = tuple(one.name for one in PEERS if one.store == "postgres")


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
    """One drain of so many jobs behind a warm-up, each answered after so many seconds. `around`: what it is within."""
    warm_up = lab.size(WARM_UP, 20)
    async with lab.site(contender) as site:
        await _train(lab, contender, site, seconds)
        await contender.fill(site, warm_up + count)
        await settle(site.database)
        before = await usage(site.database)
        await lab.servers.runway.reset(seconds, warm_up)
        async with around(site.database):
            values, asked = await _timed(lab, contender, site, warm_up, count)
        if contender.store == "postgres":
            used = await usage(site.database)
            values |= used.since(before, warm_up + count)
            values["transactions"] -= asked / (warm_up + count)
    return values


async def _train(lab: Lab, contender: Contender, site: Site, seconds: float) -> None:
    """Let it work off jobs, answered as those that are counted, until it uses all its slots. Quick: once."""
    count = lab.size(LESSON, 20)
    while not await contender.is_trained(site) and lab.trains():
        await contender.fill(site, count)
        await settle(site.database)
        await lab.servers.runway.reset(seconds)
        give_up = now() + PATIENCE_SECONDS
        async with lab.worker(contender, site) as process, contender.watcher(site) as watcher:
            while await watcher.stored() < count:
                _check(lab, process.poll(), give_up)
                await asyncio.sleep(STEP_SECONDS)
        await contender.clear(site)
        if lab.quick:
            return


async def _timed(lab: Lab, contender: Contender, site: Site, warm_up: int, count: int) -> tuple[Values, int]:
    """From the first create behind the warm-up to the last id stored: figures, and how often the store was asked."""
    runway, asked, whole = lab.servers.runway, 0, warm_up + count
    give_up = now() + PATIENCE_SECONDS
    async with lab.worker(contender, site) as process, contender.watcher(site) as watcher:
        while (state := await runway.state())["creates"] <= warm_up:
            _check(lab, process.poll(), give_up)
            await asyncio.sleep(STEP_SECONDS)
        cpu, seen = cpu_seconds(process.pid), state["creates"]
        while (await runway.state())["answered"] < whole:
            _check(lab, process.poll(), give_up)
            await asyncio.sleep(STEP_SECONDS)
        while (stored := await watcher.stored()) < whole:
            asked += 1
            _check(lab, process.poll(), give_up)
            await asyncio.sleep(STEP_SECONDS / 4)
        ended, used = now(), cpu_seconds(process.pid) - cpu
    state = await runway.state()
    doubles = state["creates"] - whole
    assert stored == whole, f"{stored} of {whole} stored"
    assert not doubles or not contender.ours, f"{contender.name} sent {doubles:g} creates twice"
    seconds = ended - state["first_at"]
    rest = max(1.0, whole - seen)
    values = {"per_second": count / seconds, "cpu_us": used / rest * 1e6}
    return values | {"connections": state["connections"] / whole, "doubles": doubles}, asked + 1


def _check(lab: Lab, ended: int | None, give_up: float) -> None:
    if ended is not None or now() > give_up:
        words = lab.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the worker {'ended' if ended is not None else 'does not get on'}: {words}")


async def fast(lab: Lab) -> Measured:
    """5,000 jobs, answered at once."""
    count = lab.size(5_000, 200)
    title = f"Drain of {count:,} jobs, answered at once"
    result = await _all(lab, "drain", title, {one.name: one for one in lab.contenders}, count, 0.0)
    for name, least in ((BULLMQ, 1.3), *((name, 1.5) for name in POSTGRES_PEERS), (FLOOR, 1.0)):
        words = f"jobs/s with kept connections against {name}"
        result.bar(words, result.ratio("per_second", KEPT, name), least=least)
    words = f"jobs/s with a connection for each create against {BULLMQ}"
    result.bar(words, result.ratio("per_second", TAXIWAY, BULLMQ), least=0.8)
    words = f"worker CPU with kept connections against {BULLMQ}"
    result.bar(words, result.ratio("cpu_us", KEPT, BULLMQ), most=0.8)
    for key, words, most in USED:
        result.bar(f"{words} per video", max(result.middle(name, key) or 0.0 for name in (TAXIWAY, KEPT)), most=most)
    return result


async def slow(lab: Lab) -> Measured:
    """1,500 jobs, answered after 200 ms."""
    count = lab.size(1_500, 100)
    title = f"Drain of {count:,} jobs, answered after 200 ms (ceiling 250/s)"
    result = await _all(lab, "drain-200", title, lab.usual(slow=True), count, 0.2)
    for name in (TAXIWAY, KEPT):
        best, ratio = closest(result, "per_second", name, [one.name for one in PEERS], more=True)
        result.bar(f"jobs/s of {name} against the best peer ({best})", ratio, least=0.98)
    return result


def closest(result: Measured, key: str, name: str, others: Sequence[str], *, more: bool) -> tuple[str, float | None]:
    """The one of the others that does best beside `name`, and the ratio to it. `more`: whether more is better."""
    ratios = {other: result.ratio(key, name, other) for other in others}
    known = {other: ratio for other, ratio in ratios.items() if ratio is not None}
    if not known:
        return "none here", None
    best = (min if more else max)(known, key=known.__getitem__)
    return best, known[best]


async def _all(lab: Lab, name: str, title: str, by_name: dict[str, Contender], count: int, seconds: float) -> Measured:
    async def one(which: str) -> Values:
        contender = by_name[which]
        return await drain(lab, contender, count // SLOW_SHARE if contender.slow else count, seconds)

    rounds = await lab.in_rounds(list(by_name), one)
    return Measured(name, title, FIGURES, rounds, missing=dict(lab.missing), plot="per_second")
