"""/quotes and /bulk: what a video would cost; and one action for all videos that match, batch by batch."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.context import Context
from service.operations import limits
from service.store import bulk, estimates
from service.store.bulk import Bulk
from service.web import bodies
from service.web.schemas import VideoRequest, shortened
from service.web.schemas_bulk import BulkCounts, BulkRequest, Eta, QuoteView
from service.web.videos import new_video


async def quote(ctx: Context, request: Request) -> Response:
    """POST /quotes"""
    raw = await bodies.read(request, ctx.settings.max_body_bytes)
    asked = bodies.validated(VideoRequest, bodies.parse(raw))
    return JSONResponse((await quote_of(ctx, asked)).model_dump(mode="json"))


async def quote_of(ctx: Context, asked: VideoRequest) -> QuoteView:
    """Price a request, and say how long it may take. Raises InvalidRequest, as handing it in would."""
    new = new_video(asked, ctx.settings, None, "")
    eta = await estimates.eta(ctx.database, new.model)
    return QuoteView(
        operation=new.operation,
        model=new.model,
        input=shortened(new.input),
        quoted_credits=float(new.quoted_credits),
        eta_seconds=Eta.model_validate(eta) if eta else None,
    )


async def retry(ctx: Context, request: Request) -> Response:
    """POST /bulk/retry"""
    await limits.check_credits(ctx, None)
    return _counts(await retry_batch(ctx, await _asked(request, ctx)))


async def cancel(ctx: Context, request: Request) -> Response:
    """POST /bulk/cancel"""
    return _counts(await cancel_batch(ctx, await _asked(request, ctx)))


async def retry_batch(ctx: Context, asked: BulkRequest) -> Bulk:
    """One batch of a bulk retry."""
    return await bulk.retry(
        ctx.database, replace(asked.filter.wanted(), created_by=ctx.owner), limit=asked.limit,
        timeout_seconds=ctx.settings.queue_timeout, dry_run=asked.dry_run, actor=ctx.actor,
    )  # fmt: skip


async def cancel_batch(ctx: Context, asked: BulkRequest) -> Bulk:
    """One batch of a bulk cancel."""
    wanted = replace(asked.filter.wanted(), created_by=ctx.owner)
    return await bulk.cancel(ctx.database, wanted, limit=asked.limit, dry_run=asked.dry_run, actor=ctx.actor)


async def _asked(request: Request, ctx: Context) -> BulkRequest:
    raw = await bodies.read(request, min(bodies.LARGEST_FILTER_BYTES, ctx.settings.max_body_bytes))
    return bodies.validated(BulkRequest, bodies.parse(raw))


def _counts(result: Bulk) -> Response:
    return JSONResponse(BulkCounts.model_validate(result).model_dump(mode="json"))
