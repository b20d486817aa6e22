"""Starting processes on one core or another, and reading what they used. Linux tells all of it; others, less."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 20.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """Where the worker under test runs, and where everything else does. Empty: not pinned."""

    worker: frozenset[int]
    servers: frozenset[int]

    def __str__(self) -> str:
        if not self.worker:
            return "not pinned"
        return f"worker on core {_words(self.worker)}, servers and clients on {_words(self.servers)}"


def _words(cores: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


def cores(pinned: bool = True) -> Cores:
    """The first core for the worker, the others for the rest; or everything everywhere."""
    if not pinned or not hasattr(os, "sched_getaffinity"):
        return Cores(frozenset(), frozenset())
    mine = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(mine[:1]), frozenset(mine[1:] or mine))


@contextmanager
def pinned(where: frozenset[int]) -> Iterator[None]:
    """Children started inside run on these cores."""
    if not where:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, where)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def spawn(
    command: Sequence[str],
    where: frozenset[int],
    *,
    env: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
    cwd: Path = ROOT,
) -> subprocess.Popen[bytes]:
    """Start a process with an environment of nothing but PATH, HOME and what is given."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    with pinned(where):
        return subprocess.Popen(
            list(command), env=kept | dict(env or {}), cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=log or subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """Ask it to end; after STOP_SECONDS, end it."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def until(condition: Callable[[], bool], what: str, seconds: float = 30.0, step: float = 0.01) -> None:
    """Wait for it. Raises TimeoutError that says what did not happen."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(step)


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, all its threads. 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def resident_mb(pid: int) -> float:
    """Resident memory in megabytes. 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:")), 0.0)


def listening(port: int) -> bool:
    """Whether somebody answers there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
