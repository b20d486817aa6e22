"""Apps of Node.js: installed from their lock file, and run to their end."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.local.processes import until
from tests.simulator_server import on_socket
from tests.world import World

MISSING = "needs Node.js 20.9 or newer with npm: install Debian's nodejs and npm, or from https://nodejs.org"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 2_000_000_000
BUILD_SECONDS = 300
START_SECONDS = 90  # a workflow's bundle is 12 MB, and the machine may be busy


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


@asynccontextmanager
async def on_sockets(w: World) -> AsyncIterator[str]:
    """The world's Runway and its Taxiway, each on a socket; the address of Taxiway."""
    async with on_socket(w.runway) as runway:
        settings = w.ctx.settings.model_copy(update={"runway_url": runway})
        async with on_socket(
            create_app(replace(w.ctx, settings=settings, transport=None, webhook_transport=None))
        ) as taxiway:
            yield taxiway


@contextmanager
def served(folder: Path, port: int, *command: str, **settings: str) -> Iterator[str]:
    """An app that listens on PORT, once it answers; its address. It runs on the Node.js among its packages, if any."""
    url = f"http://127.0.0.1:{port}"
    path = f"{folder / 'node_modules' / '.bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "NEXT_TELEMETRY_DISABLED": "1", "PORT": str(port)} | settings
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:

        def answers() -> bool:
            try:
                return httpx.get(url, trust_env=False).status_code < 500
            except httpx.TransportError:
                return False

        assert until(lambda: process.poll() is not None or answers(), START_SECONDS), (folder / "log").read_text()
        assert process.poll() is None, (folder / "log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(START_SECONDS)
