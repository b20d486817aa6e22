"""Cancel: delete at Runway what must not go on: cancelled videos, surplus tasks, tasks that took too long."""

from __future__ import annotations

import asyncio
import logging

import asyncpg

from service.context import Context, Counts
from service.errors import RunwayUnavailable
from service.logs import RUNWAY, event
from service.operations.parking import ParkingLot
from service.runway.client import RETRIEVE_SECONDS, Runway
from service.store import ledger

log = logging.getLogger(__name__)

BATCH = 20
NOTHING: Counts = {"deleted": 0}
LEASE_SECONDS = RETRIEVE_SECONDS + 10  # a DELETE that came to nothing is tried again after this


async def run_once(ctx: Context) -> Counts:
    """One batch of DELETEs; 204 and 404 both mean that the task is gone."""
    parking = ParkingLot(ctx, "cancel")
    due = await ledger.claim_cancels(ctx.database, BATCH, LEASE_SECONDS, parking)
    if not due:
        return NOTHING
    async with ctx.runway() as runway:
        gone = await asyncio.gather(*(_delete(runway, row) for row in due))
    tasks = [(row["task_id"], row["video_id"]) for row, is_gone in zip(due, gone, strict=True) if is_gone]
    await ledger.cancelled(ctx.database, tasks, parking)
    return {"deleted": len(tasks)}


async def _delete(runway: Runway, row: asyncpg.Record) -> bool:
    ids = {"video": row["video_id"], "submission": row["id"], "task": row["task_id"]}
    try:
        there = await runway.delete(row["task_id"])
    except RunwayUnavailable as exc:
        event(log, RUNWAY, "delete_failed", exc.detail, level=logging.WARNING, **ids)
        return False
    words = f"Task deleted ({row['cancel_reason']})" if there else "Task was gone already"
    event(log, RUNWAY, "deleted", words, **ids)
    return True
