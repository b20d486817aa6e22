"""What the figures were measured on, in words."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from tests.benchmarks.servers import Servers

SYNCS = 50


def processor() -> str:
    """The processor's name, as Linux tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def sync_microseconds() -> float:
    """How long the disk takes to keep one page, in microseconds: what each commit waits for."""
    sync = getattr(os, "fdatasync", os.fsync)
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        took = []
        for _ in range(SYNCS):
            os.pwrite(file.fileno(), b"x" * 8192, 0)
            began = time.perf_counter()
            sync(file.fileno())
            took.append(time.perf_counter() - began)
    return 1e6 * median(took)


def _said(*command: str) -> str:
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return ""


def words(servers: Servers, pinned: str) -> list[str]:
    """Machine, servers and versions, a line each."""
    load = f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    redis = _said("redis-server", "--version")
    lines = [
        f"{os.cpu_count()} cores of {processor()}{load}; {pinned}",
        f"{_said(servers.postgres.binaries.program('postgres'), '--version')} ({servers.postgres.whose}): "
        f"{servers.postgres.words}; fdatasync {sync_microseconds():.0f} µs",
        f"Python {platform.python_version()}, Node {_said('node', '--version') or 'missing'}",
    ]
    if redis and servers.redis:
        version = next((word for word in redis.split() if word.startswith("v=")), "")
        lines.append(f"Redis {version.removeprefix('v=')}: {servers.redis.words}")
    return lines
