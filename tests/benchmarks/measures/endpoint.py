"""The enqueue endpoint at 32 connections, against a bare validated INSERT through `databases`."""

from __future__ import annotations

import sys

from service.installer.migrate import migrate
from tests.benchmarks import bare
from tests.benchmarks.contenders.taxiway import REQUEST, Web, environment
from tests.benchmarks.figures import Figure, Measured, Values, percentile
from tests.benchmarks.lab import Lab
from tests.benchmarks.load import hammer, prepared
from tests.benchmarks.processes import cpu_seconds, listening, spawn, stop, until
from tests.database import execute
from tests.ports import free_port
from tests.world import API_KEY

CONNECTIONS = 32
FIGURES = (
    Figure("per_second", "requests/s"),
    Figure("p50", "p50 ms", 1),
    Figure("p99", "p99 ms", 1),
    Figure("cpu_us", "CPU µs/request"),
)


async def run(lab: Lab) -> Measured:
    """Both, in turn."""
    count = lab.size(4_000, 100)
    runs = {"Taxiway": _taxiway, "bare INSERT": _bare}
    rounds = await lab.in_rounds(list(runs), lambda name: runs[name](lab, count))
    result = Measured(
        "endpoint", f"POST /videos, {count:,} requests on {CONNECTIONS} connections, one process", FIGURES, rounds,
        plot="per_second",
    )  # fmt: skip
    result.bar("requests/s against the bare INSERT", result.ratio("per_second", "Taxiway", "bare INSERT"), least=0.85)
    result.bar("p99 against the bare INSERT", result.ratio("p99", "Taxiway", "bare INSERT"), most=1.0)
    return result


async def _taxiway(lab: Lab, count: int) -> Values:
    async with lab.database() as url:
        await migrate(url)
        async with Web(environment(url, lab.servers.runway.url), lab.cores.worker) as web:
            assert web.process
            return await _hammered(web.url, {"Authorization": f"Bearer {API_KEY}"}, count, web.process.pid)


async def _bare(lab: Lab, count: int) -> Values:
    async with lab.database() as url:
        await execute(url, bare.SCHEMA)
        port = free_port()
        command = [sys.executable, "-m", bare.__name__, str(port)]
        process = spawn(command, lab.cores.worker, env={"DATABASE_URL": url})
        try:
            await until(lambda: listening(port), "the bare endpoint starts")
            return await _hammered(f"http://127.0.0.1:{port}", {}, count, process.pid)
        finally:
            stop(process)


async def _hammered(url: str, headers: dict[str, str], count: int, pid: int) -> Values:
    request = prepared("POST", f"{url}/videos", headers, REQUEST)
    await hammer(url, request, connections=CONNECTIONS, count=count // 10, status=202)  # warm
    before = cpu_seconds(pid)
    rate, took = await hammer(url, request, connections=CONNECTIONS, count=count, status=202)
    return {
        "per_second": rate,
        "p50": 1000 * percentile(took, 0.5),
        "p99": 1000 * percentile(took, 0.99),
        "cpu_us": (cpu_seconds(pid) - before) / count * 1e6,
    }
