"""POST /v1/<operation>: what makes a task at Runway is queued here, once for all attempts of an SDK."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.context import Context
from service.operations import calling
from service.operations.enqueuing import IdempotencyKey, VideoSpec
from service.operations.runway_tasks import credits
from service.runway.catalogue import operations
from service.web import bodies
from service.web.auth import name_of
from service.web.door import runway_errors
from service.web.schemas import VideoRequest

WITH_ID = frozenset({"workflows"})  # operations whose path has an id behind it
# What Runway serves beside tasks, and Taxiway does not.
NO_TASKS = frozenset({"avatars", "avatar_conversations", "documents", "realtime_sessions", "routers", "voices"})
# A header of ours, for a field of `POST /videos`.
FIELDS = {"taxiway-user": "user_id"}
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
    name, _, of_id = operation.partition("/")
    return bool(of_id) and name in operations() if name in WITH_ID else operation in operations()


def _spec(request: Request, operation: str, value: dict[str, object]) -> VideoSpec:
    """What is asked for, with what our own headers say of it. Raises InvalidRequest."""
    fields = {name: request.headers[header] for header, name in FIELDS.items() if header in request.headers}
    return bodies.validated(VideoRequest, {"operation": operation, "input": value, **fields}).spec()
