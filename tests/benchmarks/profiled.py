"""`python -m tests.benchmarks.profiled FILE WORDS…`: `taxiway WORDS…`, and which part of it the CPU time went to.

A timer of the process's CPU time interrupts it every millisecond, and the stack of that moment is counted for one part.
What the database's driver does for a claim or a save counts for these, except the reading of answers: that has no
caller on its stack.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from service.__main__ import main

EVERY_SECONDS = 0.001
# The first of these that any frame of a stack belongs to.
PARTS = {
    "claim": ("service/store/claim",),
    "save": ("service/operations/sav", "service/store/submissions"),
    "transport": ("service/runway/", "/httpx/", "/httptools/"),
    "driver": ("/asyncpg/", "/databases/", "/sqlalchemy/"),
    "rest": tuple(f"service/{name}" for name in ("steps/", "operations/", "store/", "tick", "context", "logs")),
    "asyncio": ("/asyncio/", "/uvloop/", "/selectors.py"),
}


def part_of(files: list[str]) -> str:
    """The part that a stack of these files belongs to."""
    return next(
        (part for part, marks in PARTS.items() if any(mark in file for file in files for mark in marks)), "rest"
    )


def run(written: Path) -> None:
    """Run it as the command line says, and write how often each part was met."""
    met: Counter[str] = Counter()

    def look(_signal: int, frame: FrameType | None) -> None:
        files = []
        while frame:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        met[part_of(files)] += 1

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)
    try:
        main()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        written.write_text(json.dumps(met), encoding="utf-8")


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    run(file)
