"""GET and DELETE /v1/tasks/{id}: a video as an SDK waits for it."""

from __future__ import annotations

from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.context import Context
from service.errors import NotInLedger
from service.operations import following, relaying, runway_tasks
from service.web.auth import CREATE, would_allow
from service.web.door.relay_routes import as_it_came, lately_of
from service.web.endpoint import stopping_of
from service.web.video_routes import video_id_of

FOREIGN_SECONDS = 5.0  # Runway's own gap between two polls of a task


async def retrieve(ctx: Context, request: Request) -> Response:
    """GET /v1/tasks/{id}: polls the task if that is due, and submits the video in its turn for a caller who may create
    one. An id that Taxiway never knew is asked for at Runway.
    """
    if request.method == "HEAD":
        raise HTTPException(405)
    video_id = video_id_of(request)
    may_submit = would_allow(request, CREATE)
    deadline = following.request_deadline(ctx, ctx.monotonic(), stopping=stopping_of(request)) if may_submit else None
    try:
        return JSONResponse(await runway_tasks.retrieve(ctx, video_id, deadline))
    except NotInLedger:
        return await _foreign(ctx, request, video_id)


async def _foreign(ctx: Context, request: Request, task_id: UUID) -> Response:
    answer = await lately_of(request).get(
        f"task {task_id}", lambda: relaying.foreign_task(ctx, task_id), FOREIGN_SECONDS
    )
    return as_it_came(answer)


async def delete(ctx: Context, request: Request) -> Response:
    """DELETE /v1/tasks/{id}"""
    await runway_tasks.discard(ctx, video_id_of(request))
    return Response(status_code=204)
