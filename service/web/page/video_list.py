"""/ui/videos: every video, live; search, tabs by status, filters, failures by reason, page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequest
from service.operations import reading
from service.operations.cost import costs_of
from service.operations.outputs import outputs
from service.operations.reading import VideoList
from service.store import failure_counts, status_counts
from service.store import models as model_store
from service.store.search import Wanted
from service.videos import LISTED, Video
from service.web import bodies
from service.web.auth import context_of
from service.web.page import base, live
from service.web.page.media import image_of, image_output
from service.web.schemas import ListQuery, cursor_of

ON_A_PAGE = 25
FILTERS = ("q", "status", "model", "error_code", "group", "user_id")
# A status has its tab.
CHIPS = {"q": "search", "model": "model", "error_code": "reason", "group": "group", "user_id": "user"}
COUNTS_SECONDS = 5.0  # between two counts of a live page: they are dearer than the list
SHOWN_REASONS = 5  # the others are behind "more"


@dataclass(frozen=True)
class Asked:
    """What the address asks for: filters, and where the page begins. `back`: cursors of the pages before."""

    filters: dict[str, str]
    cursor: str
    back: tuple[str, ...]

    def path(self, screen: str = "/ui/videos", **changes: str) -> str:
        """The address of a screen with these filters, on its first page unless `changes` has a `cursor`."""
        query = {name: value for name, value in (self.filters | changes).items() if value}
        return f"{screen}?{urlencode(query)}" if query else screen

    @property
    def query(self) -> ListQuery:
        """The same as the API takes it. Raises InvalidRequest."""
        given: dict[str, Any] = self.filters | {"cursor": self.cursor, "limit": ON_A_PAGE}
        given["status"] = [given["status"]] if given["status"] else None
        return bodies.validated(ListQuery, {name: value for name, value in given.items() if value})

    @property
    def wanted(self) -> Wanted:
        """The same for the store. Raises InvalidRequest."""
        return self.query.wanted()

    @property
    def chips(self) -> list[tuple[str, str, str]]:
        """(name, value, address without it) of each filter that has no tab."""
        return [
            (label, self.filters[name], self.path(**{name: ""})) for name, label in CHIPS.items() if self.filters[name]
        ]


def asked_of(params: QueryParams) -> Asked:
    """What the address asks for."""
    filters = {name: params.get(name, "").strip() for name in FILTERS}
    back = tuple(filter(None, params.get("back", "").split(".")))
    return Asked(filters, params.get("cursor", ""), back)


async def show(request: Request) -> Response:
    """GET /ui/videos: every video, with search, filters, and failures by reason."""
    asked = asked_of(request.query_params)
    try:
        parts = await _found(request, asked) | await _counts(request, asked)
    except InvalidRequest as exc:
        parts = {"found": base.text(request, "videos_refused.html", problems=exc.problems)}
    models = [row["model"] for row in await model_store.every(context_of(request).database) if row["model"] != "all"]
    return base.render(request, "videos.html", asked=asked, live=parts, seen=live.version(parts), models=models)


async def events(request: Request) -> Response:
    """GET /ui/videos/events: the same, live."""
    return await live.stream(request, _renderer(request, asked_of(request.query_params)))


def _renderer(request: Request, asked: Asked) -> Callable[[], Awaitable[tuple[live.Parts, float]]]:
    """Renders the list each time, and its counts every COUNTS_SECONDS."""
    ctx = context_of(request)
    counts: dict[str, str] = {}
    counted_at = 0.0

    async def render_parts() -> tuple[live.Parts, float]:
        nonlocal counts, counted_at
        if not counts or ctx.monotonic() - counted_at >= COUNTS_SECONDS:
            counts, counted_at = await _counts(request, asked), ctx.monotonic()
        return await _found(request, asked) | counts, live.REFRESH_SECONDS

    return render_parts


async def _found(request: Request, asked: Asked) -> dict[str, str]:
    ctx, query = context_of(request), asked.query
    page = await reading.page(ctx, query.wanted(), query.before(), ON_A_PAGE)
    costs = await costs_of(ctx, page.videos)
    return {
        "found": base.text(
            request,
            "videos_found.html",
            asked=asked,
            page=page,
            waiting=page.waiting,
            costs=costs,
            **_neighbours(asked, page),
        )
    }


async def _counts(request: Request, asked: Asked) -> dict[str, str]:
    database, wanted = context_of(request).database, asked.wanted
    counts = await status_counts.status_counts(database, wanted)
    why = await failure_counts.failure_counts(database, wanted)
    return {
        "tabs": base.text(request, "videos_tabs.html", asked=asked, counts=counts, names=[s.value for s in LISTED]),
        "reasons": base.text(
            request, "videos_reasons.html", asked=asked, reasons=why, shown=SHOWN_REASONS,
            most=failure_counts.MOST_COUNTED,
        ),
    }  # fmt: skip


def _neighbours(asked: Asked, page: VideoList) -> dict[str, Any]:
    """The addresses of the pages before and after this one."""
    newer = older = None
    if asked.cursor:
        *rest, last = asked.back or ("",)
        newer = asked.path(cursor=last if last != "0" else "", back=".".join(rest))
    if page.next:
        older = asked.path(cursor=cursor_of(*page.next), back=".".join([*asked.back, asked.cursor or "0"][-50:]))
    return {"newer": newer, "older": older, "thumbs": {video.id: _thumb(video) for video in page.videos}}


def _thumb(video: Video) -> str:
    """What stands for a video in a list: `image`, or the kind of its first output; empty where there is nothing yet."""
    if image_output(video) or image_of(video):
        return "image"
    return next((output.kind for output in outputs(video)), "")


def prompt_of(video: Video) -> str:
    """What was asked for, in words."""
    return str((video.input or {}).get("promptText") or video.prompt or "")
