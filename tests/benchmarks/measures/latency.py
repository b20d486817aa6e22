"""Latency: from a job being enqueued until its id is stored, at 50 jobs a second, with a mock that answers at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.benchmarks.contenders.base import Contender, Enqueuer, Site
from tests.benchmarks.figures import Figure, Measured, Values, percentile
from tests.benchmarks.lab import Lab, now
from tests.benchmarks.measures.drain import FLOOR, PEERS, POSTGRES_PEERS

PER_SECOND = 50
WARM_UP = 25  # jobs that are not counted: connections open, plans and code are warm
NOTE_EVERY = 100  # jobs
PATIENCE_SECONDS = 20.0

FIGURES = (Figure("p50", "p50 ms", 1), Figure("p95", "p95 ms", 1), Figure("p99", "p99 ms", 1))


async def run(lab: Lab) -> Measured:
    """Every contender in turn."""
    count = lab.size(500, 25)
    by_name = {one.name: one for one in lab.contenders}
    rounds = await lab.in_rounds(list(by_name), lambda one: _one(lab, by_name[one], count))
    title = f"Enqueued until the id is stored, {count} jobs at {PER_SECOND}/s"
    result = Measured("latency", title, FIGURES, rounds, missing=dict(lab.missing), plot="p99")
    result.bar("p50 against the floor", result.ratio("p50", "Taxiway", FLOOR), most=1.2)
    ratios = {name: result.ratio("p99", "Taxiway", name) for name in PEERS}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    best = max(known, key=lambda name: known[name]) if known else None
    result.bar(f"p99 against the best peer ({best or 'none here'})", known.get(best or ""), most=1.3)
    for name in POSTGRES_PEERS:
        result.bar(f"p99 against {name}", known.get(name), most=0.5)
    return result


async def _one(lab: Lab, contender: Contender, count: int) -> Values:
    await lab.servers.runway.reset(0)
    async with lab.site(contender) as site, lab.worker(contender, site), contender.enqueuer(site) as enqueuer:
        before = await _first(contender, site, enqueuer)
        begin = now() + 0.5
        for number in range(WARM_UP + count):
            await asyncio.sleep(max(0.0, begin + number / PER_SECOND - now()))
            await enqueuer.one()
            if number % NOTE_EVERY == NOTE_EVERY - 1:
                await contender.note(site)
        delays = await _stored(contender, site, before + WARM_UP + count)
    counted = [1000 * delay for delay in delays[before + WARM_UP :]]
    return {name: percentile(counted, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


async def _first(contender: Contender, site: Site, enqueuer: Enqueuer) -> int:
    """How many are stored when the worker is seen to work. One that it meets while it starts may be lost (SAQ)."""
    for _ in range(10):
        await enqueuer.one()
        with suppress(TimeoutError):
            return len(await _stored(contender, site, 1, timeout=3))
    raise TimeoutError(f"{contender.name} stores nothing")


async def _stored(contender: Contender, site: Site, count: int, timeout: float = PATIENCE_SECONDS) -> list[float]:
    give_up = now() + timeout
    while len(delays := await contender.delays(site)) < count:
        if now() > give_up:
            raise TimeoutError(f"{contender.name} stored {len(delays)} of {count}")
        await asyncio.sleep(0.2)
    return delays
