"""Retry or cancel the selected videos of the list, or all that match: first a count, then batches with progress."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.context import Context
from service.errors import InvalidRequest, Problem
from service.store.bulk import Bulk
from service.web import bodies
from service.web.auth import context_of
from service.web.bulk import cancel_batch, retry_batch
from service.web.page import base
from service.web.schemas_bulk import BulkRequest

BATCH = 100  # small enough for the progress to be seen to move
FILTERS = ("status", "model", "error_code", "q", "finished_before")
ACTIONS = {"retry": retry_batch, "cancel": cancel_batch}


async def count(request: Request) -> Response:
    """POST /ui/videos/bulk/count: how many of the selected videos can be retried or cancelled; nothing is done."""
    ctx, form = context_of(request), await base.form(request)
    given = _filter(form)
    counted = await _batch(ctx, form, given, dry_run=True)
    if form["action"] == "retry":  # what fails again while the batches go on is left alone
        given["finished_before"] = datetime.fromtimestamp(ctx.now(), UTC).isoformat()
    return base.render(request, "bulk_counted.html", action=form["action"], given=given, counted=counted)


async def batch(request: Request) -> Response:
    """POST /ui/videos/bulk: retry or cancel the next batch.

    `total`, `done` and `skipped` are what the page has seen so far.
    """
    ctx, form = context_of(request), await base.form(request)
    given = _filter(form)
    result = await _batch(ctx, form, given, dry_run=False)
    done = _count(form.get("done", "")) + result.done
    return base.render(
        request, "bulk_progress.html", action=form["action"], given=given, done=done, left=result.left,
        skipped=result.skipped, total=max(_count(form.get("total", "")), done + result.left),
    )  # fmt: skip


def _filter(form: base.Form) -> dict[str, Any]:
    """Which videos: those that are selected, or with `all` those that the filters match. Raises InvalidRequest."""
    given: dict[str, Any] = {name: value for name in FILTERS if (value := form.get(name, "").strip())}
    if form.get("all"):
        return given | {"all": "yes"}
    if not (ids := form.getlist("ids")):
        raise InvalidRequest([Problem("/ids", "select the videos, or all that match, first")])
    return {name: value for name, value in given.items() if name == "finished_before"} | {"ids": ids}


async def _batch(ctx: Context, form: base.Form, given: dict[str, Any], *, dry_run: bool) -> Bulk:
    act = ACTIONS.get(form.get("action", ""))
    if act is None:
        raise InvalidRequest([Problem("/action", f"must be one of {', '.join(ACTIONS)}")])
    chosen = {name: value for name, value in given.items() if name != "all"}
    return await act(ctx, bodies.validated(BulkRequest, {"filter": chosen, "dry_run": dry_run, "limit": BATCH}))


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
