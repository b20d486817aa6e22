"""Parts of a page that follow the database by themselves: server-sent events, and only what has changed.

A stream is one request that takes a minute. It renders its parts again and again, and sends each whose HTML is not what
the browser has; the browser says what that is, in the address at first and with `Last-Event-ID` afterwards.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from service.errors import TaxiwayError
from service.logs import VIDEO, event
from service.web.auth import context_of
from service.web.page import base

log = logging.getLogger(__name__)

REFRESH_SECONDS = 1.5
# Shorter than the minute after which proxies and serverless hosts end a request; the browser comes again by itself.
STREAM_SECONDS = 55.0
RETRY_MILLISECONDS = 1_000

Parts = Mapping[str, str]  # HTML, by the id of the element that it stands in
Render = Callable[[], Awaitable[tuple[Parts, bool]]]  # the parts, and whether they will change again


def version(parts: Parts) -> str:
    """What a browser that shows these parts has: `id.hash` of each, in one word."""
    return "~".join(f"{name}.{hashlib.sha256(html.encode()).hexdigest()[:12]}" for name, html in parts.items())


async def stream(request: Request, render_parts: Render) -> Response:
    """Parts that changed, for a while. What goes wrong at the first look is raised: then there is no stream."""
    return EventSourceResponse(_events(request, render_parts, *await render_parts()), headers=base.HEADERS, ping=15)


async def _events(
    request: Request, render_parts: Render, parts: Parts, goes_on: bool
) -> AsyncIterator[ServerSentEvent]:
    ctx = context_of(request)
    stopping: Callable[[], bool] = getattr(request.app.state, "stopping", lambda: False)
    seen = request.headers.get("last-event-id") or request.query_params.get("seen", "")
    ends_at = ctx.monotonic() + STREAM_SECONDS
    yield ServerSentEvent(event="begin", data="", retry=RETRY_MILLISECONDS)
    while True:
        shown = set(seen.split("~"))
        changed = {name: html for name, html in parts.items() if version({name: html}) not in shown}
        if changed:
            seen = version(parts)
            yield ServerSentEvent(event="parts", data=json.dumps(changed), id=seen)
        if not goes_on:
            yield ServerSentEvent(event="end", data="")
            return
        if stopping() or ctx.monotonic() + REFRESH_SECONDS >= ends_at:
            return
        await ctx.sleep(REFRESH_SECONDS)
        try:
            parts, goes_on = await render_parts()
        except TaxiwayError as exc:
            event(
                log, VIDEO, "live_part_failed", f"A live part of the page is away: {exc.detail}", level=logging.WARNING
            )
            return
