"""The processes of a soak: started, killed without a word, frozen, restarted; none is left in the end.

Those of the service come from a fork server: the many that follow those killed would else spend a soak on imports.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from tests.crash.processes import Forked, ForkServer

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.1


class Fleet:
    """Named processes. What ends without having been told to is in `fallen`, with its last words."""

    def __init__(self, folder: Path, environment: Mapping[str, str], forks: ForkServer) -> None:
        self._folder, self._environment, self._forks = folder, dict(environment), forks
        self._commands: dict[str, Sequence[str]] = {}
        self._running: dict[str, subprocess.Popen[bytes] | Forked] = {}
        self.did: Counter[str] = Counter()
        self.fallen: list[str] = []

    def start(self, name: str, *command: str) -> None:
        """Run `python -m <command>` under this name."""
        self._commands[name] = module, *arguments = command
        with (self._folder / f"{name}.log").open("ab") as log:
            if module == "service":
                made = self._forks.start_logged(*arguments, env=self._environment, log=log.fileno())
                self._running[name] = made
                return
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def kill(self, *names: str) -> None:
        """kill -9, and wait until they are gone."""
        for name in names:
            self._running[name].kill()
        for name in names:
            self._running.pop(name).wait()
            self.did["kill -9"] += 1

    async def stop(self, *names: str) -> None:
        """SIGTERM, and wait until they have ended what they began; who does not end in time has fallen over."""
        stopping = {name: self._running.pop(name) for name in names}
        for process in stopping.values():
            process.terminate()
        for name, process in stopping.items():
            try:
                await asyncio.to_thread(process.wait, PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.fallen.append(f"{name} did not end {PATIENCE_SECONDS:.0f} s after SIGTERM")
                process.kill()
                process.wait()

    def restart(self, *names: str) -> None:
        """Start again what was killed."""
        for name in names:
            self.start(name, *self._commands[name])

    async def freeze(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds; if it is still there."""
        process = self._running[name]
        process.send_signal(signal.SIGSTOP)
        self.did["SIGSTOP"] += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    def look_after(self) -> None:
        """Restart what fell over by itself, and remember that it did."""
        for name, process in list(self._running.items()):
            if (code := process.poll()) is not None:
                words = (self._folder / f"{name}.log").read_text(errors="replace")[-2_000:]
                self.fallen.append(f"{name} ended with {code}: {words}")
                self.restart(name)

    def names(self, prefix: str) -> list[str]:
        """The running processes whose names begin like that."""
        return sorted(name for name in self._running if name.startswith(prefix))

    def end(self) -> None:
        """End everything."""
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def tracebacks(self) -> Counter[str]:
        """Where tracebacks in all logs ended, and with what, counted."""
        found: Counter[str] = Counter()
        for path in self._folder.glob("*.log"):
            where = ""
            for line in path.read_text(errors="replace").splitlines():
                if line.startswith("Traceback "):
                    where = "?"
                elif line.startswith("  File "):
                    where = line.strip().removeprefix('File "').replace('"', "")
                elif where and not line.startswith((" ", "\t")):
                    found[f"{line[:120]} ({where})"] += 1
                    where = ""
        return found


async def answering(url: str) -> None:
    """Wait until something answers there."""
    async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                await client.get(url)
            except httpx.HTTPError:
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return


def environment(database_url: str, runway_url: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """What every process of the service is told: short times, small pools, few words."""
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ},
        "DATABASE_URL": database_url,
        "RUNWAYML_BASE_URL": runway_url,
        "POST_TIMEOUT": "10",
        "TICK_BUDGET": "5",
        "WORKER_INTERVAL": "0.5",
        "DATABASE_POOL_SIZE": "3",
        "LOG_LEVEL": "ERROR",
        "UNKNOWN_POLICY": "fail",
        **secrets,
    }
