"""/ui/videos/{id}: one video. It plays; what happened to it, what it cost, and what you can do with it."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.context import Context
from service.errors import Conflict
from service.operations import attach as attaching
from service.operations import erase as erasing
from service.operations.waiting import waiting
from service.settings import need
from service.steps import poll
from service.store import audit, ledger, resubmissions
from service.store import timeline as timelines
from service.store import videos as store
from service.videos import Status, Video
from service.web import bodies
from service.web.auth import context_of
from service.web.page import base, live
from service.web.page.media import image_of
from service.web.page.videos import prompt_of
from service.web.schemas import VideoView
from service.web.schemas_operations import AttachRequest
from service.web.videos import video_id_of

KINDS = {
    "completed": "ok", "failed": "bad", "expired": "bad", "consented": "warn", "callback": "info", "attached": "info",
    "settled": "info", "delete_due": "warn", "refused_row": "warn", "mirror_refused": "warn", "gate_refused": "warn",
    "erase_requested": "warn", "erased": "warn", "inputs_blanked": "info", "put_back": "warn",
    "resubmitted": "warn", "made_again": "warn", "accepted": "ok", "rejected": "bad",
    "not_sent": "warn", "unknown": "bad",
}  # fmt: skip
HIDDEN = ("promptText", "promptImage", "model")  # of the request: they have their own place


@base.requires_viewer
async def show(request: Request) -> Response:
    """GET /ui/videos/{id}: one video, which plays, with its activity and its cost."""
    ctx = context_of(request)
    video = await poll.poll_now(ctx, video_id_of(request))
    parts = await _parts(request, ctx, video)
    settings = {name: _plain(value) for name, value in (video.input or {}).items() if name not in HIDDEN}
    return base.render(
        request, "video.html", video=video, live=parts, seen=live.version(parts), prompt=prompt_of(video),
        image=image_of(video), settings=settings,
    )  # fmt: skip


@base.requires_viewer
async def events(request: Request) -> Response:
    """GET /ui/videos/{id}/events: the same, live, also after its end; a task that is due is polled."""
    ctx, video_id = context_of(request), video_id_of(request)

    async def render_parts() -> tuple[live.Parts, float]:
        video = await poll.poll_now(ctx, video_id)
        seconds = live.ENDED_SECONDS if video.status.terminal else live.REFRESH_SECONDS
        return await _parts(request, ctx, video), seconds

    return await live.stream(request, render_parts)


@base.requires_admin
async def retry(request: Request) -> Response:
    """POST /ui/videos/{id}/retry: queue it again; with `consent`, also what may have been paid for already."""
    ctx, video_id = context_of(request), video_id_of(request)
    consent = (await base.form(request)).get("consent") == "yes"
    await store.retry(
        ctx.database, video_id, consent=consent, timeout_seconds=ctx.settings.queue_timeout, actor=ctx.actor
    )
    return base.done(request, f"/ui/videos/{video_id}")


@base.requires_admin
async def cancel(request: Request) -> Response:
    """POST /ui/videos/{id}/cancel: cancel it; its task at Runway is deleted too."""
    ctx, video_id = context_of(request), video_id_of(request)
    await store.cancel(ctx.database, video_id, ctx.actor)
    return base.done(request, f"/ui/videos/{video_id}")


@base.requires_admin
async def attach(request: Request) -> Response:
    """POST /ui/videos/{id}/attach: attach the task `task_id` that an unknown submission made."""
    ctx, video_id = context_of(request), video_id_of(request)
    task_id = (await base.form(request)).get("task_id", "").strip()
    asked = bodies.validated(AttachRequest, {"task_id": task_id})
    need(ctx.settings, "runway_key")
    await store.get(ctx.database, video_id)
    if await attaching.attach(ctx, video_id, asked.task_id) == "held":
        holder = await ledger.holder(ctx.database, asked.task_id)
        if holder != video_id:
            raise Conflict(f"the task {asked.task_id} belongs to the video {holder}")
    return base.done(request, f"/ui/videos/{video_id}")


@base.requires_admin
async def erase(request: Request) -> Response:
    """POST /ui/videos/{id}/erase: erase what a user wrote, now or by a tick; its ledger stays."""
    ctx, video_id = context_of(request), video_id_of(request)
    erasure = await erasing.erase(ctx, video_id)
    return base.done(request, f"/ui/videos/{video_id}" if erasure.waits_for else "/ui/videos")


async def _parts(request: Request, ctx: Context, video: Video) -> dict[str, str]:
    accounts = await audit.of_videos(ctx.database, [video.id])
    cost = accounts.get(video.id) or audit.nothing(video.id)
    rows = await ledger.of_video(ctx.database, video.id)
    needs_consent = video.status is Status.FAILED and await resubmissions.needs_consent(ctx.database, video.id)
    why = (await waiting(ctx.database, [video])).get(video.id)
    shown = json.dumps(VideoView.of(video, why).model_dump(mode="json"), indent=2, ensure_ascii=False)
    entries = await timelines.timeline(ctx.database, video.id)
    return {
        "state": base.text(request, "video_state.html", video=video, account=cost, waiting=why),
        "actions": base.text(request, "video_actions.html", video=video, needs_consent=needs_consent),
        "cost": base.text(
            request, "video_cost.html", video=video, account=cost, verdict=cost.verdict,
            estimated=rows[-1]["estimated_credits"] if rows else None,
        ),
        "timeline": base.text(request, "video_timeline.html", entries=entries, kinds=KINDS),
        "json": base.text(request, "video_json.html", json=shown),
    }  # fmt: skip


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
