"""/ui/bulk: retry or cancel all videos that match: first a count, then batch by batch with progress."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.context import Context
from service.errors import InvalidRequest, Problem
from service.store import models as model_store
from service.store.bulk import Bulk
from service.videos import Event, sources
from service.web import bodies
from service.web.auth import context_of
from service.web.bulk import cancel_batch, retry_batch
from service.web.page import base
from service.web.schemas_bulk import BulkRequest

BATCH = 100  # small enough for the progress to be seen to move
FILTERS = ("status", "model", "error_code", "q", "created_after", "created_before", "finished_before")
ACTIONS = {"retry": Event.RETRY, "cancel": Event.CANCEL}


@base.requires_viewer
async def show(request: Request) -> Response:
    """GET /ui/bulk: the filter of a bulk retry or cancel; with `?action=`, also how many match."""
    ctx, params = context_of(request), request.query_params
    filters = {name: params.get(name, "").strip() for name in FILTERS}
    action, counted, problems = params.get("action", ""), None, []
    if action in ACTIONS:
        try:
            counted = await _batch(ctx, action, filters, dry_run=True)
        except InvalidRequest as exc:
            problems = exc.problems
    # What fails again while the batches go on is left alone.
    now = datetime.fromtimestamp(ctx.now(), UTC).isoformat()
    begun = filters | ({"finished_before": now} if action == "retry" else {})
    models = [row["model"] for row in await model_store.every(ctx.database) if row["model"] != "all"]
    return base.render(
        request, "bulk.html", action=action, filters=filters, begun=begun, counted=counted, problems=problems,
        models=models, statuses=sources(Event.CANCEL),
    )  # fmt: skip


@base.requires_admin
async def batch(request: Request) -> Response:
    """POST /ui/bulk/batch: retry or cancel the next batch.

    `total`, `done` and `skipped` are what the page has seen so far.
    """
    ctx, form = context_of(request), await base.form(request)
    filters = {name: form.get(name, "").strip() for name in FILTERS}
    action = form.get("action", "")
    if action not in ACTIONS:
        raise InvalidRequest([Problem("/action", f"must be one of {', '.join(ACTIONS)}")])
    result = await _batch(ctx, action, filters, dry_run=False)
    done = _count(form.get("done", "")) + result.done
    return base.render(
        request, "bulk_progress.html", action=action, filters=filters, done=done, left=result.left,
        skipped=result.skipped, total=max(_count(form.get("total", "")), done + result.left),
    )  # fmt: skip


async def _batch(ctx: Context, action: str, filters: dict[str, str], *, dry_run: bool) -> Bulk:
    given: dict[str, Any] = {name: value for name, value in filters.items() if value}
    asked = bodies.validated(BulkRequest, {"filter": given, "dry_run": dry_run, "limit": BATCH})
    return await (retry_batch if action == "retry" else cancel_batch)(ctx, asked)


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
