"""A wire that can be cut: proxies in front of PostgreSQL and of Runway which know what passes through them.

Every moment at which a process can die between two bytes that matter is a `Step`. A `Watch` numbers the steps and
calls a hook at each, while the bytes are held: the hook may kill the process, stop it, wait, or raise `Cut`.
"""

from __future__ import annotations

import asyncio
import re
import struct
import zlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
CANCEL_REQUEST = 80877102
NAME_LENGTH = 48

DATABASE, RUNWAY = "database", "runway"


class Cut(Exception):
    """Raised by a hook: close this connection, both ends, and forward nothing more."""


@dataclass(frozen=True)
class Step:
    """One moment. `name`: the statement or the call; `nth`: which of those that look the same, from 1."""

    place: str
    name: str
    moment: str
    nth: int

    def __str__(self) -> str:
        return f"{self.place}: {self.moment} {self.name} #{self.nth}"


Hook = Callable[[Step], Awaitable[None]]


async def pass_on(_step: Step) -> None:
    """The hook that does nothing."""


class Watch:
    """Keeps the list of steps, and calls `hook` at each, before anything goes on."""

    def __init__(self) -> None:
        self.restart()

    def restart(self, hook: Hook = pass_on) -> None:
        """Count from the beginning, with another hook."""
        self.steps: list[Step] = []
        self.hook = hook
        self._seen: Counter[tuple[str, str, str]] = Counter()

    async def reach(self, place: str, name: str, moment: str) -> None:
        """A step is reached. Raises whatever the hook raises: Cut ends the connection."""
        key = (place, name, moment)
        self._seen[key] += 1
        step = Step(*key, self._seen[key])
        self.steps.append(step)
        await self.hook(step)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Proxy:
    """A listener on the loopback. `url` leads through it; `cut()` aborts what is connected now."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusing = False  # True: whoever connects is dropped at once
        self.url = ""
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.refusing:
                await self._handle(reader, writer)
        except (Cut, OSError, EOFError, asyncio.CancelledError):
            pass  # either end is gone, or shall be: the other one learns it below
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def cut(self) -> None:
        """Abort every connection, and wait until each is gone."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        """Listen on a free port while inside."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await self.cut()


@asynccontextmanager
async def postgres_proxy(database_url: str, watch: Watch) -> AsyncIterator[Proxy]:
    """A proxy to this database, behind a socket or TCP; its `url` is the DATABASE_URL to use instead."""
    parts = urlsplit(database_url)
    place = parse_qs(parts.query)
    host = place.get("host", [parts.hostname or ""])[0]
    port = int(place.get("port", [str(parts.port or 5432)])[0])

    async def upstream() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Session(watch, reader, writer, *await upstream()).run()

    async with Proxy(handle).listening() as proxy:
        user, at, _ = parts.netloc.rpartition("@")
        netloc = f"{user}{at}127.0.0.1:{proxy.port}"
        proxy.url = parts._replace(netloc=netloc, query="sslmode=disable").geturl()
        yield proxy


class _Session:
    """One connection to PostgreSQL: https://www.postgresql.org/docs/current/protocol-flow.html"""

    def __init__(
        self,
        watch: Watch,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._watch = watch
        self._client, self._to_client = client, to_client
        self._server, self._to_server = server, to_server
        self._statements: dict[bytes, str] = {}
        self._asked: deque[str | None] = deque()  # what the next ReadyForQuery answers; None: nothing was run

    async def run(self) -> None:
        """Until either end is gone, or a hook cuts."""
        try:
            if await self._start():
                ways = [asyncio.create_task(way) for way in (self._requests(), self._answers())]
                try:
                    done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
                for way in done:
                    way.result()
        finally:
            self._to_server.transport.abort()

    async def _start(self) -> bool:
        while True:
            length = await self._client.readexactly(4)
            rest = await self._client.readexactly(struct.unpack("!I", length)[0] - 4)
            code = struct.unpack("!I", rest[:4])[0]
            if code in (SSL_REQUEST, GSS_REQUEST):
                self._to_client.write(b"N")
                continue
            self._to_server.write(length + rest)
            self._asked.append(None)
            return bool(code != CANCEL_REQUEST)

    async def _requests(self) -> None:
        held: list[bytes] = []
        bound, runs = "", False
        while True:
            kind, body, raw = await _message(self._client)
            held.append(raw)
            if kind == b"P":
                name, sql, _ = body.split(b"\0", 2)
                self._statements[name] = sql.decode()
            elif kind == b"B":
                bound = self._statements.get(body.split(b"\0", 2)[1], "")
            elif kind == b"E":
                runs = True
            elif kind == b"Q":
                bound, runs = body.rstrip(b"\0").decode(), True
            if kind in b"SQ":
                name_or_none = named(bound) if runs else None
                if name_or_none:
                    await self._watch.reach(DATABASE, name_or_none, "before")
                self._asked.append(name_or_none)
                runs = False
            if kind not in b"PBEDC":  # those wait for the Sync that runs them
                self._to_server.writelines(held)
                await self._to_server.drain()
                held.clear()

    async def _answers(self) -> None:
        held: list[bytes] = []
        while True:
            kind, _, raw = await _message(self._server)
            held.append(raw)
            if kind == b"Z":
                name = self._asked.popleft()
                if name:
                    await self._watch.reach(DATABASE, name, "after")
            if kind in b"ZGWA" or not any(self._asked):
                self._to_client.writelines(held)
                await self._to_client.drain()
                held.clear()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    """(type, body, all of it)"""
    head = await reader.readexactly(5)
    body = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
    return head[:1], body, head + body


def named(sql: str) -> str:
    """A short name of a statement, the same every time and another for any other statement."""
    words = " ".join(re.sub(r"--[^\n]*", " ", sql).split())
    return f"{words[:NAME_LENGTH]} [{zlib.crc32(words.encode()) & 0xFFFF:04x}]" if words else "(empty)"


@asynccontextmanager
async def runway_proxy(url: str, watch: Watch) -> AsyncIterator[Proxy]:
    """A proxy to Runway's API (HTTP/1.1); its `url` is the RUNWAYML_BASE_URL to use instead."""
    parts = urlsplit(url)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await watch.reach(RUNWAY, "connection", "after")
        server, to_server = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            while True:
                await _exchange(watch, reader, writer, server, to_server)
        finally:
            to_server.transport.abort()

    async with Proxy(handle).listening() as proxy:
        proxy.url = f"http://127.0.0.1:{proxy.port}"
        yield proxy


async def _exchange(
    watch: Watch,
    client: asyncio.StreamReader,
    to_client: asyncio.StreamWriter,
    server: asyncio.StreamReader,
    to_server: asyncio.StreamWriter,
) -> None:
    """One call: its bytes, half by half. Raises EOFError at the end of the connection."""
    request, whole = await _http(client)
    if not whole:
        raise EOFError
    name = _call_name(request)
    await _halves(watch, name, "request", to_server, request)
    answer, whole = await _http(server, of_request=request)
    await watch.reach(RUNWAY, name, "after the whole request of")
    await _halves(watch, name, "answer", to_client, answer)
    await watch.reach(RUNWAY, name, "after the whole answer of")
    if not whole:
        raise EOFError


async def _halves(watch: Watch, name: str, what: str, to: asyncio.StreamWriter, data: bytes) -> None:
    to.write(data[: len(data) // 2])
    await to.drain()
    await watch.reach(RUNWAY, name, f"after half of the {what} of")
    to.write(data[len(data) // 2 :])
    await to.drain()


def _call_name(request: bytes) -> str:
    method, path, _ = request.split(b"\r\n", 1)[0].decode().split(" ")
    return f"{method} {re.sub('[0-9a-f]{8}-[0-9a-f-]{27}', '{id}', path)}"


async def _http(reader: asyncio.StreamReader, of_request: bytes = b"") -> tuple[bytes, bool]:
    """One request, or the answer to `of_request`, and whether all of it came before the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        return exc.partial, False
    status = head.split(b" ", 2)[1]
    if of_request and (status in (b"204", b"304") or of_request.startswith(b"HEAD ")):
        return head, True
    found = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    body = b""
    try:
        if found:
            body = await reader.readexactly(int(found[1]))
        elif re.search(rb"(?im)^transfer-encoding:\s*chunked", head):
            while not body.endswith(b"0\r\n\r\n"):
                body += await reader.readuntil(b"\r\n")
        elif of_request:
            return head + await reader.read(), False
    except asyncio.IncompleteReadError as exc:
        return head + body + exc.partial, False
    return head + body, True
