"""A tick of a fixed budget, with more queued than it can send and a Runway that answers in 2 s."""

from __future__ import annotations

import time

from tests.benchmarks.contenders.taxiway import Taxiway, Web, environment, learn
from tests.benchmarks.figures import Figure, Measured, Values
from tests.benchmarks.lab import SLOTS, Lab, settle
from tests.benchmarks.load import Connection, prepared
from tests.world import CRON_SECRET

FIGURES = (
    Figure("seconds", "answered after, s", 2),
    Figure("late", "beyond its budget, s", 2),
    Figure("busy", "share of slots busy", 3),
    Figure("sent", "sent"),
)


async def run(lab: Lab) -> Measured:
    """Over HTTP, as a cron service asks for it. One tick before has shown how long a create takes."""
    count, budget, seconds = lab.size(10_000, 300), lab.size(20, 2), 2.0 if not lab.quick else 0.2
    rounds = await lab.in_rounds(["Taxiway"], lambda _name: _tick(lab, count, budget, seconds))
    title = f"A tick of {budget} s with {count:,} queued, {SLOTS} slots, answers after {seconds:g} s"
    result = Measured("budget", title, FIGURES, rounds)
    result.bar("seconds beyond the budget", result.middle("Taxiway", "late"), most=0.5)
    result.bar("share of slots busy until it stopped claiming", result.middle("Taxiway", "busy"), least=0.95)
    return result


async def _tick(lab: Lab, count: int, budget: int, seconds: float) -> Values:
    contender, runway = Taxiway(), lab.servers.runway
    async with lab.site(contender) as site:
        await learn(site.database)
        await contender.fill(site, count)
        await settle(site.database)
        async with Web(environment(site.database, site.runway, SLOTS), lab.cores.worker) as web:
            await runway.reset(seconds)
            connection = Connection(web.url)
            headers = {"Authorization": f"Bearer {CRON_SECRET}"}
            await connection.ask(prepared("POST", f"{web.url}/process-queued?budget=0.5", headers))
            await runway.reset(seconds)
            began = time.perf_counter()
            status, body = await connection.ask(prepared("POST", f"{web.url}/process-queued?budget={budget}", headers))
            took = time.perf_counter() - began
            connection.close()
        assert status == 200, body
        state = await runway.state()
    busy = state["busy_at_last"] / (SLOTS * max(1e-9, state["last_at"] - state["first_at"]))
    return {"seconds": took, "late": took - budget, "busy": busy, "sent": state["creates"]}
