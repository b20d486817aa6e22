"""Report on one video: what it cost, each submission, what happened, and what it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from service.context import Context
from service.deadline import Deadline
from service.operations.reading import check_visible, read
from service.operations.waiting import Waiting, waiting
from service.store import audit, delivery_log, ledger, resubmissions, timeline, video_rows
from service.store.audit import Audit
from service.store.delivery_log import Delivery, WantedDeliveries
from service.store.timeline import Entry
from service.videos import Status, Video

MOST_DELIVERIES = 20  # of one video, the newest


@dataclass(frozen=True)
class CostReport:
    """What the ledger says of one video: its account, and its submissions, oldest first."""

    account: Audit
    submissions: list[dict[str, Any]]


@dataclass(frozen=True)
class VideoReport:
    """One video, whole. `deliveries`: of webhooks, the newest; `needs_consent`: a retry may be paid a second time."""

    video: Video
    waiting: Waiting | None
    cost: CostReport
    events: Sequence[Entry]
    deliveries: Sequence[Delivery]
    needs_consent: bool


async def cost_report(ctx: Context, video_id: UUID) -> CostReport:
    """The account of one video. Raises NotFound, but not for one that was removed and is in the ledger still."""
    await check_visible(ctx, video_id)
    cost = await _cost(ctx, video_id)
    if cost.submissions:
        return cost
    status, _ = await video_rows.state_of(ctx.database, video_id)
    return CostReport(replace(cost.account, status=status.value), [])


async def _cost(ctx: Context, video_id: UUID) -> CostReport:
    accounts = await audit.of_videos(ctx.database, [video_id])
    rows = await ledger.of_video(ctx.database, video_id)
    return CostReport(accounts.get(video_id) or audit.nothing(video_id), rows)


async def events(ctx: Context, video_id: UUID) -> Sequence[Entry]:
    """The history of one video, oldest first. Raises NotFound."""
    await check_visible(ctx, video_id)
    return await timeline.timeline(ctx.database, video_id)


async def video_report(ctx: Context, video_id: UUID, deadline: Deadline | None = None) -> VideoReport:
    """Everything about one video; its task is polled first if that is due, and with a deadline it may be submitted, as
    in `read`. Raises NotFound.
    """
    video = await read(ctx, video_id, deadline)
    return VideoReport(
        video=video,
        waiting=(await waiting(ctx, [video])).get(video.id),
        cost=await _cost(ctx, video.id),
        deliveries=await delivery_log.page(
            ctx.database, WantedDeliveries(video.id), before=None, limit=MOST_DELIVERIES
        ),
        events=await timeline.timeline(ctx.database, video.id),
        needs_consent=video.status is Status.FAILED and await resubmissions.needs_consent(ctx.database, video.id),
    )
