"""An app that takes webhooks, in the same process as the Taxiway that sends them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tests.pages import Control, control

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
HOOK = "https://app.example.com/hook"
SETTINGS: dict[str, Any] = {"webhook_secrets": (SECRET,), "webhook_url": (HOOK,)}


@dataclass
class App:
    """`got`: the webhooks that came: URL, headers and body; `answers`: what it answers, in order; then 204."""

    got: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        self.got.append((str(request.url), dict(request.headers), json.loads(await request.body())))
        answer = self.answers.pop(0) if self.answers else Response(status_code=204)
        await answer(scope, receive, send)

    @property
    def events(self) -> list[str]:
        """What they said, in order."""
        return [str(body["type"]) for _, _, body in self.got]


@asynccontextmanager
async def notifying(url: str, **changes: Any) -> AsyncIterator[tuple[Control, App]]:
    """A Taxiway with its page, whose webhooks go to an app."""
    app = App()
    async with control(url, receiver=app, **(SETTINGS | changes)) as site:
        yield site, app
