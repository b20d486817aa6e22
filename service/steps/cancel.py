"""Cancel: delete at Runway what must not go on: cancelled videos, surplus tasks, tasks that took too long.

Videos that are to be erased wait for that; then they are erased here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import Enum, auto

import asyncpg

from service.context import Context, Counts
from service.deadline import Share, unlimited
from service.errors import RunwayUnavailable
from service.logs import RUNWAY, event
from service.operations import erasing, missing
from service.operations.parking import ParkingLot
from service.operations.window import Window
from service.runway.client import RETRIEVE_SECONDS, Runway
from service.store import ledger

log = logging.getLogger(__name__)

SLOTS = 20
NOTHING: Counts = {"deleted": 0, "erased": 0}
LEASE_SECONDS = RETRIEVE_SECONDS + 10  # a DELETE that came to nothing is tried again after this


class _End(Enum):
    DELETED = auto()
    MISSING = auto()  # Runway does not know it, and has said so too seldom to be believed
    GONE = auto()  # so often that it is
    NOTHING = auto()  # no answer


async def run_once(ctx: Context, share: Share | None = None) -> Counts:
    """DELETEs, some at a time, until none is due or the time is over; then what can be erased is."""
    share = share or unlimited(ctx.monotonic)
    counts, parking = dict(NOTHING), ParkingLot(ctx, "cancel")

    async def claim(free: int) -> Sequence[asyncpg.Record]:
        return await ledger.claim_cancels(ctx.database, free, LEASE_SECONDS, parking) if share.may_ask else []

    async def save(ends: list[tuple[asyncpg.Record, _End]]) -> None:
        counts["deleted"] += await _save(ctx, ends, parking)

    async with ctx.runway() as runway:

        async def call(row: asyncpg.Record) -> tuple[asyncpg.Record, _End]:
            return row, await _delete(runway, row, share.ask_seconds(RETRIEVE_SECONDS))

        await Window(SLOTS, claim, call, save).run(share)
    counts["erased"] = await erasing.finish(ctx, "cancel")
    return counts


async def _save(ctx: Context, ends: Sequence[tuple[asyncpg.Record, _End]], parking: ParkingLot) -> int:
    """Book what is deleted, or gone; how many. What Runway did not know is asked once more."""
    gone = [row for row, end in ends if end is _End.GONE]
    if gone and await missing.is_everywhere(ctx):
        ends = [(row, _End.MISSING if end is _End.GONE else end) for row, end in ends]
    ended, doubted = (
        [(row["task_id"], row["video_id"]) for row, end in ends if end in kinds]
        for kinds in ((_End.DELETED, _End.GONE), (_End.MISSING,))
    )
    await ledger.cancelled(ctx.database, ended, parking)
    await ledger.cancel_later(ctx.database, doubted, missing.GAP_SECONDS, parking)
    return len(ended)


async def _delete(runway: Runway, row: asyncpg.Record, seconds: float) -> _End:
    """One DELETE; whatever goes wrong costs this task alone its turn."""
    ids = {"video": row["video_id"], "submission": row["id"], "task": row["task_id"]}
    try:
        if seconds <= 0:
            return _End.NOTHING
        there = await runway.delete(row["task_id"], seconds)
    except RunwayUnavailable as exc:
        event(log, RUNWAY, "delete_failed", exc.detail, level=logging.WARNING, **ids)
        return _End.NOTHING
    except Exception:
        words = "A DELETE failed in an unforeseen way"
        event(log, RUNWAY, "delete_broke", words, level=logging.ERROR, trace=True, **ids)
        return _End.NOTHING
    if there:
        event(log, RUNWAY, "deleted", f"Task deleted ({row['cancel_reason']})", **ids)
        return _End.DELETED
    is_gone = missing.is_proof(row["missing"] + 1, row["missing_seconds"])
    words = "Task was gone already" if is_gone else "Runway does not know the task: it is asked once more"
    event(log, RUNWAY, "delete_missing", words, **ids)
    return _End.GONE if is_gone else _End.MISSING
