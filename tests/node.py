"""Apps of Node.js: installed from their lock file, and run to their end."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MISSING = "needs Node.js 20.9 or newer with npm: install Debian's nodejs and npm, or from https://nodejs.org"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 2_000_000_000
BUILD_SECONDS = 300


def run(folder: Path, *command: str, **environment: str) -> str:
    """Run one command to its end; its output. It asks nothing but npm's registry, and that only for packages."""
    quiet = {"NEXT_TELEMETRY_DISABLED": "1", "CI": "1"}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | quiet | environment, capture_output=True, text=True,
        timeout=BUILD_SECONDS, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def _is_there() -> bool:
    """Whether Node.js is there, new enough for Next.js, and npm."""
    if not (shutil.which("node") and shutil.which("npm")):
        return False
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, version.strip().removeprefix("v").split(".")[:2])) >= (20, 9)


@contextmanager
def installed(app: Path, *options: str) -> Iterator[Path]:
    """A copy of the app with its packages, gone in the end. Without Node.js, the test is skipped.

    In memory where there is room for it: 12,000 files take a busy disk longer than a build.
    """
    if not _is_there():
        pytest.skip(MISSING)
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES
    with tempfile.TemporaryDirectory(prefix=f"taxiway-{app.name}-", dir=MEMORY if roomy else None) as name:
        folder = Path(name) / "app"
        shutil.copytree(app, folder, ignore=shutil.ignore_patterns("node_modules", ".next"))
        run(folder, "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", *options)
        yield folder
