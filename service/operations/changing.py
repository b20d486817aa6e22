"""Retry and cancel: one video, or all that match, batch by batch. The rules are the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from service.context import Context
from service.operations import limits
from service.operations.reading import check_visible, visible
from service.store import many_videos, video_rows
from service.store.many_videos import Bulk
from service.store.search import Wanted
from service.videos import Video

Action = Literal["retry", "cancel"]


async def retry(ctx: Context, video_id: UUID, *, consent: bool) -> Video:
    """Queue a failed video again. `consent`: also if Runway may have charged it, and may charge it a second time.

    Raises NotFound, OverLimit, NeedsConsent, and Conflict if it has not failed.
    """
    await check_visible(ctx, video_id)
    if limits.is_limited(ctx):
        await limits.check_credits(ctx, (await video_rows.get(ctx.database, video_id)).quoted_credits)
    timeout = ctx.settings.queue_timeout
    return await video_rows.retry(ctx.database, video_id, consent=consent, timeout_seconds=timeout, actor=ctx.actor)


async def cancel(ctx: Context, video_id: UUID) -> Video:
    """Cancel a queued or processing video; the next tick deletes its task. Raises NotFound, and Conflict."""
    await check_visible(ctx, video_id)
    video = await video_rows.cancel(ctx.database, video_id, ctx.actor)
    ctx.outbox.note()
    return video


async def change_many(ctx: Context, action: Action, wanted: Wanted, limit: int, *, dry_run: bool = False) -> Bulk:
    """Retry or cancel at most `limit` of the videos that match and that the caller may see, the oldest first.

    A retry leaves out what needs consent. `dry_run`: only count. Raises OverLimit.
    """
    mine = visible(ctx, wanted)
    if action == "cancel":
        return await many_videos.cancel(ctx.database, mine, limit=limit, dry_run=dry_run, actor=ctx.actor)
    await limits.check_credits(ctx, None)
    return await many_videos.retry(
        ctx.database, mine, limit=limit, timeout_seconds=ctx.settings.queue_timeout, dry_run=dry_run, actor=ctx.actor
    )


@dataclass(frozen=True)
class Preview:
    """What all batches together would change. `wanted`: for the batches; `counted`: before the first of them."""

    wanted: Wanted
    counted: Bulk


async def preview(ctx: Context, action: Action, wanted: Wanted) -> Preview:
    """Count what matches; nothing is changed. Of a retry, what fails again while the batches go on is left alone."""
    counted = await change_many(ctx, action, wanted, 1, dry_run=True)
    if action == "retry" and wanted.finished_before is None:
        wanted = replace(wanted, finished_before=datetime.fromtimestamp(ctx.now(), UTC))
    return Preview(wanted, counted)


async def batches(ctx: Context, action: Action, wanted: Wanted, size: int) -> AsyncIterator[Bulk]:
    """One batch after the other, until none is left, or one could do nothing."""
    while True:
        part = await change_many(ctx, action, wanted, size)
        yield part
        if not part.left or not part.done:
            return
