"""/: the screen Now."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from service.store import ticks
from service.web.auth import house_of
from service.web.page import base


@base.sees
async def show(request: Request) -> Response:
    """GET /"""
    return base.render(request, "now.html", facts=await ticks.report(house_of(request).database))
