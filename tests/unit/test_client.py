"""The client on real sockets: whatever breaks, wherever it breaks, the outcome says no more than what is so."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
import pytest
import respx

from service.errors import RunwayUnavailable
from service.runway.client import LARGEST_ANSWER_BYTES, Runway
from service.runway.outcomes import Broken, HttpResult, Kind, Outcome, Reason, classify
from service.runway.transport import SocketTransport
from service.settings import Settings
from tests.loops import both_loops
from tests.mocked import mocked
from tests.simulator_server import until
from tests.wire import (
    ACCEPTED,
    TASK_ID,
    Peer,
    Script,
    Wire,
    answer,
    content_length,
    deaf,
    refusing_port,
    trusting_tls,
    wire,
)

pytestmark = [pytest.mark.anyio, both_loops]

BODY = {"model": "gen4_turbo", "promptText": "a boat " * 300, "promptImage": "https://example.com/boat.jpg"}
KEY = "key_" + "0" * 128
HANGING_SECONDS = 0.3  # for cases that end with the deadline
PATIENCE_SECONDS = 10.0  # for cases that end by themselves


def transport(connections: int = 8, **options: Any) -> SocketTransport:
    """The transport of production; it trusts the tests' server."""
    return SocketTransport(connections=connections, **({"tls": trusting_tls()} | options))


@asynccontextmanager
async def client(url: str, carried_by: httpx.AsyncBaseTransport | None) -> AsyncIterator[Runway]:
    """Runway at `url`."""
    runway = Runway(Settings(runway_key=KEY, runway_url=url), carried_by)
    try:
        yield runway
    finally:
        await runway.aclose()


async def send(runway: Runway, seconds: float = PATIENCE_SECONDS, body: dict[str, Any] | None = None) -> Outcome:
    """One create, and what it came to."""
    return classify(await runway.create("image_to_video", body or BODY, give_up_at=time.monotonic() + seconds))


async def create(script: Script, *, tls: bool = False, seconds: float = PATIENCE_SECONDS) -> tuple[Outcome, Wire]:
    """One create against a script: its outcome, and what the server heard."""
    async with wire(script, tls=tls) as server, client(server.url, transport()) as runway:
        outcome = await send(runway, seconds)
    assert server.posts <= 1, "a create was sent twice"
    if outcome.kind is Kind.NOT_SENT:
        assert server.heard == b"", "what was sent is called not sent"
    return outcome, server


# ---- before the first byte ------------------------------------------------------------------------------------------


class TestNotSent:
    async def test_refused(self) -> None:
        with refusing_port() as url:
            async with client(url, transport()) as runway:
                assert (await send(runway)).kind is Kind.NOT_SENT

    async def test_no_such_name(self) -> None:
        url = "http://does-not-exist.invalid"
        async with client(url, transport()) as runway:
            assert (await send(runway)).kind is Kind.NOT_SENT

    async def test_connecting_hangs(self) -> None:
        with deaf() as url:
            async with client(url, transport()) as runway:
                assert (await send(runway, HANGING_SECONDS)).kind is Kind.NOT_SENT

    async def test_the_time_was_over(self) -> None:
        async with wire(Peer.gone) as server, client(server.url, transport()) as runway:
            assert (await send(runway, -1)).kind is Kind.NOT_SENT
        assert server.peers == []

    async def test_no_connection_from_the_pool(self) -> None:
        async def silent(peer: Peer) -> None:
            await peer.request()

        async with wire(silent) as server, client(server.url, transport(1)) as runway:
            first = asyncio.create_task(send(runway, 2 * HANGING_SECONDS))
            await until(lambda: server.posts == 1)
            second = await send(runway, HANGING_SECONDS)
            assert (second.kind, server.posts, first.done()) == (Kind.NOT_SENT, 1, False)
            assert (await first).kind is Kind.UNKNOWN

    async def test_a_connection_from_the_pool_in_time(self) -> None:
        async with wire(accepting) as server, client(server.url, transport(1)) as runway:
            outcomes = await asyncio.gather(*(send(runway) for _ in range(5)))
        assert {outcome.kind for outcome in outcomes} == {Kind.ACCEPTED}
        assert server.posts == 5


async def plain_text(peer: Peer) -> None:
    """A server that knows no TLS."""
    await peer.read(1)
    await peer.send(answer(400, b"Client sent an HTTP request to an HTTPS server."))
    await peer.fin()


async def hello_then_fin(peer: Peer) -> None:
    """Goodbye in the middle of the client's greeting."""
    await peer.read(10)
    await peer.fin()


async def hello_then_rst(peer: Peer) -> None:
    """Broken off in the middle of the client's greeting."""
    await peer.read(10)
    await peer.rst()


class TestHandshakes:
    @pytest.mark.parametrize("script", [plain_text, hello_then_fin, hello_then_rst, Peer.rst, Peer.fin, Peer.gone])
    async def test_that_come_to_nothing(self, script: Script) -> None:
        seconds = HANGING_SECONDS if script is Peer.gone else PATIENCE_SECONDS
        async with wire(script) as server:
            url = server.url.replace("http:", "https:")
            async with client(url, transport()) as runway:
                assert (await send(runway, seconds)).kind is Kind.NOT_SENT
        assert server.posts == 0

    async def test_a_certificate_that_nobody_vouches_for(self) -> None:
        strangers = ssl.create_default_context()
        async with wire(Peer.gone, tls=True) as server, client(server.url, transport(tls=strangers)) as runway:
            outcome = await send(runway)
        assert outcome.kind is Kind.NOT_SENT
        assert "certificate" in outcome.detail.lower()
        assert server.heard == b""

    async def test_the_default_trust_is_the_systems(self) -> None:
        async with wire(Peer.gone, tls=True) as server, client(server.url, None) as runway:
            assert (await send(runway)).kind is Kind.NOT_SENT


class TestWithoutATrace:
    """A class of exception proves nothing."""

    async def test_an_exception_alone(self) -> None:
        def fail(_: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused, it says")

        async with client("http://runway.test", httpx.MockTransport(fail)) as runway:
            assert (await send(runway)).kind is Kind.UNKNOWN

    async def test_a_transport_of_the_same_family_that_traces_nothing(self) -> None:
        with refusing_port() as url:
            async with client(url, httpx.AsyncHTTPTransport(trust_env=False)) as runway:
                assert (await send(runway)).kind is Kind.UNKNOWN

    async def test_what_nobody_thought_of(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def fail(*_: object) -> httpx.Response:
            raise LookupError("never seen")

        mocked = httpx.MockTransport(lambda _: httpx.Response(200))
        monkeypatch.setattr(mocked, "handle_async_request", fail)
        async with client("http://runway.test", mocked) as runway:
            result = await runway.create("image_to_video", BODY, give_up_at=time.monotonic() + 1)
        assert result == Broken("LookupError: never seen", sent=True)


# ---- in mid-request -------------------------------------------------------------------------------------------------


async def nothing(_: Peer) -> None:
    """Read nothing."""


async def one_byte(peer: Peer) -> None:
    """Read the first byte."""
    await peer.read(1)


async def half_the_headers(peer: Peer) -> None:
    """Read into the headers."""
    await peer.read(100)


async def headers(peer: Peer) -> None:
    """Read the headers."""
    await peer.headers()


async def half_the_body(peer: Peer) -> None:
    """Read the headers, and half of the body."""
    size = content_length(await peer.headers())
    await peer.read(len(peer.received) + size // 2)


async def whole_request(peer: Peer) -> None:
    """Read everything."""
    await peer.request()


BEHIND_THE_ID = answer(200, ACCEPTED).index(TASK_ID.encode()) + len(TASK_ID) + 1  # and its closing quote

POINTS = [nothing, one_byte, half_the_headers, headers, half_the_body, whole_request]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", [Peer.fin, Peer.rst], ids=["fin", "rst"])
class TestBreaks:
    @pytest.mark.parametrize("point", POINTS)
    async def test_in_the_request(self, point: Script, end: Script, tls: bool) -> None:
        async def script(peer: Peer) -> None:
            await point(peer)
            await end(peer)

        outcome, server = await create(script, tls=tls)
        # A reset may be there before the first byte is written: then the kernel refuses it, and that is the proof.
        assert outcome.kind in ((Kind.UNKNOWN, Kind.NOT_SENT) if point is nothing else (Kind.UNKNOWN,))
        assert (server.heard == b"") == (point is nothing)

    @pytest.mark.parametrize("kept", [9, 30, BEHIND_THE_ID - 1])
    async def test_in_the_answer(self, kept: int, end: Script, tls: bool) -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(200, ACCEPTED)[:kept])
            await end(peer)

        outcome, server = await create(script, tls=tls)
        assert (outcome.kind, server.posts) == (Kind.UNKNOWN, 1)

    @pytest.mark.parametrize("kept", [BEHIND_THE_ID, BEHIND_THE_ID + 5, len(answer(200, ACCEPTED)) - 1])
    async def test_behind_the_id(self, kept: int, end: Script, tls: bool) -> None:
        """An id is an id, however much of the answer is missing behind it."""

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(200, ACCEPTED)[:kept])
            await end(peer)

        outcome, server = await create(script, tls=tls)
        # A reset may overtake what was sent before it: then nothing of the answer was there to be read.
        assert (outcome.kind, server.posts) in ((Kind.ACCEPTED, 1), (Kind.UNKNOWN if end is Peer.rst else None, 1))
        assert outcome.task_id == (TASK_ID if outcome.kind is Kind.ACCEPTED else None)

    async def test_in_a_refusal(self, end: Script, tls: bool) -> None:
        """Half of a refusal is no answer that was read."""
        refusal = b'{"error":"Validation of body failed","issues":[]}'

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(400, refusal)[:-10])
            await end(peer)

        outcome, _ = await create(script, tls=tls)
        assert outcome.kind is Kind.UNKNOWN


# ---- answers --------------------------------------------------------------------------------------------------------


async def accepting(peer: Peer) -> None:
    """Accept every create of this connection."""
    while True:
        await peer.request()
        await peer.send(answer(200, ACCEPTED))


def saying(*parts: bytes, end: Script | None = None) -> Script:
    """Read the request, answer this, and end the connection like that."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for part in parts:
            await peer.send(part)
        if end is not None:
            await end(peer)

    return script


def chunked(*parts: bytes) -> bytes:
    """An answer in chunks; without an empty last part it is not whole."""
    return answer(200, b"", "Transfer-Encoding: chunked", length=False) + b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in parts
    )


def encoded(encoding: str, body: bytes) -> bytes:
    """An answer in an encoding that nobody asked for."""
    return answer(200, body, f"Content-Encoding: {encoding}")


ACCEPTING = {
    "plain": saying(answer(200, ACCEPTED)),
    "in small pieces": saying(*(answer(200, ACCEPTED)[at : at + 7] for at in range(0, 200, 7))),
    "until the connection ends": saying(answer(200, ACCEPTED, length=False), end=Peer.fin),
    "chunked": saying(chunked(ACCEPTED[:20], ACCEPTED[20:], b"")),
    "chunked, its end missing": saying(chunked(ACCEPTED), end=Peer.fin),
    "shorter than it said": saying(answer(200, ACCEPTED + b" " * 50)[:-50], end=Peer.fin),
    "gzip": saying(encoded("gzip", gzip.compress(ACCEPTED))),
    "deflate": saying(encoded("deflate", zlib.compress(ACCEPTED))),
    "after early hints": saying(b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n", answer(200, ACCEPTED)),
    "after a continue": saying(b"HTTP/1.1 100 Continue\r\n\r\n", answer(200, ACCEPTED)),
    "closing": saying(answer(200, ACCEPTED, "Connection: close"), end=Peer.fin),
    "of HTTP 1.0": saying(answer(200, ACCEPTED).replace(b"HTTP/1.1", b"HTTP/1.0"), end=Peer.fin),
}

UNREADABLE = {
    "garbage": saying(b"\x00\x01\x02 this is no HTTP\r\n\r\n", end=Peer.fin),
    "another protocol": saying(b"220 smtp.example.com ESMTP\r\n", end=Peer.fin),
    "a status of words": saying(answer("twohundred OK", ACCEPTED), end=Peer.fin),
    "a length of words": saying(answer(200, ACCEPTED, "Content-Length: many", length=False), end=Peer.fin),
    "chunks of no size": saying(chunked() + b"zz\r\n" + ACCEPTED, end=Peer.fin),
    "chunked, half": saying(chunked(ACCEPTED[:20]), end=Peer.fin),
    "switching protocols": saying(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", end=Peer.fin),
    "gzip that is none": saying(encoded("gzip", ACCEPTED)),
    "an encoding that nobody reads": saying(encoded("rot13", bytes(reversed(ACCEPTED)))),
    "empty": saying(answer(200)),
    "a page": saying(answer(200, b"<html>Welcome to the hotel's network</html>")),
    "no content": saying(answer(204, length=False)),
    "created": saying(answer(201, ACCEPTED)),
    "too long": saying(answer(200, b"{" + b" " * (LARGEST_ANSWER_BYTES + 20_000) + ACCEPTED[1:])),
}


class TestAnswers:
    @pytest.mark.parametrize("script", ACCEPTING.values(), ids=ACCEPTING.keys())
    async def test_accepted(self, script: Script) -> None:
        outcome, server = await create(script)
        assert (outcome.kind, outcome.task_id, outcome.estimated_credits) == (
            Kind.ACCEPTED,
            TASK_ID,
            Decimal(25),
        )
        assert server.posts == 1

    @pytest.mark.parametrize("script", UNREADABLE.values(), ids=UNREADABLE.keys())
    async def test_unreadable(self, script: Script) -> None:
        outcome, server = await create(script)
        assert (outcome.kind, server.posts) == (Kind.UNKNOWN, 1)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_not_followed(self, status: int) -> None:
        outcome, server = await create(saying(answer(status, b"", "Location: /v1/elsewhere")))
        assert (outcome.kind, server.posts, len(server.peers)) == (Kind.UNKNOWN, 1, 1)

    @pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
    async def test_nothing_is_sent_again(self, status: int) -> None:
        headers = ("x-should-retry: true", "retry-after: 1", "retry-after-ms: 1")
        outcome, server = await create(saying(answer(status, b"{}", *headers)))
        assert outcome.http_status == status
        assert (server.posts, len(server.peers)) == (1, 1)

    async def test_silence_ends_with_the_deadline(self) -> None:
        outcome, _ = await create(saying(), seconds=HANGING_SECONDS)
        assert outcome.kind is Kind.UNKNOWN
        assert outcome.detail.startswith("no complete answer within 0.")  # what is left of HANGING_SECONDS by then

    @pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
    async def test_drops_do_not_put_off_the_deadline(self, begun: bytes) -> None:
        async def drip(peer: Peer) -> None:
            await peer.request()
            await peer.send(begun)
            for byte in answer(200, ACCEPTED) * 10:
                await peer.send(bytes([byte]))
                await asyncio.sleep(0.02)

        started = time.monotonic()
        outcome, _ = await create(drip, seconds=HANGING_SECONDS)
        assert outcome.kind is Kind.UNKNOWN
        assert time.monotonic() - started < HANGING_SECONDS + 2

    async def test_the_facts_of_an_answer(self) -> None:
        refusal = answer(429, b'{"error":"Later."}', "apigw-requestid: abc=", "Retry-After: 120")
        async with wire(saying(refusal)) as server, client(server.url, transport()) as runway:
            result = await runway.create("image_to_video", BODY, give_up_at=time.monotonic() + 5)
        assert isinstance(result, HttpResult)
        assert (result.status, result.request_id, result.retry_after) == (429, "abc=", 120)
        assert 0 <= result.seconds < 5

    @pytest.mark.parametrize("date", ["Wed, 21 Oct 2026 07:28:00 GMT", "-5", "1e9", "soon", "\xb2"])
    async def test_a_date_to_retry_is_not_read(self, date: str) -> None:
        outcome, _ = await create(saying(answer(429, b'{"error":"Later."}', f"Retry-After: {date}")))
        assert (outcome.reason, outcome.retry_after) == (Reason.DAILY_LIMIT, None)

    async def test_the_wait_for_a_connection_is_no_part_of_the_answers_time(self) -> None:
        """502 within 5 s is a refusal; the time that the pool took is not Runway's."""
        gates = [asyncio.Event(), asyncio.Event()]

        async def gated(peer: Peer) -> None:
            for gate in gates:
                await peer.request()
                await gate.wait()
                await peer.send(answer(502, b'{"error":"Overloaded"}'))

        now = 0.0
        async with wire(gated) as server:
            settings = Settings(runway_key=KEY, runway_url=server.url)
            runway = Runway(settings, transport(1, keep_creates=True), monotonic=lambda: now)
            calls = [asyncio.create_task(runway.create("image_to_video", BODY, give_up_at=60)) for _ in "ab"]
            await until(lambda: server.posts == 1)
            now = 6.0
            gates[0].set()
            await until(lambda: server.posts == 2)
            gates[1].set()
            slow, quick = [classify(await call) for call in calls]
            await runway.aclose()
        assert (slow.kind, quick.kind, quick.reason) == (Kind.UNKNOWN, Kind.REJECTED, Reason.BUSY)


class TestEarlyAnswers:
    """An answer may come before the request is written: then it decides, and what is unsent does not matter."""

    LARGE = BODY | {"promptImage": "data:image/png;base64," + "A" * 5_000_000}

    @pytest.mark.parametrize(("status", "reason"), [(413, Reason.INVALID), (401, Reason.KEY_REFUSED)])
    async def test_nobody_reads_the_rest(self, status: int, reason: Reason) -> None:
        async def script(peer: Peer) -> None:
            await peer.headers()
            await peer.send(answer(status, b'{"error":"No."}', "Connection: close"))

        async with wire(script) as server, client(server.url, transport()) as runway:
            outcome = await send(runway, 1.0, body=self.LARGE)
        assert (outcome.kind, outcome.reason) == (Kind.REJECTED, reason)

    @pytest.mark.parametrize("end", [Peer.fin, Peer.rst, Peer.gone], ids=["fin", "rst", "draining"])
    async def test_the_connection_ends(self, end: Script) -> None:
        """Whether the answer survives what ends the connection is up to both kernels: it is never more than it says."""

        async def script(peer: Peer) -> None:
            await peer.headers()
            await peer.send(answer(413, b'{"error":"Too large."}', "Connection: close"))
            await end(peer)

        async with wire(script) as server, client(server.url, transport()) as runway:
            outcome = await send(runway, body=self.LARGE)
        assert outcome.kind in ((Kind.REJECTED,) if end is Peer.gone else (Kind.REJECTED, Kind.UNKNOWN))
        assert server.posts == 1


# ---- the request, and its connection --------------------------------------------------------------------------------


class TestRequest:
    async def test_as_it_goes_out(self) -> None:
        extra = "X-Runway-On-Behalf-Of: someone\nauthorization: theirs\nX-RUNWAY-VERSION: 1999-01-01"
        heard: list[bytes] = []

        async def script(peer: Peer) -> None:
            heard.append(await peer.request())
            await peer.send(answer(200, ACCEPTED))

        async with wire(script) as server:
            settings = Settings.model_construct(runway_key=KEY, runway_url=server.url, runway_headers=extra)
            runway = Runway(settings, transport())
            await send(runway, body={"promptText": "größer \ud800"})
            await runway.aclose()
        first, *lines = heard[0].decode().rstrip().split("\r\n")
        found = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        assert first == "POST /v1/image_to_video HTTP/1.1"
        for name, value in {
            "authorization": f"Bearer {KEY}",
            "x-runway-version": "2024-11-06",
            "content-type": "application/json",
            "accept-encoding": "identity",
            "x-runway-on-behalf-of": "someone",
        }.items():
            assert [v for n, v in found if n == name] == [value]
        body = bytes(server.peers[0].received).partition(b"\r\n\r\n")[2]
        assert json.loads(body) == {"promptText": "größer \ud800"}

    async def test_an_image_inside_goes_out_in_pieces(self) -> None:
        body = BODY | {"promptImage": "data:image/png;base64," + "A" * 5_000_000}
        outcome: Outcome
        async with wire(accepting) as server, client(server.url, transport()) as runway:
            outcome = await send(runway, body=body)
        head, _, sent = server.heard.partition(b"\r\n\r\n")
        assert outcome.kind is Kind.ACCEPTED
        assert b"transfer-encoding" not in head.lower()
        assert json.loads(sent) == body

    async def test_no_cookie_comes_back(self) -> None:
        async def script(peer: Peer) -> None:
            while True:
                await peer.request()
                await peer.send(answer(200, ACCEPTED, "Set-Cookie: stuck=1; Path=/"))

        async with (
            wire(script, host="localhost") as server,
            client(server.url, transport()) as runway,
        ):
            for _ in range(2):
                await send(runway)
        assert b"cookie" not in server.heard.lower()
        assert server.posts == 2

    async def test_a_caller_that_is_cancelled_learns_nothing(self) -> None:
        async with wire(Peer.gone) as server, client(server.url, transport()) as runway:
            call = asyncio.create_task(send(runway))
            await until(lambda: server.posts == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call


class TestConnections:
    @pytest.mark.parametrize("ends", [Peer.fin, Peer.rst], ids=["fin", "rst"])
    async def test_one_that_the_server_closed_while_idle(self, ends: Script) -> None:
        """A new create goes out on a new connection; at the very worst it is unknown, never not sent, never twice."""
        closed = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(200, ACCEPTED))
            await ends(peer)
            closed.set()

        async with wire(script) as server, client(server.url, transport()) as runway:
            assert (await send(runway)).kind is Kind.ACCEPTED
            await closed.wait()
            for _ in range(5):
                await asyncio.sleep(0)  # the client's own sockets learn of it in the same loop
            assert (await send(runway)).kind is Kind.ACCEPTED
        assert [bytes(peer.received).count(b"POST") for peer in server.peers] == [1, 1]

    async def test_one_carries_one_create(self) -> None:
        async with wire(accepting) as server, client(server.url, transport()) as runway:
            for _ in range(3):
                assert (await send(runway)).kind is Kind.ACCEPTED
        assert [bytes(peer.received).count(b"POST") for peer in server.peers] == [1, 1, 1]
        assert b"connection: close" in server.heard.lower()

    async def test_a_surplus_answer_belongs_to_nobody(self) -> None:
        """Each film is that of its own create, whatever a server sends without being asked."""
        ids = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(10)]
        left = iter(ids)

        async def surplus(peer: Peer) -> None:
            while True:
                await peer.request()
                mine = answer(200, b'{"id":"%s"}' % next(left).encode())
                await peer.send(mine + answer(200, b'{"id":"99999999-0000-4000-8000-000000000000"}'))

        async with wire(surplus) as server, client(server.url, transport()) as runway:
            assert [(await send(runway)).task_id for _ in range(10)] == ids

    async def test_a_server_that_closes_after_each_answer_leaves_nothing_unknown(self) -> None:
        async def soon_gone(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(200, ACCEPTED))
            await asyncio.sleep(0.005)
            await peer.fin()

        async with wire(soon_gone) as server, client(server.url, transport(4)) as runway:
            outcomes = await asyncio.gather(*(send(runway) for _ in range(40)))
        assert {outcome.kind for outcome in outcomes} == {Kind.ACCEPTED}

    async def test_an_answer_that_was_cut_leaves_no_connection_behind(self) -> None:
        async def endless(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer(400, b"", "Content-Length: 999999999", length=False))
            while True:
                await peer.send(b"x" * 65_536)

        async with wire(endless) as server, client(server.url, transport()) as runway:
            for _ in range(2):
                outcome = await send(runway)
                assert (outcome.kind, outcome.reason) == (Kind.REJECTED, Reason.NOT_RUNWAY)
        assert len(server.peers) == 2


# ---- looking at tasks, and deleting them ----------------------------------------------------------------------------


URL = "http://runway.test"
TASK_URL = f"{URL}/v1/tasks/{TASK_ID}"
GONE = {"error": "Could not find Task"}


@pytest.fixture
def routes() -> Iterator[respx.MockRouter]:
    """Runway's routes, to be described: in front of the transport of production."""
    with mocked(assert_all_called=False) as router:
        yield router


@pytest.fixture
async def runway(routes: respx.MockRouter) -> AsyncIterator[Runway]:
    """The client of production."""
    async with client(URL, None) as made:
        yield made


class TestPlainCreates:
    @pytest.mark.parametrize(
        ("status", "said", "kind"),
        [
            (200, {"id": TASK_ID}, Kind.ACCEPTED),
            (400, {"error": "Validation of body failed", "issues": []}, Kind.REJECTED),
            (500, {"error": "Oops"}, Kind.UNKNOWN),
        ],
    )
    async def test_once(
        self, routes: respx.MockRouter, runway: Runway, status: int, said: dict[str, Any], kind: Kind
    ) -> None:
        route = routes.post(f"{URL}/v1/image_to_video").respond(status, json=said)
        assert (await send(runway)).kind is kind
        assert route.call_count == 1
        assert json.loads(route.calls.last.request.content) == BODY


class TestRetrieve:
    async def test_a_task(self, routes: respx.MockRouter, runway: Runway) -> None:
        route = routes.get(TASK_URL).respond(json={"id": TASK_ID, "status": "RUNNING", "progress": 0.5})
        task = await runway.retrieve(TASK_ID)
        assert task is not None
        assert (task.id, task.status, task.progress) == (TASK_ID, "RUNNING", 0.5)
        assert route.calls.last.request.headers["authorization"] == f"Bearer {KEY}"

    async def test_a_workflow_is_asked_about_as_an_invocation(self, routes: respx.MockRouter, runway: Runway) -> None:
        said = {"id": TASK_ID, "status": "SUCCEEDED", "output": {"a": [f"{URL}/1.mp4", f"{URL}/2.mp4"], "b": []}}
        routes.get(f"{URL}/v1/workflow_invocations/{TASK_ID}").respond(json=said)
        task = await runway.retrieve(TASK_ID, model="workflows")
        assert task is not None
        assert (task.output, task.fitted) == ([f"{URL}/1.mp4", f"{URL}/2.mp4"], ())

    async def test_none_that_runway_knows(self, routes: respx.MockRouter, runway: Runway) -> None:
        routes.get(TASK_URL).respond(404, json=GONE)
        assert await runway.retrieve(TASK_ID) is None

    @pytest.mark.parametrize(
        ("status", "content"),
        [
            (404, b"<html>nginx</html>"),
            (404, b""),
            (404, b'{"error":"No such route"}'),
            (401, b'{"error":"Your key is disabled"}'),
            (429, b"{}"),
            (500, b"{}"),
            (502, b""),
            (301, b""),
            (204, b""),
            (200, b""),
            (200, b"<html>"),
            (200, b"[]"),
            (200, b"{}"),
            (200, b'{"id":"%s"}' % TASK_ID.encode()),
            (200, b'{"id":"%s","status":7}' % TASK_ID.encode()),
            (200, b'{"id":"another","status":"RUNNING"}'),
        ],
    )
    async def test_no_answer_to_the_question(
        self, routes: respx.MockRouter, runway: Runway, status: int, content: bytes
    ) -> None:
        """None of these says that a task vanished."""
        routes.get(TASK_URL).respond(status, content=content)
        with pytest.raises(RunwayUnavailable, match=TASK_ID):
            await runway.retrieve(TASK_ID)

    async def test_no_answer_at_all(self, routes: respx.MockRouter, runway: Runway) -> None:
        routes.get(TASK_URL).mock(side_effect=httpx.ReadTimeout)
        with pytest.raises(RunwayUnavailable, match="ReadTimeout"):
            await runway.retrieve(TASK_ID)

    async def test_half_an_answer(self) -> None:
        """Also half of a 404 says nothing."""

        async def script(peer: Peer) -> None:
            await peer.headers()
            await peer.send(answer(404, json.dumps(GONE).encode() + b" " * 40)[:-10])
            await peer.fin()

        async with wire(script) as server, client(server.url, transport()) as runway:
            with pytest.raises(RunwayUnavailable, match="broke off"):
                await runway.retrieve(TASK_ID)

    async def test_the_case_of_an_id_does_not_matter(self, routes: respx.MockRouter, runway: Runway) -> None:
        routes.get(f"{URL}/v1/tasks/{TASK_ID.upper()}").respond(json={"id": TASK_ID, "status": "PENDING"})
        assert await runway.retrieve(TASK_ID.upper()) is not None

    @pytest.mark.parametrize("task_id", ["", "..", ".", "a/b", "a?b=c", "a#b", "a%2fb", "a b", "ä", "a\n", "x" * 201])
    async def test_what_cannot_be_an_id_asks_nothing(
        self, routes: respx.MockRouter, runway: Runway, task_id: str
    ) -> None:
        assert await runway.retrieve(task_id) is None
        assert await runway.delete(task_id) is False
        assert routes.calls.call_count == 0


class TestDelete:
    async def test_a_task(self, routes: respx.MockRouter, runway: Runway) -> None:
        route = routes.delete(TASK_URL).respond(204)
        assert await runway.delete(TASK_ID) is True
        assert route.call_count == 1

    async def test_one_that_is_gone(self, routes: respx.MockRouter, runway: Runway) -> None:
        routes.delete(TASK_URL).respond(404, json=GONE)
        assert await runway.delete(TASK_ID) is False

    @pytest.mark.parametrize("status", [200, 202, 302, 401, 404, 405, 409, 429, 500, 503])
    async def test_anything_else_has_deleted_nothing(
        self, routes: respx.MockRouter, runway: Runway, status: int
    ) -> None:
        routes.delete(TASK_URL).respond(status, content=b"<html>")
        with pytest.raises(RunwayUnavailable) as caught:
            await runway.delete(TASK_ID)
        assert caught.value.extra == {"runway_status": status}
