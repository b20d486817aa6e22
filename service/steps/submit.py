"""Submit: one loop claims, as many as there are free slots, until nothing is due or the time is over.

Each video that it got has a slot, and a task, until its call came back; the answer then goes into the saver's queue
(operations/submitting.py).
"""

from __future__ import annotations

import logging

from service.context import Context, Counts
from service.deadline import Deadline, Wake
from service.errors import DatabaseUnavailable
from service.logs import VIDEO, event
from service.operations.submitting import Submitter, submitting
from service.store import claim as claims
from service.store import identity

log = logging.getLogger(__name__)

# When most slots are taken, more calls are about to come back, and a claim for ten costs what one for one does. A loop
# counts milliseconds: asyncio's rounds up, uvloop's to the next one, which may be none.
GATHER_SECONDS = 0.001

NOTHING: Counts = {"claimed": 0, "accepted": 0, "not_sent": 0, "rejected": 0, "unknown": 0}


async def run_once(ctx: Context, deadline: Deadline, *, probe: bool = True, wake: Wake | None = None) -> Counts:
    """Claim and submit until nothing is due or the deadline comes; then wait for what is in flight.

    `probe`: a paused model may be due for its probe. `wake`: is set when there may be new videos.
    """
    async with submitting(ctx, deadline, wake) as run:
        try:
            if probe:
                await run.probe()
            await _claim_all(run)
        except DatabaseUnavailable as exc:
            if not run.claimed:
                raise
            event(log, VIDEO, "claims_end", f"No more claims in this tick: {exc.detail}", level=logging.ERROR)
    return NOTHING | {"claimed": run.claimed} | run.saver.counts


async def look(ctx: Context) -> Counts:
    """With nothing to claim: only whether this is the database of the last tick, as a claim would find out.

    No counts: nothing was done.
    """
    async with identity.recognised(ctx.database):
        return {}


async def _claim_all(run: Submitter) -> None:
    """A claim whenever slots are free, as long as something is due, or may become due, and there is time for it."""
    ctx, wake, saver = run.ctx, run.wake, run.saver
    p95_seconds: float | None = None  # the first claim asks for no time, so that a small budget makes progress
    more = True
    while saver.may_claim and (more or wake.due or run.calls or saver.is_busy):
        more, free = more or wake.due, _free_slots(run)
        if not more or not free or saver.pausing:
            await _wait(run, more)
            continue
        if run.claimed and p95_seconds is None:
            p95_seconds = await claims.p95_seconds(ctx.database) or 0.0
        if not run.deadline.can_claim(p95_seconds, ctx.settings.post_timeout):
            return
        wake.due = False
        more = await run.claim_due(free)


def _free_slots(run: Submitter) -> int:
    """A slot is free when its call came back; but no more than twice as many answers as slots may wait."""
    taken = max(len(run.calls), (run.saver.unsaved + 1) // 2)
    return max(0, run.ctx.settings.submit_concurrency - taken)


async def _wait(run: Submitter, more: bool) -> None:
    """Until a call came back, an answer is saved, or something is due."""
    await run.wake.wait()
    if more and len(run.calls) > run.ctx.settings.submit_concurrency // 2:
        await run.ctx.sleep(GATHER_SECONDS)
