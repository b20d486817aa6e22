"""Prune: Taxiway's own old ticks and callbacks, in small batches. Rows of `videos` and the ledger are never touched."""

from __future__ import annotations

from service.house import Counts, House
from service.store import ticks

BATCH = 500
NOTHING: Counts = {"pruned": 0}


async def run_once(house: House) -> Counts:
    """One batch."""
    return {"pruned": await ticks.prune(house.database, BATCH)}
