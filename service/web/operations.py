"""The operators' API: lanes, ticks, statistics, and the adoption of a task."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.errors import Conflict
from service.operations import attach as adoption
from service.operations import models as by_hand
from service.operations import observe
from service.settings import need
from service.store import lanes, ledger, spending, stats, ticks
from service.store import videos as store
from service.store.stats import Span
from service.web import bodies
from service.web.auth import OPERATE, VIEW, bearer
from service.web.models import VideoView
from service.web.models_operations import (
    AccountView,
    AdoptRequest,
    LaneList,
    LaneView,
    PauseRequest,
    Stats,
    StatsQuery,
    TickList,
    TickQuery,
    TickView,
)
from service.web.videos import video_id_of

LARGEST_BODY_BYTES = 10_000
M = TypeVar("M", bound=BaseModel)


def _answer(view: BaseModel) -> Response:
    return JSONResponse(view.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


def _query(request: Request, model: type[M]) -> M:
    given: dict[str, Any] = {name: value for name, value in request.query_params.items() if value}
    return bodies.validated(model, given)


async def _body(request: Request, model: type[M], largest: int) -> M:
    raw = await bodies.read(request, min(LARGEST_BODY_BYTES, largest))
    return bodies.validated(model, bodies.parse(raw) if raw.strip() else {})


async def list_lanes(request: Request) -> Response:
    """GET /lanes"""
    house = bearer(request, VIEW)
    return _answer(LaneList(lanes=[LaneView.of(dict(row)) for row in await lanes.every(house.database)]))


async def pause_lane(request: Request) -> Response:
    """POST /lanes/{lane}/pause"""
    house = bearer(request, OPERATE)
    asked = await _body(request, PauseRequest, house.settings.max_body_bytes)
    lane = request.path_params["lane"]
    await by_hand.pause(house, lane, asked.seconds, asked.why)
    return await _one_lane(request, lane)


async def resume_lane(request: Request) -> Response:
    """POST /lanes/{lane}/resume: also of a lane that is open, which changes nothing."""
    house = bearer(request, OPERATE)
    lane = request.path_params["lane"]
    await by_hand.resume(house, lane)
    return await _one_lane(request, lane)


async def _one_lane(request: Request, lane: str) -> Response:
    rows = {row["model"]: dict(row) for row in await lanes.every(bearer(request, OPERATE).database)}
    open_and_empty = {
        "model": lane, "reason": None, "detail": None, "paused_until": None, "paused_at": None,
        "queued": 0, "in_flight": 0,
    }  # fmt: skip
    return _answer(LaneView.of(rows.get(lane, open_and_empty)))


async def list_ticks(request: Request) -> Response:
    """GET /ticks"""
    house = bearer(request, VIEW)
    rows = await ticks.recent(house.database, _query(request, TickQuery).limit)
    return _answer(TickList(ticks=[TickView(**row) for row in rows]))


async def statistics(request: Request) -> Response:
    """GET /stats"""
    house = bearer(request, VIEW)
    window = Span(_query(request, StatsQuery).window)
    buckets = await stats.series(house.database, window)
    return _answer(Stats.of(window, buckets, await stats.in_flight(house.database)))


async def account(request: Request) -> Response:
    """GET /account: asks Runway, which costs nothing, and remembers the answer for /metrics."""
    house = bearer(request, VIEW)
    need(house.settings, "runway_key")
    seen = await observe.account(house)
    spent = sum((await spending.today(house.database)).values(), Decimal(0))
    cap = house.settings.max_credits_per_day
    return _answer(AccountView.of(seen, float(spent), None if cap is None else float(cap)))


async def adopt(request: Request) -> Response:
    """POST /videos/{id}/adopt"""
    house = bearer(request, OPERATE)
    asked = await _body(request, AdoptRequest, house.settings.max_body_bytes)
    need(house.settings, "runway_key")
    video = await store.get(house.database, video_id_of(request))
    if await adoption.adopt(house, video.id, asked.task_id) == "held":
        holder = await ledger.holder(house.database, asked.task_id)
        if holder != video.id:
            raise Conflict(f"the task {asked.task_id} belongs to the video {holder}")
    return _answer(VideoView.of(await store.get(house.database, video.id)))
