"""The proxy in front of Runway: it counts the steps of a call, half by half."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.crash.proxy import Proxy, Watch

RUNWAY = "runway"


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
    request, whole = await read_http(client)
    if not whole:
        raise EOFError
    name = _call_name(request)
    await _halves(watch, name, "request", to_server, request)
    answer, whole = await read_http(server, of_request=request)
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


async def read_http(reader: asyncio.StreamReader, of_request: bytes = b"") -> tuple[bytes, bool]:
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
