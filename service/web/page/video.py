"""/ui/videos/{id}: one video. It plays; what happened to it, what it cost, and what you can do with it."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.operations import attaching, changing, erasing
from service.operations.outputs import outputs
from service.operations.reporting import VideoReport, video_report
from service.operations.video_view import VideoView
from service.web import bodies
from service.web.auth import context_of
from service.web.page import base, live, webhook_list
from service.web.page.media import image_of
from service.web.page.video_list import prompt_of
from service.web.schemas_operations import AttachRequest
from service.web.video_routes import video_id_of

KINDS = {
    "completed": "ok", "failed": "bad", "expired": "bad", "consented": "warn", "callback": "info", "attached": "info",
    "settled": "info", "delete_due": "warn", "refused_row": "warn", "mirror_refused": "warn", "gate_refused": "warn",
    "erase_requested": "warn", "erased": "warn", "inputs_blanked": "info", "put_back": "warn",
    "resubmitted": "warn", "made_again": "warn", "accepted": "ok", "rejected": "bad",
    "not_sent": "warn", "unknown": "bad",
}  # fmt: skip
HIDDEN = ("promptText", "promptImage", "model")  # of the request: they have their own place


async def show(request: Request) -> Response:
    """GET /ui/videos/{id}: one video, which plays, with its activity and its cost."""
    ctx = context_of(request)
    report = await video_report(ctx, video_id_of(request))
    video, parts = report.video, _parts(request, report)
    settings = {name: _plain(value) for name, value in (video.input or {}).items() if name not in HIDDEN}
    return base.render(
        request, "video.html", video=video, live=parts, seen=live.version(parts), prompt=prompt_of(video),
        image=image_of(video), settings=settings,
    )  # fmt: skip


async def events(request: Request) -> Response:
    """GET /ui/videos/{id}/events: the same, live, also after its end; a task that is due is polled."""
    ctx, video_id = context_of(request), video_id_of(request)

    async def render_parts() -> tuple[live.Parts, float]:
        report = await video_report(ctx, video_id)
        seconds = live.ENDED_SECONDS if report.video.status.terminal else live.REFRESH_SECONDS
        return _parts(request, report), seconds

    return await live.stream(request, render_parts)


async def retry(request: Request) -> Response:
    """POST /ui/videos/{id}/retry: queue it again; with `consent`, also what may have been paid for already."""
    ctx, video_id = context_of(request), video_id_of(request)
    consent = (await base.form(request)).get("consent") == "yes"
    await changing.retry(ctx, video_id, consent=consent)
    return base.done(request, f"/ui/videos/{video_id}")


async def cancel(request: Request) -> Response:
    """POST /ui/videos/{id}/cancel: cancel it; its task at Runway is deleted too."""
    ctx, video_id = context_of(request), video_id_of(request)
    await changing.cancel(ctx, video_id)
    return base.done(request, f"/ui/videos/{video_id}")


async def attach(request: Request) -> Response:
    """POST /ui/videos/{id}/attach: attach the task `task_id` that an unknown submission made."""
    ctx, video_id = context_of(request), video_id_of(request)
    task_id = (await base.form(request)).get("task_id", "").strip()
    asked = bodies.validated(AttachRequest, {"task_id": task_id})
    await attaching.attach(ctx, video_id, asked.task_id)
    return base.done(request, f"/ui/videos/{video_id}")


async def erase(request: Request) -> Response:
    """POST /ui/videos/{id}/erase: erase what a user wrote, now or by a tick; its ledger stays."""
    ctx, video_id = context_of(request), video_id_of(request)
    erasure = await erasing.erase(ctx, video_id)
    return base.done(request, f"/ui/videos/{video_id}" if erasure.waits_for else "/ui/videos")


def _parts(request: Request, report: VideoReport) -> dict[str, str]:
    video, why, cost, rows = report.video, report.waiting, report.cost.account, report.cost.submissions
    shown = json.dumps(VideoView.of(video, why).model_dump(mode="json"), indent=2, ensure_ascii=False)
    return {
        "state": base.text(request, "video_state.html", video=video, account=cost, waiting=why, outputs=outputs(video)),
        "actions": base.text(request, "video_actions.html", video=video, needs_consent=report.needs_consent),
        "cost": base.text(
            request, "video_cost.html", video=video, account=cost, verdict=cost.verdict,
            estimated=rows[-1]["estimated_credits"] if rows else None,
        ),
        "deliveries": base.text(
            request, "video_deliveries.html", deliveries=webhook_list.views(report.deliveries), kinds=webhook_list.KINDS
        ),
        "timeline": base.text(request, "video_timeline.html", entries=report.events, kinds=KINDS),
        "json": base.text(request, "video_json.html", json=shown),
    }  # fmt: skip


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
