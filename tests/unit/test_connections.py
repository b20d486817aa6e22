"""Connections that send half a head, take no answer, or are too many: uvicorn's protocols, both, with our limits."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service import connections
from tests.loops import both_loops
from tests.simulator_server import until

pytestmark = [pytest.mark.anyio, both_loops]

# uvicorn takes httptools by itself where that is installed.
IMPLEMENTATIONS = ["h11_impl.H11Protocol"] + ["httptools_impl.HttpToolsProtocol"] * (find_spec("httptools") is not None)
HALF = b"GET / HTTP/1.1\r\nhost: a\r\nx-half: "
WHOLE = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.fixture(params=IMPLEMENTATIONS)
def base(request: pytest.FixtureRequest) -> type[Any]:
    """One of uvicorn's two protocols."""
    module, _, name = request.param.partition(".")
    found: type[Any] = getattr(import_module(f"uvicorn.protocols.http.{module}"), name)
    return found


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.2)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """`/` answers at once, `/slow` when its body is whole, `/large` with more than fits into the sockets between."""
    if scope["path"] == "/slow":
        while (await receive()).get("more_body"):
            pass
    content = b"x" * 20_000_000 if scope["path"] == "/large" else b"hello"
    length = str(len(content)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": content})


@asynccontextmanager
async def served(base: type[Any], most: int = 100) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """The server, and its port."""
    config = uvicorn.Config(
        hello, log_config=None, access_log=False, lifespan="off", http=connections.bounded(base, most),
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await until(lambda: server.started)
            yield server, listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def said(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Everything that is answered to these bytes until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.create_task(everything(reader))
    async with asyncio.timeout(5):
        for piece in pieces:
            if not reading.done():
                writer.write(piece)
                await asyncio.sleep(pause)
        found = await reading
    writer.close()
    return found


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What comes until the end, also if the end is a reset."""
    found = b""
    with suppress(ConnectionError):
        while piece := await reader.read(65_536):
            found += piece
    return found


async def test_half_a_head_is_waited_for_only_so_long(base: type[Any]) -> None:
    async with served(base) as (server, port):
        found = await asyncio.gather(said(port, HALF), said(port), said(port, b"G"))
        assert [one.partition(b"\r\n")[0] for one in found] == [b"HTTP/1.1 408 Request Timeout"] * 3
        trickled = await said(port, *(HALF[place : place + 1] for place in range(len(HALF))), pause=0.02)
        assert trickled.startswith(b"HTTP/1.1 408 ")  # each byte does not begin the time again
        await until(lambda: not server.server_state.connections)


async def test_the_second_head_of_a_connection_has_its_time_too(base: type[Any]) -> None:
    async with served(base) as (_, port):
        found = await said(port, WHOLE, HALF, pause=0.05)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert found.count(b"HTTP/1.1 408 ") == 1


async def test_a_head_in_time_is_answered_however_long_its_body_takes(base: type[Any]) -> None:
    async with served(base) as (_, port):
        head = b"POST /slow HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 6\r\n\r\n"
        found = await said(port, head[:20], head[20:], *[b"ab"] * 3, pause=0.08)
        assert found.startswith(b"HTTP/1.1 200 ")
        assert found.endswith(b"hello")


async def test_a_head_without_end_is_refused(base: type[Any]) -> None:
    async with served(base) as (_, port):
        found = await said(port, HALF, *[b"x" * 30_000] * 4, pause=0.01)
        assert found.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


async def test_who_takes_nothing_of_an_answer_is_let_go(base: type[Any]) -> None:
    async with served(base) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_000)
        writer.write(WHOLE.replace(b"/ ", b"/large "))
        await until(lambda: bool(server.server_state.connections))
        await until(lambda: not server.server_state.connections)
        writer.close()
        del reader


async def test_one_too_many_takes_the_place_of_the_one_that_waited_longest(base: type[Any]) -> None:
    async with served(base, most=3) as (server, port):
        waiting = []
        for _ in range(3):
            waiting.append(await asyncio.open_connection("127.0.0.1", port))
            waiting[-1][1].write(HALF)
            await until(lambda: len(server.server_state.connections) == len(waiting))
        answered = await said(port, WHOLE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert answered.startswith(b"HTTP/1.1 200 ")
        async with asyncio.timeout(0.1):  # sooner than its time would be over
            assert await waiting[0][0].read() == b""
        for _, writer in waiting:
            writer.close()


async def test_where_all_are_being_answered_one_too_many_is_refused(base: type[Any]) -> None:
    async with served(base, most=1) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /slow HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n")
        await until(lambda: bool(server.server_state.tasks))
        assert (await said(port)).startswith(b"HTTP/1.1 503 ")
        writer.write(b"ab")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.mark.parametrize(("limit", "most"), [(64, 16), (128, 32), (1024, 824), (65_536, 65_336), (-1, 999_800)])
def test_descriptors_are_left_for_everything_else(monkeypatch: pytest.MonkeyPatch, limit: int, most: int) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert connections.most_connections() == most
