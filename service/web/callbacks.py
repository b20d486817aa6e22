"""/callbacks/runway: a signed hint that a task changed. Runway sends none today; relays and aggregators do.

It is kept and answered; the next tick polls its task, at the pace of all polls.
"""

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
from service.logs import VIDEO, event
from service.store.inbox import Callback
from service.web import bodies
from service.web.schemas import CallbackHint

log = logging.getLogger(__name__)

LARGEST_CALLBACK_BYTES = 128_000
SLOWEST_CALLBACK_SECONDS = 15.0


async def receive(ctx: Context, request: Request) -> Response:
    """POST /callbacks/runway"""
    limit = min(LARGEST_CALLBACK_BYTES, ctx.settings.max_body_bytes)
    with _logged():
        claimed = webhooks.claim(request.headers, ctx.now())  # before any of the body is read
    raw = await bodies.read(request, limit, seconds=SLOWEST_CALLBACK_SECONDS)
    async with ctx.mailbox.turn():
        with _logged():
            message = webhooks.proven(claimed, raw, ctx.settings.callback_secrets)
        hint = bodies.validated(CallbackHint, _ids(bodies.parse(raw)))
        callback = Callback(message.id, hashlib.sha256(raw).hexdigest(), hint.task_id, hint.video_id)
        is_new = await ctx.mailbox.keep(ctx.database, callback)
    if not is_new:
        return JSONResponse({"result": "duplicate"})
    return JSONResponse({"result": "kept"}, status_code=202)


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
