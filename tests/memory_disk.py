"""The PostgreSQL of the tests, in memory: a database is 300 files, and a disk takes longer for them than many a test.

Where there is no such memory, or little room in it, the data is in a folder like any other.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.local.postgres import Server
from service.local.postgres_home import Home, account_for, find_binaries, runnable, shared_directory

MEMORY = Path("/dev/shm")  # of Linux; a container's is often small, and may start no programs
ROOM_BYTES = 2 * 1024**3  # three processes at once take about half of that
PREFIX = f"taxiway-tests-{os.getuid()}-"
YOUNG_SECONDS = 60.0  # by then a server has locked its folder


@contextmanager
def running(otherwise: Path, *, memory: Path = MEMORY) -> Iterator[Server]:
    """A server that is not durable, and is removed at the end: in memory, or in the folder `otherwise`."""
    server = _in_memory(memory) if has_room(memory) else Server(otherwise, durable=False)
    try:
        server.start()
        yield server
    finally:
        server.remove()
        if server.home.folder.parent == memory:
            shutil.rmtree(server.home.folder, ignore_errors=True)


def has_room(memory: Path) -> bool:
    """Whether there is such memory, and room in it."""
    with suppress(OSError):
        return os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= ROOM_BYTES
    return False


def sweep(memory: Path) -> None:
    """Remove what was left there by test runs that were killed."""
    for folder in memory.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another process sweeps as well; or the lock is held
            if folder.stat().st_ctime < time.time() - YOUNG_SECONDS:
                with (folder / "postgres.lock").open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)


def _in_memory(memory: Path) -> Server:
    """All in one folder of its own; the programs are where they can be started."""
    sweep(memory)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=memory))
    folder.chmod(0o755)  # as root, the server has another account
    ctx, is_root = folder / "server", os.geteuid() == 0
    home = Home(folder, ctx / "postgres", ctx / "run", account_for(ctx) if is_root else None)
    binaries = runnable(find_binaries(), shared_directory()) if is_root else find_binaries()
    return Server(folder, durable=False, home=home, binaries=binaries)
