"""An app that takes webhooks, for crash tests: its book says what came, and whether all that should have come did."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from uuid import UUID

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import webhooks
from tests.world import World

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


@dataclass
class Receiver:
    """`got`: (webhook-id, event, video), in the order in which they came."""

    got: list[tuple[str, str, UUID]] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        """The app itself."""

        async def take(request: Request) -> Response:
            body = await request.body()
            values = json.loads(body)
            self.got.append((request.headers[webhooks.ID], values["type"], UUID(values["data"]["id"])))
            return Response(status_code=204)

        return Starlette(routes=[Route("/hook", take, methods=["POST"])])


_ENDED = """
SELECT id, status FROM taxiway.videos WHERE webhook_url IS NOT NULL AND status IN ('completed', 'failed', 'cancelled')
"""
_NOT_DELIVERED = "SELECT event, state, attempts FROM taxiway.deliveries WHERE state <> 'delivered'"


async def assert_told(w: World, receiver: Receiver) -> None:
    """Assert that the end of each video came, under one id for each event, and that nothing came after it."""
    for row in await w.rows(_ENDED):
        came = [(id, event) for id, event, video in receiver.got if video == row["id"]]
        assert came, f"the end of {row['id']} never came"
        assert came[-1][1] == f"video.{row['status']}", came
        assert len({id for id, _ in came}) == len({event for _, event in came}), came
    assert await w.rows(_NOT_DELIVERED) == []
