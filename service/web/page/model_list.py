"""/ui/models: each model, open or paused, and by whom; pause and resume go the same way as over the API."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.doctor.queue import goes_on
from service.operations import pausing
from service.web import bodies
from service.web.auth import context_of
from service.web.page import account_card, base
from service.web.page.formats import duration, model_name
from service.web.schemas_operations import PauseRequest

REFRESH_SECONDS = 5
PATH = "/ui/models"
PAUSES_SECONDS = (300, 3_600, 6 * 3_600, 86_400, 7 * 86_400)


async def show(request: Request) -> Response:
    """GET /ui/models: each model, open or paused, what is queued and in flight, and its limit."""
    return await _page(request)


async def listed(request: Request) -> Response:
    """GET /ui/models/list: the part of it that refreshes itself."""
    return base.render(request, "models_list.html", **await _models(request))


async def limits(request: Request) -> Response:
    """GET /ui/models/limits: each model's limit, as Runway reports it."""
    return base.render(request, "models_limits.html", account=await account_card.ask(context_of(request)))


async def pause(request: Request) -> Response:
    """POST /ui/models/pause: pause `model_name` for `seconds`, because of `why`.

    Raises NoSuchModel and InvalidRequest.
    """
    fields = await base.form(request)
    given = {name: fields[name] for name in ("seconds", "why") if fields.get(name)}
    asked = bodies.validated(PauseRequest, given)
    await pausing.pause(context_of(request), fields.get("model", ""), asked.seconds, asked.why)
    words = f"{model_name(fields['model'])} for {duration(asked.seconds)}; of two pauses, the longer stands."
    return await _done(request, "Paused", words)


async def resume(request: Request) -> Response:
    """POST /ui/models/resume: open the model `model_name`. Raises NoSuchModel."""
    name = (await base.form(request)).get("model", "")
    was_paused = await pausing.resume(context_of(request), name)
    return await _done(request, "Resumed" if was_paused else "Open already", f"{model_name(name)}.")


async def _done(request: Request, title: str, words: str) -> Response:
    return await _page(request, (title, words)) if base.is_htmx(request) else base.redirect(PATH)


async def _page(request: Request, done: tuple[str, str] | None = None) -> Response:
    return base.render(
        request, "models.html", done=done, names=pausing.known(), pauses=PAUSES_SECONDS, **await _models(request)
    )


async def _models(request: Request) -> dict[str, Any]:
    ctx = context_of(request)
    rows = await pausing.listed(ctx)
    shown = [row | {"until": goes_on(row["paused_until"], ctx.now()) if row["reason"] else ""} for row in rows]
    return {"models": shown, "refresh_seconds": REFRESH_SECONDS}
