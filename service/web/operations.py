"""The operators' API: models, ticks, statistics, and attaching a task."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.context import Context
from service.operations import attaching, pausing, reading
from service.operations.accounting import observe, spent, usage
from service.store import models, throughput, ticks
from service.store.throughput import Span
from service.web import bodies
from service.web.schemas_operations import (
    AccountView,
    AttachRequest,
    ModelList,
    ModelView,
    PauseRequest,
    Stats,
    StatsQuery,
    TickList,
    TickQuery,
    TickView,
    UsageQuery,
    UsageView,
)
from service.web.video_routes import video_id_of
from service.web.views import view

M = TypeVar("M", bound=BaseModel)


def answer(shown: BaseModel) -> Response:
    """JSON that no cache keeps."""
    return JSONResponse(shown.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


def query_of(request: Request, model: type[M]) -> M:
    """The parameters behind the path; an empty one is as good as none. Raises InvalidRequest."""
    given: dict[str, Any] = {name: value for name, value in request.query_params.items() if value}
    return bodies.validated(model, given)


async def body_of(request: Request, model: type[M], largest: int) -> M:
    """The body, which may be empty. Raises InvalidRequest and Malformed."""
    raw = await bodies.read(request, min(bodies.SMALL_BODY_BYTES, largest))
    return bodies.validated(model, bodies.parse(raw) if raw.strip() else {})


async def list_models(ctx: Context, _request: Request) -> Response:
    """GET /models"""
    return answer(ModelList(models=[ModelView.of(dict(row)) for row in await models.every(ctx.database)]))


async def pause_model(ctx: Context, request: Request) -> Response:
    """POST /models/{model}/pause"""
    asked = await body_of(request, PauseRequest, ctx.settings.max_body_bytes)
    model = request.path_params["model"]
    await pausing.pause(ctx, model, asked.seconds, asked.why)
    return await _one_model(ctx, model)


async def resume_model(ctx: Context, request: Request) -> Response:
    """POST /models/{model}/resume: also of a model that is open, which changes nothing."""
    model = request.path_params["model"]
    await pausing.resume(ctx, model)
    return await _one_model(ctx, model)


async def _one_model(ctx: Context, model: str) -> Response:
    return answer(ModelView.of(await pausing.state_of(ctx, model)))


async def list_ticks(ctx: Context, request: Request) -> Response:
    """GET /ticks"""
    rows = await ticks.recent(ctx.database, query_of(request, TickQuery).limit)
    return answer(TickList(ticks=[TickView(**row) for row in rows]))


async def statistics(ctx: Context, request: Request) -> Response:
    """GET /stats"""
    asked = query_of(request, StatsQuery)
    window = Span(asked.window)
    buckets = await throughput.series(ctx.database, window, asked.user_id)
    return answer(Stats.of(window, buckets, await throughput.in_flight(ctx.database, asked.user_id)))


async def show_usage(ctx: Context, request: Request) -> Response:
    """GET /usage"""
    asked = query_of(request, UsageQuery)
    return answer(UsageView.of(await usage(ctx, asked.days, asked.limit, asked.user_id, asked.model)))


async def account(ctx: Context, _request: Request) -> Response:
    """GET /account: asks Runway, which costs nothing, and remembers the answer for /metrics."""
    seen = await observe(ctx)
    return answer(AccountView.of(seen, await spent(ctx)))


async def attach(ctx: Context, request: Request) -> Response:
    """POST /videos/{id}/attach"""
    asked = await body_of(request, AttachRequest, ctx.settings.max_body_bytes)
    video_id = video_id_of(request)
    await attaching.attach(ctx, video_id, asked.task_id)
    return answer(await view(ctx, await reading.find(ctx, video_id)))
