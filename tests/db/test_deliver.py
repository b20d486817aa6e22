"""Webhooks that go out: who gets what, when, in which order, and what an answer means."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from service import webhooks
from tests.world import World, world

pytestmark = pytest.mark.anyio

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
HOOK = "https://app.example.com/hook"
Answers = Callable[[Request, dict[str, Any]], Response]


@dataclass
class Receiver:
    """An app that takes webhooks. `got`: their bodies; `ids`: their webhook-ids; `answers`: what it answers, in order;
    then 204.
    """

    got: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    answers: list[Response | Exception] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        body = await request.body()
        self.got.append(json.loads(body))
        self.ids.append(request.headers[webhooks.ID])
        self.urls.append(str(request.url))
        answer = self.answers.pop(0) if self.answers else Response(status_code=204)
        if isinstance(answer, Exception):
            raise answer
        await answer(scope, receive, send)

    @property
    def events(self) -> list[str]:
        return [str(one["type"]) for one in self.got]


@asynccontextmanager
async def receiving(url: str, **changes: Any) -> AsyncIterator[tuple[World, Receiver]]:
    """A Taxiway whose webhooks go to a receiver in this process."""
    receiver = Receiver()
    async with world(url, receiver=receiver, **({"webhook_secrets": (SECRET,), "webhook_url": (HOOK,)} | changes)) as w:
        yield w, receiver


async def test_the_end_of_a_video_is_reported_to_every_endpoint(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        video_id = await w.enqueue(metadata={"order": 7})
        await w.finish()
        [got] = receiver.got
        assert (got["type"], receiver.ids) == ("video.completed", [f"msg_{video_id.hex}_1_completed"])
        shown = (await w.api.get(f"/videos/{video_id}")).json()
        assert got["data"] == shown | {"charge": "paid", "paid_credits": 25.0, "most_credits": 25.0}
        [row] = await w.rows("SELECT * FROM taxiway.deliveries")
        assert (row["state"], row["tries"], row["video_id"]) == ("delivered", 1, video_id)
