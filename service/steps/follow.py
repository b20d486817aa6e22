"""Follow: callbacks that name a video whose create has no known outcome are evidence; Runway is asked about each."""

from __future__ import annotations

from service.context import Context, Counts
from service.deadline import Share
from service.operations.attach import follow_evidence

NOTHING: Counts = {"attached": 0}


async def run_once(ctx: Context, share: Share | None = None) -> Counts:
    """Follow what has come, some at a time, until nothing is left or the time is over."""
    return {"attached": await follow_evidence(ctx, share)}
