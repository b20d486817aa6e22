"""Where this server goes because a client named it, and above all where not."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import httpx
import pytest

from service import ssrf
from service.runway import addresses
from service.runway.transport import SocketTransport
from tests.resolving import resolving

pytestmark = pytest.mark.anyio

PUBLIC = ["8.8.8.8", "93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"]
NOT_PUBLIC = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255", "192.88.99.1", "168.63.129.16", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1",
    "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1",
    "3fff::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1", "5f00::1",
    "no address",
]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "public"), [*((one, True) for one in PUBLIC), *((one, False) for one in NOT_PUBLIC)]
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert ssrf.is_public(address) is public


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.jpg", "ftp://example.com/a", "file:///etc/passwd", "//example.com/a", "example.com/a", "",
        "https://127.0.0.1/", "https://[::1]/", "https://0x7f.1/", "https://2130706433/", "https://127.1/",
        "https://\uff11\uff12\uff17.\uff11/", "https://127.0.0.1./", "https://0x7f000001/", "https://localhost/", "https://intern/",
        "https://user@example.com/", "https://user:word@example.com/", "https://example.com:8443/",
        "https://example.com:99999/", "https://exa mple.com/", "https://example.com\\@127.0.0.1/", "https:///a",
        "https://example.com/" + "a" * 5_000, "https://-a.example.com/", "https://a..example.com/", "https://[::1/",
    ],
)  # fmt: skip
def test_urls_that_are_refused_before_a_name_is_resolved(url: str) -> None:
    assert ssrf.complaint(url)


@pytest.mark.parametrize(
    "url", ["https://example.com/a.jpg", "https://cdn.example.co.uk:443/a?b=c", "https://ä.example/"]
)
def test_urls_that_may_be_tried(url: str) -> None:
    assert ssrf.complaint(url) is None


async def test_a_name_with_one_address_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "8.8.8.8")
    assert await ssrf.public_addresses("example.com", 443) == [(socket.AF_INET, ("8.8.8.8", 443))]
    for found in (["8.8.8.8", "127.0.0.1"], ["169.254.169.254"], []):
        resolving(monkeypatch, *found)
        with pytest.raises(OSError, match="not public"):
            await ssrf.public_addresses("example.com", 443)


async def test_names_of_strangers_that_are_not_answered_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    real, answered = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "localhost":
            return real(host, *arguments, **options)
        answered.wait(20)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    waiting = [asyncio.create_task(ssrf.public_addresses("example.com", 443)) for _ in range(40)]
    await asyncio.sleep(0)  # each has asked
    try:
        async with asyncio.timeout(10):
            assert await addresses.of_host("localhost", 80)
        assert not any(one.done() for one in waiting)
    finally:
        answered.set()
        await asyncio.gather(*waiting, return_exceptions=True)


# For webhooks: another port is allowed, and hosts that the operator names.


@pytest.mark.parametrize("url", ["https://example.com:8443/hook", "https://example.com/hook?token=a"])
def test_a_webhook_may_have_a_port(url: str) -> None:
    assert ssrf.complaint(url, any_port=True) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://user@example.com:8443/", "https://127.0.0.1:8443/", "https://[::1]:8443/",
        "https://169.254.169.254:80/", "https://localhost:3000/", "https://example.com:0/", "https://10.0.0.7/",
    ],
)  # fmt: skip
def test_a_webhook_goes_to_no_address_and_to_no_name_inside(url: str) -> None:
    assert ssrf.complaint(url, any_port=True)


@pytest.mark.parametrize(
    "url", ["http://localhost:3000/a", "http://127.0.0.1:8000/", "https://LOCALHOST./", "http://[::1]:3000/"]
)
def test_a_host_that_the_operator_names_may_be_anywhere(url: str) -> None:
    assert ssrf.complaint(url, ("localhost", "127.0.0.1", "::1"), any_port=True) is None
    assert ssrf.complaint(url.replace("://", "://user@"), ("localhost", "127.0.0.1", "::1"), any_port=True)
    assert ssrf.complaint(url, ("another.internal",), any_port=True)


async def test_only_that_host_may_have_an_address_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = ssrf.resolving(("app.internal",))
    resolving(monkeypatch, "10.0.0.7")
    assert await resolve("App.Internal.", 80) == [(socket.AF_INET, ("10.0.0.7", 80))]
    with pytest.raises(OSError, match="not public"):
        await resolve("other.internal", 80)


async def test_a_name_that_changes_between_two_attempts_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[str] = []

    async def answer(reader: Any, writer: Any) -> None:
        came.append((await reader.readline()).decode())
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    monkeypatch.setattr(ssrf, "is_public", lambda address: address == "127.0.0.2")
    server = await asyncio.start_server(answer, "0.0.0.0", 0)
    url = f"http://hook.example.com:{server.sockets[0].getsockname()[1]}/"

    async def attempt() -> int:
        async with httpx.AsyncClient(transport=SocketTransport(resolve=ssrf.resolving(())), trust_env=False) as client:
            return (await client.post(url, content=b"{}")).status_code

    async with server:
        resolving(monkeypatch, "127.0.0.2")
        assert await attempt() == 204
        for found in (["127.0.0.1"], ["127.0.0.2", "127.0.0.1"]):
            resolving(monkeypatch, *found)
            with pytest.raises(httpx.ConnectError, match="not public"):
                await attempt()
    assert len(came) == 1
