"""The simulator for tests: on a real socket, or in the same process, with a clock that the test sets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from service.connections import bounded, most_connections
from service.simulator.app import Simulator, SimulatorOptions, create_simulator
from tests.kept import PATIENCE_SECONDS

HEADERS = {"authorization": "Bearer key_test", "x-runway-version": "2024-11-06"}
IMAGE = "https://example.com/boat.jpg"


class Clock:
    """Unix seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let this time pass at once."""
        self.now += seconds
        await asyncio.sleep(0)


def simulator(clock: Clock, **options: Any) -> Simulator:
    """A simulator whose chance is fixed."""
    return create_simulator(SimulatorOptions(**options), clock=clock, random=Random(7), sleep=clock.sleep)


def body(**changes: Any) -> dict[str, Any]:
    """A valid image_to_video body. A change to None takes a field away."""
    base = {
        "model": "gen4_turbo",
        "promptImage": IMAGE,
        "promptText": "a boat",
        "ratio": "1280:720",
        "duration": 5,
    }
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another task will bring about. Raises TimeoutError when that is never."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # what is waited for belongs to others, who know no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def in_process(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the application without a socket."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://runway.test", headers=HEADERS) as client:
        yield client


@asynccontextmanager
async def on_socket(app: ASGIApp) -> AsyncIterator[str]:
    """Serve on a free port of the loopback, with the limits of the product; yields the base URL. The lifespan runs."""
    limits = bounded(AutoHTTPProtocol, most_connections())
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2, http=limits)
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await until(lambda: server.started or serving.done())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
