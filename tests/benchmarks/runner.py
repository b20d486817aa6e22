"""One tree's side of a comparison: its own measures, run when asked, on servers that are there already.

`python -P runner.py GIVEN`, with the tree as the working directory and in PYTHONPATH: this file may be another tree's,
so it uses only what every tree has under these names. GIVEN, orders and answers are JSON, a line each.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp

from service.settings import Settings
from service.store import submissions
from tests.benchmarks.contenders import taxiway
from tests.benchmarks.contenders.taxiway import Taxiway
from tests.benchmarks.history import Sizes, fill_past, fill_queue
from tests.benchmarks.lab import Lab
from tests.benchmarks.measures import MEASURES, idle
from tests.benchmarks.processes import Cores
from tests.benchmarks.servers import Postgres, Runway, Servers

# Of the repeats of a measure, of which only the ticks count: what it claims has to last for many rounds.
SHARES = {"history": 0.05}
WARM_TICKS = 40  # as `idle` has it here: an older tree counts from the fourth on


class _Postgres(Postgres):
    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port


class _Runway(Runway):
    async def start(self) -> None:
        self._session = aiohttp.ClientSession()


class _Servers(Servers):
    """Those of the comparison. There is no Redis: no peer takes part."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.folder, self.redis = Path(given["folder"]), None
        self.postgres = _Postgres(self.folder, given["postgres"])
        self.runway = _Runway(frozenset())
        self.runway.port = given["runway"]


class _Lab(Lab):
    """One with nobody but Taxiway, also where a measure names others."""

    share = 1.0
    settings: dict[str, str]
    kept: AsyncExitStack
    contexts: dict[str, tuple[Any, ...]]

    def size(self, whole: int, quick: int) -> int:
        return quick if self.quick else max(quick, int(whole * self.share))

    async def context(self, url: str) -> tuple[Any, ...]:
        """What a claim of this tree's `history` is made with, the same from turn to turn, as in a process that stays.

        Trees that know no Front call the context a house.
        """
        if url not in self.contexts:
            module = _module("history")
            made = getattr(module, "_context", None) or module._house
            front = [module.Front(time.monotonic)] if hasattr(module, "Front") else []
            self.contexts[url] = await self.kept.enter_async_context(made(self, url)), *front
        return self.contexts[url]

    async def in_rounds(self, names: list[str], run: Any) -> Any:
        return await super().in_rounds([name for name in names if name == "Taxiway"], run)


async def fill(lab: _Lab, order: dict[str, Any]) -> None:
    """Fill a database with a queue and a past."""
    sizes = Sizes(order["finished"], order["queued"])
    await fill_queue(order["url"], sizes)
    await fill_past(order["url"], sizes)


async def measure(lab: _Lab, order: dict[str, Any]) -> dict[str, float]:
    """One round of a measure: its figures."""
    name = order["measure"]
    lab.share = SHARES.get(name, 1.0)
    if name != "history":
        with light(), settings(lab.settings):
            return (await MEASURES[name](lab)).rounds[0]["Taxiway"]
    lab._history = order["url"], order["url"]  # the same for both that it compares: twice the figures of the one
    first, second = (await MEASURES[name](lab)).rounds[0].values()
    return {"tick": (first["tick"] + second["tick"]) / 2}


async def claims(lab: _Lab, order: dict[str, Any]) -> dict[str, list[float]]:
    """One turn of `history`: the seconds of some claims of each size, and of the saves behind them."""
    module, context = _module("history"), await lab.context(order["url"])
    took: dict[str, list[float]] = defaultdict(list)
    with timed_saves(took):
        for many in module.CLAIMS:
            for _ in range(order["repeats"]):
                took[f"claim_{many}"].append(await module._claim(*context, many))
    return took


def _module(measure: str) -> Any:
    return sys.modules[MEASURES[measure].__module__]


@contextmanager
def light() -> Iterator[None]:
    """What a tree's harness does beside the store costs the same in all trees: settings are read once, as in a process
    that stays, nothing is collected, and ticks are counted once their statements are planned.
    """
    gc.collect()
    gc.disable()
    try:
        with patch.object(taxiway, "Settings", cache(Settings)), patch.object(idle, "WARM_UP", WARM_TICKS):
            yield
    finally:
        gc.enable()


@contextmanager
def settings(more: dict[str, str]) -> Iterator[None]:
    """Environment variables of what is started, on top of the usual ones; a tree that does not know one ignores it."""
    usual = taxiway.environment

    def environment(*args: Any, **others: Any) -> dict[str, str]:
        return usual(*args, **others) | more

    with patch.object(taxiway, "environment", environment):
        yield


@contextmanager
def timed_saves(took: dict[str, list[float]]) -> Iterator[None]:
    """Seconds of the saves that `history` makes behind its claims, by how many are saved at once."""
    save = submissions.save_each

    async def timed(database: Any, answers: Any) -> Any:
        began = time.perf_counter()
        saved = await save(database, answers)
        took[f"save_{len(answers)}"].append(time.perf_counter() - began)
        return saved

    with patch.object(submissions, "save_each", timed):
        yield


ORDERS: dict[str, Callable[[_Lab, dict[str, Any]], Coroutine[Any, Any, Any]]] = {
    "fill": fill, "measure": measure, "claims": claims,
}  # fmt: skip


async def serve(given: dict[str, Any]) -> None:
    """Do what is ordered, until there are no more orders."""
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # its workers are ended then, too
    servers = _Servers(given)
    cores = Cores(frozenset(given["worker"]), frozenset(given["servers"]))
    lab = _Lab(servers, cores, [Taxiway()], quick=given["quick"], rounds=1, say=lambda _words: None)
    lab.settings = given["settings"]
    lab.contexts = {}
    await servers.runway.start()
    try:
        async with AsyncExitStack() as lab.kept:
            await obey(lab)
    finally:
        await servers.runway.stop()


async def obey(lab: _Lab) -> None:
    """Orders are read, and answered, until there are no more."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        print(json.dumps(await ORDERS[order["do"]](lab, order)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
