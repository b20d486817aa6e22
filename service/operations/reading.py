"""Read videos: who may see one, the list, and the addresses of its outputs that work now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from service.context import Context
from service.deadline import Deadline
from service.errors import Conflict, Gone, NoSuchOutput, NotConfigured, NotFound, RunwayUnavailable
from service.operations.finalize import now
from service.operations.following import advance
from service.operations.outputs import Output, outputs
from service.operations.polling import poll_now
from service.operations.waiting import Waiting, waiting
from service.runway.client import RETRIEVE_SECONDS
from service.runway.task import url_expiry
from service.settings import need
from service.store import listing, tasks, video_rows
from service.store.search import Wanted
from service.videos import Video

FRESH_SECONDS = 60  # a URL that dies sooner than this is renewed before anyone is sent there


async def check_visible(ctx: Context, video_id: UUID) -> None:
    """Who may see a video: every caller, but a key that sees its own alone. Raises NotFound."""
    if ctx.owner is not None and await video_rows.created_by(ctx.database, video_id) != ctx.owner:
        raise NotFound(f"no video has the id {video_id}")


async def find(ctx: Context, video_id: UUID) -> Video:
    """The video as the database has it. Raises NotFound."""
    await check_visible(ctx, video_id)
    return await video_rows.get(ctx.database, video_id)


async def read(ctx: Context, video_id: UUID, deadline: Deadline | None = None) -> Video:
    """The video; its task is polled first if that is due, so that none need wait for the cron. Raises NotFound.

    `deadline`: of a request that may submit it, too, if it is due and in its turn.
    """
    await check_visible(ctx, video_id)
    return await (poll_now(ctx, video_id) if deadline is None else advance(ctx, video_id, deadline))


@dataclass(frozen=True)
class VideoList:
    """One page of videos, newest first, with what each of them waits for. `next`: where the next page begins."""

    videos: list[Video]
    waiting: dict[UUID, Waiting]
    next: tuple[datetime, UUID] | None


async def page(ctx: Context, wanted: Wanted, before: tuple[datetime, UUID] | None, limit: int) -> VideoList:
    """At most `limit` videos that match and that the caller may see, older than `before`."""
    found = await listing.page(ctx.database, visible(ctx, wanted), before=before, limit=limit)
    return VideoList(found.videos, await waiting(ctx, found.videos), found.next)


def visible(ctx: Context, wanted: Wanted) -> Wanted:
    """The same filters, of what the caller may see alone."""
    return replace(wanted, created_by=ctx.owner)


async def read_with_outputs(ctx: Context, video_id: UUID, deadline: Deadline | None = None) -> Video:
    """The video as `read`, with addresses of its outputs that work now; as they are where Runway gives no others."""
    video = await read(ctx, video_id, deadline)
    if not outputs(video) or not _dies_soon(ctx, video):
        return video
    try:
        return await _renewed(ctx, video, tasks.CALL_SECONDS)
    except (Gone, NotConfigured, RunwayUnavailable):
        return video


async def output(ctx: Context, video_id: UUID, number: int = 1) -> Output:
    """The output of this number, counted from 1, as `live_outputs`; its task is polled first if that is due.

    Raises NotFound too.
    """
    found = await live_outputs(ctx, await read(ctx, video_id))
    if not 1 <= number <= len(found):
        raise NoSuchOutput(f"the video has no output {number}: it has {len(found)}")
    return found[number - 1]


async def live_outputs(ctx: Context, video: Video) -> list[Output]:
    """Its outputs, at addresses that work now. Raises Conflict without any, and Gone when Runway has them no longer."""
    found = outputs(video)
    if not found:
        raise Conflict(f"there is no file yet: the video is {video.status}", video_status=video.status)
    return outputs(await _renewed(ctx, video)) if _dies_soon(ctx, video) else found


def _dies_soon(ctx: Context, video: Video) -> bool:
    expires_at = video.video_url_expires_at
    return expires_at is None or expires_at.timestamp() < ctx.now() + FRESH_SECONDS


async def _renewed(ctx: Context, video: Video, seconds: float = RETRIEVE_SECONDS) -> Video:
    need(ctx.settings, "runway_key")
    async with ctx.runway() as runway:
        task = await runway.retrieve(video.runway_video_id or "", seconds, model=video.model)
    if task is None or not task.output:
        raise Gone("Runway no longer has these files; make the video again if you need it")
    expires_at = url_expiry(task.output[0], now(ctx))
    await tasks.renew_urls(ctx.database, video, task.output, expires_at)
    return replace(video, output=task.output, video_url=task.output[0], video_url_expires_at=expires_at)
