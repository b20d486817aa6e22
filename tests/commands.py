"""The real commands as processes, for tests: started, waited for, and ended by their number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.local.processes import command_of, until

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 120  # on a machine with a dozen busy processes, the start of one took more than 30


@dataclass
class Command:
    """A command that runs. What it says is in two files."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def said(self) -> str:
        """Its standard output so far."""
        return self.out.read_text(encoding="utf-8")

    @property
    def log(self) -> str:
        """Its standard error so far."""
        return self.err.read_text(encoding="utf-8")

    def wait_for(self, text: str) -> None:
        """Wait until it has said this, on either stream."""
        there = until(
            lambda: text in self.said or text in self.log or self.process.poll() is not None, PATIENCE_SECONDS
        )
        assert there, f"no {text!r} in {self.said}\n{self.log}"
        assert text in self.said + self.log, f"ended ({self.process.returncode}): {self.said}\n{self.log}"

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """This environment, which names no setting in tests, with these values. Buffers would hide what is said."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", **values}


@contextmanager
def command(folder: Path, *arguments: object, **settings: str) -> Iterator[Command]:
    """`taxiway ARGUMENTS`, its output in `folder`; killed at the end if it has not ended."""
    line = [sys.executable, "-m", "service", *map(str, arguments)]
    with running(folder, line, **settings) as started:
        yield started


@contextmanager
def running(folder: Path, line: list[str], **settings: str) -> Iterator[Command]:
    """Any command line."""
    count = len(list(folder.glob("*.out")))
    out, err = folder / f"{count}.out", folder / f"{count}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            line, cwd=ROOT, env=environment(settings), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
    try:
        yield Command(process, out, err)
    finally:
        process.kill()
        process.wait()


def run_command(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """`taxiway ARGUMENTS`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=ROOT, env=environment(settings), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


def commands_with(*marks: str) -> list[str]:
    """The command lines of this machine's processes in which one of the marks occurs."""
    listed = Path("/proc").glob("[0-9]*") if Path("/proc/self").exists() else None
    if listed is not None:
        pids = [int(path.name) for path in listed]
    else:
        asked = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=True)
        pids = [int(word) for word in asked.stdout.split()]
    lines = [command_of(pid) for pid in pids]
    return [line for line in lines if any(mark in line for mark in marks)]
