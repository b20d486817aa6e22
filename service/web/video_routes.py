"""/videos: enqueue, list, read, file, retry, cancel, and the ledger and the story of one video."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from service.context import Context
from service.errors import NotFound
from service.operations import changing, enqueuing, erasing, following, groups, reading, reporting
from service.operations.enqueuing import LONGEST_KEY, IdempotencyKey
from service.operations.waiting import Waiting
from service.videos import Video
from service.web import bodies, prefer
from service.web.auth import CREATE, name_of, would_allow
from service.web.endpoint import Parameter, stopping_of
from service.web.schemas import FileQuery, GroupView, ListQuery, RetryRequest, SubmissionList, VideoPage, VideoRequest
from service.web.schemas_bulk import ErasureView, EventList
from service.web.views import view, views

POLL_AFTER_SECONDS = "5"  # Runway's own gap: asking Taxiway more often shows nothing new
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key", "header", "the same key and body return the first video, or 410 once that is erased",
    {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
)  # fmt: skip


async def enqueue(ctx: Context, request: Request) -> Response:
    """POST /videos: with `Prefer: wait=N` it also submits what it queued, and follows it until all has ended or N
    seconds are over.
    """
    started = ctx.monotonic()
    raw = await bodies.read(request, ctx.settings.max_body_bytes)
    value = bodies.parse(raw)
    key = IdempotencyKey.of(request.headers.get("idempotency-key"), value, name_of(request))
    spec = bodies.validated(VideoRequest, value).spec()
    group = None
    known: Mapping[UUID, Waiting] = {}  # what the video waits for
    if spec.count > 1:
        group, is_new = await groups.enqueue(ctx, spec, key)
        videos, location = group.videos, f"/videos?group={group.id}"
    else:
        queued = await enqueuing.enqueue(ctx, spec, key)
        videos, is_new, location = [queued.video], queued.is_new, f"/videos/{queued.video.id}"
        known = {queued.video.id: queued.waiting} if queued.waiting else {}
    headers = {"Location": location, "Retry-After": POLL_AFTER_SECONDS}
    if not is_new:
        headers["Idempotent-Replayed"] = "true"
    seconds = await _wait_seconds(ctx, request, videos[0])
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds}"
        async with request.app.state.waiters:
            videos, known = await _follow(ctx, request, videos, started, seconds), {}
    elif ctx.settings.submit_on_post:
        videos, known = await _follow(ctx, request, videos, started, 0), {}
    has_ended = seconds is not None and all(video.status.terminal for video in videos)
    shown = await views(ctx, videos, known)
    body = shown[0] if group is None else GroupView(group=group.id, size=group.size, videos=shown)
    return _json(body.model_dump_json().encode(), status_code=200 if has_ended else 202, headers=headers)


async def _wait_seconds(ctx: Context, request: Request, video: Video) -> int | None:
    """How long to wait for the video, if the client prefers that; None for one of later, and if too many wait."""
    waiters: asyncio.Semaphore = request.app.state.waiters
    wanted = prefer.wait_seconds(request.headers.getlist("prefer"))
    if not wanted or waiters.locked() or await following.is_scheduled(ctx, video):
        return None
    return following.wait_seconds(ctx, wanted)


async def _follow(ctx: Context, request: Request, videos: Sequence[Video], started: float, seconds: int) -> list[Video]:
    """The videos, submitted in their turn and followed for so many seconds from the time at which the request began.

    Raises Gone if all of them were erased meanwhile.
    """
    deadline = following.request_deadline(ctx, started, seconds, stopping_of(request))
    return await following.follow_all(ctx, videos, deadline)


async def listing(ctx: Context, request: Request) -> Response:
    """GET /videos"""
    given = dict(request.query_params) | {"status": request.query_params.getlist("status")}
    query = bodies.validated(ListQuery, {name: value for name, value in given.items() if value})
    found = await reading.page(ctx, query.wanted(), query.before(), query.limit)
    return JSONResponse(VideoPage.of(found).model_dump(mode="json"))


def video_id_of(request: Request) -> UUID:
    """The id of the video in the path. Raises NotFound."""
    return video_id(request.path_params["id"])


def video_id(text: str) -> UUID:
    """This text as the id of a video. Raises NotFound."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"{text[:100]!r} is not the id of a video") from None


async def read(ctx: Context, request: Request) -> Response:
    """GET /videos/{id}: polls the task if that is due, and submits the video in its turn for a caller who may create
    one, so that a client need not wait for the cron. HEAD does neither.
    """
    video = await _read(ctx, request)
    body = await _body(ctx, video)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if not video.status.terminal:
        headers["Retry-After"] = POLL_AFTER_SECONDS
    if etag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return _json(body, headers=headers)


async def _read(ctx: Context, request: Request) -> Video:
    video_id = video_id_of(request)
    if request.method == "HEAD":
        return await reading.find(ctx, video_id)
    if not would_allow(request, CREATE):
        return await reading.read_with_outputs(ctx, video_id)
    deadline = following.request_deadline(ctx, ctx.monotonic(), stopping=stopping_of(request))
    return await reading.read_with_outputs(ctx, video_id, deadline)


async def file(ctx: Context, request: Request) -> Response:
    """GET /videos/{id}/file: redirects to a live URL, renewed from Runway when it has expired."""
    query = bodies.validated(FileQuery, dict(request.query_params))
    found = await reading.output(ctx, video_id_of(request), query.output)
    return RedirectResponse(found.url, status_code=302, headers={"Cache-Control": "no-store"})


async def retry(ctx: Context, request: Request) -> Response:
    """POST /videos/{id}/retry"""
    raw = await bodies.read(request, min(bodies.SMALL_BODY_BYTES, ctx.settings.max_body_bytes))
    asked = bodies.validated(RetryRequest, bodies.parse(raw) if raw.strip() else {})
    video = await changing.retry(ctx, video_id_of(request), consent=asked.accept_double_charge)
    return _json(await _body(ctx, video), status_code=202, headers={"Retry-After": POLL_AFTER_SECONDS})


async def cancel(ctx: Context, request: Request) -> Response:
    """POST /videos/{id}/cancel"""
    return _json(await _body(ctx, await changing.cancel(ctx, video_id_of(request))))


async def erase(ctx: Context, request: Request) -> Response:
    """DELETE /videos/{id}: 204 once it is erased; 202 while that waits."""
    erasure = await erasing.erase(ctx, video_id_of(request))
    if erasure.waits_for is None:
        return Response(status_code=204)
    shown = ErasureView.model_validate(erasure)
    return _json(shown.model_dump_json().encode(), status_code=202, headers={"Retry-After": POLL_AFTER_SECONDS})


async def ledger_of(ctx: Context, request: Request) -> Response:
    """GET /videos/{id}/submissions"""
    cost = await reporting.cost_report(ctx, video_id_of(request))
    return JSONResponse(SubmissionList.of(cost).model_dump(mode="json"))


async def events_of(ctx: Context, request: Request) -> Response:
    """GET /videos/{id}/events"""
    entries = await reporting.events(ctx, video_id_of(request))
    return JSONResponse(EventList.of(entries).model_dump(mode="json"))


async def _body(ctx: Context, video: Video) -> bytes:
    return (await view(ctx, video)).model_dump_json().encode()


def _json(body: bytes, *, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status_code=status_code, media_type="application/json", headers=headers)
