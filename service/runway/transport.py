"""The transport underneath the client, and the proof whether a call had a connection on which bytes could be written.

An exception's class proves nothing: httpx-aiohttp 0.2 reports a connection that was dropped after the whole request
as ConnectTimeout. So the transport itself is asked, while it works.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

# A connection that rested longer is not used again: the other end may have closed it. Under load the next create
# follows within milliseconds; 0 means a new connection for each.
IDLE_SECONDS = 0.25


class Sight:
    """When a call had a connection on which bytes could be written: told by whichever transport carries it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.at: float | None = None

    def connected(self) -> None:
        self.at = self._clock()


current: ContextVar[Sight] = ContextVar("sight")


async def _aiohttp_connected(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
    current.get().connected()


async def httpcore_trace(name: str, _info: dict[str, Any]) -> None:
    if name.endswith("send_request_headers.started"):
        current.get().connected()


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


class TracedTransport(AiohttpTransport):
    """What `aiohttp_transport` makes: the plain AiohttpTransport says nothing of what was sent."""


def aiohttp_transport(
    url: str, connections: int, *, idle_seconds: float = IDLE_SECONDS, tls: ssl.SSLContext | None = None
) -> TracedTransport:
    """A transport that traces whether a connection was had. Seven times the throughput of httpx's own pool."""
    verify: ssl.SSLContext | bool = (tls or _tls()) if url.startswith("https:") else False
    tracer = aiohttp.TraceConfig()
    tracer.on_connection_create_end.append(_aiohttp_connected)
    tracer.on_connection_reuseconn.append(_aiohttp_connected)
    rest: dict[str, Any] = {"keepalive_timeout": idle_seconds} if idle_seconds else {"force_close": True}

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=verify, limit=connections, **rest)
        return aiohttp.ClientSession(connector=connector, trace_configs=[tracer], cookie_jar=aiohttp.DummyCookieJar())

    return TracedTransport(verify=verify, client=session)


def tells_the_truth(transport: httpx.AsyncBaseTransport) -> bool:
    """Whether no news of a connection is proof that there was none: from any transport but these two it is not."""
    return isinstance(transport, TracedTransport | httpx.AsyncHTTPTransport)
