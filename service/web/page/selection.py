"""Retry or cancel the selected videos of the list, or all that match: first a count, then batches with progress."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.errors import InvalidRequest, Problem
from service.operations import changing
from service.store.search import Wanted
from service.web import bodies
from service.web.auth import context_of
from service.web.page import base
from service.web.schemas_bulk import BulkFilter

BATCH = 100  # small enough for the progress to be seen to move
FILTERS = ("status", "model", "error_code", "q", "group", "user_id", "finished_before")


async def count(request: Request) -> Response:
    """POST /ui/videos/bulk/count: how many of the selected videos can be retried or cancelled; nothing is done."""
    ctx, form = context_of(request), await base.form(request)
    given = _filter(form)
    action = _action(form)
    found = await changing.preview(ctx, action, _wanted(given))
    if found.wanted.finished_before is not None:
        given["finished_before"] = found.wanted.finished_before.isoformat()
    return base.render(request, "bulk_counted.html", action=action, given=given, counted=found.counted)


async def batch(request: Request) -> Response:
    """POST /ui/videos/bulk: retry or cancel the next batch.

    `total`, `done` and `skipped` are what the page has seen so far.
    """
    ctx, form = context_of(request), await base.form(request)
    given = _filter(form)
    action = _action(form)
    result = await changing.change_many(ctx, action, _wanted(given), BATCH)
    done = _count(form.get("done", "")) + result.done
    return base.render(
        request, "bulk_progress.html", action=action, given=given, done=done, left=result.left,
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


def _action(form: base.Form) -> changing.Action:
    match form.get("action", ""):
        case "retry":
            return "retry"
        case "cancel":
            return "cancel"
    raise InvalidRequest([Problem("/action", "must be one of retry, cancel")])


def _wanted(given: dict[str, Any]) -> Wanted:
    """The videos that are chosen. Raises InvalidRequest."""
    return bodies.validated(BulkFilter, {name: value for name, value in given.items() if name != "all"}).wanted()


def _count(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
