"""/quotes and /bulk: what a video would cost; and one action for all videos that match, batch by batch."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.house import House
from service.store import bulk, quotes
from service.store.bulk import Bulk
from service.web import bodies
from service.web.auth import WRITE, bearer
from service.web.models import VideoRequest, shortened
from service.web.models_bulk import BulkCounts, BulkRequest, Eta, QuoteView
from service.web.videos import new_video


async def quote(request: Request) -> Response:
    """POST /quotes"""
    house = bearer(request, WRITE)
    raw = await bodies.read(request, house.settings.max_body_bytes)
    asked = bodies.validated(VideoRequest, bodies.parse(raw))
    return JSONResponse((await quote_of(house, asked)).model_dump(mode="json"))


async def quote_of(house: House, asked: VideoRequest) -> QuoteView:
    """Price a request, and say how long it may take. Raises InvalidRequest, as handing it in would."""
    new = new_video(asked, house.settings, None, "")
    eta = await quotes.eta(house.database, new.model)
    return QuoteView(
        operation=new.operation,
        model=new.model,
        input=shortened(new.input),
        quoted_credits=float(new.quoted_credits),
        eta_seconds=Eta.model_validate(eta) if eta else None,
    )


async def retry(request: Request) -> Response:
    """POST /bulk/retry"""
    house = bearer(request, WRITE)
    return _counts(await retry_batch(house, await _asked(request, house)))


async def cancel(request: Request) -> Response:
    """POST /bulk/cancel"""
    house = bearer(request, WRITE)
    return _counts(await cancel_batch(house, await _asked(request, house)))


async def retry_batch(house: House, asked: BulkRequest) -> Bulk:
    """One batch of a bulk retry."""
    return await bulk.retry(
        house.database, asked.filter.wanted(), limit=asked.limit,
        patience_seconds=house.settings.queue_patience, dry_run=asked.dry_run,
    )  # fmt: skip


async def cancel_batch(house: House, asked: BulkRequest) -> Bulk:
    """One batch of a bulk cancel."""
    return await bulk.cancel(house.database, asked.filter.wanted(), limit=asked.limit, dry_run=asked.dry_run)


async def _asked(request: Request, house: House) -> BulkRequest:
    raw = await bodies.read(request, house.settings.max_body_bytes)
    return bodies.validated(BulkRequest, bodies.parse(raw))


def _counts(result: Bulk) -> Response:
    return JSONResponse(BulkCounts.model_validate(result).model_dump(mode="json"))
