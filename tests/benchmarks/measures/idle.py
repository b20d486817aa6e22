"""An idle tick: how many statements it sends, and how long the database works on them, by the database's own log.

Without unknown outcomes, and with thousands of them that nobody has resolved.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contenders.taxiway import Web, environment
from tests.benchmarks.figures import Figure, Measured, Values
from tests.benchmarks.history import found, leave_unknown
from tests.benchmarks.lab import Lab
from tests.benchmarks.load import Connection, prepared
from tests.database import execute
from tests.world import CRON_SECRET

FIGURES = (Figure("statements", "statements", 1), Figure("database_ms", "database ms", 2))
# The lines of one statement: all but the first begin with a tab.
ENTRY = re.compile(rb"duration: ([\d.]+) ms  (?:(parse|bind|execute) [^:]*|statement): (.*?)(?=\n[^\t]|\Z)", re.DOTALL)
WARM_UP = 40  # a statement is planned at each of its first six uses on a connection, and again from the 32nd on
TAXIWAY, UNRESOLVED = "Taxiway", "Taxiway, unknown outcomes"


@dataclass(frozen=True)
class Statement:
    """What was sent, and how long the server worked on it: parsed, bound and executed."""

    sql: str
    ms: float


class Ticks:
    """Ticks over HTTP, and what the database logs of each."""

    def __init__(self, web: Web, log: Path) -> None:
        self._log = log
        self._connection = Connection(web.url)
        self._request = prepared("POST", f"{web.url}/process-queued", {"Authorization": f"Bearer {CRON_SECRET}"})
        self.seconds = 0.0  # of the last one

    async def one(self) -> list[Statement]:
        """One tick: its statements."""
        begin, began = self._log.stat().st_size, time.perf_counter()
        status, body = await self._connection.ask(self._request)
        self.seconds = time.perf_counter() - began
        assert status == 200, body
        with self._log.open("rb") as file:
            file.seek(begin)
            return statements(file.read())

    def close(self) -> None:
        self._connection.close()


def statements(log: bytes) -> list[Statement]:
    """The statements in a piece of the server's log."""
    found, ms = [], 0.0
    for took, phase, sql in ENTRY.findall(log):
        ms += float(took)
        if phase not in (b"parse", b"bind"):
            found.append(Statement(sql.decode(), ms))
            ms = 0.0
    return found


@asynccontextmanager
async def ticking(lab: Lab, url: str) -> AsyncIterator[Ticks]:
    """`taxiway web` on a database whose statements are logged."""
    await execute(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET log_min_duration_statement = 0")
    async with Web(environment(url, lab.servers.runway.url), lab.cores.worker) as web:
        ticks = Ticks(web, lab.servers.postgres.folder / "postgres.log")
        try:
            yield ticks
        finally:
            ticks.close()


async def run(lab: Lab) -> Measured:
    """Ticks over HTTP on an empty queue; the first few are not counted."""
    count, unknown = lab.size(30, 3), {TAXIWAY: 0, UNRESOLVED: lab.size(10_000, 100)}
    rounds = await lab.in_rounds(list(unknown), lambda name: _idle(lab, count, unknown[name]))
    result = Measured("idle", f"An idle tick, by the server's log, mean of {count}", FIGURES, rounds)
    result.bar("statements", result.middle(TAXIWAY, "statements"), most=4)
    result.bar("database time, ms", result.middle(TAXIWAY, "database_ms"), most=3)
    words = f"database time with {unknown[UNRESOLVED]:,} unknown outcomes against none"
    result.bar(words, result.ratio("database_ms", UNRESOLVED, TAXIWAY), most=1.3)
    return result


async def _idle(lab: Lab, count: int, unknown: int) -> Values:
    async with lab.database() as url:
        await found(url)
        await leave_unknown(url, unknown)
        async with ticking(lab, url) as ticks:
            return await mean(ticks, count)


async def mean(ticks: Ticks, count: int) -> Values:
    """Statements and milliseconds of a tick; the first few are not counted."""
    for _ in range(WARM_UP):
        await ticks.one()
    sent = [statement for _ in range(count) for statement in await ticks.one()]
    return {"statements": len(sent) / count, "database_ms": sum(one.ms for one in sent) / count}
