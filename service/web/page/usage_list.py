"""/ui/cost: what was spent, by day, model and user."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from service.operations.accounting import usage
from service.web.auth import context_of
from service.web.operations import query_of
from service.web.page import base
from service.web.schemas_operations import UsageQuery

SPANS = (1, 7, 30, 92)  # days


async def show(request: Request) -> Response:
    """GET /ui/cost: with `?days=`, `?user_id=` and `?model=`, as GET /usage. Raises InvalidRequest."""
    asked = query_of(request, UsageQuery)
    found = await usage(context_of(request), asked.days, asked.limit, asked.user_id, asked.model)
    return base.render(request, "cost.html", asked=asked, found=found, spans=SPANS)
