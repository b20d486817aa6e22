"""A wire that can be cut: a proxy in front of PostgreSQL which knows what passes through it.

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
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
CANCEL_REQUEST = 80877102
IDLE = b"I"  # what ReadyForQuery says outside a transaction
NAME_LENGTH = 48
# What only reads, and calls nothing that may do more. Doubt counts as a change.
READER = re.compile(r"\s*(SELECT|WITH)\b", re.IGNORECASE)
WRITER = re.compile(
    r"\b(INSERT|UPDATE|DELETE|MERGE|INTO|CALL|nextval|setval|pg_notify|pg_\w*lock\w*|pg_\w*backend)\b",
    re.IGNORECASE,
)

DATABASE = "database"


class Cut(Exception):
    """Raised by a hook: close this connection, both ends, and forward nothing more."""


@dataclass(frozen=True)
class Step:
    """One moment. `name`: the statement or the call; `nth`: which of those that look the same, from 1.

    `changes`: whether what came before it may be seen by others; not so after a statement that only reads, or whose
    transaction is still open.
    """

    place: str
    name: str
    moment: str
    nth: int
    changes: bool = field(default=True, compare=False)

    @property
    def kind(self) -> tuple[str, str, str]:
        """What it has in common with those that differ in their number alone."""
        return self.place, self.name, self.moment

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

    async def reach(self, place: str, name: str, moment: str, *, changes: bool = True) -> None:
        """A step is reached. Raises whatever the hook raises: Cut ends the connection."""
        key = (place, name, moment)
        self._seen[key] += 1
        step = Step(*key, self._seen[key], changes)
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
        except RuntimeError:
            if not writer.is_closing():
                raise
            # uvloop's word for writing to an end that is gone
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
    async def listening(self, port: int = 0) -> AsyncIterator[Proxy]:
        """Listen on this port, or on a free one, while inside."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
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
        self._readers: set[str] = set()

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
                    if only_reads(bound):
                        self._readers.add(name_or_none)
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
            kind, body, raw = await _message(self._server)
            held.append(raw)
            if kind == b"Z":
                name = self._asked.popleft()
                if name:
                    changes = body == IDLE and name not in self._readers
                    await self._watch.reach(DATABASE, name, "after", changes=changes)
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


def only_reads(sql: str) -> bool:
    """Whether this statement leaves nothing that others could see."""
    words = re.sub(r"--[^\n]*|'[^']*'", " ", sql)
    return bool(READER.match(words)) and not WRITER.search(words)
