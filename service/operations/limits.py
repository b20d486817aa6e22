"""What this installation takes at most: videos in the queue, and credits that one key may ask for in a day.

Both are counted when a video is enqueued or retried. Requests that run at the same moment do not see each other, so a
limit may be passed by as many as there are.
"""

from __future__ import annotations

from decimal import Decimal

from service.context import Context
from service.errors import OverLimit
from service.store import key_usage

FULL_QUEUE_SECONDS = 30.0  # a queue that is full has room again with the next video that is sent


async def check_queue(ctx: Context, count: int = 1) -> None:
    """Raises OverLimit if so many more are more than MAX_QUEUED videos."""
    most = ctx.settings.max_queued
    if most is None:
        return
    queued = await key_usage.queued(ctx.database, most)
    if queued + count > most:
        words = f"{queued} videos are queued, and MAX_QUEUED is {most}: there is no room for {count} more"
        raise OverLimit(f"{words}. Try again later", FULL_QUEUE_SECONDS)


def is_limited(ctx: Context) -> bool:
    """Whether the caller's key may ask for so many credits a day, and no more."""
    return ctx.actor in ctx.settings.max_credits_per_day_by_key


async def check_credits(ctx: Context, credits: Decimal | None) -> None:
    """Raises OverLimit if so many more credits are more than the caller's key may ask for today."""
    most = ctx.settings.max_credits_per_day_by_key.get(ctx.actor)
    if most is None:
        return
    asked, seconds_left = await key_usage.credits_today(ctx.database, ctx.actor)
    if asked + (credits or 0) > most or asked >= most:
        raise OverLimit(
            f"the key {ctx.actor!r} has asked for {asked.normalize():f} of its {most.normalize():f} credits of today "
            "(MAX_CREDITS_PER_DAY_BY_KEY): try again when the next day begins, in UTC", seconds_left,
        )  # fmt: skip
