"""A small HTTP client that costs next to nothing: one prepared request, sent again and again on kept connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from urllib.parse import urlsplit


def prepared(method: str, url: str, headers: Mapping[str, str], body: object = None) -> bytes:
    """The bytes of one request."""
    parts = urlsplit(url)
    payload = b"" if body is None else json.dumps(body).encode()
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    own = {"Host": parts.netloc, "Content-Length": str(len(payload)), "Content-Type": "application/json"}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in (own | dict(headers)).items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + payload


class Connection:
    """One connection, which is opened when it is first used."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._where = (parts.hostname, parts.port)
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body. The answer must have a Content-Length."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._where)
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        if self._writer:
            self._writer.close()


async def hammer(url: str, request: bytes, *, connections: int, count: int, status: int) -> tuple[float, list[float]]:
    """Requests per second, and how long each took in seconds."""
    left = iter(range(count))
    took: list[float] = []

    async def one(connection: Connection) -> None:
        for _ in left:
            began = time.perf_counter()
            answer, body = await connection.ask(request)
            took.append(time.perf_counter() - began)
            assert answer == status, body[:300]

    made = [Connection(url) for _ in range(connections)]
    for connection in made:
        await connection.ask(request)  # open, and warm
    began = time.perf_counter()
    await asyncio.gather(*map(one, made))
    seconds = time.perf_counter() - began
    for connection in made:
        connection.close()
    return count / seconds, took
