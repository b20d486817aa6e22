"""Follow one video: what a request does for it without a tick. Submits it in its turn, and polls its task when due."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from uuid import UUID

from service.context import Context
from service.deadline import SAVING_SECONDS, Deadline
from service.errors import DatabaseUnavailable, Gone
from service.logs import VIDEO, event
from service.operations.lapsing import give_up_lapsed
from service.operations.polling import poll_now
from service.operations.submitting import submitting
from service.store import claim as claims
from service.store import video_rows
from service.store.claim import Aim
from service.videos import Status, Video

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 60
LAPSED_AT_ONCE = 20
LOOK_SECONDS = 1.0  # how often a video is read that is waited for: a tick, a callback or a cancel may end it, too


def wait_seconds(ctx: Context, wanted: int) -> int:
    """How long a request may wait that asks for so many seconds: no longer than the platform lets it live."""
    hard_limit = ctx.settings.hard_limit
    most = LONGEST_WAIT_SECONDS if hard_limit is None else min(LONGEST_WAIT_SECONDS, int(hard_limit - SAVING_SECONDS))
    return min(wanted, most)


def request_deadline(
    ctx: Context, started: float, seconds: float = 0.0, stopping: Callable[[], bool] = lambda: False
) -> Deadline:
    """The time of a request that began at `started`, and may wait for so many seconds from then."""
    hard_limit = ctx.settings.hard_limit
    return Deadline(ctx.monotonic, started + seconds, None if hard_limit is None else started + hard_limit, stopping)


async def advance(ctx: Context, video_id: UUID, deadline: Deadline) -> Video:
    """The video, after what a tick would do for it now: its task is polled if that is due, it is submitted if it is due
    and in its turn, and given up if the process that was to send it is gone. Raises NotFound.
    """
    video = await poll_now(ctx, video_id, deadline.whole())
    if video.status is Status.QUEUED and await claims.is_due(ctx.database, video_id):
        await submit_in_turn(ctx, video_id, deadline)
    elif video.open_submission_id is not None:
        await give_up_lapsed(ctx, LAPSED_AT_ONCE)
    else:
        return video
    return await video_rows.get(ctx.database, video_id)


async def follow(ctx: Context, video: Video, deadline: Deadline) -> Video:
    """Advance it until it has ended, or until the time is over or the process is to stop; the last that was seen of it.

    It never raises because the database is away: the video is in the queue, whatever becomes of this request.
    """
    goes_on = True
    while goes_on and not video.status.terminal:
        try:
            video = await advance(ctx, video.id, deadline)
        except DatabaseUnavailable as exc:
            words = f"Not followed for now: {exc.detail}"
            event(log, VIDEO, "not_followed", words, level=logging.WARNING, video=video.id)
        if goes_on := deadline.is_open and not video.status.terminal:
            await ctx.sleep(min(LOOK_SECONDS, deadline.budget_ends - ctx.monotonic()))
            goes_on = deadline.is_open
    return video


async def follow_all(ctx: Context, videos: Sequence[Video], deadline: Deadline) -> list[Video]:
    """The same for several, side by side; without those that were erased meanwhile. Raises Gone if all of them were."""
    found = await asyncio.gather(*[follow(ctx, video, deadline) for video in videos], return_exceptions=True)
    there = [one for one in found if not isinstance(one, Gone)] or found
    for one in there:
        if isinstance(one, BaseException):
            raise one
    return [one for one in there if isinstance(one, Video)]


async def submit_in_turn(ctx: Context, video_id: UUID, deadline: Deadline) -> None:
    """Submit this video if its turn has come, by the claim of the tick; else the one whose turn it is, or a probe.

    Not with less time than a call takes, and in so many requests of a process at once as one tick has slots. What goes
    wrong is logged: the video is in the queue, and its turn comes again.
    """
    settings, under_way = ctx.settings, ctx.in_requests
    if not settings.runway_key or video_id in under_way or len(under_way) >= settings.submit_concurrency:
        return
    if not deadline.can_claim(None, settings.post_timeout):
        return
    under_way.add(video_id)
    try:
        async with submitting(ctx, deadline) as run:
            if not await run.claim(1, Aim(video=video_id)):
                await give_up_lapsed(ctx, LAPSED_AT_ONCE)  # which may hold the slots: they are free the next time
                await run.probe()
            await run.settle()  # a request that is cancelled here is seen to its end all the same
    except Exception as exc:
        words = f"Not submitted by the request that asked for it: {type(exc).__name__}: {exc}"
        event(log, VIDEO, "not_submitted", words, level=logging.ERROR, video=video_id)
    finally:
        under_way.discard(video_id)


async def is_scheduled(ctx: Context, video: Video) -> bool:
    """Whether it is queued for a later time, so that no request waits for it."""
    return video.status is Status.QUEUED and not await claims.is_due(ctx.database, video.id)
