"""One, two and four worker processes on the same queue: none sends a video twice, and together they are no slower."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.benchmarks.contenders.base import scalar
from tests.benchmarks.contenders.taxiway import Taxiway, learn
from tests.benchmarks.figures import Figure, Measured, Values
from tests.benchmarks.lab import Lab, now, settle
from tests.database import execute

FIGURES = (Figure("per_second", "videos/s"), Figure("doubles", "sent twice"))
WORKERS = {"1 worker": 1, "2 workers": 2, "4 workers": 4}
PATIENCE_SECONDS = 240.0


async def run(lab: Lab) -> Measured:
    """Each may run on every core."""
    count = lab.size(5_000, 200)
    rounds = await lab.in_rounds(list(WORKERS)[: lab.size(3, 2)], lambda name: _shared(lab, WORKERS[name], count))
    title = f"Drain of {count:,} videos at 0 ms by several processes, not pinned"
    result = Measured("scale", title, FIGURES, rounds)
    for name in result.names[1:]:
        result.bar(f"videos/s of {name} against one", result.ratio("per_second", name, "1 worker"), least=1.0)
        result.bar(f"videos sent twice by {name}", sum(result.values(name, "doubles")), most=0)
    return result


# All are there, and hear, before there is anything to do: otherwise some would still start while others work.
PAUSE = """
INSERT INTO taxiway.models (model, paused_until, reason, paused_at)
VALUES ('all', now() + interval '1 hour', 'wait', now())
"""
# What a worker says last on the connection on which it listens.
HEARING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'UPDATE taxiway.maintenance % ''listener''%' AND state = 'idle'
"""
GO = ("DELETE FROM taxiway.models WHERE model = 'all'", "NOTIFY taxiway")


async def _shared(lab: Lab, workers: int, count: int) -> Values:
    contender, runway = Taxiway(), lab.servers.runway
    everywhere = lab.cores.worker | lab.cores.servers
    async with lab.site(contender) as site, contender.watcher(site) as watcher, AsyncExitStack() as stack:
        await learn(site.database)
        await contender.fill(site, count)
        await settle(site.database)
        await execute(site.database, PAUSE)
        await runway.reset(0)
        for _ in range(workers):
            await stack.enter_async_context(lab.worker(contender, site, everywhere))
        give_up = now() + PATIENCE_SECONDS
        while await scalar(site.database, HEARING) < workers:
            assert now() < give_up, "not every worker listens"
            await asyncio.sleep(0.02)
        await execute(site.database, *GO)
        while (await runway.state())["answered"] < count or await watcher.stored() < count:
            assert now() < give_up, "the workers do not get on"
            await asyncio.sleep(0.02)
        ended, state = now(), await runway.state()
    return {"per_second": count / (ended - state["first_at"]), "doubles": state["creates"] - count}
