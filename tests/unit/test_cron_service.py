"""The laptop's cron service, against answers of every kind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import httpx
import pytest

from service.local.ticker import Cron

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:8000/process-queued"
Answers = list[httpx.Response | Exception]


def cron(answers: Answers, slept: list[float], calls: list[httpx.Request], seconds_per_call: float = 0.0) -> Cron:
    """A cron service that gets these answers, and is cancelled when there are no more."""
    now = [0.0]

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        now[0] += seconds_per_call
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        if not answers:
            raise asyncio.CancelledError

    return Cron(
        URL, "the-secret", every=2, timeout=30,
        transport=httpx.MockTransport(handler), sleep=sleep, clock=lambda: now[0],
    )  # fmt: skip


async def said_of(answers: Answers, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What it logs while it gets these answers."""
    caplog.set_level(logging.INFO, "service.local.ticker")
    with pytest.raises(asyncio.CancelledError):
        await cron(answers, [], []).run_forever()
    return [record.getMessage() for record in caplog.records if record.name == "service.local.ticker"]


async def test_it_posts_with_the_secret_and_keeps_its_rhythm() -> None:
    slept: list[float] = []
    calls: list[httpx.Request] = []
    with pytest.raises(asyncio.CancelledError):
        await cron([httpx.Response(200, json={})] * 2, slept, calls, seconds_per_call=0.5).run_forever()
    assert [(call.method, str(call.url), call.headers["authorization"]) for call in calls] == [
        ("POST", URL, "Bearer the-secret")
    ] * 2
    assert slept == [1.5, 1.5]


async def test_a_call_longer_than_the_rhythm_is_followed_by_the_next_at_once() -> None:
    slept: list[float] = []
    with pytest.raises(asyncio.CancelledError):
        await cron([httpx.Response(200, json={})], slept, [], seconds_per_call=5).run_forever()
    assert slept == [0]


async def test_what_fails_is_said_once_and_again_when_it_works(caplog: pytest.LogCaptureFixture) -> None:
    def away() -> httpx.Response:
        return httpx.Response(503, json={"title": "The database does not answer", "detail": "refused"})

    answers: Answers = [away(), away(), httpx.Response(200, json={}), httpx.Response(200, json={})]
    assert await said_of(answers, caplog) == [
        f"cron: {URL} answers: 503 The database does not answer: refused",
        f"cron: {URL} works again",
    ]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: httpx.Response(200, json={"errors": {"poll": "KeyError"}}), "poll: KeyError"),
        (lambda: httpx.Response(500, text="oh"), "500 Internal Server Error"),
        (lambda: httpx.ConnectError("refused"), "ConnectError refused"),
        (lambda: RuntimeError("nobody expected this"), "RuntimeError nobody expected this"),
    ],
)
async def test_nothing_in_a_call_ends_it(
    make: Callable[[], httpx.Response | Exception], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [make(), make(), httpx.Response(200, json={})]
    assert await said_of(answers, caplog) == [f"cron: {URL} answers: {words}", f"cron: {URL} works again"]


async def test_leaving_hangs_up_on_a_call_under_way() -> None:
    called, hung_up = asyncio.Event(), asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        called.set()
        try:
            return await asyncio.Future()
        finally:
            hung_up.set()

    async with Cron(URL, "s", every=2, timeout=30, transport=httpx.MockTransport(handler)).running():
        await called.wait()
    assert hung_up.is_set()
