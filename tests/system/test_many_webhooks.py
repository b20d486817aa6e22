"""Hundreds of webhooks, to an endpoint that fails, hangs and goes away, and to a healthy one beside it.

`WEBHOOKS=10000 pytest -m "" tests/system/test_many_webhooks.py` sends thousands.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from service import webhooks
from service.operations import delivering
from service.steps import deliver
from tests.world import World, world

pytestmark = pytest.mark.anyio

BAD, GOOD = "bad.example.com", "good.example.com"
FAILS, HANGS = 0.30, 0.05
MOST_FAILURES = 5  # of one webhook while the endpoint is up: by chance alone, one of ten thousand would use up its ten
COUNT = int(os.environ.get("WEBHOOKS", "400"))
TIMEOUT_SECONDS = 0.15  # instead of 15
SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

# Each of them has failed, and was made again: two events, in order.
INSERT = "INSERT INTO taxiway.videos (prompt, model) SELECT 'a boat', 'gen4_turbo' FROM generate_series(1, $1)"
FAIL = "UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now() WHERE status = 'queued' AND round = 1"
AGAIN = "UPDATE taxiway.videos SET status = 'queued', finished_at = NULL, round = 2 WHERE status = 'failed'"
COMPLETE = "UPDATE taxiway.videos SET status = 'completed', finished_at = taxiway.now() WHERE round = 2"
DUE = """
SELECT count(*) FROM taxiway.deliveries d JOIN taxiway.endpoints e ON e.id = d.endpoint_id
WHERE d.state = 'due' AND e.url LIKE '%' || $1 || '%'
"""


@dataclass
class Receivers:
    """Both of them. `taken`: by host, the (video, event, webhook-id) that were answered with 2xx, in order."""

    random: Random = field(default_factory=lambda: Random(13))
    is_down: bool = False
    taken: dict[str, list[tuple[str, str, str]]] = field(default_factory=lambda: {BAD: [], GOOD: []})
    failures: Counter[str] = field(default_factory=Counter)  # by webhook-id
    answers: Counter[str] = field(default_factory=Counter)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        body = json.loads(await request.body())
        host = str(request.url.hostname)
        status = 204
        if host == BAD:
            chance = self.random.random()
            kind = "down" if self.is_down else "fails" if chance < FAILS else "hangs" if chance > 1 - HANGS else "works"
            if kind in ("fails", "hangs"):
                self.failures[request.headers[webhooks.ID]] += 1
                kind = kind if self.failures[request.headers[webhooks.ID]] <= MOST_FAILURES else "works"
            self.answers[kind] += 1
            if kind == "down":
                raise httpx.ConnectError("no route to host")
            if kind == "hangs":
                await asyncio.Event().wait()
            status = 500 if kind == "fails" else 204
        if status == 204:
            self.taken[host].append((body["data"]["id"], body["type"], request.headers[webhooks.ID]))
        await Response(status_code=status)(scope, receive, send)


async def test_each_is_delivered_none_is_lost_and_none_is_out_of_order(
    database_url: str, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    monkeypatch.setattr(delivering, "TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    receivers, urls = Receivers(), (f"https://{BAD}/hook", f"https://{GOOD}/hook")
    began = time.monotonic()
    async with world(database_url, receiver=receivers, webhook_secrets=(SECRET,), webhook_url=urls) as w:
        await w.tick()
        await w.rows(INSERT, COUNT // 2)
        await w.rows(FAIL)
        await step(w, receivers)
        receivers.is_down = True
        await w.rows(AGAIN)
        await w.rows(COMPLETE)
        for _ in range(12):
            await step(w, receivers)
            await w.later(minutes=5)
        receivers.is_down = False
        passes = 0
        while await w.rows("SELECT FROM taxiway.deliveries WHERE state = 'due'"):
            await step(w, receivers)
            await w.later(minutes=10)
            passes += 1
            assert passes < 1_000
        expected = {(id, event, webhook_id) for id, event, webhook_id in receivers.taken[GOOD]}
        assert len(expected) == COUNT
        assert {row["state"] for row in await w.rows("SELECT DISTINCT state FROM taxiway.deliveries")} == {"delivered"}
        for host, taken in receivers.taken.items():
            assert set(taken) == expected
            assert len(taken) == COUNT, f"{host} got some twice, although no process died"
            place = {(id, event): n for n, (id, event, _) in enumerate(taken)}
            assert all(place[id, "video.failed"] < place[id, "video.completed"] for id, _, _ in taken)
        hours = w.clock.passed / 3_600
    tries = sum(receivers.answers.values())
    words = f"{COUNT} webhooks twice: {tries} attempts at the bad endpoint ({dict(receivers.answers)}), done after "
    words += f"{hours:.1f} h by its clock and {time.monotonic() - began:.0f} s by ours"
    record_property("webhooks", words)
    print(words)  # noqa: T201  # the figures, for whoever runs it with -s


async def step(w: World, receivers: Receivers) -> None:
    """One run of the step; whatever the bad endpoint does, the healthy one gets all that is due to it."""
    await deliver.run_once(w.ctx)
    [row] = await w.rows(DUE, GOOD)
    assert row["count"] == 0, receivers.answers
