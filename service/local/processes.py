"""Finding other processes, and ending them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.005
PS_SECONDS = 10.0
WATCH = 'read -r _; kill -INT "$1"'


def watch(pid: int, how: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a process that interrupts `pid` when we are gone; `how` are Popen's arguments. Kill it to end it.

    It waits for the end of a pipe, and a pipe ends when its writer does, however that dies. (Linux's
    PR_SET_PDEATHSIG is tied to the thread that forked, and is lost when the child changes its user.)
    """
    command = ["/bin/sh", "-c", WATCH, "taxiway-watch", str(pid)]
    return subprocess.Popen(command, **how | {"stdin": subprocess.PIPE})  # noqa: S603  # a constant script


def end(pid: int, alive: Callable[[], bool], ladder: Iterable[tuple[int, float]]) -> bool:
    """Send the signals of the ladder, each with its timeout in seconds; whether the process ended."""
    for number, timeout in ladder:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if until(lambda: not alive(), timeout):
            return True
    return False


def until(
    condition: Callable[[], bool],
    timeout: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> bool:
    """Whether the condition came true within so many seconds."""
    give_up = now() + timeout
    while not condition():
        if now() > give_up:
            return False
        sleep(POLL_SECONDS)
    return True


def command_of(pid: int, proc: Path = Path("/proc")) -> str:
    """The command line of a running process; empty if it has ended. Asks `ps` where there is no /proc."""
    if (proc / "self").exists():
        with suppress(OSError):
            return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    asked = subprocess.run(  # noqa: S603  # a constant command and a number
        ["ps", "-ww", "-o", "command=", "-p", str(pid)],  # noqa: S607  # found by PATH, as it differs by system
        capture_output=True,
        timeout=PS_SECONDS,
        check=False,
    )
    return asked.stdout.decode(errors="replace").strip()
