"""What the harness sees of a run: how much is stored, and how long it took; on one connection, kept for the whole run.

Every delay is between two times of the store's own clock, in microseconds: from the job being queued to the commit (or,
in Redis, the command) that stores its id.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import asyncpg

from tests.benchmarks.contenders.base import Site, peer


class Watcher(Protocol):
    """One run of one contender. `delays`: seconds by job, as they were seen; None where that was too late."""

    delays: dict[Any, float | None]

    async def __aenter__(self) -> Self:
        """Connect."""
        ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def stored(self) -> int:
        """How many ids are stored."""
        ...

    async def note(self) -> None:
        """Keep the delays of what has been stored since; called between two jobs, at the same moments for all."""
        ...


class SqlWatcher:
    """In PostgreSQL. `stored`: a query for the count; `delays`: one for jobs and their seconds."""

    def __init__(self, site: Site, stored: str, delays: str) -> None:
        self._url, self._stored, self._delays = site.database, stored, delays
        self.delays: dict[Any, float | None] = {}

    async def __aenter__(self) -> Self:
        self._connection = await asyncpg.connect(self._url)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._connection.close()

    async def stored(self) -> int:
        count: int = await self._connection.fetchval(self._stored)
        return count

    async def note(self) -> None:
        for job, seconds in await self._connection.fetch(self._delays):
            self.delays.setdefault(job, seconds)


class RedisWatcher:
    """In Redis. `stored`: a Lua expression for the count; `queued` and `done`: what commands name the job, by regex.

    Redis's own MONITOR says when each command was executed, to the microsecond. It is asked for when delays are.
    """

    def __init__(self, site: Site, stored: str, queued: str, done: str) -> None:
        self._url, self._stored = site.redis, f"return {stored}"
        self._queued, self._done = (re.compile(rb"\+([\d.]+) \[.*?\] " + one.encode()) for one in (queued, done))
        self.delays: dict[Any, float | None] = {}
        self._begun: dict[bytes, float] = {}
        self._monitor: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        self._redis = peer("redis.asyncio").from_url(self._url)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._monitor:
            self._monitor.close()
            await self._reading
        await self._redis.aclose()

    async def stored(self) -> int:
        count: int = await self._redis.eval(self._stored, 0)
        return count

    async def note(self) -> None:
        if self._monitor is None:
            parts = urlsplit(self._url)
            reader, self._monitor = await asyncio.open_connection(parts.hostname, parts.port, limit=2**24)
            self._monitor.write(b"MONITOR\r\n")
            await reader.readline()
            self._lines: list[bytes] = []
            self._reading = asyncio.create_task(self._read(reader))
        lines, self._lines = self._lines, []
        for line in lines:
            self.see(line)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._lines.append(line)

    def see(self, line: bytes) -> None:
        """One line of MONITOR."""
        if found := self._done.match(line):
            if found[2] in self._begun:
                self.delays.setdefault(found[2], float(found[1]) - self._begun[found[2]])
        elif found := self._queued.match(line):
            self._begun.setdefault(found[2], float(found[1]))
