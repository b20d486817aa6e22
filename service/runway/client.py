"""The client of Runway's API. A create is sent once, whatever happens; nothing here retries anything.

Requests go straight to an httpx transport: at 50 in flight `AsyncClient` itself costs more than the call, and of
what it adds (redirects, cookies, authentication flows) a create must have none.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from pydantic import ValidationError

from service.errors import RunwayAway
from service.logs import RUNWAY, event
from service.outcomes import Answer, Broken
from service.runway.task import Task
from service.settings import Settings

log = logging.getLogger(__name__)

API_VERSION = "2024-11-06"  # the only current one; required on every call
CONNECT_SECONDS = 10.0
RETRIEVE_SECONDS = 20.0  # a GET or DELETE touches no asset: an answer later than this is no answer
IDLE_SECONDS = 1.0  # a connection that rested longer is not used again: the other end may have closed it
LARGEST_ANSWER_BYTES = 1_000_000

# Set by whichever transport carries the call, when it has a connection on which bytes could be written.
_connected: ContextVar[list[bool]] = ContextVar("connected")


async def _aiohttp_connected(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
    _connected.get([]).append(True)


async def _httpcore_trace(name: str, _info: dict[str, Any]) -> None:
    if name.endswith("send_request_headers.started"):
        _connected.get([]).append(True)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def aiohttp_transport(url: str, connections: int) -> AiohttpTransport:
    """A transport that traces whether a connection was had. Seven times the throughput of httpx's own pool."""
    verify: ssl.SSLContext | bool = _tls() if url.startswith("https:") else False
    tracer = aiohttp.TraceConfig()
    tracer.on_connection_create_end.append(_aiohttp_connected)
    tracer.on_connection_reuseconn.append(_aiohttp_connected)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=verify, limit=connections, keepalive_timeout=IDLE_SECONDS)
        return aiohttp.ClientSession(connector=connector, trace_configs=[tracer])

    return AiohttpTransport(verify=verify, client=session)


class Runway:
    """One short-lived client: opened for a tick or a request, closed with it, so that no connection outlives a freeze."""

    def __init__(
        self,
        settings: Settings,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = settings.runway_url
        self._transport = transport or aiohttp_transport(self.url, settings.submit_slots + settings.poll_slots)
        # Only these two tell truthfully whether a connection was had; from any other, nothing is proof.
        self._traced = isinstance(self._transport, AiohttpTransport | httpx.AsyncHTTPTransport)
        self._clock = clock
        self._headers = settings.custom_headers | {
            "Authorization": f"Bearer {settings.runway_key}",
            "X-Runway-Version": API_VERSION,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "taxiway",
        }

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def create(
        self, operation: str, body: dict[str, Any], *, give_up_at: float, video: object = None
    ) -> Answer | Broken:
        """Send one create. `give_up_at`: on this client's clock; past it nothing is sent, or the call is cut off."""
        path = f"/v1/{operation}"
        event(log, RUNWAY, "request_starting", "Request starting", video=video)
        event(log, RUNWAY, "endpoint_called", f"Endpoint called: POST {self.url}{path}", video=video)
        if self._clock() >= give_up_at:
            return Broken("the time for this call was over before it began", sent=False)
        result = await self._call("POST", path, give_up_at - self._clock(), body)
        if isinstance(result, Answer):
            event(log, RUNWAY, "response_status", f"Response status: {result.status}", video=video)
        else:
            event(log, RUNWAY, "no_response", f"No response: {result.error}", level=logging.WARNING, video=video)
        return result

    async def retrieve(self, task_id: str) -> Task | None:
        """One look at a task; None if Runway does not know it. Raises RunwayAway when that cannot be said."""
        answer = await self._ask("GET", f"/v1/tasks/{_quoted(task_id)}")
        if answer.status == 404:
            return None
        try:
            return Task.model_validate_json(answer.body)
        except ValidationError as exc:
            raise RunwayAway(f"Runway's answer about task {task_id} cannot be read") from exc

    async def delete(self, task_id: str) -> bool:
        """Cancel or delete a task. True: it was there; False: it was gone already. Raises RunwayAway otherwise."""
        return (await self._ask("DELETE", f"/v1/tasks/{_quoted(task_id)}")).status != 404

    async def _ask(self, method: str, path: str) -> Answer:
        answer = await self._call(method, path, RETRIEVE_SECONDS)
        if isinstance(answer, Broken):
            raise RunwayAway(f"{method} {self.url}{path}: {answer.error}")
        not_ours = answer.status == 404 and b"Could not find Task" not in answer.body
        if answer.status not in (200, 204, 404) or not_ours:
            words = answer.body[:300].decode("utf-8", "replace")
            raise RunwayAway(
                f"{method} {self.url}{path} answered {answer.status}: {words}", runway_status=answer.status
            )
        return answer

    async def _call(
        self, method: str, path: str, seconds: float, body: dict[str, Any] | None = None
    ) -> Answer | Broken:
        connected: list[bool] = []
        token = _connected.set(connected)
        started = self._clock()
        try:
            async with asyncio.timeout(seconds):
                response = await self._transport.handle_async_request(self._request(method, path, seconds, body))
                content = await _read(response)
        except Exception as exc:
            # Whatever it is: without proof that nothing was written, it may have been sent.
            return Broken(f"{type(exc).__name__}: {exc}".rstrip(": "), sent=bool(connected) or not self._traced)
        finally:
            _connected.reset(token)
        request_id = response.headers.get("apigw-requestid")
        return Answer(response.status_code, content, self._clock() - started, request_id)

    def _request(self, method: str, path: str, seconds: float, body: dict[str, Any] | None) -> httpx.Request:
        limits = {
            "connect": min(CONNECT_SECONDS, seconds),
            "read": seconds,
            "write": seconds,
            "pool": seconds,
        }
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        return httpx.Request(
            method, self.url + path, headers=self._headers, content=content,
            extensions={"timeout": limits, "trace": _httpcore_trace},
        )  # fmt: skip


def _quoted(task_id: str) -> str:
    return quote(task_id, safe="")  # it may come from a table or a callback: never let it change the path


async def _read(response: httpx.Response) -> bytes:
    """The body, up to LARGEST_ANSWER_BYTES; what is longer is cut, and so becomes unreadable."""
    chunks: list[bytes] = []
    try:
        async for chunk in response.aiter_bytes():
            chunks.append(chunk)
            if sum(map(len, chunks)) > LARGEST_ANSWER_BYTES:
                break
    finally:
        await response.aclose()
    return b"".join(chunks)
