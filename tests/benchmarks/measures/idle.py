"""An idle tick: how many statements it sends, and how long the database works on them, by the database's own log."""

from __future__ import annotations

import re

from service.installer.migrate import migrate
from tests.benchmarks.contenders.taxiway import Web, environment
from tests.benchmarks.figures import Figure, Measured, Values
from tests.benchmarks.lab import Lab
from tests.benchmarks.load import Connection, prepared
from tests.database import execute
from tests.world import CRON_SECRET

FIGURES = (Figure("statements", "statements", 1), Figure("database_ms", "database ms", 2))
LINE = re.compile(rb"duration: ([\d.]+) ms  (?:(parse|bind|execute) |(statement): )")
WARM_UP = 3


async def run(lab: Lab) -> Measured:
    """Ticks over HTTP on an empty queue; the first few are not counted."""
    ticks = lab.size(30, 3)
    rounds = await lab.in_rounds(["Taxiway"], lambda _name: _idle(lab, ticks))
    result = Measured("idle", f"An idle tick, by the server's log, mean of {ticks}", FIGURES, rounds)
    result.bar("statements", result.middle("Taxiway", "statements"), most=4)
    result.bar("database time, ms", result.middle("Taxiway", "database_ms"), most=3)
    return result


async def _idle(lab: Lab, ticks: int) -> Values:
    log = lab.servers.postgres.folder / "postgres.log"
    async with lab.database() as url:
        await migrate(url)
        name = url.rpartition("/")[2]
        await execute(url, f"ALTER DATABASE {name} SET log_min_duration_statement = 0")
        async with Web(environment(url, lab.servers.runway.url), lab.cores.worker) as web:
            connection = Connection(web.url)
            request = prepared("POST", f"{web.url}/process-queued", {"Authorization": f"Bearer {CRON_SECRET}"})
            for number in range(WARM_UP + ticks):
                if number == WARM_UP:
                    begin = log.stat().st_size
                status, body = await connection.ask(request)
                assert status == 200, body
            connection.close()
        with log.open("rb") as file:
            file.seek(begin)
            lines = LINE.findall(file.read())
    run_lines = [line for line in lines if line[1] != b"parse" and line[1] != b"bind"]
    return {"statements": len(run_lines) / ticks, "database_ms": sum(float(line[0]) for line in lines) / ticks}
