"""/process-queued and /poll-processing: what a cron service calls. The work is done inside the call."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service import tick
from service.errors import InvalidRequest, Problem
from service.web.auth import CRON, bearer

LONGEST_BUDGET_SECONDS = 3600.0


async def process_queued(request: Request) -> Response:
    """GET|POST /process-queued: one tick."""
    if request.method not in ("GET", "POST"):
        return _look_only()
    ctx = bearer(request, CRON)
    stopping = getattr(request.app.state, "stopping", lambda: False)
    report = await tick.tick(ctx, budget=_budget(request), stopping=stopping)
    return JSONResponse(report.as_json())


async def poll_processing(request: Request) -> Response:
    """GET|POST /poll-processing: the poll step alone."""
    if request.method not in ("GET", "POST"):
        return _look_only()
    ctx = bearer(request, CRON)
    report = await tick.poll_only(ctx, budget=_budget(request))
    return JSONResponse(report.as_json())


def _look_only() -> Response:
    """HEAD and OPTIONS, which monitors and browsers send by themselves, never process."""
    return Response(status_code=204, headers={"Allow": "GET, POST"})


def _budget(request: Request) -> float | None:
    text = request.query_params.get("budget")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_BUDGET_SECONDS:
        raise InvalidRequest(
            [Problem("?budget", f"must be a number of seconds, above 0 and at most {LONGEST_BUDGET_SECONDS:g}")]
        )
    return seconds
