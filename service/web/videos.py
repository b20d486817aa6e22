"""/videos: enqueue, list, read, file, retry, cancel, and the ledger and the story of one video."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from service.actors import TAXIWAY
from service.context import Context
from service.errors import Conflict, Gone, InvalidRequest, NotFound, OverLimit, Problem
from service.operations import erase as erasing
from service.operations import limits
from service.operations.finalize import now
from service.runway.catalogue import build_request
from service.runway.task import url_expiry
from service.settings import Settings, need
from service.steps import poll
from service.store import audit, ledger, link_enqueue, tasks
from service.store import listing as listings
from service.store import timeline as timelines
from service.store import videos as store
from service.store.search import Wanted
from service.store.videos import NewVideo
from service.videos import Status, Video, new_id
from service.web import bodies
from service.web.auth import READ, WRITE, bearer, name_of
from service.web.schemas import (
    ListQuery,
    RetryRequest,
    SubmissionList,
    SubmissionView,
    VideoPage,
    VideoRequest,
    cursor_of,
    position,
)
from service.web.schemas_bulk import ErasureView, EventList, EventView
from service.web.views import view, views

POLL_AFTER_SECONDS = "5"  # Runway's own gap: asking Taxiway more often shows nothing new
LONGEST_KEY = 255
FRESH_SECONDS = 60  # a URL that dies sooner than this is renewed before anyone is sent there


async def enqueue(request: Request) -> Response:
    """POST /videos"""
    ctx = bearer(request, WRITE, "may_create")
    raw = await bodies.read(request, ctx.settings.max_body_bytes)
    value = bodies.parse(raw)
    key = key_of_caller(request, checked_key(request.headers.get("idempotency-key")))
    asked = bodies.validated(VideoRequest, value)
    new = new_video(asked, ctx.settings, key, canonical_hash(value) if key else None, ctx.actor)
    try:
        await limits.check_queue(ctx)
        await limits.check_credits(ctx, new.quoted_credits)
    except OverLimit:
        known = await store.known(ctx.database, new)  # a repeat adds nothing
        if known is None:
            raise
        video = known
    else:
        if asked.row is None:
            video, _is_new = await store.enqueue(ctx.database, new)
        else:
            video, _is_new = await link_enqueue.enqueue(ctx.database, new, asked.row.link, asked.row.id)
    headers = {"Location": f"/videos/{video.id}", "Retry-After": POLL_AFTER_SECONDS}
    return _json(await _body(ctx, video), status_code=202, headers=headers)


def new_video(
    asked: VideoRequest, settings: Settings, key: str | None, request_hash: str | None, actor: str = TAXIWAY
) -> NewVideo:
    """Validate and price a request. Raises InvalidRequest with every problem."""
    is_text = asked.operation == "text_to_video"
    request = build_request(
        asked.operation, asked.input, default_model=settings.text_model if is_text else settings.image_model,
        default_ratio=settings.default_ratio, default_duration=settings.default_duration,
        sent_at=max(filter(None, (datetime.now(UTC), asked.run_after))),
    )  # fmt: skip
    if asked.expires_at and asked.run_after and asked.expires_at <= asked.run_after:
        raise InvalidRequest([Problem("/expires_at", "must be later than run_after")])
    return NewVideo(
        id=new_id(time.time(), secrets.randbits(74)),
        operation=request.operation,
        model=request.model,
        input=request.input,
        quoted_credits=request.quoted_credits,
        user_id=asked.user_id,
        prompt=request.input.get("promptText"),
        image_url=_image_address(request.input),
        metadata=asked.metadata,
        priority=asked.priority,
        run_after=asked.run_after,
        expires_at=asked.expires_at,
        timeout_seconds=settings.queue_timeout,
        idempotency_key=key,
        request_hash=request_hash,
        actor=actor,
    )


def _image_address(body: dict[str, Any]) -> str | None:
    """The address of the first image; a data URI is none."""
    image = body.get("promptImage")
    uri = image[0].get("uri") if isinstance(image, list) else image
    return uri if isinstance(uri, str) and not uri.startswith("data:") else None


def checked_key(key: str | None) -> str | None:
    """An Idempotency-Key that may be stored, or none. Raises InvalidRequest."""
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isprintable()):
        raise InvalidRequest([Problem("Idempotency-Key", f"must have 1 to {LONGEST_KEY} printable characters")])
    return key


def key_of_caller(request: Request, key: str | None) -> str | None:
    """The Idempotency-Key as it is stored: those of a key or token with a name are its own.

    A tab cannot be in what is sent.
    """
    name = name_of(request)
    return key if key is None or name is None else f"{name}\t{key}"


def canonical_hash(value: dict[str, Any]) -> str:
    """A hash by which two bodies with the same Idempotency-Key are compared; the order of fields does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


async def listing(request: Request) -> Response:
    """GET /videos"""
    ctx = bearer(request, READ)
    given = dict(request.query_params) | {"status": request.query_params.getlist("status")}
    query = bodies.validated(ListQuery, {name: value for name, value in given.items() if value})
    wanted = Wanted(query.status, query.model, query.error_code, query.q, created_by=ctx.owner)
    before = position(query.cursor) if query.cursor else None
    found = await listings.page(ctx.database, wanted, before=before, limit=query.limit)
    cursor = cursor_of(*found.next) if found.next else None
    shown = await views(ctx, found.videos)
    return JSONResponse(VideoPage(videos=shown, next=cursor).model_dump(mode="json"))


def video_id_of(request: Request) -> UUID:
    text = request.path_params["id"]
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"{text[:100]!r} is not the id of a video") from None


async def _visible(request: Request, ctx: Context) -> UUID:
    """The id of the video. Raises NotFound, also of a video that another made if the key sees its own alone."""
    video_id = video_id_of(request)
    if ctx.owner is not None and await store.created_by(ctx.database, video_id) != ctx.owner:
        raise NotFound(f"no video has the id {video_id}")
    return video_id


async def read(request: Request) -> Response:
    """GET /videos/{id}: polls the task if that is due, so that a client need not wait for the cron."""
    ctx = bearer(request, READ)
    video = await poll.poll_now(ctx, await _visible(request, ctx))
    body = await _body(ctx, video)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if not video.status.terminal:
        headers["Retry-After"] = POLL_AFTER_SECONDS
    if etag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return _json(body, headers=headers)


async def file(request: Request) -> Response:
    """GET /videos/{id}/file: redirects to a live URL, renewed from Runway when it has expired."""
    ctx = bearer(request, READ)
    url = await live_url(ctx, await poll.poll_now(ctx, await _visible(request, ctx)))
    return RedirectResponse(url, status_code=302, headers={"Cache-Control": "no-store"})


async def live_url(ctx: Context, video: Video) -> str:
    """An address of the file that works now. Raises Conflict without a file, and Gone when Runway has it no longer."""
    if video.status is not Status.COMPLETED or not video.video_url:
        raise Conflict(f"there is no file yet: the video is {video.status}", video_status=video.status)
    expires_at = video.video_url_expires_at
    if expires_at is None or expires_at.timestamp() < ctx.now() + FRESH_SECONDS:
        return await _renewed(ctx, video)
    return video.video_url


async def _renewed(ctx: Context, video: Video) -> str:
    need(ctx.settings, "runway_key")
    async with ctx.runway() as runway:
        task = await runway.retrieve(video.runway_video_id or "")
    if task is None or not task.output:
        raise Gone("Runway no longer has this file; make the video again if you need it")
    await tasks.renew_urls(ctx.database, video, task.output, url_expiry(task.output[0], now(ctx)))
    return task.output[0]


async def retry(request: Request) -> Response:
    """POST /videos/{id}/retry"""
    ctx = bearer(request, WRITE, "may_change")
    raw = await bodies.read(request, min(bodies.SMALL_BODY_BYTES, ctx.settings.max_body_bytes))
    asked = bodies.validated(RetryRequest, bodies.parse(raw) if raw.strip() else {})
    video_id = await _visible(request, ctx)
    if ctx.actor in ctx.settings.max_credits_per_day_by_key:
        await limits.check_credits(ctx, (await store.get(ctx.database, video_id)).quoted_credits)
    video = await store.retry(
        ctx.database, video_id, consent=asked.accept_double_charge,
        timeout_seconds=ctx.settings.queue_timeout, actor=ctx.actor,
    )  # fmt: skip
    return _json(await _body(ctx, video), status_code=202, headers={"Retry-After": POLL_AFTER_SECONDS})


async def cancel(request: Request) -> Response:
    """POST /videos/{id}/cancel"""
    ctx = bearer(request, WRITE, "may_change")
    return _json(await _body(ctx, await store.cancel(ctx.database, await _visible(request, ctx), ctx.actor)))


async def erase(request: Request) -> Response:
    """DELETE /videos/{id}: 204 once it is erased; 202 while that waits."""
    ctx = bearer(request, WRITE, "may_change")
    erasure = await erasing.erase(ctx, video_id_of(request))
    if erasure.waits_for is None:
        return Response(status_code=204)
    shown = ErasureView.model_validate(erasure)
    return _json(shown.model_dump_json().encode(), status_code=202, headers={"Retry-After": POLL_AFTER_SECONDS})


async def ledger_of(request: Request) -> Response:
    """GET /videos/{id}/submissions"""
    ctx = bearer(request, READ)
    video_id = await _visible(request, ctx)
    account = [one async for one in audit.audits(ctx.database, video_id)]
    if not account:
        await store.model_of(ctx.database, video_id)
    one = account[0] if account else audit.nothing(video_id)
    rows = await ledger.of_video(ctx.database, video_id)
    listed = SubmissionList(
        verdict=one.verdict,
        paid_credits=float(one.paid),
        most_credits=float(one.most),
        twice_credits=float(one.twice),
        submissions=[SubmissionView.model_validate(row) for row in rows],
    )
    return JSONResponse(listed.model_dump(mode="json"))


async def events_of(request: Request) -> Response:
    """GET /videos/{id}/events"""
    ctx = bearer(request, READ)
    entries = await timelines.timeline(ctx.database, await _visible(request, ctx))
    listed = EventList(events=[EventView.model_validate(entry) for entry in entries])
    return JSONResponse(listed.model_dump(mode="json"))


async def _body(ctx: Context, video: Video) -> bytes:
    return (await view(ctx, video)).model_dump_json().encode()


def _json(body: bytes, *, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status_code=status_code, media_type="application/json", headers=headers)
