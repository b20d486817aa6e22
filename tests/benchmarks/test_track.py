"""The track itself: the mock, the client of the floors, and what a watcher and the profile make of what they see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.benchmarks.contenders.base import Site
from tests.benchmarks.contenders.client import Client
from tests.benchmarks.mock import Connection, Mock
from tests.benchmarks.profiled import part_of
from tests.benchmarks.watching import RedisWatcher

POST = b"POST /v1/image_to_video HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\n"
CLOSING = b"POST /v1/image_to_video HTTP/1.1\r\nConnection: close\r\ncontent-length: 2\r\n\r\n{}"
RESET = b"GET /_reset?seconds=0&warm_up=1 HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def serving(mock: Mock) -> AsyncIterator[int]:
    """The mock on a port."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(mock), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    return await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))


async def test_the_mock_keeps_a_connection_until_it_is_asked_to_close_it() -> None:
    mock = Mock()
    async with serving(mock) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in (POST[:20], POST[20:] + b"12345"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"67890")
        assert "id" in json.loads(await answer(reader))
        writer.write(CLOSING)
        assert "id" in json.loads(await answer(reader))
        assert await reader.read() == b""
        writer.close()
    assert (mock.connections, mock.creates, mock.answered, mock.open) == (1, 2, 2, 0)


async def test_the_mock_counts_time_from_behind_the_warm_up() -> None:
    mock = Mock()
    async with serving(mock) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request, first_at_is_known in (
            (RESET, False),
            (CLOSING.replace(b"close", b"keep"), False),
            (CLOSING, True),
        ):
            writer.write(request)
            await answer(reader)
            assert bool(mock.first_at) is first_at_is_known
        writer.close()


async def test_the_client_keeps_its_connections() -> None:
    mock = Mock()
    async with serving(mock) as port:
        client = Client(f"http://127.0.0.1:{port}/v1/image_to_video", {"Authorization": "Bearer none"})
        for _ in range(3):
            assert "id" in json.loads(await client.post(b"{}"))
        await asyncio.gather(client.post(b"{}"), client.post(b"{}"))
        client.close()
    assert (mock.connections, mock.creates) == (2, 5)


def test_redis_times_a_job_from_its_first_command_to_the_one_that_stores_its_id() -> None:
    site = Site("", "redis://127.0.0.1:1/0", "", "", 1, Path())
    watcher = RedisWatcher(site, "0", r'"SET" "job:(\d+)" ', r'"SET" "job:(\d+)" .*complete')
    for line in (
        b'+100.000001 [0 lua] "SET" "job:7" "queued"\r\n',
        b'+100.000200 [0 127.0.0.1:1] "SET" "job:7" "active"\r\n',
        b'+100.001501 [0 127.0.0.1:1] "SET" "job:7" "complete"\r\n',
        b'+100.002000 [0 127.0.0.1:1] "SET" "job:8" "complete"\r\n',
    ):
        watcher.see(line)
    assert {job: round(seconds or 0, 6) for job, seconds in watcher.delays.items()} == {b"7": 0.0015}


def test_a_moment_counts_for_the_first_part_that_is_on_its_stack() -> None:
    driver, loop = "/lib/asyncpg/connection.py", "/lib/asyncio/base_events.py"
    assert part_of([driver, "/app/service/store/claim.py", "/app/service/steps/submit.py", loop]) == "claim"
    assert part_of([driver, loop]) == "driver"
    assert part_of([loop]) == "asyncio"
    assert part_of(["/lib/json/decoder.py"]) == "rest"
