"""One connection, as asyncio's streams of bytes, with httptools to read answers: nothing leaves it unnoticed.

`asyncio` alone would do with less, but a caller must know for each request whether a byte of it was handed over. So the
trace is written first, the bytes after it; and nothing here is ever sent again.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Any, cast

import httptools
import httpx

from service.runway.plain_socket import PlainSocket
from service.runway.trace import ConnectionTrace

LARGEST_HEAD_BYTES = 65_536  # of an answer, with all that comes before it (1xx)
PIECE_BYTES = 65_536  # a large body goes out piece by piece, so that other calls go on meanwhile
UNREAD_BYTES = 262_144  # of a body that its reader has not taken yet; then the server waits
NO_BODY = (204, 304)


class TooLate(httpx.WriteTimeout):
    """The time for this request was over before all of it was written."""


class Connection(asyncio.Protocol):
    """Carries one request after the other; `httptools` calls `on_…` with what it reads.

    `status`, `headers`: the answer's, once `has_head`. `is_done`: its body is complete, and in `parts`, but for what
    was taken. `error`: what broke it off. `is_tainted`: there was a byte that belongs to no answer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], object]) -> None:
        """`on_lost` is called once, when its socket is closed."""
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_full = False  # what is written now would have to be kept
        self._is_asking = False
        self.is_lost = False
        self.is_tainted = False
        self.patience: float | None = None  # seconds without anything new

    def _begin(self, trace: ConnectionTrace) -> None:
        self._trace = trace
        self._parser: Any = httptools.HttpResponseParser(self)
        self._head_bytes = self._unread = 0
        self._ends_with_connection = self._is_asking = True
        self._is_written = self._is_kept = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.parts: deque[bytes] = deque()
        self.has_head = self.is_done = False
        self.error: Exception | None = None

    # ---- what the caller does ---------------------------------------------------------------------------------------

    async def ask(self, head: bytes, body: AsyncIterable[bytes], trace: ConnectionTrace) -> None:
        """Send this and wait for the answer's head. Raises httpx.TransportError.

        An answer that refuses, or is complete, ends the sending: what is unsent does not matter any more.
        """
        self._begin(trace)
        if self.is_tainted:
            raise httpx.RemoteProtocolError("the server spoke before it was asked")
        async for part in body:
            for start in range(0, len(part), PIECE_BYTES):
                await self._write(head + part[start : start + PIECE_BYTES])
                head = b""
                if self._is_refused:
                    break
        if head:
            await self._write(head)
        if not self._is_refused:
            self._is_written = True
            trace.sent()
        while not self.has_head:
            if self.error is not None:
                raise self.error
            await self.change()

    @property
    def _is_refused(self) -> bool:
        return self.is_done or (self.has_head and self.status >= 400)

    async def _write(self, data: bytes) -> None:
        transport = self._transport
        if self.error is None and (self.is_lost or transport is None):
            self.error = httpx.WriteError("the connection was closed before the request was sent")
        if self.error is not None and not self.has_head:
            raise self.error
        if not self._trace.may_send():
            raise TooLate("the time for this request was over before it was sent")
        assert transport is not None  # noqa: S101  # seen above
        is_first = self._trace.begun_at is None
        self._trace.begun()
        transport.write(data)
        if is_first and isinstance(transport, PlainSocket) and transport.refused_all:
            self._trace.refused()  # the kernel took nothing, and says so
        while self._is_full and self.error is None and not self._is_refused:
            await self.change()

    async def change(self) -> None:
        """Wait for anything new. Raises httpx.ReadTimeout after `patience`."""
        self._waiter = self._loop.create_future()
        try:
            if self.patience is None:
                await self._waiter
                return
            async with asyncio.timeout(self.patience):
                await self._waiter
        except TimeoutError:
            raise httpx.ReadTimeout(f"nothing new within {self.patience:.3g} s") from None
        finally:
            self._waiter = None

    def take(self) -> bytes:
        """The next part of the body; there must be one."""
        part = self.parts.popleft()
        self._unread -= len(part)
        if self._unread <= UNREAD_BYTES // 2 and self._transport is not None:
            self._transport.resume_reading()
        return part

    async def secured(self, inner: Connection, tls: ssl.SSLContext, host: str) -> asyncio.Transport:
        """TLS inside this connection; from now on `inner` has it. Raises OSError."""
        assert self._transport is not None  # noqa: S101  # it has just answered
        transport = await self._loop.start_tls(self._transport, inner, tls, server_hostname=host)
        if transport is None:
            raise ConnectionResetError("the connection was closed in the TLS handshake")
        inner.connection_made(transport)
        return transport

    @property
    def may_be_used_again(self) -> bool:
        """Whether its answer ended, by its own count, with nothing behind it, and the server keeps the connection."""
        return self._is_kept and self._is_written and not self.is_tainted and not self.is_lost

    @property
    def is_quiet(self) -> bool:
        """Whether it still stands, with nothing on it that is unread: neither here, nor in the kernel."""
        if self.is_lost or self.is_tainted or self._transport is None or self._transport.is_closing():
            return False
        return not _readable(self._transport.get_extra_info("socket").fileno())

    def abort(self) -> None:
        """Close it at once: what was not read, or not taken by the kernel, is lost."""
        if self._transport is not None:
            self._transport.abort()

    # ---- what asyncio says ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # as of every socket; uvloop's of TLS does not say so

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        if not self._is_asking or self.is_done or self.error is not None:
            self.is_tainted = True
            return
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self.is_tainted = True
            if not self.is_done:
                self._break(httpx.RemoteProtocolError(f"the answer is no HTTP: {exc}"))
        self._wake()

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        if self.has_head:
            parser.feed_data(data)
            return
        room = LARGEST_HEAD_BYTES - self._head_bytes
        self._head_bytes += len(data)
        parser.feed_data(data[:room])
        if len(data) > room:
            if self.has_head:
                parser.feed_data(data[room:])
            else:
                self._break(httpx.RemoteProtocolError(f"the answer's head has more than {LARGEST_HEAD_BYTES} bytes"))

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._end(exc)
        self._transport = None
        self._parser = None  # it has this connection, too: without the circle both go at once
        self._on_lost(self)

    def _end(self, exc: Exception | None) -> None:
        if self._is_asking and not self.is_done:
            if exc is not None:
                self._break(httpx.ReadError(str(exc) or type(exc).__name__))
            elif self.has_head and self._ends_with_connection:
                self.is_done = True
                self._trace.done()
            else:
                where = "in its answer" if self.has_head else "without an answer"
                self._break(httpx.RemoteProtocolError(f"the server closed the connection {where}"))
        self.is_lost = True
        self._wake()

    def _break(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
        self.is_tainted = True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- what httptools reads ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.is_tainted = self.is_tainted or self.is_done

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.has_head:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:  # an interim answer: the one that counts is still to come
            self.headers = []
            return
        self.status = status
        self.has_head = True
        names = {name.lower() for name, _ in self.headers}
        self._ends_with_connection = not names & {b"content-length", b"transfer-encoding"} and status not in NO_BODY
        self._trace.answered()

    def on_body(self, body: bytes) -> None:
        if self.is_done or self.error is not None:
            return
        self.parts.append(body)
        self._unread += len(body)
        if self._unread > UNREAD_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.has_head and not self.is_done and self.error is None:
            self.is_done = True
            self._is_kept = self._parser.should_keep_alive()
            self._trace.done()


def _readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
