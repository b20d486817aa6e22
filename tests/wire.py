"""A server of scripts: it speaks, listens and breaks off at the byte that a test names, and keeps the truth."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

TASK_ID = "17f20503-6c24-4c16-946b-35dbbce2af2f"
ACCEPTED = b'{"id":"%s","estimatedCost":{"credits":25}}' % TASK_ID.encode()

# For the names localhost and 127.0.0.1, valid until 2126: it guards nothing.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUdeEAOc8XIEUBqxiWzDjO8CRrgIMwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDAzMTcwMVoYDzIxMjYxMDMx
MDMxNzAxWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARy0ZgJtI/RLGFKCUEtgbJqY4EBByjaRfz3PzVbfGsvQikyP3h9545V
h/0UhSX8zOIZaVG/9pIOJVnoRps8Rem4o28wbTAdBgNVHQ4EFgQUrGspvkTbyPhi
3kh3JVjbwvrPMxcwHwYDVR0jBBgwFoAUrGspvkTbyPhi3kh3JVjbwvrPMxcwGgYD
VR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZI
zj0EAwIDRwAwRAIgfqcQzUx770xv44DgjLT7y2PnCj6+sJ3Ng9CZdhWzB3sCIFM1
GNVgBqjIhcEEg6bzDZluP+Yb+DSS4WA8oyfqLq7k
-----END CERTIFICATE-----
"""
PRIVATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAeaMg9qzqpWy3Uwl
X0c8mTLjaDfjc/DaZHx7+bXNcJuhRANCAARy0ZgJtI/RLGFKCUEtgbJqY4EBByja
Rfz3PzVbfGsvQikyP3h9545Vh/0UhSX8zOIZaVG/9pIOJVnoRps8Rem4
-----END PRIVATE KEY-----
"""


@cache
def server_tls() -> ssl.SSLContext:
    """TLS as the server speaks it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        for name, text in (("certificate", CERTIFICATE), ("key", PRIVATE)):
            Path(folder, name).write_text(text)
        context.load_cert_chain(Path(folder, "certificate"), Path(folder, "key"))
    return context


@cache
def trusting_tls() -> ssl.SSLContext:
    """TLS of a client that trusts this server alone."""
    return ssl.create_default_context(cadata=CERTIFICATE)


def answer(status: int | str, body: bytes = b"", *headers: str, length: bool = True) -> bytes:
    """A whole HTTP answer."""
    lines = [f"HTTP/1.1 {status}" + (" Words" if isinstance(status, int) else ""), *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Peer:
    """One connection, from the server's side. `received` is every byte that was read from it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.received = bytearray()

    @property
    def is_closed(self) -> bool:
        """Whether the other side has hung up, or broken off."""
        return self.reader.at_eof() or self.reader.exception() is not None

    async def read(self, count: int) -> None:
        """Read until `count` bytes are there, not one more."""
        while len(self.received) < count:
            chunk = await self.reader.read(count - len(self.received))
            if not chunk:
                raise EOFError
            self.received += chunk

    async def headers(self) -> bytes:
        """Read the next request's headers; they are returned."""
        start = len(self.received)
        while b"\r\n\r\n" not in self.received[start:]:
            await self.read(len(self.received) + 1)
        return bytes(self.received[start:])

    async def request(self) -> bytes:
        """Read the next request to its end; its headers are returned."""
        headers = await self.headers()
        await self.read(len(self.received) + content_length(headers))
        return headers

    async def send(self, data: bytes) -> None:
        """Write, and see it gone. Raises OSError if the other side has hung up."""
        if self.writer.is_closing():  # uvloop's would raise a RuntimeError
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def fin(self) -> None:
        """Say goodbye: what was sent arrives."""
        with contextlib.suppress(OSError):
            self.writer.close()
            await self.writer.wait_closed()

    async def rst(self) -> None:
        """Break the connection off."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the other side has hung up; what it still sent is recorded."""
        with contextlib.suppress(OSError):
            while chunk := await self.reader.read(65_536):
                self.received += chunk


Script = Callable[[Peer], Awaitable[None]]


def content_length(headers: bytes) -> int:
    """What a request's headers say of its body's size in bytes."""
    lines = [line for line in headers.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(lines[0].partition(b":")[2]) if lines else 0


class Wire:
    """The server: what it heard, connection by connection."""

    def __init__(self) -> None:
        self.url = ""
        self.peers: list[Peer] = []

    @property
    def heard(self) -> bytes:
        """Every byte of every connection."""
        return b"".join(bytes(peer.received) for peer in self.peers)

    @property
    def posts(self) -> int:
        """How many creates began to arrive."""
        return self.heard.count(b"POST /v1/")


@asynccontextmanager
async def wire(script: Script, *, tls: bool = False, host: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """Play `script` on every connection. A script's end leaves its connection as it is, until the server closes."""
    this = Wire()
    tasks: set[asyncio.Task[None]] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        this.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await script(peer)
                await asyncio.Event().wait()
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=server_tls() if tls else None)
    this.url = f"{'https' if tls else 'http'}://{host}:{server.sockets[0].getsockname()[1]}"
    try:
        yield this
    finally:
        for _ in range(5):  # what was accepted a moment ago becomes a task, too: a closed server would lose it
            await asyncio.sleep(0)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await server.wait_closed()


@contextmanager
def refusing_port() -> Iterator[str]:
    """An address where connections are refused."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"


@contextmanager
def deaf() -> Iterator[str]:
    """An address where connections hang: the queue of those not yet accepted is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
