"""Where a worker's CPU time goes: microseconds of each part for a job, in a drain of jobs that are answered at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.benchmarks import profiled
from tests.benchmarks.contenders.base import Command, Site
from tests.benchmarks.contenders.taxiway import Taxiway
from tests.benchmarks.figures import Figure, Measured, Values
from tests.benchmarks.lab import Lab
from tests.benchmarks.measures.drain import drain

FIGURES = (*(Figure(part, f"{part}, µs") for part in profiled.PARTS), Figure("cpu_us", "whole, CPU µs/job"))


class Profiled(Taxiway):
    """Taxiway, interrupted every millisecond."""

    def worker(self, site: Site) -> Command:
        command = super().worker(site)
        return Command([sys.executable, "-m", profiled.__name__, str(written(site.log)), "worker"], command.env)


def written(log: Path) -> Path:
    """Where the worker leaves what it has counted: beside its log."""
    return log.with_name("profile.json")


async def run(lab: Lab) -> Measured:
    """With a connection for each create, and with kept ones."""
    count = lab.size(5_000, 200)
    made = [Profiled(), Profiled(", kept connections", SUBMIT_KEEPALIVE="true")]
    by_name = {one.name: one for one in made if not (lab.quick and one.variant)}
    rounds = await lab.in_rounds(list(by_name), lambda name: _profile(lab, by_name[name], count))
    return Measured("profile", f"A worker's CPU time by part, drain of {count:,} jobs at 0 ms", FIGURES, rounds)


async def _profile(lab: Lab, contender: Profiled, count: int) -> Values:
    whole = (await drain(lab, contender, count, 0.0))["cpu_us"]
    met: dict[str, int] = json.loads(written(lab.log).read_text(encoding="utf-8"))
    return {part: whole * met.get(part, 0) / sum(met.values()) for part in profiled.PARTS} | {"cpu_us": whole}
