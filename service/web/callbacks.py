"""/callbacks/runway: a signed hint that a task changed. Runway sends none today; relays and aggregators do."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service import webhooks
from service.context import Context
from service.errors import Conflict, RunwayUnavailable
from service.logs import VIDEO, event
from service.operations import attach
from service.settings import need
from service.steps import poll
from service.store import inbox, tasks, videos
from service.web import bodies
from service.web.auth import context_of
from service.web.models import CallbackHint

log = logging.getLogger(__name__)

LARGEST_CALLBACK_BYTES = 256_000
SLOWEST_CALLBACK_SECONDS = 15.0


async def receive(request: Request) -> Response:
    """POST /callbacks/runway"""
    ctx = context_of(request)
    need(ctx.settings, "callback_secrets")
    limit = min(LARGEST_CALLBACK_BYTES, ctx.settings.max_body_bytes)
    with _logged():
        claimed = webhooks.claim(request.headers, ctx.now())  # before any of the body is read
    raw = await bodies.read(request, limit, seconds=SLOWEST_CALLBACK_SECONDS)
    with _logged():
        message = webhooks.proven(claimed, raw, ctx.settings.callback_secrets)
    hint = bodies.validated(CallbackHint, _ids(bodies.parse(raw)))
    body_hash = hashlib.sha256(raw).digest()
    if not await inbox.receive(ctx.database, message.id, body_hash, hint.task_id, hint.video_id):
        return JSONResponse({"result": "duplicate"})
    result = await _follow(ctx, hint)
    if result != "kept":
        await inbox.handled(ctx.database, message.id, result)
    return JSONResponse({"result": result}, status_code=200 if result == "finalized" else 202)


@contextmanager
def _logged() -> Iterator[None]:
    """To a forger every refusal looks the same, and only the log says why."""
    try:
        yield
    except webhooks.SignatureRefused as exc:
        event(log, VIDEO, "callback_refused", f"Callback refused: {exc.reason}", level=logging.WARNING)
        raise


def _ids(body: dict[str, Any]) -> dict[str, Any]:
    """The ids, wherever a sender puts them: in `data` or at the top, in either spelling."""
    data = body.get("data")
    inner = data if isinstance(data, dict) else body
    found = {
        "task_id": inner.get("task_id") or inner.get("taskId") or inner.get("id"),
        "video_id": inner.get("video_id"),
    }
    return {name: value for name, value in found.items() if value is not None}


async def _follow(ctx: Context, hint: CallbackHint) -> str:
    """Do now what the hint suggests: 'finalized', 'polled', or 'kept' for the next tick."""
    video = await videos.by_task(ctx.database, hint.task_id)
    if video is None:
        return await _follow_unknown(ctx, hint)
    video = await poll.poll_now(ctx, video.id, hinted=True)
    if video.status.terminal or video.runway_video_id != hint.task_id:
        return "finalized"
    # Still under way, polled a moment ago, locked, or Runway cannot be reached: due as soon as may be.
    return "polled" if await tasks.expedite(ctx.database, video.id) else "kept"


async def _follow_unknown(ctx: Context, hint: CallbackHint) -> str:
    if hint.video_id is None or not ctx.settings.runway_key:
        return "kept"
    try:
        result = await attach.attach(ctx, hint.video_id, hint.task_id)
    except (Conflict, RunwayUnavailable):
        return "kept"
    return "kept" if result == "held" else "attached"
