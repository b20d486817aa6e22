"""Real processes of the service: started in milliseconds, and stopped, woken or killed at any time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120.0  # for anything that a process should do, on a busy machine; a hang is longer
PID_DIGITS = 10


class Process:
    """One process of the service. Its output ends when it does."""

    def __init__(self, pid: int, output: int) -> None:
        self.pid = pid
        self.output = ""
        self._ended = asyncio.Event()
        self._pipe = output
        os.set_blocking(output, False)
        asyncio.get_running_loop().add_reader(output, self._read)

    def _read(self) -> None:
        chunk = os.read(self._pipe, 65_536)
        self.output += chunk.decode("utf-8", "replace")
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._pipe)
            os.close(self._pipe)
            self._ended.set()

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._ended.is_set()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it is gone."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9"""
        self.send(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP"""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT"""
        self.send(signal.SIGCONT)

    async def end(self) -> str:
        """Wait until it is gone; all that it wrote."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._ended.wait()
        return self.output

    async def counts(self) -> dict[str, Any]:
        """Wait for the end of a `tick` or `poll`; the counts that it printed."""
        lines = (await self.end()).splitlines()
        counts: dict[str, Any] = json.loads(lines[-1])
        return counts


class Forked:
    """One process of the service, with the methods of a `Popen`. It is no child of ours: a pipe that it keeps open
    says that it is there. What it ended with only its parent could know.
    """

    def __init__(self, pid: int, alive: int) -> None:
        self.pid = pid
        self._alive: int | None = alive

    def poll(self, seconds: float = 0.0) -> str | None:
        """None while it is there, for so long at most."""
        if self._alive is not None:
            watch = select.poll()
            watch.register(self._alive, select.POLLIN)
            if not watch.poll(1_000 * seconds):
                return None
            os.close(self._alive)
            self._alive = None
        return "a code that its parent alone has seen"

    def wait(self, timeout: float = PATIENCE_SECONDS) -> None:
        """Until it is gone."""
        if self.poll(timeout) is None:
            raise subprocess.TimeoutExpired("taxiway", timeout)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it is gone."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9"""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM"""
        self.send_signal(signal.SIGTERM)


class ForkServer:
    """Forks processes of the service (tests/crash/fork_server.py)."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def start(self, *arguments: str, env: dict[str, str], clock: Path | None = None) -> Process:
        """Start `taxiway ARGUMENTS`. `clock`: a file with the seconds by which its clocks are ahead."""
        ours, theirs = os.pipe()
        pid = self._fork(arguments, env, [theirs], clock)
        os.close(theirs)
        return Process(pid, ours)

    def start_logged(self, *arguments: str, env: dict[str, str], log: int) -> Forked:
        """The same, with its output in a file; needs no event loop."""
        ours, theirs = os.pipe()
        pid = self._fork(arguments, env, [log, theirs])
        os.close(theirs)
        return Forked(pid, ours)

    def _fork(
        self, arguments: Sequence[str], env: dict[str, str], descriptors: list[int], clock: Path | None = None
    ) -> int:
        order = {"args": arguments, "env": env, "clock": clock and str(clock)}
        socket.send_fds(self._line, [json.dumps(order).encode()], descriptors)
        return int(self._line.recv(PID_DIGITS, socket.MSG_WAITALL))


@contextmanager
def fork_server() -> Iterator[ForkServer]:
    """A fork server, for a module's fixture: starting it costs as much as starting Python and importing everything."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE_SECONDS)
    command = [sys.executable, "-W", "ignore", "-m", "tests.crash.fork_server"]
    # Those who are killed cannot say which lines they ran: they need not be slowed down by counting them.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(command, stdin=theirs.fileno(), cwd=ROOT, env=env) as process:
        theirs.close()
        try:
            yield ForkServer(ours)
        finally:
            ours.close()
            process.wait(PATIENCE_SECONDS)
