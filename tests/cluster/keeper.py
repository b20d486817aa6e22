"""Keeps one node: starts its command, and ends all that came of it, whatever becomes of us.

`python -m tests.cluster.keeper SECONDS COMMAND...` runs the command until its own standard input ends, or the time is
over; then it kills every process that descends from it. Patroni's PostgreSQL leaves its session and outlives Patroni;
as a subreaper, this process still is its ancestor.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.2


def descendants(pid: int) -> list[int]:
    """Every living process that descends from this one."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    children[int(parent)].append(int(folder.name))
    found = children[pid]
    for one in found:  # grows meanwhile
        found.extend(children[one])
    return found


def main(seconds: float, command: list[str]) -> None:
    """Run the command; return when nothing is left of it."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    give_up = time.monotonic() + seconds
    subprocess.Popen(command, stdin=subprocess.DEVNULL)
    orders = [sys.stdin.fileno()]
    ending = False
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:  # what loses its parent becomes a child: none is left
            return
        ending = ending or time.monotonic() > give_up
        if ending:
            for pid in descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        ready, _, _ = select.select([] if ending else orders, [], [], POLL_SECONDS)
        ending = ending or (bool(ready) and not os.read(orders[0], 1))


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
