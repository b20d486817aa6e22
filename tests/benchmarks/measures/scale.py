"""One, two and four worker processes on the same queue: none sends a video twice, and together they are no slower."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.benchmarks.contenders.taxiway import Taxiway
from tests.benchmarks.figures import Figure, Measured, Values
from tests.benchmarks.lab import Lab, now, settle

FIGURES = (Figure("per_second", "videos/s"), Figure("doubles", "sent twice"))
WORKERS = {"1 worker": 1, "2 workers": 2, "4 workers": 4}
PATIENCE_SECONDS = 240.0


async def run(lab: Lab) -> Measured:
    """All on the worker's core, so that more of them are more contention and nothing else."""
    count = lab.size(5_000, 200)
    rounds = await lab.in_rounds(list(WORKERS)[: lab.size(3, 2)], lambda name: _shared(lab, WORKERS[name], count))
    result = Measured("scale", f"Drain of {count:,} videos at 0 ms by several processes", FIGURES, rounds)
    for name in result.names[1:]:
        result.bar(f"videos/s of {name} against one", result.ratio("per_second", name, "1 worker"), least=1.0)
        result.bar(f"videos sent twice by {name}", sum(result.values(name, "doubles")), most=0)
    return result


async def _shared(lab: Lab, workers: int, count: int) -> Values:
    contender, runway = Taxiway(), lab.servers.runway
    async with lab.site(contender) as site, AsyncExitStack() as stack:
        await contender.fill(site, count)
        await settle(site.database)
        await runway.reset(0)
        for _ in range(workers):
            await stack.enter_async_context(lab.worker(contender, site))
        give_up = now() + PATIENCE_SECONDS
        while (await runway.state())["answered"] < count or await contender.stored(site) < count:
            assert now() < give_up, "the workers do not get on"
            await asyncio.sleep(0.02)
        ended, state = now(), await runway.state()
    return {"per_second": count / (ended - state["first_at"]), "doubles": state["creates"] - count}
