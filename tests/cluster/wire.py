"""A node's way to the others: its replication goes through here, and can be stalled or cut without a firewall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

CHUNK_BYTES = 65_536

Gate = Callable[[], Awaitable[object]]


class Wire:
    """A listener that passes everything on to a port of the loopback, while it flows."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.is_cut = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def stall(self) -> None:
        """Hold every byte back from now on, and keep every connection."""
        self._flows.clear()

    def flow(self) -> None:
        """Let pass what was held back, and take connections again."""
        self.is_cut = False
        self._flows.set()

    async def cut(self) -> None:
        """Abort every connection, with what is held back, and refuse new ones."""
        self.is_cut = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.is_cut:
                await joined((reader, writer), self.target, self._flows.wait)
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone, or the wire is cut
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Wire]:
        """Listen while inside."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            await self.cut()


async def _always() -> None:
    """The gate that is open."""


async def joined(client: tuple[asyncio.StreamReader, asyncio.StreamWriter], port: int, gate: Gate = _always) -> None:
    """Pass bytes both ways until either end is gone. Raises OSError when the port takes no connection."""
    reader, writer = client
    upstream, to_upstream = await asyncio.open_connection("127.0.0.1", port)
    ways = [asyncio.create_task(_pump(*way, gate)) for way in ((reader, to_upstream), (upstream, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        to_upstream.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: Gate) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        await gate()
        if writer.is_closing():
            return
        writer.write(chunk)
        await writer.drain()
    await gate()
