"""The fastest client that a Python contender can have: kept connections, httptools, and one prepared head.

No retries, no timeouts, no redirects: what a floor needs, and what no peer may be slower for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

import httptools


class Client:
    """Posts bodies to one address, on as many connections as are in use at once."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", *(f"{k}: {v}" for k, v in headers.items())]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode()
        self._resting: list[_Connection] = []

    async def post(self, body: bytes) -> bytes:
        """The answer's body. Raises RuntimeError for any status but 200, OSError for a lost connection."""
        if self._resting:
            connection = self._resting.pop()
        else:
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        answer = await connection.ask(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        self._resting.append(connection)
        return answer

    def close(self) -> None:
        """Close those that rest."""
        for connection in self._resting:
            connection.close()


class _Connection(asyncio.Protocol):
    _waiting: asyncio.Future[bytes]
    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's does not inherit from asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._waiting = self._loop.create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionError("the connection was closed"))

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """Send it; the future is the answer's body."""
        self._waiting, self._body = self._loop.create_future(), b""
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        return self._waiting

    def close(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """The parser has a piece of it."""
        self._body += data

    def on_message_complete(self) -> None:
        """The parser has all of it."""
        status = self._parser.get_status_code()
        if status == 200:
            self._waiting.set_result(self._body)
        else:
            self._waiting.set_exception(RuntimeError(f"answered with {status}: {self._body[:200]!r}"))
