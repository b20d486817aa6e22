"""/ui/lanes: each model's lane, open or paused, and by whom; pause and resume go the same way as over the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.operations import models as by_hand
from service.store import lanes as store
from service.web import bodies
from service.web.auth import house_of
from service.web.models_operations import PauseRequest
from service.web.page import account as accounts
from service.web.page import base, well
from service.web.page.words import duration, lane

REFRESH_SECONDS = 5
PATH = "/ui/lanes"
PAUSES_SECONDS = (300, 3_600, 6 * 3_600, 86_400, 7 * 86_400)


@base.sees
async def show(request: Request) -> Response:
    """GET /ui/lanes"""
    return await _page(request)


@base.sees
async def listed(request: Request) -> Response:
    """GET /ui/lanes/list: the part that refreshes itself."""
    return base.render(request, "lanes_list.html", **await _lanes(request))


@base.sees
async def limits(request: Request) -> Response:
    """GET /ui/lanes/limits: each lane's limit, once Runway has told it."""
    return base.render(request, "lanes_limits.html", account=await accounts.ask(house_of(request)))


@base.acts
async def pause(request: Request) -> Response:
    """POST /ui/lanes/pause: the fields `lane`, `seconds` and `why`. Raises NoSuchLane and InvalidRequest."""
    fields = await base.form(request)
    given = {name: fields[name] for name in ("seconds", "why") if fields.get(name)}
    asked = bodies.validated(PauseRequest, given)
    await by_hand.pause(house_of(request), fields.get("lane", ""), asked.seconds, asked.why)
    words = f"{lane(fields['lane'])} for {duration(asked.seconds)}; of two pauses, the longer stands."
    return await _done(request, "Paused", words)


@base.acts
async def resume(request: Request) -> Response:
    """POST /ui/lanes/resume: the field `lane`. Raises NoSuchLane."""
    name = (await base.form(request)).get("lane", "")
    was_paused = await by_hand.resume(house_of(request), name)
    return await _done(request, "Resumed" if was_paused else "Open already", f"{lane(name)}.")


async def _done(request: Request, title: str, words: str) -> Response:
    return await _page(request, (title, words)) if base.is_htmx(request) else base.redirect(PATH)


async def _page(request: Request, told: tuple[str, str] | None = None) -> Response:
    return base.render(
        request, "lanes.html", told=told, names=by_hand.known(), pauses=PAUSES_SECONDS, **await _lanes(request)
    )


async def _lanes(request: Request) -> dict[str, Any]:
    house = house_of(request)
    now = datetime.fromtimestamp(house.wall(), UTC)
    rows = [dict(row) for row in await store.every(house.database)]
    # A model that was never asked for has no row yet: its lane is open.
    never = set(by_hand.known()) - {row["model"] for row in rows}
    rows += [{"model": name, "reason": None, "queued": 0, "in_flight": 0} for name in sorted(never)]
    known = [row | {"until": well.until(row["paused_until"], now) if row["reason"] else ""} for row in rows]
    return {"lanes": known, "refresh_seconds": REFRESH_SECONDS}
