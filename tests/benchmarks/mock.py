"""A Runway that accepts everything after a fixed time: `python -m tests.benchmarks.mock PORT TLS_PORT`.

A bare protocol on uvloop, so that the mock costs the core that it shares with the database as little as it can: about
20 µs for a create. It reads a request by its length, keeps the connection unless it is asked to close it, and counts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import cast
from uuid import uuid4

import uvloop

from tests.wire import server_tls

LOOK_SECONDS = 0.1  # a GET takes its time, as Runway's does: no peer looks at what its jobs became
TASK = '{"id":"%s","status":"RUNNING","createdAt":"2026-01-01T00:00:00.000Z","progress":0.5}'
COUNTED = ("creates", "answered", "looks", "most_open", "first_at", "last_at", "busy_at_last", "connections")


class Mock:
    """What was asked, when, and how many creates were open over time."""

    def __init__(self) -> None:
        self.connections = 0
        self.reset(0.0, 0)

    def reset(self, delay: float, warm_up: int) -> None:
        """Count from nothing. `first_at` is the time of the first create behind so many of warm-up."""
        self.delay, self.warm_up = delay, warm_up
        self.creates = self.answered = self.looks = self.open = self.most_open = self.connections = 0
        self.first_at = self.last_at = self._changed_at = 0.0
        self.busy = self.busy_at_last = 0.0  # slot-seconds: the integral of `open`

    def _move(self, by: int) -> float:
        now = time.time()
        self.busy += self.open * (now - self._changed_at)
        self._changed_at = now
        self.open += by
        return now

    def created(self) -> None:
        """A create has come."""
        now = self._move(1)
        if self.creates == self.warm_up:
            self.first_at = now
        self.last_at, self.busy_at_last = now, self.busy
        self.creates += 1
        self.most_open = max(self.most_open, self.open)

    def answer(self) -> str:
        """The answer to a create, now."""
        self._move(-1)
        self.answered += 1
        return f'{{"id":"{uuid4()}","estimatedCost":{{"credits":25}}}}'

    def state(self) -> str:
        """Every counter."""
        return json.dumps({name: getattr(self, name) for name in COUNTED})


class Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, mock: Mock) -> None:
        self._mock, self._loop = mock, asyncio.get_running_loop()
        self._buffer = b""
        self._needed = 0  # bytes until the request is whole; 0: its head is not there yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own does not inherit from it
        self._mock.connections += 1

    def data_received(self, data: bytes) -> None:
        """Answer when the request is whole."""
        self._buffer = self._buffer + data if self._buffer else data
        if not self._needed:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = self._buffer[:end]
            self._needed = end + 4 + int(_header(self._head, b"\r\ncontent-length:") or 0)
        if len(self._buffer) >= self._needed:
            self._buffer, self._needed = self._buffer[self._needed :], 0
            self._handle(*self._head.split(b" ", 2)[:2])

    def _handle(self, method: bytes, target: bytes) -> None:
        mock = self._mock
        if method == b"POST":
            mock.created()
            self._later(mock.delay, mock.answer)
        elif target == b"/_state":
            self._answer(mock.state())
        elif target.startswith(b"/_reset?"):
            asked = dict(pair.split("=") for pair in target.decode().partition("?")[2].split("&"))
            mock.reset(float(asked["seconds"]), int(asked.get("warm_up", 0)))
            self._answer("{}")
        else:
            mock.looks += 1
            self._later(LOOK_SECONDS, lambda: TASK % target.decode().rpartition("/")[2])

    def _later(self, seconds: float, body: Callable[[], str]) -> None:
        if seconds:
            self._loop.call_later(seconds, lambda: self._answer(body()))
        else:
            self._answer(body())

    def _answer(self, body: str) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        last = _header(self._head, b"\r\nconnection:") == b"close"
        self._transport.write(
            f"{head}{'Connection: close' if last else 'Connection: keep-alive'}\r\n\r\n{body}".encode()
        )
        if last:
            self._transport.close()


def _header(head: bytes, name: bytes) -> bytes:
    """The value in lower case; nothing where there is none. `name` begins with its line and ends with its colon."""
    _, found, rest = head.lower().partition(name)
    return rest.partition(b"\r\n")[0].strip() if found else b""


async def serve(port: int, tls_port: int) -> None:
    """Serve on both until the process is ended."""
    mock, loop = Mock(), asyncio.get_running_loop()
    for number, tls in ((port, None), (tls_port, server_tls())):
        await loop.create_server(lambda: Connection(mock), "127.0.0.1", number, backlog=1024, ssl=tls)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:])))
