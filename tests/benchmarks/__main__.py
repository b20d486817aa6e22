"""`python -m tests.benchmarks`: measure Taxiway, its peers and the floors, and say which bars hold.

With `--against REV`: this tree against another commit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import against, machine
from tests.benchmarks.against import Compared
from tests.benchmarks.contenders.all import CONTENDERS, OURS
from tests.benchmarks.contenders.base import Contender
from tests.benchmarks.figures import Measured
from tests.benchmarks.lab import Lab
from tests.benchmarks.measures import MEASURES
from tests.benchmarks.measures.drain import FLOOR
from tests.benchmarks.processes import Cores, cores
from tests.benchmarks.servers import Redis, Servers

ROUNDS, REPORTED_ROUNDS = 3, 7


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="this measure; may be repeated")
    parser.add_argument("--contender", action="append", help="only these (and Taxiway); may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round, no peers: does it still run?")
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"rounds of each measure (default {ROUNDS}, reported {REPORTED_ROUNDS}; against: {against.ROUNDS})",
    )
    parser.add_argument(
        "--pinned", action=argparse.BooleanOptionalAction, default=True,
        help="the worker on one core, everything else on the others (Node loses by that); else all on all",
    )  # fmt: skip
    parser.add_argument("--against", metavar="REV", help="this tree against that commit, and against itself")
    parser.add_argument(
        "--kept", action="store_true",
        help="with --against: creates on kept connections in both, as older commits sent them unasked",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round there")
    parser.add_argument(
        "--report", action="store_true", help="write the tables of README and service/docs/speed.md, and the plots"
    )
    options = parser.parse_args(words)
    if options.report and (options.quick or options.against):
        parser.error("--quick and --against measure nothing that may be reported")
    if options.kept and not options.against:
        parser.error("--kept goes with --against: alone, both ways of connecting have a row of their own")
    if options.against and (unknown := set(options.only or []) - set(against.COMPARED)):
        parser.error(f"--against compares {', '.join(against.COMPARED)}; not {', '.join(sorted(unknown))}")
    usual = REPORTED_ROUNDS if options.report else against.ROUNDS if options.against else ROUNDS
    options.rounds = options.rounds or (1 if options.quick else usual)
    return options


def present(quick: bool, wanted: list[str] | None) -> tuple[list[Contender], dict[str, str]]:
    """Who can run here, and why the others cannot."""
    here, missing = [], {}
    for one in CONTENDERS:
        asked = one.name in wanted if wanted else not quick or one.name == FLOOR
        if not asked and one not in OURS:
            continue
        why = one.missing() or (Redis.missing() if one.store == "redis" else None)
        if why:
            missing[one.name] = why
        else:
            here.append(one)
    return here, missing


async def run(options: argparse.Namespace) -> None:
    """Every measure that was asked for, in order; what it comes to is printed, and written where that was asked for."""
    where = cores(options.pinned)
    task = asyncio.current_task()
    assert task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # the servers are ended then, too
    if where.servers:  # clients and what is measured from here share the servers' cores
        os.sched_setaffinity(0, where.servers)
    async with Servers(where, durable=not options.quick) as servers:
        described = machine.words(servers, str(where))
        print("\n".join(described), flush=True)
        if options.against:
            names = options.only or list(against.COMPARED)
            compared = await against.compare(
                servers, where, options.against, names, rounds=options.rounds, quick=options.quick, kept=options.kept
            )
            write(options, compared, described)
        else:
            await measured(servers, where, options, described)


async def measured(servers: Servers, where: Cores, options: argparse.Namespace, described: list[str]) -> None:
    """Taxiway, its peers and the floors."""
    here, missing = present(options.quick, options.contender)
    lab = Lab(servers, where, here, quick=options.quick, rounds=options.rounds, missing=missing)
    for name, why in missing.items():
        print(f"missing: {name} ({why})")
    results: list[Measured] = []
    for name in options.only or MEASURES:
        began = time.monotonic()
        print(f"{name} ...", flush=True)
        results.append(await MEASURES[name](lab))
        print(f"{results[-1].text()}\n  ({time.monotonic() - began:.0f} s)\n", flush=True)
        write(options, results, described)  # each time: what took an hour is not lost with what comes after it


def write(options: argparse.Namespace, results: Sequence[Measured | Compared], described: list[str]) -> None:
    """What was asked for: every figure as JSON, and the report."""
    measures = [one.as_json() for one in results]
    if options.json:
        text = json.dumps({"machine": described, "measures": measures}, indent=1, ensure_ascii=False)
        options.json.write_text(text, encoding="utf-8")
    if options.report:
        from tests.benchmarks import report  # it draws, which needs the extra `bench`

        report.write(measures, described)


def main(words: list[str] | None = None) -> int:
    """Run, print, and write what was asked for. Exit code 0 also when a bar does not hold: it is printed."""
    options = arguments(words)
    try:
        asyncio.run(run(options))
    except asyncio.CancelledError:
        print("ended by a signal; the servers are gone", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
