"""/ui/studio: a form that makes a video. Checked and priced as one types; then its own page shows it until it plays."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from service.context import Context
from service.errors import InvalidRequest
from service.operations import enqueuing, reading
from service.runway.assets import DATA_URI_MAX_LENGTH, UPLOAD_MAX_BYTES
from service.videos import Video
from service.web import bodies, uploads
from service.web.auth import context_of
from service.web.page import base, studio_form
from service.web.page.media import image_of
from service.web.page.video_list import prompt_of
from service.web.schemas import VideoRequest
from service.web.schemas_bulk import QuoteView
from service.web.video_routes import video_id

# Of a form that is sent: base64 makes 4 bytes of 3, and a form's encoding 17 of 16.
BYTES_OF_A_BYTE = 1.42
ROOM_BYTES = 40_000  # for everything else in the form


async def show(request: Request) -> Response:
    """GET /ui/studio: a form for a video; `?from=` an earlier one, `?what=` an operation and a model."""
    ctx, params = context_of(request), request.query_params
    source = await _source(ctx, params.get("from", ""))
    what = params.get("what") or (f"{source.operation} {source.model}" if source else "")
    operation, model = studio_form.chosen(what, ctx.settings)
    values = _input(source)
    if base.is_htmx(request):
        values = values | studio_form.input_of(operation, model, studio_form.Filled(params, {}))
    shown = base.render(
        request, "studio_fields.html" if base.is_htmx(request) else "studio.html",
        parts_of_model=studio_form.parts(operation, model, values, ctx.settings), source=source,
        what=f"{operation} {model}", kinds=studio_form.kinds(), limit=_largest_file(ctx), most=UPLOAD_MAX_BYTES,
        needs_id=studio_form.needs_id(operation), id=params.get("id") or what.split(" ")[0].partition("/")[2],
        needs_bound=studio_form.needs_bound(operation, model), max_credits=params.get("max_credits", ""),
        priority=source.priority if source else 0,
    )  # fmt: skip
    user = base.user_of(request)
    if user and user.may_act:
        shown.headers["Content-Security-Policy"] = _policy(ctx)
    return shown


async def quote(request: Request) -> Response:
    """POST /ui/studio/quote: what the form would cost, and what is wrong with it."""
    ctx, form = context_of(request), await base.form(request)
    source = await _source(ctx, form.get("source", ""))
    values: dict[str, Any] = {
        "source": source, "consents": form.get("consent") == "yes",
        "needs_consent": bool(source and await enqueuing.needs_consent(ctx, source.id)),
    }  # fmt: skip
    filled = studio_form.Filled(form, _input(source), is_check=True)
    try:
        spec = bodies.validated(VideoRequest, studio_form.body(filled)).spec()
        quote = QuoteView.of(await enqueuing.quote(ctx, spec))
        return base.render(request, "studio_quote.html", quote=quote, problems=[], **values)
    except InvalidRequest as exc:
        problems = [studio_form.title(problem) for problem in exc.problems]
        return base.render(request, "studio_quote.html", quote=None, problems=problems, **values)


async def enqueue(request: Request) -> Response:
    """POST /ui/studio: queue what the form asks for; with `consent`, also in place of what may have been charged."""
    ctx, form = context_of(request), await base.form(request)
    source = await _source(ctx, form.get("source", ""))
    spec = bodies.validated(VideoRequest, studio_form.body(studio_form.Filled(form, _input(source)))).spec()
    queued = await enqueuing.enqueue(
        ctx, spec, source=source.id if source else None, consent=form.get("consent") == "yes"
    )
    return base.done(request, f"/ui/videos/{queued.video.id}")


async def upload(request: Request) -> Response:
    """POST /ui/studio/upload: begin an upload of the file `filename`: Runway's own form for it, as JSON."""
    ctx, form = context_of(request), await base.form(request)
    begun = await uploads.answer(ctx, {"filename": form.get("filename", "")})
    begun.headers.update(base.HEADERS)
    return begun


async def _source(ctx: Context, text: str) -> Video | None:
    return await reading.find(ctx, video_id(text)) if text else None


def _input(source: Video | None) -> dict[str, Any]:
    """What a form that begins from a video is filled with."""
    if source is None:
        return {}
    return source.input or {"promptText": prompt_of(source), "promptImage": image_of(source)}


def _policy(ctx: Context) -> str:
    """This screen's script sends files to Runway's storage, whose host only the answer to an upload names.

    So any host with https may be sent to, and of those without it where the simulator is.
    """
    runway = urlsplit(ctx.settings.runway_url)
    return base.policy("https:", *([f"http://{runway.netloc}"] if runway.scheme == "http" else []))


def _largest_file(ctx: Context) -> int:
    """Bytes of a file that goes into the form; a larger one goes to Runway's storage."""
    sent = (ctx.settings.max_body_bytes - ROOM_BYTES) / BYTES_OF_A_BYTE
    return max(0, int(min(sent, DATA_URI_MAX_LENGTH * 3 / 4 - 100)))
