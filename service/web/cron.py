"""/process-queued and /poll-processing: what a cron service calls. The work is done inside the call."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service import tick
from service.context import Context
from service.errors import InvalidRequest, Problem
from service.web.endpoint import Parameter, stopping_of

LONGEST_BUDGET_SECONDS = 3600.0
BUDGET = Parameter(
    "budget", "query", "seconds in which to answer",
    {"type": "number", "exclusiveMinimum": 0, "maximum": int(LONGEST_BUDGET_SECONDS)},
)  # fmt: skip


async def process_queued(ctx: Context, request: Request) -> Response:
    """GET|POST /process-queued: one tick."""
    report = await tick.tick(ctx, budget=_budget(request), stopping=stopping_of(request))
    return JSONResponse(report.as_json())


async def poll_processing(ctx: Context, request: Request) -> Response:
    """GET|POST /poll-processing: the poll step alone."""
    report = await tick.poll_only(ctx, budget=_budget(request))
    return JSONResponse(report.as_json())


async def look_only(_ctx: Context, _request: Request) -> Response:
    """HEAD|OPTIONS of both, which monitors and browsers send by themselves: nothing is processed."""
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
