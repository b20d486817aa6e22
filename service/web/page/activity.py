"""/ui/activity: who did what, newest first, and only what one of them did."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from service.store import event_log
from service.web.auth import context_of
from service.web.page import base

LISTED = 100
LONGEST_NAME = 60


async def show(request: Request) -> Response:
    """GET /ui/activity: who did what, newest first; `actor` filters, `before` goes on."""
    database, params = context_of(request).database, request.query_params
    actor = params.get("actor", "").strip()[:LONGEST_NAME].replace("\x00", "") or None
    found = await event_log.actions(database, actor=actor, before=_time(params.get("before", "")), limit=LISTED)
    return base.render(
        request, "activity.html", actions=found, actors=await event_log.actors(database), actor=actor or "",
        older=found[-1].at.isoformat() if len(found) == LISTED else None,
    )  # fmt: skip


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None
