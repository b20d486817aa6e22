"""Rescue: submissions whose holder is gone, answers that could not reach their video, rows put back by an UPDATE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from service.context import Context, Counts
from service.deadline import Share, unlimited
from service.operations.attaching import follow_evidence
from service.operations.lapsing import give_up_lapsed
from service.operations.parking import ParkingLot, each, repeated
from service.store import inbox, ledger, submissions
from service.store.submissions import Guard

BATCH = 200
NOTHING: Counts = {"lapsed": 0, "completed": 0, "restored": 0, "orphaned": 0, "matched": 0, "attached": 0}
DRAGGED_WORDS = (
    "This video was put back in the queue, but an earlier attempt may have been taken and charged by Runway. "
    "Retry it with accept_double_charge, or attach the task."
)


async def run_once(ctx: Context, share: Share | None = None) -> Counts:
    """Declare lapsed submissions unknown, complete saved answers, restore dragged rows, follow callbacks.

    A batch of each, and more until nothing is left or the time is over. Callbacks are followed here, before anything is
    submitted: a video that one gives its task needs no other.
    """
    database, parking = ctx.database, ParkingLot(ctx, "rescue")
    share = share or unlimited(ctx.monotonic)
    parts: dict[str, Callable[[], Awaitable[int]]] = {
        "lapsed": lambda: give_up_lapsed(ctx, BATCH),
        "completed": lambda: _complete_unsaved(ctx),
        "restored": lambda: ledger.restore(database, DRAGGED_WORDS, BATCH, parking),
        "orphaned": lambda: ledger.end_orphans(database, BATCH, parking),
        "matched": lambda: inbox.match(database, BATCH, parking),
    }
    repeatedly = {name: repeated(part, share) for name, part in parts.items()}
    return await each({**repeatedly, "attached": follow_evidence(ctx, share)})


async def _complete_unsaved(ctx: Context) -> int:
    parking = ParkingLot(ctx, "rescue")
    answers = await submissions.unsaved(ctx.database, BATCH, list(map(int, parking.passed_over("complete"))))
    if not answers:
        return 0
    results = await submissions.save_batch(
        ctx.database, answers, parking, guard=Guard.UNSAVED, name="complete", actor="rescue"
    )
    return sum(result not in ("locked", "busy") for result in results.values())
