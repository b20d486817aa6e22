"""Deliver: webhooks that are due are sent. A receiver that is slow or gone delays only itself."""

from __future__ import annotations

from service.context import Context, Counts
from service.deadline import Share, unlimited
from service.operations import delivering

NOTHING = delivering.NOTHING


async def run_once(ctx: Context, share: Share | None = None) -> Counts:
    """Send what is due until nothing is, or the time is over; what was begun is waited for."""
    return await delivering.run(ctx, share or unlimited(ctx.monotonic))
