"""A process that has imported the service once, and forks a fresh one of it in milliseconds whenever it is asked.

What runs in the fork is the command line itself: `python -m service ARGUMENTS`, with an environment of its own.
It stays single-threaded and never runs an event loop, so a fork of it is as good as a new process.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

LARGEST_ORDER = 65_536
MODULES = (
    "service.__main__",
    "service.app",
    "service.serving",
    "service.tick",
    "service.worker",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)


def main() -> None:
    """Serve orders on standard input, a socket: `{"args", "env", "clock"}` with a descriptor for output, and perhaps
    one that stays open as long as the process is there.
    """
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead leave nothing to wait for
    with socket.socket(fileno=0) as line:
        while True:
            data, passed, _, _ = socket.recv_fds(line, LARGEST_ORDER, 2)
            if not data:
                return
            pid = os.fork()
            if pid == 0:
                line.detach()
                _become(json.loads(data), passed[0])
            for descriptor in passed:
                os.close(descriptor)
            line.sendall(f"{pid:010d}".encode())


def _become(order: dict[str, Any], output: int) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.environ.clear()
    os.environ.update(order["env"])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if order.get("clock"):
        _set_clock(Path(order["clock"]))
    sys.argv = ["taxiway", *order["args"]]
    code = 1
    try:
        from service.__main__ import main as command_line

        command_line()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _set_clock(file: Path) -> None:
    """Add to both clocks the seconds that the file says at each moment."""
    from service import context as contexts

    build = contexts.from_environment

    def ahead() -> float:
        return float(file.read_text() or 0)

    contexts.from_environment = lambda: replace(
        build(), monotonic=lambda: time.monotonic() + ahead(), now=lambda: time.time() + ahead()
    )


if __name__ == "__main__":
    main()
