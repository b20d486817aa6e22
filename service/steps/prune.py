"""Prune: old ticks, callbacks and detail, and old videos where VIDEO_RETENTION asks for it, in small batches."""

from __future__ import annotations

from service.context import Context, Counts
from service.store import retention

BATCH = 500
NOTHING: Counts = {"pruned": 0, "removed": 0}


async def run_once(ctx: Context) -> Counts:
    """One batch of each."""
    keep = ctx.settings.video_retention
    return {
        "pruned": await retention.prune(ctx.database, BATCH) + await retention.walk(ctx.database, BATCH),
        "removed": 0 if keep is None else await retention.remove_videos(ctx.database, keep, BATCH),
    }
