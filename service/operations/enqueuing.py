"""Enqueue: check and price a request, keep to the limits, and queue it once, however often it is sent."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from service import ssrf
from service.context import Context
from service.errors import InvalidRequest, OverLimit, Problem
from service.link_requests import checked
from service.operations import limits
from service.operations.budget import per_user
from service.operations.finalize import now
from service.operations.waiting import Waiting, why
from service.runway.assets import UPLOAD_LIVES, has_upload, texts
from service.runway.catalogue import Request
from service.settings import need
from service.store import batch_rows, deliveries, estimates, link_enqueue, resubmissions, video_rows
from service.store.batch_rows import Stored
from service.store.estimates import Eta
from service.store.video_rows import NewVideo
from service.videos import Video, new_id

LONGEST_KEY = 255  # characters of an Idempotency-Key
SMALL_TEXT = 10_000  # characters; what has a longer text is written alone


@dataclass(frozen=True)
class VideoSpec:
    """What a caller asks for. `operation` None: inferred from `input`, Runway's request body.

    `lenient`: the fields beside it that are sent as the model's own, where it has them (runway/lenient.py); `count`:
    above 1 it asks for a group (groups.py); `max_credits`: the most that each video may cost; `row`: a linked table and
    the key of a row in it.
    """

    operation: str | None
    input: dict[str, Any]
    lenient: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    run_after: datetime | None = None
    expires_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    user_id: str | None = None
    count: int = 1
    max_credits: Decimal | None = None
    row: tuple[str, str] | None = None
    webhook_url: str | None = None


@dataclass(frozen=True)
class IdempotencyKey:
    """By what a request that is sent again is known: its key as it is stored, and the hash of its body."""

    stored: str
    request_hash: str

    @classmethod
    def of(cls, text: str | None, body: dict[str, Any], key_name: str | None = None) -> IdempotencyKey | None:
        """The Idempotency-Key `text` of a request with this body; None without one. Raises InvalidRequest.

        `key_name`: the name of the caller's API key or token, if it was given one: what it sends is its own, and meets
        no other's. Between the two stands a tab, which cannot be in what is sent.
        """
        if text is None:
            return None
        if not (0 < len(text) <= LONGEST_KEY and text.isprintable()):
            raise InvalidRequest([Problem("Idempotency-Key", f"must have 1 to {LONGEST_KEY} printable characters")])
        return cls(text if key_name is None else f"{key_name}\t{text}", canonical_hash(body))


def canonical_hash(body: dict[str, Any]) -> str:
    """A hash by which two bodies with the same Idempotency-Key are compared; the order of fields does not matter.

    Nor does where the end is to be reported: a caller that waits a second time waits at another address.
    """
    body = {name: value for name, value in body.items() if name != "webhook_url"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Queued:
    """The video of a request. `is_new`: the request is no repeat; `waiting`: what it waits for, if that is known."""

    video: Video
    is_new: bool
    waiting: Waiting | None = None


async def enqueue(
    ctx: Context,
    spec: VideoSpec,
    key: IdempotencyKey | None = None,
    *,
    source: UUID | None = None,
    consent: bool = False,
) -> Queued:
    """Queue what is asked for; a request that is repeated returns the first one's video.

    `source`: the video that this one is made from; if that may have been charged, it takes `consent` to pay a second
    time. A repeat with another `webhook_url` is reported there, at once if the video has ended. Raises InvalidRequest,
    OverLimit, NotConfigured, and Conflict without that consent, or if the linked row has a video.
    """
    new = build(ctx, spec, key)
    queued = await _stored(ctx, spec, new, source, consent=consent)
    if not queued.is_new:
        await report_to(ctx, queued.video.id, new.webhook_url)
    return queued


async def report_to(ctx: Context, video_id: UUID, url: str | None) -> None:
    """Report the end of this video, and of its group, to the address of a repeat, if that has one."""
    if url is not None and await deliveries.redirect(ctx.database, video_id, url):
        ctx.outbox.note()


async def _stored(ctx: Context, spec: VideoSpec, new: NewVideo, source: UUID | None, *, consent: bool) -> Queued:
    try:
        await limits.check_queue(ctx)
        await limits.check_credits(ctx, new.quoted_credits)
    except OverLimit:
        known = await video_rows.known(ctx.database, new)
        if known is None:
            raise
        return Queued(known, is_new=False)  # a repeat adds nothing
    if source is not None:
        return Queued(*await resubmissions.resubmit(ctx.database, source, new, consent=consent, actor=ctx.actor))
    if spec.row is not None:
        return Queued(*await link_enqueue.enqueue(ctx.database, new, *spec.row))
    if any(len(text) > SMALL_TEXT for text in texts(new.input)):
        return Queued(*await video_rows.enqueue(ctx.database, new))  # alone: it takes longer than others that are small

    async def store(several: list[NewVideo]) -> list[Stored | None]:
        done = await batch_rows.enqueue_and_ask(ctx.database, several, per_user(ctx))
        return [done.get(one.id) for one in several]

    if new.idempotency_key is not None:
        [stored] = await store([new])  # alone: it may have to wait for the first request with its key
    else:
        stored = await ctx.enqueued.ask(new, store)
    if stored is None:
        return Queued(await video_rows.first(ctx.database, new), is_new=False)
    video, facts = stored
    return Queued(video, is_new=True, waiting=why(video, facts))


async def needs_consent(ctx: Context, source: UUID) -> bool:
    """Whether this video may have been charged, so that to make it again takes consent."""
    return await resubmissions.needs_consent(ctx.database, source)


def build(ctx: Context, spec: VideoSpec, key: IdempotencyKey | None = None) -> NewVideo:
    """The video that would be queued, checked and priced; nothing is stored. Raises InvalidRequest."""
    request = price(ctx, spec)
    return NewVideo(
        id=new_id(ctx.now(), secrets.randbits(74)),
        operation=request.operation,
        model=request.model,
        input=request.input,
        quoted_credits=request.quoted_credits,
        user_id=spec.user_id,
        prompt=_prompt(request.input),
        image_url=_image_address(request.input),
        metadata=spec.metadata,
        warnings=[asdict(warning) for warning in request.warnings],
        priority=spec.priority,
        run_after=spec.run_after,
        expires_at=spec.expires_at,
        timeout_seconds=ctx.settings.queue_timeout,
        idempotency_key=key.stored if key else None,
        request_hash=key.request_hash if key else None,
        actor=ctx.actor,
        webhook_url=_checked_address(ctx, spec.webhook_url),
    )


def _checked_address(ctx: Context, url: str | None) -> str | None:
    """An address to which webhooks may go. Raises InvalidRequest, and NotConfigured if nothing could sign them."""
    if url is None:
        return None
    need(ctx.settings, "webhook_secrets")
    if why := ssrf.complaint(url, ctx.settings.webhook_private_hosts, any_port=True):
        raise InvalidRequest([Problem("/webhook_url", f"{why}: it must be a public https address")])
    return url


def price(ctx: Context, spec: VideoSpec) -> Request:
    """What would be sent to Runway, and the most that it can cost. Raises InvalidRequest with every problem."""
    sent_at = max(filter(None, (now(ctx), spec.run_after)))
    request = checked(spec.operation, spec.input, ctx.settings, sent_at, spec.lenient, spec.max_credits)
    if spec.expires_at and spec.run_after and spec.expires_at <= spec.run_after:
        raise InvalidRequest([Problem("/expires_at", "must be later than run_after")])
    if spec.run_after and spec.run_after >= now(ctx) + UPLOAD_LIVES and has_upload(request.input):
        words = "must be within 24 hours: an upload at Runway dies after that; give an https address instead"
        raise InvalidRequest([Problem("/run_after", words)])
    return request


@dataclass(frozen=True)
class Quote:
    """What a video would be sent as, what all of a group would cost at most, and how long recent ones took."""

    request: Request
    credits: Decimal
    eta: Eta | None


async def quote(ctx: Context, spec: VideoSpec) -> Quote:
    """Price a request, and say how long it may take. Raises InvalidRequest, as to enqueue it would."""
    request = price(ctx, spec)
    return Quote(request, request.quoted_credits * spec.count, await estimates.eta(ctx.database, request.model))


def _prompt(body: Mapping[str, Any]) -> str | None:
    """What is asked for in words; some of Runway's endpoints call it otherwise, or have it one level deeper."""
    inner = body.get("input")
    found = body.get("promptText", body.get("prompt")) or (inner.get("promptText") if isinstance(inner, dict) else None)
    return found if isinstance(found, str) else None


def _image_address(body: dict[str, Any]) -> str | None:
    """The address of the first image; a data URI is none."""
    image = body.get("promptImage")
    first = next(iter(image), None) if isinstance(image, list) else image
    uri = first.get("uri") if isinstance(first, dict) else first
    return uri if isinstance(uri, str) and not uri.startswith("data:") else None
