"""Other processes: seen, waited for, ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from service.local.processes import command_of, end, until

PATIENCE_SECONDS = 120


def test_end_climbs_the_ladder_and_admits_defeat() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()

        def alive() -> bool:
            return process.poll() is None

        assert not end(process.pid, alive, [(signal.SIGINT, 0.02)])
        assert end(process.pid, alive, [(signal.SIGINT, 0.02), (signal.SIGQUIT, PATIENCE_SECONDS)])
    assert end(process.pid, lambda: False, [(signal.SIGINT, 0)])


def test_commands_are_read_with_and_without_proc(tmp_path: Path) -> None:
    assert "python" in command_of(os.getpid())
    assert command_of(2**22 + 1) == ""
    if shutil.which("ps"):
        assert "python" in command_of(os.getpid(), proc=tmp_path)
        assert command_of(2**22 + 1, proc=tmp_path) == ""


def test_until_gives_up() -> None:
    clock = iter(range(100))
    waits: list[float] = []
    assert not until(lambda: False, 2, sleep=waits.append, now=lambda: next(clock))
    assert len(waits) == 2
