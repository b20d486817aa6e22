"""What cuts wires in these suites leaves none of them open."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.crash.cutting import connect, joined

pytestmark = [pytest.mark.anyio, pytest.mark.crash]


class Far:
    """The far end of a wire. `ended`: its connection is gone."""

    def __init__(self) -> None:
        self.connected, self.ended = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the connection is gone."""
        self.connected.set()
        with suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()
        self.ended.set()


async def test_a_wire_that_is_cut_twice_leaves_no_end_open() -> None:
    near, far = Far(), Far()
    servers = [await asyncio.start_server(one.serve, "127.0.0.1", 0) for one in (near, far)]
    to_near, to_far = [await connect("127.0.0.1", one.sockets[0].getsockname()[1]) for one in servers]
    try:
        async with asyncio.timeout(20):
            passing = asyncio.create_task(joined(to_near, to_far))
            await asyncio.gather(near.connected.wait(), far.connected.wait())
            passing.cancel()
            await asyncio.sleep(0)  # it lets go
            passing.cancel()
            with suppress(asyncio.CancelledError):
                await passing
        assert to_far[1].transport.is_closing()
        assert not to_near[1].transport.is_closing(), "that end belongs to who made it"
    finally:
        for _, writer in (to_near, to_far):
            writer.transport.abort()
        for server in servers:
            server.close()
        async with asyncio.timeout(20):
            await asyncio.gather(near.ended.wait(), far.ended.wait())
