"""POST /v1/<operation>: what makes a task at Runway is queued here, once for all attempts of an SDK."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.context import Context
from service.errors import InvalidRequest, Problem
from service.operations import calling
from service.operations.enqueuing import IdempotencyKey, VideoSpec
from service.operations.runway_tasks import credits
from service.runway.catalogue import current
from service.web import bodies
from service.web.auth import name_of
from service.web.door import runway_errors
from service.web.door.runway_errors import MAX_CREDITS, USER
from service.web.schemas import VideoRequest

# What Runway serves beside tasks, and Taxiway does not.
NO_TASKS = frozenset({"avatars", "avatar_conversations", "documents", "realtime_sessions", "routers", "voices"})
FAIL_FAST = "taxiway-fail-fast"


async def create(ctx: Context, request: Request) -> Response:
    """POST /v1/{operation}: answers once it is queued."""
    operation: str = request.path_params["operation"]
    if not _is_known(operation):
        if operation.partition("/")[0] in NO_TASKS:
            raise HTTPException(404)
        return runway_errors.outside_the_catalogue(operation)
    raw = await bodies.read(request, ctx.settings.max_body_bytes)
    value = bodies.parse(raw)
    key = IdempotencyKey.of(
        request.headers.get("idempotency-key"), {"operation": operation, "input": value}, name_of(request)
    )
    call = key or calling.call_of(request.headers["authorization"], operation, raw, dict(request.headers))
    fail_fast = request.headers.get(FAIL_FAST, "").lower() == "true"
    video, is_new = await calling.enqueue(ctx, _spec(request, operation, value), call, fail_fast=fail_fast)
    headers = {} if is_new else {"taxiway-deduplicated": "key" if key else "retry"}
    return JSONResponse(
        {"id": str(video.id), "estimatedCost": {"credits": credits(video.quoted_credits)}}, headers=headers
    )


def _is_known(operation: str) -> bool:
    found = current().operation(operation)
    return found is not None and found.needs_id == (operation != found.name)


def _spec(request: Request, operation: str, value: dict[str, Any]) -> VideoSpec:
    """What is asked for, with what our own headers say of it. Raises InvalidRequest."""
    found = current().operation(operation)
    if found is not None and found.chosen_by == "model" and "model" not in value:
        raise InvalidRequest([Problem("/input/model", f"is missing: give one of {', '.join(found.models)}")])
    asked: dict[str, Any] = {"operation": operation, "input": value}
    if (user := request.headers.get(USER)) is not None:
        asked["user_id"] = user
    if (most := request.headers.get(MAX_CREDITS)) is not None:
        asked["max_credits"] = _number(most)
    return bodies.validated(VideoRequest, asked).spec()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest([Problem(MAX_CREDITS, f"must be a number of credits; got {text[:40]!r}")]) from None
