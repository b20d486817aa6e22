"""Parts of a page that follow the database by themselves: server-sent events, and only what has changed.

A stream is one request that takes a minute. It renders its parts again and again, and sends each whose HTML is not what
the browser has; the browser says what that is, in the address at first and with `Last-Event-ID` afterwards. A browser
that hears nothing, not even a beat, says that what it shows is stale.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
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
ENDED_SECONDS = 5.0  # between two reads of a video that has ended: only a retry or an attach changes it
BEAT_SECONDS = 10.0
# Shorter than the minute after which proxies and serverless hosts end a request; the browser comes again by itself.
STREAM_SECONDS = 55.0
RETRY_MILLISECONDS = 1_000
# What a relative time says changes with each look; the browser counts on by itself.
TIME = re.compile(r"(<time [^>]*>)[^<]*")

Parts = Mapping[str, str]  # HTML, by the id of the element that it stands in
Render = Callable[[], Awaitable[tuple[Parts, float]]]  # the parts, and seconds until the next look


def version(parts: Parts) -> str:
    """What a browser that shows these parts has: `id.hash` of each, in one word."""
    return "~".join(f"{name}.{_hash(html)}" for name, html in parts.items())


def _hash(html: str) -> str:
    return hashlib.sha256(TIME.sub(r"\1", html).encode()).hexdigest()[:12]


async def stream(request: Request, render_parts: Render) -> Response:
    """Parts that changed, for a while. What goes wrong at the first look is raised: then there is no stream."""
    return EventSourceResponse(_events(request, render_parts, *await render_parts()), headers=base.HEADERS, ping=15)


async def _events(
    request: Request, render_parts: Render, parts: Parts, seconds: float
) -> AsyncIterator[ServerSentEvent]:
    ctx = context_of(request)
    stopping: Callable[[], bool] = getattr(request.app.state, "stopping", lambda: False)
    seen = request.headers.get("last-event-id") or request.query_params.get("seen", "")
    said_at = ctx.monotonic()
    ends_at = said_at + STREAM_SECONDS
    yield ServerSentEvent(event="begin", data=_now(request), retry=RETRY_MILLISECONDS)
    while True:
        shown = set(seen.split("~"))
        changed = {name: html for name, html in parts.items() if version({name: html}) not in shown}
        if changed:
            seen, said_at = version(parts), ctx.monotonic()
            yield ServerSentEvent(event="parts", data=json.dumps(changed), id=seen)
        elif ctx.monotonic() - said_at >= BEAT_SECONDS:
            said_at = ctx.monotonic()
            yield ServerSentEvent(event="beat", data=_now(request))
        if stopping() or ctx.monotonic() + seconds >= ends_at:
            return
        await ctx.sleep(seconds)
        try:
            parts, seconds = await render_parts()
        except TaxiwayError as exc:
            event(
                log, VIDEO, "live_part_failed", f"A live part of the page is away: {exc.detail}", level=logging.WARNING
            )
            return


def _now(request: Request) -> str:
    """This host's time, in milliseconds: by it the browser says how long ago something was."""
    return str(round(context_of(request).now() * 1000))
