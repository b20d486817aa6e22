"""POST /v1/uploads and GET /v1/organization: what is handed on to Runway, and answered as it came."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from service.context import Context
from service.operations import relaying
from service.runway.outcomes import HttpResult
from service.web import bodies
from service.web.fresh import Fresh

ACCOUNT_SECONDS = 10.0  # how old an answer about the account may be
MOST_KEPT = 1_000  # answers; more than that are asked for again


class Lately:
    """Answers of Runway's, each for all who ask for the same within some seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._kept: dict[str, Fresh[HttpResult]] = {}

    async def get(self, name: str, ask: Callable[[], Awaitable[HttpResult]], seconds: float) -> HttpResult:
        """The answer by this name. Raises what asking raised."""
        if name not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = Fresh(ask, seconds, self._monotonic)
        return await self._kept[name].get()


def lately_of(request: Request) -> Lately:
    """Those of this app."""
    lately: Lately = request.app.state.lately
    return lately


async def upload(ctx: Context, request: Request) -> Response:
    """POST /v1/uploads"""
    raw = await bodies.read(request, bodies.SMALL_BODY_BYTES)
    bodies.parse(raw)
    return as_it_came(await relaying.upload(ctx, raw))


async def organization(ctx: Context, request: Request) -> Response:
    """GET /v1/organization"""
    relaying.check_may_see_money(ctx)
    return as_it_came(await lately_of(request).get("account", lambda: relaying.organization(ctx), ACCOUNT_SECONDS))


async def usage(ctx: Context, request: Request) -> Response:
    """POST /v1/organization/usage"""
    relaying.check_may_see_money(ctx)
    raw = await bodies.read(request, bodies.SMALL_BODY_BYTES)
    if raw.strip():
        bodies.parse(raw)
    name = f"usage {hashlib.sha256(raw).hexdigest()}"
    return as_it_came(await lately_of(request).get(name, lambda: relaying.usage(ctx, raw), ACCOUNT_SECONDS))


def as_it_came(answer: HttpResult) -> Response:
    """Runway's answer, for the caller."""
    return Response(answer.body, answer.status, media_type="application/json")
