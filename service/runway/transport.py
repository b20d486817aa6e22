"""What carries Runway's calls underneath httpx, and proves for each whether a byte of it was sent.

One connection carries one create: an answer on it can belong to no other. Nothing is repeated, no redirect followed, no
proxy used that was not configured.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import cache

import httpx

from service.env_parsing import basic_credentials
from service.runway import addresses
from service.runway.addresses import Resolve, Resolver
from service.runway.connection import Connection
from service.runway.plain_socket import PlainSocket
from service.runway.trace import EXTENSION, ConnectionTrace

CONNECT_SECONDS = 10.0  # for a name, a connection, a proxy's CONNECT and a TLS handshake together
# A connection that rested longer is not used again: the other end may have closed it.
IDLE_SECONDS = 0.25
REPEATABLE = ("GET", "DELETE")  # a connection may carry several of these
PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int, bool]  # scheme, host, port; and whether it is for creates


@cache
def default_tls() -> ssl.SSLContext:
    """TLS that trusts what the system, or else certifi, trusts; it is made once in a process."""
    return httpx.create_ssl_context()


class SocketTransport(httpx.AsyncBaseTransport):
    """A transport of httpx's on asyncio's sockets.

    `connections`: at most so many at once, those that rest included. `keep_creates`: let a connection carry several
    creates, too. `proxy`: its URL, perhaps with a user. `resolve`: gives the addresses of a host, to connect to just
    these. It fills in the ConnectionTrace of a request that has one among its extensions.
    """

    def __init__(
        self,
        *,
        connections: int = 100,
        keep_creates: bool = False,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = addresses.of_host,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        idle_seconds: float = IDLE_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._slots = asyncio.Semaphore(connections)
        self._limit = connections
        self._keep_creates = keep_creates
        self._proxy = httpx.URL(proxy) if proxy else None
        user = self._proxy.userinfo.decode() if self._proxy else ""
        self._authorization = b"Basic " + basic_credentials(user).encode() if user else None  # a secret
        self._tls = tls
        self._resolver = Resolver(resolve, monotonic)
        self._monotonic, self._now = monotonic, now
        self._idle_seconds, self._connect_seconds = idle_seconds, connect_seconds
        self._open: set[Connection] = set()
        self._resting: dict[Origin, deque[tuple[Connection, float, float]]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._all_closed: asyncio.Future[None] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, once, and read the answer's head; the body follows as it is read. Raises httpx.TransportError."""
        trace: ConnectionTrace = request.extensions.get(EXTENSION) or ConnectionTrace(self._monotonic)
        trace.carried = True
        patience: dict[str, float | None] = request.extensions.get("timeout") or {}
        origin = self._origin(request)
        is_kept = not origin[3] or self._keep_creates
        head = self._head(request, is_kept)
        body = request.stream
        assert isinstance(body, httpx.AsyncByteStream)  # noqa: S101  # httpx's AsyncClient checks it, too
        await self._slots.acquire()
        connection: Connection | None = None
        try:
            connection = self._rested(origin) if is_kept else None
            if connection is None:
                connection = await self._connect(origin, patience.get("connect"))
            trace.opened()
            connection.patience = patience.get("read")
            await connection.ask(head, body, trace)
        except BaseException:
            if connection is not None:
                connection.abort()
            self._slots.release()
            raise
        stream: httpx.AsyncByteStream
        if connection.is_done:  # the usual: all of it came at once
            stream = httpx.ByteStream(b"".join(connection.parts))
            self.rest(connection, origin if is_kept else None)
        else:
            stream = _Body(self, connection, origin if is_kept else None)
        return httpx.Response(connection.status, headers=connection.headers, stream=stream)

    async def aclose(self) -> None:
        """Close every connection, also one that is in use, and see it closed."""
        self._resting.clear()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        await self._resolver.aclose()
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._all_closed = asyncio.get_running_loop().create_future()
            await self._all_closed

    # ---- the request as it goes out ---------------------------------------------------------------------------------

    @staticmethod
    def _origin(request: httpx.Request) -> Origin:
        url = request.url
        if url.scheme not in PORTS:
            raise httpx.UnsupportedProtocol(f"{url.scheme}: is not http: or https:")
        if request.method == "HEAD":
            raise httpx.UnsupportedProtocol("the parser cannot know that an answer to HEAD has no body")
        return url.scheme, url.raw_host.decode(), url.port or PORTS[url.scheme], request.method not in REPEATABLE

    def _head(self, request: httpx.Request, is_kept: bool) -> bytes:
        """The request's first lines. Raises httpx.LocalProtocolError for what would be read as something else."""
        url, target, raw = request.url, request.url.raw_path, request.headers.raw
        if self._proxy is not None and url.scheme == "http":
            target = b"http://" + url.netloc + target
        lines = [
            b"%b %b HTTP/1.1" % (request.method.encode(), target),
            b"Connection: keep-alive" if is_kept else b"Connection: close",
            *[b"%b: %b" % header for header in raw if header[0].lower() != b"connection"],
        ]
        names = {name.lower() for name, _ in raw}
        if b"host" not in names:
            lines.append(b"Host: " + url.netloc)
        if b"transfer-encoding" in names or (request.method not in REPEATABLE and b"content-length" not in names):
            raise httpx.LocalProtocolError("a request needs a Content-Length")
        if self._authorization and url.scheme == "http":
            lines.append(b"Proxy-Authorization: " + self._authorization)
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
            raise httpx.LocalProtocolError("a header has a line break in it")
        return head + b"\r\n\r\n"

    # ---- connections ------------------------------------------------------------------------------------------------

    def _rested(self, origin: Origin) -> Connection | None:
        """A connection on which nothing has happened since its last answer; any other is closed."""
        resting = self._resting.get(origin)
        while resting:
            connection, since, since_by_the_clock = resting.pop()
            rested = max(self._monotonic() - since, self._now() - since_by_the_clock)
            if rested <= self._idle_seconds and connection.is_quiet:
                return connection
            connection.abort()
        return None

    def rest(self, connection: Connection, origin: Origin | None) -> None:
        """Take back what was in use: it is kept for the next of its kind if it is clean, and closed otherwise."""
        if origin is not None and connection.may_be_used_again:
            self._resting.setdefault(origin, deque()).append((connection, self._monotonic(), self._now()))
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(self._idle_seconds, self._close_rested)
        else:
            connection.abort()
        self._slots.release()

    def _close_rested(self) -> None:
        """Close what rested too long, and come back for the others."""
        self._sweep = None
        for resting in self._resting.values():
            while resting and self._monotonic() - resting[0][1] >= self._idle_seconds:
                resting.popleft()[0].abort()
        if any(self._resting.values()):
            self._sweep = asyncio.get_running_loop().call_later(self._idle_seconds, self._close_rested)

    def _make_room(self) -> None:
        too_many = len(self._open) - self._limit + 1
        for resting in self._resting.values():
            while resting and too_many > 0:
                connection, _, _ = resting.popleft()
                connection.abort()
                too_many -= 1

    async def _connect(self, origin: Origin, seconds: float | None) -> Connection:
        """A new connection, behind the proxy and TLS. Raises httpx.ConnectError, ConnectTimeout, ProxyError."""
        self._make_room()
        seconds = self._connect_seconds if seconds is None else min(seconds, self._connect_seconds)
        try:
            async with asyncio.timeout(seconds):
                return await (self._dial(origin) if self._proxy is None else self._dial_through(self._proxy, origin))
        except TimeoutError:
            raise httpx.ConnectTimeout(f"no connection within {seconds:.3g} s") from None
        except OSError as exc:  # a name without address, a refusal, a certificate
            raise httpx.ConnectError(str(exc) or type(exc).__name__) from exc

    async def _dial(self, origin: Origin) -> Connection:
        scheme, host, port, _ = origin
        return await self._opened(host, port, self._context(scheme), may_be_plain=True)

    async def _opened(self, host: str, port: int, tls: ssl.SSLContext | None, *, may_be_plain: bool) -> Connection:
        loop = asyncio.get_running_loop()
        sock = await addresses.connect(await self._resolver(host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._new()
        if tls is None and may_be_plain and sys.platform != "win32":
            PlainSocket(loop, sock, connection)
            return connection
        try:
            await loop.create_connection(
                lambda: connection, sock=sock, ssl=tls, server_hostname=host if tls is not None else None
            )
        except BaseException:
            self._lost(connection)  # it was never there, so nothing calls it
            raise
        return connection

    async def _dial_through(self, proxy: httpx.URL, origin: Origin) -> Connection:
        scheme, host, port, _ = origin
        tunnel = await self._opened(
            proxy.raw_host.decode(), proxy.port or PORTS[proxy.scheme], self._context(proxy.scheme),
            may_be_plain=scheme == "http",
        )  # fmt: skip
        if scheme == "http":
            return tunnel
        connection = self._new()
        try:
            await self._open_tunnel(tunnel, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            self._lost(tunnel)  # TLS takes its place
            await tunnel.secured(connection, self._tls or default_tls(), host)
        except BaseException:
            tunnel.abort()
            self._lost(connection)
            raise
        return connection

    async def _open_tunnel(self, tunnel: Connection, target: str) -> None:
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode()
        if self._authorization:
            head += b"Proxy-Authorization: " + self._authorization + b"\r\n"
        # Its bytes are none of the request's: they are written down nowhere.
        try:
            await tunnel.ask(head + b"\r\n", httpx.ByteStream(b""), ConnectionTrace(self._monotonic))
        except httpx.TransportError as exc:
            raise httpx.ProxyError(f"the proxy does not connect: {exc}") from exc
        if not 200 <= tunnel.status < 300:
            raise httpx.ProxyError(f"the proxy refused to connect, with HTTP {tunnel.status}")
        if tunnel.parts or tunnel.is_tainted:
            raise httpx.ProxyError("the proxy sent more than its answer")

    def _context(self, scheme: str) -> ssl.SSLContext | None:
        return (self._tls or default_tls()) if scheme == "https" else None

    def _new(self) -> Connection:
        connection = Connection(asyncio.get_running_loop(), self._lost)
        self._open.add(connection)
        return connection

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._all_closed is not None and not self._open and not self._all_closed.done():
            self._all_closed.set_result(None)


class _Body(httpx.AsyncByteStream):
    """The body of one answer. Its connection goes back when it was read to its end, or closed."""

    def __init__(self, transport: SocketTransport, connection: Connection, origin: Origin | None) -> None:
        self._transport, self._connection, self._origin = transport, connection, origin
        self._is_over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        connection = self._connection
        while True:
            if connection.parts:
                yield connection.take()
            elif connection.is_done:
                break
            elif connection.error is not None:
                raise connection.error
            else:
                await connection.change()
        self.let_go()

    def let_go(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._transport.rest(self._connection, self._origin)

    async def aclose(self) -> None:
        self.let_go()
