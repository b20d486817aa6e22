"""A plain wire to PostgreSQL, which knows nothing of what passes: it can be frozen, thawed and cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from tests.crash.proxy import Proxy

CHUNK_BYTES = 65_536

Gate = Callable[[], Awaitable[object]]
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Wire:
    """While frozen, bytes go nowhere, in either direction, as with a host that fell off the network."""

    def __init__(self) -> None:
        self._flows = asyncio.Event()
        self._flows.set()
        self.connections = 0
        self.proxy: Proxy | None = None

    def freeze(self) -> None:
        """Hold every byte from now on, also those of connections that are still to come."""
        self._flows.clear()

    def thaw(self) -> None:
        """Let the bytes go on."""
        self._flows.set()

    def swallow(self) -> None:
        """Freeze the connections that there are, for good; new ones work."""
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    async def cut(self) -> None:
        """Reset every connection there is."""
        assert self.proxy is not None
        await self.proxy.cut()

    @property
    def url(self) -> str:
        """The DATABASE_URL that leads through this wire."""
        assert self.proxy is not None
        return self.proxy.url

    def gate(self) -> Gate:
        """Where the bytes of a connection that is made now wait while it is frozen."""
        return self._flows.wait


@asynccontextmanager
async def wire(database_url: str) -> AsyncIterator[Wire]:
    """A wire to this database, behind a socket or TCP."""
    parts = urlsplit(database_url)
    host, port = place(database_url)
    made = Wire()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        await joined((reader, writer), await connect(host, port), made.gate())

    async with Proxy(handle).listening() as proxy:
        user = parts.netloc.rpartition("@")[0]
        proxy.url = parts._replace(netloc=f"{user}@127.0.0.1:{proxy.port}", query="sslmode=disable").geturl()
        made.proxy = proxy
        yield made


def place(database_url: str) -> tuple[str, int]:
    """Host, or directory of the socket, and port."""
    parts = urlsplit(database_url)
    query = parse_qs(parts.query)
    host = query.get("host", [parts.hostname or ""])[0]
    return host, int(query.get("port", [str(parts.port or 5432)])[0])


async def connect(host: str, port: int) -> Ends:
    """A connection to a PostgreSQL server, or to whatever listens there."""
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


async def _always() -> None:
    """The gate that is open."""


async def joined(client: Ends, server: Ends, gate: Gate = _always) -> None:
    """Pass bytes both ways until either end is gone; the server's is closed then."""
    ways = [
        asyncio.create_task(_pump(client[0], server[1], gate)),
        asyncio.create_task(_pump(server[0], client[1], gate)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        server[1].transport.abort()  # before anything is awaited, where one more cancellation may come
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: Gate) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        await gate()
        if writer.is_closing():
            return
        writer.write(chunk)
        await writer.drain()
    await gate()


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another task or process brings about. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # what is waited for belongs to others, who know no event
            await asyncio.sleep(0.01)
