"""What carries a call, and the proof whether it had a connection on which bytes could be written.

An exception's class proves nothing: httpx-aiohttp 0.2 reports a connection that was dropped after the whole request
as ConnectTimeout. So the connector itself is asked, while it works.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from types import ModuleType

    import aiohttp

CONNECT_SECONDS = 10.0
# A connection that rested longer is not used again: the other end may have closed it. Under load the next create
# follows within milliseconds; 0 means a new connection for each.
IDLE_SECONDS = 0.25

Content = bytes | AsyncIterator[bytes]


class ConnectionTrace:
    """When a call had a connection on which bytes could be written. The transport that carries the call sets it."""

    __slots__ = ("_monotonic", "at")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self.at: float | None = None

    def connected(self) -> None:
        self.at = self._monotonic()


current: ContextVar[ConnectionTrace] = ContextVar("connection_trace")


class Response(Protocol):
    """An answer whose headers were read."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def done(self) -> bool:
        """Whether the connection went back already, when the answer was read to its end."""

    async def read(self, chunks: list[bytes], limit: int) -> None:
        """Append the body, up to `limit` bytes; what was read before an exception stays."""

    async def close(self) -> None:
        """Let go of the connection."""


class Transport(Protocol):
    """Carries a call. `traced`: no news of a connection is proof that there was none."""

    traced: bool

    async def open(self, method: str, url: str, headers: Mapping[str, str], content: Content) -> Response:
        """Send this, once, and read the answer's headers."""

    async def aclose(self) -> None:
        """Close every connection."""


class _AiohttpResponse:
    __slots__ = ("_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self, chunks: list[bytes], limit: int) -> None:
        content, size = self._response.content, 0
        try:
            while size <= limit and not content.at_eof() and (chunk := await content.readany()):
                chunks.append(chunk)
                size += len(chunk)
        except Exception:
            # What came before the connection broke, and was not read by then, is kept back behind the error.
            chunks.extend(getattr(content, "_buffer", ()))
            raise

    @property
    def done(self) -> bool:
        return self._response.connection is None

    async def close(self) -> None:
        await self._response.__aexit__(None, None, None)


def load_session() -> ModuleType:
    """aiohttp, with the first call: a tick that sends nothing does without.

    A process that stays loads it before its first open submission: what is permitted is to be sent at once.
    """
    from service.runway import session

    return session


@cache
def _tls() -> ssl.SSLContext:
    import httpx  # it knows where certificates are; for anything else it is not loaded

    return httpx.create_ssl_context()


class AiohttpTransport:
    """aiohttp itself: with httpx in between, every call costs half as much again."""

    traced = True

    def __init__(
        self, url: str, connections: int, *, idle_seconds: float = IDLE_SECONDS, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls: ssl.SSLContext | bool = (tls or _tls()) if url.startswith("https:") else False
        self._connections = connections
        self._rest: dict[str, Any] = {"keepalive_timeout": idle_seconds} if idle_seconds else {"force_close": True}
        self._session: aiohttp.ClientSession | None = None

    async def open(self, method: str, url: str, headers: Mapping[str, str], content: Content) -> Response:
        if self._session is None:
            self._session = load_session().new_session(
                lambda: current.get().connected(), CONNECT_SECONDS, ssl=self._tls, limit=self._connections, **self._rest
            )
        return _AiohttpResponse(
            await self._session.request(method, url, headers=headers, data=content or None, allow_redirects=False)
        )

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
