"""Prune: old ticks, callbacks and detail, and old videos where VIDEO_RETENTION asks for it, in small batches."""

from __future__ import annotations

from service.house import Counts, House
from service.store import retention

BATCH = 500
NOTHING: Counts = {"pruned": 0, "removed": 0}


async def run_once(house: House) -> Counts:
    """One batch of each."""
    keep = house.settings.video_retention
    return {
        "pruned": await retention.prune(house.database, BATCH) + await retention.walk(house.database, BATCH),
        "removed": 0 if keep is None else await retention.remove_videos(house.database, keep, BATCH),
    }
