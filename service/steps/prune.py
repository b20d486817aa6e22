"""Prune: old ticks, callbacks, detail and inputs, and old videos where VIDEO_RETENTION asks for it; in batches."""

from __future__ import annotations

from service.context import Context, Counts
from service.operations.parking import ParkingLot, each
from service.store import blanking, retention

BATCH = 500
NOTHING: Counts = {"pruned": 0, "removed": 0}


async def run_once(ctx: Context) -> Counts:
    """One batch of each; what fails costs the others nothing."""
    database, keep, parking = ctx.database, ctx.settings.video_retention, ParkingLot(ctx, "prune")
    counts = await each(
        {
            "pruned": retention.prune(database, BATCH, parking),
            "walked": retention.walk(database, BATCH, parking),
            "blanked": blanking.blank(database, ctx.settings.input_retention, BATCH),
            "forgotten": retention.forget_events(database, ctx.settings.event_retention, BATCH),
        }
        | ({} if keep is None else {"removed": retention.remove_videos(database, keep, BATCH, parking)})
    )
    removed = counts.pop("removed", 0)
    return {"pruned": sum(counts.values()), "removed": removed}
