"""A wire between an SDK and Taxiway whose faults a test plans: each is for one request, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from runwayml import AsyncRunwayML
from starlette.types import ASGIApp

from service.app import create_app
from tests.world import API_KEY, World

Pass = Callable[[], Awaitable[httpx.Response]]  # hands the request on to Taxiway
Fault = Callable[[httpx.Request, Pass], Awaitable[httpx.Response]]


async def passed(_request: httpx.Request, hand_on: Pass) -> httpx.Response:
    """No fault."""
    return await hand_on()


async def dropped(request: httpx.Request, hand_on: Pass) -> httpx.Response:
    """Taxiway answers, and the answer is lost."""
    await hand_on()
    raise httpx.ReadError("the answer was lost", request=request)


async def refused(request: httpx.Request, _hand_on: Pass) -> httpx.Response:
    """The request does not arrive."""
    raise httpx.ConnectError("nothing listens there", request=request)


async def failed(request: httpx.Request, _hand_on: Pass) -> httpx.Response:
    """Something in front of Taxiway fails."""
    return httpx.Response(500, json={"message": "Internal Server Error"}, request=request)


class Held:
    """A request for whose answer the caller does not wait. `late`: it arrives with `arrive`, else at once."""

    def __init__(self, *, late: bool) -> None:
        self._may_go = asyncio.Event()
        if not late:
            self._may_go.set()
        self._answer: asyncio.Task[httpx.Response] | None = None

    async def __call__(self, request: httpx.Request, hand_on: Pass) -> httpx.Response:
        """As a caller sees it: a timeout."""

        async def go() -> httpx.Response:
            await self._may_go.wait()
            return await hand_on()

        self._answer = asyncio.create_task(go())
        raise httpx.ReadTimeout("no answer in time", request=request)

    async def arrive(self) -> httpx.Response:
        """What Taxiway answers, although no one waits for it."""
        self._may_go.set()
        assert self._answer is not None
        return await self._answer


class Wire(httpx.AsyncBaseTransport):
    """`seen`: the retry count and the status of each request that was answered."""

    def __init__(self, app: ASGIApp) -> None:
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, int, httpx.Headers]] = []
        self.restart(app)

    def restart(self, app: ASGIApp) -> None:
        """From now on, another process answers."""
        self._inner = httpx.ASGITransport(app=app, raise_app_exceptions=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand it on, with the next fault."""

        async def hand_on() -> httpx.Response:
            answer = await self._inner.handle_async_request(request)
            await answer.aread()
            self.seen.append((request.headers.get("x-stainless-retry-count", ""), answer.status_code, answer.headers))
            return answer

        return await (self.faults.pop(0) if self.faults else passed)(request, hand_on)


@asynccontextmanager
async def sdk(w: World, patch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[tuple[Any, Wire]]:
    """Runway's SDK, unmodified, at Taxiway. It sleeps in the world's time."""

    async def sleep(seconds: float) -> None:
        await w.later(seconds=seconds)

    wire = Wire(create_app(w.ctx))
    given: dict[str, Any] = {"api_key": API_KEY, "base_url": "http://taxiway.test"} | options
    patch.setattr(anyio, "sleep", sleep)
    async with AsyncRunwayML(**given, http_client=httpx.AsyncClient(transport=wire)) as client:
        yield client, wire
