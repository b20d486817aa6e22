"""The door: one address that leads to the primary, as HAProxy in front of Patroni does it.

It asks each node `GET /primary`. When the primary is another one, it either drops the sessions of the old one, or keeps
them: then a primary that was frozen and wakes still has its old clients. Keep is the nastier one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from tests.cluster.nodes import Cluster, Node
from tests.crash.cutting import connect, joined
from tests.database import execute

ASK_SECONDS = 0.2


class Door:
    """`port` leads to the primary; nowhere while there is none. `url` is what an app has as its DATABASE_URL."""

    def __init__(self, nodes: Sequence[Node], *, keeps: bool) -> None:
        self.keeps = keeps
        self.port = 0
        self.database = "postgres"
        self.turns = 0  # how often it led to another node than before
        self._nodes = nodes
        self._primary: Node | None = None
        self._leads = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], Node] = {}

    async def _look(self) -> None:
        """Follow the primary. Of two, the one stays that was."""
        last: Node | None = None
        while True:
            says = await asyncio.gather(*(node.says("/primary") for node in self._nodes))
            primaries = [node for node, yes in zip(self._nodes, says, strict=True) if yes]
            self._primary = last if last in primaries else next(iter(primaries), None)
            if self._primary and self._primary is not last:
                self.turns += last is not None
                last = self._primary
                self._leads.set()
            if not self.keeps:
                for task, node in self._tasks.items():
                    if node is not self._primary:
                        task.cancel()
            await asyncio.sleep(ASK_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, node = asyncio.current_task(), self._primary
        assert task is not None
        try:
            if node is not None:
                self._tasks[task] = node
                await joined((reader, writer), await connect("127.0.0.1", node.port))
        except (OSError, asyncio.CancelledError):
            pass  # either end is gone, or its session is dropped
        finally:
            self._tasks.pop(task, None)
            writer.transport.abort()

    @property
    def url(self) -> str:
        """The database behind the door."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{self.database}?sslmode=disable"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Door]:
        """Listen on a free port while inside; it leads to a primary by then."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        looking = asyncio.create_task(self._look())
        try:
            await self._leads.wait()
            yield self
        finally:
            server.close()
            looking.cancel()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def behind_door(made: Cluster, *, keeps: bool) -> AsyncIterator[Door]:
    """An empty database of one's own on a whole cluster, behind a door that keeps old sessions, or drops them."""
    await made.whole()
    async with Door(made.nodes, keeps=keeps).open() as door:
        name = f"taxiway_{uuid4().hex[:12]}"
        await execute(door.url, f"CREATE DATABASE {name}")
        door.database = name
        yield door
