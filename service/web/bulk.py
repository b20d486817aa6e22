"""/quotes and /bulk: what a video would cost; and one action for all videos that match, batch by batch."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.context import Context
from service.operations import changing, enqueuing
from service.web import bodies
from service.web.schemas import VideoRequest
from service.web.schemas_bulk import BulkCounts, BulkRequest, QuoteView


async def quote(ctx: Context, request: Request) -> Response:
    """POST /quotes"""
    raw = await bodies.read(request, ctx.settings.max_body_bytes)
    spec = bodies.validated(VideoRequest, bodies.parse(raw)).spec()
    return JSONResponse(QuoteView.of(await enqueuing.quote(ctx, spec)).model_dump(mode="json"))


async def retry(ctx: Context, request: Request) -> Response:
    """POST /bulk/retry"""
    return await _batch(request, ctx, "retry")


async def cancel(ctx: Context, request: Request) -> Response:
    """POST /bulk/cancel"""
    return await _batch(request, ctx, "cancel")


async def _batch(request: Request, ctx: Context, action: changing.Action) -> Response:
    raw = await bodies.read(request, min(bodies.LARGEST_FILTER_BYTES, ctx.settings.max_body_bytes))
    asked = bodies.validated(BulkRequest, bodies.parse(raw))
    result = await changing.change_many(ctx, action, asked.filter.wanted(), asked.limit, dry_run=asked.dry_run)
    return JSONResponse(BulkCounts.model_validate(result).model_dump(mode="json"))
