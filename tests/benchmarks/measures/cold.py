"""Cold: from the start of `taxiway web` until its first tick is answered, and its memory when every route was used."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from service.app import ENDPOINTS
from service.installer.migrate import migrate
from service.web import page
from service.web.request_limits import STREAM
from tests.benchmarks.contenders.taxiway import Web, environment
from tests.benchmarks.figures import Figure, Measured, Values
from tests.benchmarks.lab import Lab
from tests.benchmarks.load import Connection, prepared
from tests.benchmarks.processes import resident_mb
from tests.world import API_KEY, CRON_SECRET

FIGURES = (
    Figure("seconds", "first tick, s", 2),
    Figure("after_tick_mb", "MB then"),
    Figure("resident_mb", "MB in use"),
)
PATIENCE_SECONDS = 30.0


async def run(lab: Lab) -> Measured:
    """The same start, several times: code is in the page cache, as after a deployment's first start."""
    rounds = await lab.in_rounds(["Taxiway"], lambda _name: _start(lab))
    result = Measured("cold", "Start of the web process until its first tick is answered", FIGURES, rounds)
    result.bar("seconds to the first tick", result.middle("Taxiway", "seconds"), most=0.6)
    result.bar("resident memory, MB", result.middle("Taxiway", "resident_mb"), most=80)
    return result


async def _start(lab: Lab) -> Values:
    async with lab.database() as url:
        await migrate(url)
        web = Web(environment(url, lab.servers.runway.url), lab.cores.worker)
        began = time.perf_counter()
        process = web.start()
        try:
            await _ask(web.url, "POST", "/process-queued", CRON_SECRET)
            seconds, then = time.perf_counter() - began, resident_mb(process.pid)
            for route in (*ENDPOINTS, *page.SCREENS):
                if "GET" in route.method and "{" not in route.path and route.kind != STREAM:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(_ask(web.url, "GET", route.path, API_KEY), 5)
            return {"seconds": seconds, "after_tick_mb": then, "resident_mb": resident_mb(process.pid)}
        finally:
            await web.__aexit__()


async def _ask(url: str, method: str, path: str, token: str) -> None:
    """Ask until somebody listens."""
    request = prepared(method, url + path, {"Authorization": f"Bearer {token}"})
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection = Connection(url)
        try:
            await connection.ask(request)
        except (OSError, asyncio.IncompleteReadError):
            if time.monotonic() > give_up:
                raise
            await asyncio.sleep(0.005)
        else:
            return
        finally:
            connection.close()
