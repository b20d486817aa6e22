"""Latency: from a job being enqueued until its id is stored, at 50 jobs a second, with a mock that answers at once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.benchmarks.contenders.all import PEERS
from tests.benchmarks.contenders.base import Contender, Enqueuer
from tests.benchmarks.figures import Figure, Measured, Values, percentile
from tests.benchmarks.lab import Lab, now
from tests.benchmarks.measures.drain import FLOOR, TAXIWAY, closest
from tests.benchmarks.watching import Watcher

PER_SECOND = 50
WARM_UP = 100  # jobs that are not counted: connections open, plans and code are warm
NOTE_EVERY = 50  # jobs
PATIENCE_SECONDS = 20.0

FIGURES = (
    Figure("p50", "p50 ms", 2), Figure("p95", "p95 ms", 2), Figure("p99", "p99 ms", 2), Figure("unseen", "not seen"),
)  # fmt: skip


async def run(lab: Lab) -> Measured:
    """Every contender in turn, but those that are slow."""
    count, by_name = lab.size(500, 25), lab.usual()
    rounds = await lab.in_rounds(list(by_name), lambda one: _one(lab, by_name[one], count))
    title = f"Enqueued until the id is stored, {count} jobs at {PER_SECOND}/s"
    result = Measured("latency", title, FIGURES, rounds, missing=dict(lab.missing), plot="p99")
    result.bar("p50 against the floor", result.ratio("p50", TAXIWAY, FLOOR), most=1.25)
    result.bar("p99 against the floor by row", result.ratio("p99", TAXIWAY, FLOOR), most=1.3)
    best, ratio = closest(result, "p99", TAXIWAY, [one.name for one in PEERS if one.durable], more=False)
    result.bar(f"p99 against the best peer that waits for a disk ({best})", ratio, most=0.8)
    return result


async def _one(lab: Lab, contender: Contender, count: int) -> Values:
    await lab.servers.runway.reset(0)
    warm_up = lab.size(WARM_UP, 10)
    async with (
        lab.site(contender) as site, contender.watcher(site) as watcher, lab.worker(contender, site),
        contender.enqueuer(site) as enqueuer,
    ):  # fmt: skip
        await watcher.note()
        before = await _first(contender, watcher, enqueuer)
        with uncollected():
            begin = now() + 0.5
            for number in range(warm_up + count):
                await asyncio.sleep(max(0.0, begin + number / PER_SECOND - now()))
                await enqueuer.one()
                if number % NOTE_EVERY == NOTE_EVERY - 1:
                    await watcher.note()
            await _stored(contender, watcher, before + warm_up + count)
    counted = list(watcher.delays.values())[before + warm_up :]
    seen = [1000 * delay for delay in counted if delay is not None]
    shares = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    return {name: percentile(seen, share) for name, share in shares} | {"unseen": len(counted) - len(seen)}


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector of the harness, which would hold up the store beside it for 50 ms now and then.

    More often the more a contender's way to enqueue allocates in this process; no app is that large.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _first(contender: Contender, watcher: Watcher, enqueuer: Enqueuer) -> int:
    """How many are stored when the worker is seen to work. One that it meets while it starts may be lost (SAQ)."""
    for _ in range(10):
        await enqueuer.one()
        with suppress(TimeoutError):
            await _stored(contender, watcher, 1, timeout=3)
            return len(watcher.delays)
    raise TimeoutError(f"{contender.name} stores nothing")


async def _stored(contender: Contender, watcher: Watcher, count: int, timeout: float = PATIENCE_SECONDS) -> None:
    give_up = now() + timeout
    while len(watcher.delays) < count:
        if now() > give_up:
            raise TimeoutError(f"{contender.name} stored {len(watcher.delays)} of {count}")
        await asyncio.sleep(0.2)
        await watcher.note()
