"""A node's way to the others: its replication goes through here, and can be stalled or cut without a firewall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.crash.cutting import connect, joined


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
                await joined((reader, writer), await connect("127.0.0.1", self.target), self._flows.wait)
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
