"""The transport on real sockets: what it proves, what it refuses, and where each limit is, to the byte."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from service.env_parsing import proxy_secrets
from service.runway import addresses, transport
from service.runway.addresses import Address, Resolver
from service.runway.client import LARGEST_ANSWER_BYTES, Runway
from service.runway.connection import LARGEST_HEAD_BYTES, PIECE_BYTES, UNREAD_BYTES, Connection
from service.runway.outcomes import Broken, HttpResult, Kind, Outcome, classify
from service.runway.plain_socket import PlainSocket
from service.runway.trace import EXTENSION, ConnectionTrace
from service.runway.transport import SocketTransport
from service.settings import Settings
from tests.loops import both_loops
from tests.simulator_server import until
from tests.wire import ACCEPTED, TASK_ID, Peer, Script, Wire, answer, deaf, refusing_port, trusting_tls, wire

pytestmark = [pytest.mark.anyio, both_loops]

TASK = b'{"id":"%s","status":"RUNNING"}' % TASK_ID.encode()
LARGE = "A" * 20_000_000


@asynccontextmanager
async def carrying(**options: Any) -> AsyncIterator[SocketTransport]:
    """A transport that trusts the tests' server."""
    made = SocketTransport(**({"tls": trusting_tls()} | options))
    try:
        yield made
    finally:
        await made.aclose()


def post(url: str, content: bytes = b"{}", trace: ConnectionTrace | None = None, **extensions: Any) -> httpx.Request:
    """A create, as the transport is given it."""
    known = {} if trace is None else {EXTENSION: trace}
    return httpx.Request("POST", f"{url}/v1/image_to_video", content=content, extensions=known | extensions)


async def body_of(response: httpx.Response) -> bytes:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return b"".join([part async for part in response.stream])


async def created(
    url: str, carried_by: SocketTransport | None, *, prompt: str = "a boat", seconds: float = 10.0, **clocks: Any
) -> HttpResult | Broken:
    """One create by the client."""
    runway = Runway(Settings(runway_key="key_of_the_tests", runway_url=url), carried_by, **clocks)
    give_up = {"give_up_at": time.monotonic() + seconds}
    if "now" in clocks:
        give_up["wall_give_up_at"] = 1000.0
    try:
        return await runway.create("image_to_video", {"promptText": prompt}, **give_up)
    finally:
        await runway.aclose()


async def outcome_of(url: str, carried_by: SocketTransport | None = None, **options: Any) -> Outcome:
    return classify(await created(url, carried_by or SocketTransport(tls=trusting_tls()), **options))


async def accepting(peer: Peer) -> None:
    """Accept whatever comes."""
    while True:
        await peer.request()
        await peer.send(answer(200, ACCEPTED))


# ---- what is known of a request -------------------------------------------------------------------------------------


class TestTrace:
    async def test_each_moment_in_its_order(self) -> None:
        now = 0.0

        def clock() -> float:
            nonlocal now
            now += 1.0
            return now

        trace = ConnectionTrace(clock)
        async with wire(accepting) as server, carrying() as carrier:
            response = await carrier.handle_async_request(post(server.url, b"x" * 500, trace))
            assert await body_of(response) == ACCEPTED
        moments = [trace.opened_at, trace.begun_at, trace.sent_at, trace.answered_at, trace.done_at]
        assert moments == sorted(moments, key=lambda moment: moment or 99)
        assert None not in moments
        assert not trace.nothing_was_sent

    async def test_a_transport_that_knows_no_traces_proves_nothing(self) -> None:
        trace = ConnectionTrace(time.monotonic)
        assert not trace.nothing_was_sent

    async def test_what_the_kernel_refuses_was_not_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The server breaks the connection off after it was made, before the first byte: the kernel takes none."""

        async def broken_off(_: Sequence[Address]) -> socket.socket:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                one = socket.create_connection(listener.getsockname())
                other, _ = listener.accept()
                other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                other.close()
            one.setblocking(False)
            return one

        monkeypatch.setattr(addresses, "connect", broken_off)
        trace = ConnectionTrace(time.monotonic)
        async with carrying() as carrier:
            with pytest.raises(httpx.ReadError):
                await carrier.handle_async_request(post("http://127.0.0.1:1", trace=trace))
        assert trace.nothing_was_sent
        assert trace.opened_at is not None

    async def test_a_server_that_speaks_before_it_is_asked_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        trace = ConnectionTrace(time.monotonic)
        plain = PlainSocket.__init__

        def late(self: PlainSocket, *arguments: Any) -> None:
            plain(self, *arguments)
            arguments[2].data_received(answer(200, ACCEPTED))

        monkeypatch.setattr(PlainSocket, "__init__", late)
        async with wire(Peer.gone) as server, carrying() as carrier:
            with pytest.raises(httpx.RemoteProtocolError, match="spoke before"):
                await carrier.handle_async_request(post(server.url, trace=trace))
        assert trace.nothing_was_sent
        assert server.heard == b""


class TestBothClocks:
    """A machine that was suspended goes on as if no time had passed, says one of them. The other knows."""

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    async def test_suspended_while_it_connects(self, tls: bool) -> None:
        now = [0.0]

        async def resolve(host: str, port: int) -> list[Address]:
            now[0] += 28 * 60
            return await addresses.of_host(host, port)

        async with wire(Peer.gone, tls=tls) as server:
            carrier = SocketTransport(tls=trusting_tls(), resolve=resolve)
            result = await created(server.url, carrier, now=lambda: now[0])
        assert isinstance(result, Broken)
        assert (result.sent, server.heard) == (False, b"")
        assert "over before it was sent" in result.error

    async def test_suspended_before_it_connects(self) -> None:
        async with wire(Peer.gone) as server:
            result = await created(server.url, SocketTransport(), now=lambda: 1000.0)
        assert result == Broken("the time for this call was over before it began", sent=False)
        assert server.peers == []

    async def test_suspended_in_the_middle_of_a_large_body(self) -> None:
        now = [0.0]

        async def script(peer: Peer) -> None:
            await peer.read(100_000)
            now[0] = 1000.0
            await peer.gone()

        async with wire(script) as server:
            result = await created(server.url, SocketTransport(), prompt=LARGE, now=lambda: now[0])
            assert isinstance(result, Broken)
            assert result.sent
            await until(lambda: len(server.heard) > 100_000)
            assert len(server.heard) < len(LARGE)

    async def test_the_monotonic_clock_counts_as_well(self) -> None:
        times = iter([0.0, 0.0, *[50.0] * 50])
        runway: Runway
        async with wire(Peer.gone) as server:
            settings = Settings(runway_key="key", runway_url=server.url)
            runway = Runway(settings, SocketTransport(), monotonic=lambda: next(times))
            result = await runway.create("image_to_video", {}, give_up_at=10.0)
            await runway.aclose()
        assert isinstance(result, Broken)
        assert (result.sent, server.heard) == (False, b"")


# ---- limits, to the byte --------------------------------------------------------------------------------------------


def in_pieces(whole: bytes, size: int) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        for start in range(0, len(whole), size):
            await peer.send(whole[start : start + size])

    return script


def with_a_head_of(size: int, *before: bytes) -> bytes:
    """A whole answer whose head, with what comes before it, has so many bytes."""
    short = b"".join(before) + answer(200, b"", f"Content-Length: {len(ACCEPTED)}", "X-Long: ", length=False)
    return short[:-4] + b"x" * (size - len(short)) + short[-4:] + ACCEPTED


@pytest.mark.parametrize("size", [1_000_000, 4_000, 999])
class TestCaps:
    """The same whatever packets it comes in."""

    @pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 9])
    async def test_a_head(self, size: int, interim: bytes) -> None:
        async with wire(in_pieces(with_a_head_of(LARGEST_HEAD_BYTES, interim), size)) as server:
            assert (await outcome_of(server.url)).kind is Kind.ACCEPTED
        async with wire(in_pieces(with_a_head_of(LARGEST_HEAD_BYTES + 1, interim), size)) as server:
            outcome = await outcome_of(server.url)
        assert outcome.kind is Kind.UNKNOWN
        assert f"more than {LARGEST_HEAD_BYTES} bytes" in outcome.detail

    async def test_a_body(self, size: int) -> None:
        """The id ends with the last byte that is kept; one more before it, and it is cut."""
        with_id = ACCEPTED.index(TASK_ID.encode()) + len(TASK_ID) + 1
        for blanks, kind in ((0, Kind.ACCEPTED), (1, Kind.UNKNOWN)):
            body = b"{" + b" " * (LARGEST_ANSWER_BYTES - with_id + blanks) + ACCEPTED[1:]
            async with wire(in_pieces(answer(200, body), size)) as server:
                result = await created(server.url, SocketTransport())
            assert isinstance(result, HttpResult)
            assert result.body == body[:LARGEST_ANSWER_BYTES]
            assert classify(result).kind is kind


class TestEndless:
    @pytest.mark.parametrize("line", [b"X-More: x\r\n", b"x" * 1000, b"HTTP/1.1 100 Continue\r\n\r\n"])
    async def test_head(self, line: bytes) -> None:
        first = b"" if line.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n" + (b"X-A: " if b":" not in line else b"")

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(first)
            while True:
                await peer.send(line * 50)

        async with wire(script) as server:
            outcome = await outcome_of(server.url)
        assert outcome.kind is Kind.UNKNOWN
        assert "more than" in outcome.detail

    async def test_a_hundred_megabytes(self) -> None:
        sent = 0

        async def script(peer: Peer) -> None:
            nonlocal sent
            await peer.request()
            await peer.send(answer(400, b"", "Content-Length: 100000000", length=False))
            while sent < 100_000_000:
                await peer.send(b"x" * 65_536)
                sent += 65_536

        async with wire(script) as server:
            result = await created(server.url, SocketTransport())
        assert isinstance(result, HttpResult)
        assert (len(result.body), result.torn) == (LARGEST_ANSWER_BYTES, None)
        assert sent < 20_000_000

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    async def test_a_body_that_nobody_takes_is_not_kept(self, tls: bool) -> None:
        """The server waits; what was taken out makes room for more."""
        whole = 30_000_000
        sent = 0

        async def script(peer: Peer) -> None:
            nonlocal sent
            await peer.request()
            await peer.send(answer(200, b"", f"Content-Length: {whole}", length=False))
            while sent < whole:
                await peer.send(b"x" * 60_000)
                sent += 60_000

        async with wire(script, tls=tls) as server, carrying() as carrier:
            response = await carrier.handle_async_request(post(server.url))
            stalled = -1
            while stalled != sent:
                stalled = sent
                await asyncio.sleep(0.05)
            assert sent < whole / 2
            assert len(await body_of(response)) == whole

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    async def test_a_server_that_never_reads(self, tls: bool) -> None:
        """The deadline ends it; what does not fit into the kernel stays here, piece by piece."""
        trace = ConnectionTrace(time.monotonic)

        async def script(_: Peer) -> None:
            await asyncio.Event().wait()

        async with wire(script, tls=tls) as server, carrying() as carrier:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await carrier.handle_async_request(post(server.url, LARGE.encode(), trace))
        assert (trace.sent_at, trace.nothing_was_sent) == (None, False)

    async def test_a_slow_server_is_waited_for(self) -> None:
        """A large body, refused by nobody: each piece goes when there is room."""
        async with wire(accepting) as server, carrying() as carrier:
            trace = ConnectionTrace(time.monotonic)
            response = await carrier.handle_async_request(post(server.url, LARGE.encode(), trace))
            assert response.status_code == 200
            assert len(server.heard) > len(LARGE)
            assert trace.sent_at is not None


# ---- what is refused before anything is sent ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (httpx.Request("GET", "ftp://127.0.0.1/"), httpx.UnsupportedProtocol),
        (httpx.Request("HEAD", "http://127.0.0.1/"), httpx.UnsupportedProtocol),
        (httpx.Request("GET", "http://127.0.0.1/", headers={"X-A": "b\r\nX-C: d"}), httpx.LocalProtocolError),
        (httpx.Request("GET", "http://127.0.0.1/", headers={"X-A": "b\nc"}), httpx.LocalProtocolError),
        (httpx.Request("GET", "http://127.0.0.1/", headers={"X-A": "b\0c"}), httpx.LocalProtocolError),
        (httpx.Request("POST", "http://127.0.0.1/", stream=httpx.ByteStream(b"a")), httpx.LocalProtocolError),
        (
            httpx.Request("PUT", "http://127.0.0.1/", headers={"Transfer-Encoding": "chunked"}, content=b"a"),
            httpx.LocalProtocolError,
        ),
    ],
)
async def test_what_is_no_request(request_: httpx.Request, error: type[Exception]) -> None:
    trace = ConnectionTrace(time.monotonic)
    request_.extensions[EXTENSION] = trace
    async with carrying() as carrier:
        with pytest.raises(error):
            await carrier.handle_async_request(request_)
    assert trace.nothing_was_sent


async def test_a_name_and_an_address_stand_in_the_request_as_they_were_given() -> None:
    async with wire(accepting, host="localhost") as server, carrying() as carrier:
        await carrier.handle_async_request(
            httpx.Request("DELETE", f"{server.url}/a%20b?c=d", stream=httpx.ByteStream(b""))
        )
    host = server.url.removeprefix("http://").encode()
    assert server.heard.startswith(b"DELETE /a%20b?c=d HTTP/1.1\r\nConnection: keep-alive\r\nHost: " + host)


# ---- connections ----------------------------------------------------------------------------------------------------


async def talking(peer: Peer) -> None:
    """Answer polls, deletes and creates, as long as somebody asks."""
    while True:
        head = await peer.request()
        if head.startswith(b"GET"):
            await peer.send(answer(200, TASK))
        elif head.startswith(b"DELETE"):
            await peer.send(answer(204, length=False))
        else:
            await peer.send(answer(200, ACCEPTED))


def requests_of(server: Wire) -> list[list[str]]:
    """The methods, connection by connection."""
    return [
        [found.decode() for found in re.findall(rb"(GET|POST|DELETE) \S+ HTTP/1.1\r", bytes(peer.received))]
        for peer in server.peers
    ]


class TestReuse:
    async def test_polls_and_deletes_share_a_connection_and_creates_have_their_own(self) -> None:
        async with wire(talking) as server:
            runway = Runway(Settings(runway_key="key", runway_url=server.url))
            for _ in range(3):
                assert await runway.retrieve(TASK_ID)
                await runway.create("image_to_video", {}, give_up_at=time.monotonic() + 5)
                assert await runway.delete(TASK_ID)
            await runway.aclose()
        found = requests_of(server)
        assert found[0] == ["GET", "DELETE"] * 3
        assert found[1:] == [["POST"]] * 3

    async def test_polls_share_one_behind_tls(self) -> None:
        async with wire(talking, tls=True) as server, carrying(idle_seconds=60) as carrier:
            for _ in range(3):
                await carrier.handle_async_request(httpx.Request("GET", server.url))
        assert requests_of(server) == [["GET"] * 3]

    async def test_creates_share_one_where_that_is_wanted_but_never_with_polls(self) -> None:
        async with wire(talking) as server:
            runway = Runway(Settings(runway_key="key", runway_url=server.url, submit_keepalive=True))
            for _ in range(3):
                await runway.create("image_to_video", {}, give_up_at=time.monotonic() + 5)
                assert await runway.retrieve(TASK_ID)
            await runway.aclose()
        assert requests_of(server) == [["POST"] * 3, ["GET"] * 3]

    @pytest.mark.parametrize(
        "said",
        [
            answer(200, TASK, "Connection: close"),
            answer(200, TASK, length=False).replace(b"HTTP/1.1", b"HTTP/1.0"),
            answer(200, TASK) + b"x",
            answer(200, TASK) + answer(200, TASK),
            answer(200, TASK + b"surplus", f"Content-Length: {len(TASK)}", length=False),
            answer(200, b"", "Transfer-Encoding: chunked", length=False)
            + b"%x\r\n%b\r\n0\r\n\r\n!" % (len(TASK), TASK),
        ],
    )
    async def test_what_is_not_clean_is_not_used_again(self, said: bytes) -> None:
        async def script(peer: Peer) -> None:
            await peer.headers()
            await peer.send(said)
            if b"HTTP/1.0" in said:
                await peer.fin()

        async with wire(script) as server:
            runway = Runway(Settings(runway_key="key", runway_url=server.url))
            for _ in range(2):
                assert await runway.retrieve(TASK_ID)
            await runway.aclose()
        assert requests_of(server) == [["GET"], ["GET"]]

    @pytest.mark.parametrize("late", [b"!", None])
    async def test_an_unread_byte_is_seen_in_the_kernel(self, late: bytes | None) -> None:
        """Also one that the loop has not come to read yet, and the end of the connection."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection = Connection(loop, lambda _: None)
        PlainSocket(loop, ours, connection)
        assert connection.is_quiet
        if late is None:
            theirs.close()
        else:
            theirs.send(late)
        assert not connection.is_quiet
        await asyncio.sleep(0.01)  # now the loop has read it
        assert not connection.is_quiet
        connection.abort()
        connection.abort()
        assert not connection.is_quiet
        theirs.close()

    @pytest.mark.parametrize("clock", ["monotonic", "now"])
    async def test_one_that_rested_is_not_used_again_by_either_clock(self, clock: str) -> None:
        times = [0.0]
        clocks: dict[str, Any] = {clock: lambda: times[0]}
        async with wire(talking) as server, carrying(idle_seconds=60, **clocks) as carrier:
            for seconds in (0.0, 60.0, 120.1):
                times[0] = seconds
                await carrier.handle_async_request(httpx.Request("GET", server.url))
        assert requests_of(server) == [["GET", "GET"], ["GET"]]

    async def test_one_that_rested_is_closed_soon(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.headers()
            await peer.send(answer(200, TASK))
            await peer.gone()
            closed.set()

        closed = asyncio.Event()
        async with wire(script) as server, carrying(idle_seconds=0.02) as carrier:
            await carrier.handle_async_request(httpx.Request("GET", server.url))
            async with asyncio.timeout(5):
                await closed.wait()

    async def test_those_that_rest_give_way(self) -> None:
        """The limit is one of connections, not of calls."""
        async with wire(talking) as one, wire(talking) as other, carrying(connections=1, idle_seconds=60) as carrier:
            for server in (one, other, one):
                await carrier.handle_async_request(httpx.Request("GET", server.url))
        assert (requests_of(one), requests_of(other)) == ([["GET"], ["GET"]], [["GET"]])

    async def test_the_limit(self) -> None:
        gate = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await gate.wait()
            await peer.send(answer(200, ACCEPTED))

        async with wire(script) as server, carrying(connections=3) as carrier:
            calls = [asyncio.create_task(carrier.handle_async_request(post(server.url))) for _ in range(7)]
            await until(lambda: server.posts == 3)
            await asyncio.sleep(0.05)
            assert len(server.peers) == 3
            gate.set()
            assert [(await call).status_code for call in calls] == [200] * 7

    async def test_a_call_that_is_given_up_leaves_its_place(self) -> None:
        async with wire(Peer.gone) as server, carrying(connections=1) as carrier:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await carrier.handle_async_request(post(server.url))
            assert len(server.peers) == 3

    async def test_closing_ends_what_is_under_way(self) -> None:
        async with wire(Peer.gone) as server, carrying() as carrier:
            call = asyncio.create_task(carrier.handle_async_request(post(server.url)))
            await until(lambda: server.posts == 1)
            await carrier.aclose()
            with pytest.raises(httpx.TransportError):
                await call

    async def test_patience_of_a_caller_of_httpx(self) -> None:
        async with (
            wire(Peer.gone) as server,
            carrying() as carrier,
            httpx.AsyncClient(transport=carrier, timeout=httpx.Timeout(5, read=0.05)) as client,
        ):
            with pytest.raises(httpx.ReadTimeout, match="nothing new"):
                await client.post(f"{server.url}/v1/x", content=b"{}")
        assert server.posts == 1

    async def test_an_answer_that_is_not_wanted(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.headers()
            await peer.send(answer(200, b"half", "Content-Length: 100", length=False))
            await peer.gone()

        async with wire(script) as server, carrying(connections=1) as carrier:
            for _ in range(2):
                response = await carrier.handle_async_request(httpx.Request("GET", server.url))
                await response.aclose()
                await response.aclose()
        assert len(server.peers) == 2


class TestPlainSocket:
    """What a whole call rarely meets."""

    async def test_what_it_says_and_does_at_its_end(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        connection = Connection(asyncio.get_running_loop(), lambda _: None)
        plain = PlainSocket(asyncio.get_running_loop(), ours, connection)
        assert plain.get_extra_info("peername", "unknown") == "unknown"
        plain.resume_reading()  # it reads already
        plain.pause_reading()
        plain.pause_reading()
        assert not plain.is_reading()
        plain.write(b"x" * 10_000_000)
        assert plain.get_write_buffer_size() > 0
        plain._read()  # nothing there: it was another's
        plain.close()
        assert plain.is_closing()
        plain.write(b"more")
        plain.resume_reading()
        assert plain.get_write_buffer_size() == 0
        assert ours.fileno() == -1
        theirs.close()

    @pytest.mark.parametrize("reading", [True, False])
    async def test_it_breaks_while_it_is_full(self, reading: bool) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        lost: list[Connection] = []
        connection = Connection(asyncio.get_running_loop(), lost.append)
        plain = PlainSocket(asyncio.get_running_loop(), ours, connection)
        plain.write(b"x" * 10_000_000)
        unsent = plain.get_write_buffer_size()
        plain.write(b"x")
        plain._write_more()  # the kernel is as full as before
        assert plain.get_write_buffer_size() == unsent + 1
        if not reading:
            plain.pause_reading()
        theirs.close()
        plain._write_more()
        assert (plain.is_closing(), plain.refused_all, lost) == (True, False, [connection])

    async def test_a_connection_that_breaks_while_more_is_to_be_written(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read(100_000)
            await peer.rst()

        trace = ConnectionTrace(time.monotonic)
        async with wire(script) as server, carrying() as carrier:
            with pytest.raises(httpx.TransportError):
                await carrier.handle_async_request(post(server.url, LARGE.encode(), trace))
        assert not trace.nothing_was_sent


# ---- names and addresses --------------------------------------------------------------------------------------------


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


class TestAddresses:
    async def test_a_dead_one_is_passed_over(self) -> None:
        """Refused: the next at once. Silent: the next after a moment, beside it."""
        async with wire(accepting) as server:
            for first in (refusing_port, deaf):
                with first() as dead:
                    found = [(socket.AF_INET, ("127.0.0.1", port_of(url))) for url in (dead, server.url)]
                    one = await addresses.connect(found, head_start=0.05)
                    assert one.getpeername()[1] == port_of(server.url)
                    one.close()

    async def test_all_dead(self) -> None:
        with refusing_port() as dead:
            found: list[Address] = [(socket.AF_INET, ("127.0.0.1", port_of(dead)))]
            with pytest.raises(ConnectionRefusedError):
                await addresses.connect(found * 3)
        with pytest.raises(OSError, match="no address"):
            await addresses.connect([])

    async def test_both_at_once_leave_one(self) -> None:
        async with wire(Peer.gone) as server:
            where: Address = (socket.AF_INET, ("127.0.0.1", port_of(server.url)))
            one = await addresses.connect([where, where, where], head_start=0.0)
            one.close()
            await until(lambda: all(peer.is_closed for peer in server.peers))

    async def test_a_defect_is_no_dead_address(self) -> None:
        with pytest.raises(TypeError):
            await addresses.connect([(socket.AF_INET, "nonsense")] * 2)

    async def test_cancelled_while_several_are_tried(self) -> None:
        with deaf() as dead:
            found: list[Address] = [(socket.AF_INET, ("127.0.0.1", port_of(dead)))]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await addresses.connect(found * 2, head_start=0.01)

    async def test_a_name(self) -> None:
        found = await addresses.of_host("localhost", 80)
        assert (socket.AF_INET, ("127.0.0.1", 80)) in found
        assert await addresses.of_host("::1", 80) == [(socket.AF_INET6, ("::1", 80, 0, 0))]
        with pytest.raises(OSError, match="not known"):
            await addresses.of_host("does-not-exist.invalid", 80)

    async def test_families_take_turns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        six, four = socket.AF_INET6, socket.AF_INET
        found = [(family, 1, 6, "", (name, 80)) for family, name in ((six, "a"), (six, "b"), (six, "a"), (four, "c"))]

        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert [where[0] for _, where in await addresses.of_host("name.example.com", 80)] == ["a", "c", "b"]

    async def test_one_look_up_serves_many_for_a_while(self) -> None:
        now, asked = [0.0], []

        async def resolve(host: str, port: int) -> list[Address]:
            asked.append(host)
            await asyncio.sleep(0)
            if host == "bad":
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return [(socket.AF_INET, (host, port))]

        resolver = Resolver(resolve, lambda: now[0])
        await asyncio.gather(*(resolver("good", 1) for _ in range(5)))
        await resolver("good", 1)
        assert asked == ["good"]
        now[0] = addresses.KEPT_SECONDS
        await resolver("good", 1)
        assert asked == ["good"] * 2
        for _ in range(2):
            with pytest.raises(socket.gaierror):
                await resolver("bad", 1)
        assert asked[2:] == ["bad"] * 2
        await resolver.aclose()

    @pytest.mark.parametrize("found", [[], socket.gaierror(socket.EAI_NONAME, "no such name"), "slow"])
    async def test_no_address_is_proof(self, found: Any) -> None:
        async def resolve(_host: str, _port: int) -> list[Address]:
            if found == "slow":
                await asyncio.Event().wait()
            if isinstance(found, OSError):
                raise found
            return []

        carrier = SocketTransport(resolve=resolve, connect_seconds=0.05)
        outcome = await outcome_of("http://runway.test", carrier)
        assert outcome.kind is Kind.NOT_SENT

    async def test_connecting_has_a_limit_of_its_own(self) -> None:
        with deaf() as url:
            outcome = await outcome_of(url, SocketTransport(connect_seconds=0.05))
        assert (outcome.kind, "no connection within 0.05 s" in outcome.detail) == (Kind.NOT_SENT, True)

    async def test_the_loops_own_way_to_connect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where connections do not come about at once: over a network."""
        monkeypatch.setattr(addresses, "_is_connected", lambda _: False)
        async with wire(accepting) as server:
            assert (await outcome_of(server.url)).kind is Kind.ACCEPTED
        with refusing_port() as url:
            assert (await outcome_of(url)).kind is Kind.NOT_SENT


# ---- proxies --------------------------------------------------------------------------------------------------------

USER = "user:p%40ss-word-1"
HEADER = b"Basic " + base64.b64encode(b"user:p@ss-word-1")


def with_user(url: str) -> str:
    return url.replace("://", f"://{USER}@")


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Peer | None = None) -> None:
    while data := await reader.read(65_536):
        if heard is not None:
            heard.received += data
        if writer.is_closing():
            return
        writer.write(data)
        await writer.drain()


async def connecting(peer: Peer) -> None:
    """A proxy that does what CONNECT asks for."""
    head = await peer.headers()
    host, _, port = head.split()[1].decode().rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
    pumps = [asyncio.create_task(pump(peer.reader, writer, peer)), asyncio.create_task(pump(reader, peer.writer))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        writer.transport.abort()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


class TestProxy:
    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    async def test_a_tunnel_for_https(self, secure: bool) -> None:
        async with wire(accepting, tls=True) as server, wire(connecting, tls=secure) as proxy:
            carrier = SocketTransport(tls=trusting_tls(), proxy=with_user(proxy.url))
            assert (await outcome_of(server.url, carrier)).task_id == TASK_ID
        target = server.url.removeprefix("https://").encode()
        assert proxy.heard.startswith(b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n")
        assert b"Proxy-Authorization: " + HEADER in proxy.heard
        assert b"proxy-authorization" not in server.heard.lower()
        assert b"key_of_the_tests" not in proxy.heard
        assert server.heard.startswith(b"POST /v1/image_to_video HTTP/1.1\r\n")

    async def test_the_whole_address_for_http(self) -> None:
        async with wire(accepting) as proxy:
            carrier = SocketTransport(proxy=with_user(proxy.url))
            assert (await outcome_of("http://runway.test", carrier)).kind is Kind.ACCEPTED
        assert proxy.heard.startswith(b"POST http://runway.test/v1/image_to_video HTTP/1.1\r\n")
        assert b"Host: runway.test\r\n" in proxy.heard
        assert b"Proxy-Authorization: " + HEADER + b"\r\n" in proxy.heard

    async def test_without_a_user(self) -> None:
        async with wire(accepting) as proxy:
            assert (await outcome_of("http://runway.test", SocketTransport(proxy=proxy.url))).kind is Kind.ACCEPTED
        assert b"proxy-authorization" not in proxy.heard.lower()

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            (answer(403, b"<html>No.</html>"), "HTTP 403"),
            (answer(407, b"", "Proxy-Authenticate: Basic"), "HTTP 407"),
            (answer(502), "HTTP 502"),
            (b"", "closed"),
            (b"HTTP/1.1 200 Conn", "closed"),
            (b"SSH-2.0-OpenSSH\r\n", "no HTTP"),
            (b"HTTP/1.1 200 OK\r\n\r\nsurplus", "more than its answer"),
            (answer(200), ""),
        ],
    )
    async def test_what_does_not_connect_sends_nothing(self, said: bytes, words: str) -> None:
        async def script(peer: Peer) -> None:
            await peer.headers()
            await peer.send(said)
            await peer.fin()

        async with wire(script) as proxy:
            carrier = SocketTransport(tls=trusting_tls(), proxy=with_user(proxy.url))
            outcome = await outcome_of("https://runway.test", carrier)
        assert (outcome.kind, words in outcome.detail) == (Kind.NOT_SENT, True), outcome
        assert "p@ss" not in outcome.detail
        assert "p%40ss" not in outcome.detail
        assert b"POST" not in proxy.heard

    async def test_one_that_hangs_or_is_not_there(self) -> None:
        with refusing_port() as nowhere, deaf() as silent:
            for url in (nowhere, silent):
                for target in ("http://runway.test", "https://runway.test"):
                    carrier = SocketTransport(proxy=url, connect_seconds=0.1)
                    assert (await outcome_of(target, carrier)).kind is Kind.NOT_SENT
        async with wire(Peer.gone) as proxy:
            carrier = SocketTransport(proxy=proxy.url, connect_seconds=0.1)
            assert (await outcome_of("https://runway.test", carrier)).kind is Kind.NOT_SENT
        assert proxy.heard.startswith(b"CONNECT ")

    async def test_a_certificate_behind_it_that_is_not_trusted(self) -> None:
        async with wire(accepting, tls=True) as server, wire(connecting) as proxy:
            carrier = SocketTransport(tls=ssl.create_default_context(), proxy=proxy.url)
            outcome = await outcome_of(server.url, carrier)
        assert (outcome.kind, "certificate" in outcome.detail.lower()) == (Kind.NOT_SENT, True)
        assert server.heard == b""

    async def test_none_but_the_configured_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with refusing_port() as nowhere:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, nowhere)
            async with wire(talking) as server:
                runway = Runway(Settings(runway_key="key", runway_url=server.url))
                assert await runway.retrieve(TASK_ID)
                result = await runway.create("image_to_video", {}, give_up_at=time.monotonic() + 5)
                await runway.aclose()
        assert classify(result).kind is Kind.ACCEPTED

    async def test_its_password_is_shown_nowhere(self) -> None:
        """Also where a proxy repeats what it was sent."""

        async def echoing(peer: Peer) -> None:
            head = await peer.request()
            await peer.send(answer(400, b'{"error":"I was sent %s"}' % head.replace(b"\r\n", b" ").replace(b'"', b"")))

        async with wire(echoing) as proxy:
            settings = Settings(
                runway_key="key_of_the_tests", runway_url="http://runway.test", runway_proxy=with_user(proxy.url)
            )
            runway = Runway(settings)
            outcome = classify(await runway.create("image_to_video", {}, give_up_at=time.monotonic() + 5))
            await runway.aclose()
        assert "I was sent" in outcome.detail
        for secret in (*proxy_secrets(settings.runway_proxy), "key_of_the_tests"):
            assert secret not in outcome.detail
            assert secret in settings.secrets


async def test_the_context_is_made_once() -> None:
    assert transport.default_tls() is transport.default_tls()
    assert transport.default_tls().verify_mode is ssl.CERT_REQUIRED
    assert PIECE_BYTES <= UNREAD_BYTES
