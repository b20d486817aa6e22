"""This tree against another commit: the same measures in both, in pairs of one round, on the same servers.

This tree takes part twice. The ratio between its two figures of a round is the control: how far apart two equal
programs are here. Its spread is what a ratio to the other commit means nothing within.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tests.benchmarks.figures import Figure, Rounds, Values, percentile
from tests.benchmarks.measures.claims import CLAIMS
from tests.benchmarks.processes import ROOT, Cores
from tests.benchmarks.servers import Servers
from tests.database import execute

LEAST = 0.95
ROUNDS = 7
RUNNER = Path(__file__).with_name("runner.py")
THIS, OTHER, CONTROL = "this", "other", "control"
# Each pair stands in either order equally often, and next to a round that is turned round.
TURNS = (
    (THIS, OTHER, CONTROL), (CONTROL, OTHER, THIS),
    (OTHER, CONTROL, THIS), (THIS, CONTROL, OTHER),
    (CONTROL, THIS, OTHER), (OTHER, THIS, CONTROL),
)  # fmt: skip
RATE, COST = True, False  # more is better; less is better
COMPARED: dict[str, dict[Figure, bool]] = {
    "drain": {
        Figure("per_second", "jobs/s"): RATE,
        Figure("cpu_us", "CPU µs/job"): COST,
        Figure("transactions", "transactions/job", 3): COST,
        Figure("wal_bytes", "WAL B/job"): COST,
    },
    "endpoint": {
        Figure("per_second", "requests/s"): RATE,
        Figure("cpu_us", "CPU µs/request"): COST,
        Figure("p50", "p50 ms", 2): COST,
        Figure("p99", "p99 ms", 2): COST,
    },
    "latency": {Figure(f"p{share}", f"p{share} ms", 2): COST for share in (50, 95, 99)},
    "idle": {
        Figure("statements", "statements", 1): COST,
        Figure("database_ms", "database ms", 2): COST,
    },
    "history": {
        **{Figure(f"median_{many}", f"claim of {many}, p50 ms", 2): COST for many in CLAIMS},
        **{Figure(f"save_{many}", f"save of {many}, p50 ms", 2): COST for many in CLAIMS},
        Figure("claim_50", "claim of 50, p99 ms", 2): COST,
        Figure("tick", "tick, p99 ms", 1): COST,
    },
}
# In `history` the sides take turns within a round, some claims of each size at a time, in each of their orders equally
# often: a machine drifts by more from minute to minute than the sides differ.
SOME_CLAIMS = 16
CLAIMED_A_ROUND = 7_500  # by all that, and beside the ticks
FILL_SECONDS, ROUND_SECONDS = 1_800, 600


@dataclass
class Compared:
    """One measure, by round and side."""

    name: str
    rounds: Rounds

    def ratios(self, figure: Figure, other: str) -> list[float]:
        """This tree to that one, within each round; above 1 this tree is better."""
        rate = COMPARED[self.name][figure]
        found = []
        for one in self.rounds:
            ours, theirs = one[THIS][figure.key], one[other][figure.key]
            better, worse = (ours, theirs) if rate else (theirs, ours)
            found.append(better / worse if worse else float(better == worse))
        return found

    def verdict(self, figure: Figure) -> str:
        """Whether the median ratio reaches the bar, or misses it by less than the control is spread."""
        middle = median(self.ratios(figure, OTHER))
        if middle >= LEAST:
            return "holds"
        return "within the control's spread" if middle >= spread(self.ratios(figure, CONTROL))[0] else "DOES NOT HOLD"

    def as_json(self) -> dict[str, Any]:
        ratios = {
            figure.key: {
                "head": figure.head,
                "ratios": self.ratios(figure, OTHER),
                "control": self.ratios(figure, CONTROL),
                "verdict": self.verdict(figure),
            }
            for figure in COMPARED[self.name]
        }
        return {"name": self.name, "rounds": self.rounds, "figures": ratios}

    def text(self) -> str:
        """A line for each figure: median of the ratios, the control, and the medians themselves."""
        return "\n".join([self.name, *(f"  {self._line(figure)}" for figure in COMPARED[self.name])])

    def _line(self, figure: Figure) -> str:
        ratios, control = self.ratios(figure, OTHER), self.ratios(figure, CONTROL)
        low, high = spread(control)
        here, there = (median(one[side][figure.key] for one in self.rounds) for side in (THIS, OTHER))
        return (
            f"{figure.head:<20} {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})   "
            f"A/A {median(control):.3f} (half of them {low:.3f} to {high:.3f}, "
            f"all {min(control):.3f} to {max(control):.3f})   {self.verdict(figure)}   "
            f"[{here:,.{figure.digits}f} against {there:,.{figure.digits}f}]"
        )


def spread(ratios: Sequence[float]) -> tuple[float, float]:
    """The quartiles; of a single one, itself."""
    if len(ratios) == 1:
        return ratios[0], ratios[0]
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return low, high


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A temporary worktree of that commit."""
    with tempfile.TemporaryDirectory(prefix="taxiway-against-", dir="/var/tmp") as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


class Side:
    """The runner of one tree."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process, self._log = process, log

    async def ask(self, seconds: float, **order: Any) -> Any:
        """Order something, and wait for the answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        async with asyncio.timeout(seconds):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{order} failed: {self._log.read_text(errors='replace')[-3000:]}")
        return json.loads(line)

    async def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


@asynccontextmanager
async def running(tree: Path, name: str, given: dict[str, Any]) -> AsyncIterator[Side]:
    """The runner, with this tree's file and that tree's code."""
    log = Path(given["folder"]) / f"{name}.log"
    env = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", str(RUNNER), json.dumps(given), cwd=tree, env=env | {"PYTHONPATH": str(tree)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    side = Side(process, log)
    try:
        yield side
    finally:
        await side.end()


async def compare(
    servers: Servers, where: Cores, revision: str, names: Sequence[str], *, rounds: int, quick: bool,
    kept: bool,
) -> list[Compared]:  # fmt: skip
    """Every measure that was asked for, round by round; nothing else may work on this machine meanwhile.

    `kept`: creates share kept connections in both. Older commits did that unasked.
    """
    given = {
        "folder": str(servers.folder), "postgres": servers.postgres.port, "runway": servers.runway.port,
        "worker": sorted(where.worker), "servers": sorted(where.servers), "quick": quick,
        "settings": {"SUBMIT_KEEPALIVE": "true"} if kept else {},
    }  # fmt: skip
    with checked_out(revision) as tree:
        print(f"against {_git('log', '-1', '--format=%h %s', revision)}", flush=True)
        async with (
            running(ROOT, THIS, given) as this,
            running(tree, OTHER, given) as other,
            running(ROOT, CONTROL, given) as control,
        ):
            sides = {THIS: this, OTHER: other, CONTROL: control}
            return [await _measured(servers, sides, name, rounds, quick) for name in names]


async def _measured(servers: Servers, sides: dict[str, Side], name: str, rounds: int, quick: bool) -> Compared:
    began = time.monotonic()
    print(f"{name} ...", flush=True)
    urls = await _pasts(servers, sides, rounds, quick) if name == "history" else {}
    found = Compared(name, [])
    for number in range(rounds):
        values: dict[str, Values] = {}
        for side in TURNS[number % len(TURNS)]:
            order = {"do": "measure", "measure": name, "url": urls.get(side)}
            values[side] = await sides[side].ask(ROUND_SECONDS, **order)
        if urls:
            for side, more in (await _claims(sides, urls, 1 if quick else SOME_CLAIMS)).items():
                values[side] |= more
        found.rounds.append(values)
        ratios = (f"{figure.head} {found.ratios(figure, OTHER)[-1]:.3f}" for figure in COMPARED[name])
        print(f"    round {number + 1}: {', '.join(ratios)}", flush=True)
    for side in urls:
        await execute(servers.postgres.url(), f"DROP DATABASE past_{side} WITH (FORCE)")
    print(f"{found.text()}\n  ({time.monotonic() - began:.0f} s)\n", flush=True)
    return found


async def _claims(sides: dict[str, Side], urls: dict[str, str], repeats: int) -> dict[str, Values]:
    """Claims and saves of one round, turn by turn: each side's medians, and the p99 of its largest claims."""
    took: dict[str, dict[str, list[float]]] = {side: defaultdict(list) for side in sides}
    for turn in TURNS:
        for side in turn:
            answer = await sides[side].ask(ROUND_SECONDS, do="claims", url=urls[side], repeats=repeats)
            for name, seconds in answer.items():
                took[side][name] += seconds
    return {
        side: {
            **{f"median_{many}": 1000 * percentile(times[f"claim_{many}"], 0.5) for many in CLAIMS},
            **{f"save_{many}": 1000 * percentile(times[f"save_{many}"], 0.5) for many in CLAIMS},
            "claim_50": 1000 * percentile(times["claim_50"], 0.99),
        }
        for side, times in took.items()
    }


async def _pasts(servers: Servers, sides: dict[str, Side], rounds: int, quick: bool) -> dict[str, str]:
    """A database with a past for each side; the control's is a copy. Each is used once before it is measured."""
    postgres = servers.postgres
    finished, queued = (3_000, 2_000 + 1_000 * rounds) if quick else (1_000_000, CLAIMED_A_ROUND * (rounds + 1))
    print(f"    filling {queued:,} queued and {finished:,} finished videos, twice", flush=True)
    for side in (THIS, OTHER):
        await execute(postgres.url(), f"CREATE DATABASE past_{side}")
        order = {"do": "fill", "url": postgres.url(f"past_{side}"), "finished": finished, "queued": queued}
        await sides[side].ask(FILL_SECONDS, **order)
    copy = f"CREATE DATABASE past_{CONTROL} TEMPLATE past_{THIS} STRATEGY FILE_COPY"
    await execute(postgres.url(), copy)
    urls = {side: postgres.url(f"past_{side}") for side in sides}
    for side, url in urls.items():
        await sides[side].ask(ROUND_SECONDS, do="measure", measure="history", url=url)
        await sides[side].ask(ROUND_SECONDS, do="claims", url=url, repeats=1 if quick else SOME_CLAIMS)
    return urls
