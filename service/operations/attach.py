"""Attach: evidence that an unknown submission did make a task. Checked with Runway, then saved like a late answer."""

from __future__ import annotations

import logging
from uuid import UUID

from service.context import Context
from service.errors import Conflict, RunwayUnavailable
from service.logs import VIDEO, event
from service.operations.parking import ParkingLot
from service.operations.saving import as_outcome_row
from service.runway.outcomes import Decision, Kind, Outcome
from service.store import inbox, ledger, submissions
from service.store.batches import Refusal
from service.store.driver_errors import is_refusal
from service.videos import Status

log = logging.getLogger(__name__)

BATCH = 20


async def attach(ctx: Context, video_id: UUID, task_id: str) -> str:
    """Attach a task to a video: 'moved' (attached), 'elsewhere' (a surplus, to be deleted), 'locked', 'held' (known).

    'busy': another transaction holds the submission, so nothing was written: try again.

    Raises Conflict if Runway does not know the task, or it cannot be this video's; RunwayUnavailable if Runway
    cannot say.
    """
    if await ledger.holder(ctx.database, task_id) is not None:
        return "held"
    async with ctx.runway() as runway:
        task = await runway.retrieve(task_id)
    if task is None:
        raise Conflict(f"Runway does not know the task {task_id}")
    submission_id = await ledger.candidate(ctx.database, video_id, task.created_at)
    if submission_id is None:
        raise Conflict(f"no submission of video {video_id} with an unknown outcome can have made the task {task_id}")
    estimate = task.estimated_cost.credits if task.estimated_cost else None
    outcome = Outcome(Kind.ACCEPTED, "attached", task_id=task_id, estimated_credits=estimate)
    answer = as_outcome_row(submission_id, video_id, outcome, Decision(Status.PROCESSING))
    results = await submissions.save(ctx.database, [answer])
    result = results.get(submission_id, "held")
    event(
        log,
        VIDEO,
        "attached",
        f"Task attached: {result}",
        video=video_id,
        task=task_id,
        submission=submission_id,
    )
    return result


async def follow_evidence(ctx: Context) -> int:
    """Callbacks in the inbox that name a video with an unknown submission; how many led to something."""
    followed, parking = 0, ParkingLot(ctx, "rescue")
    passed_over = parking.passed_over("attach")
    for row in await inbox.evidence(ctx.database, BATCH):
        if row["id"] in passed_over:
            continue
        try:
            result = await _follow(ctx, row["video_id"], row["task_id"])
            if result is not None:
                await inbox.handled(ctx.database, row["id"], result)
        except Exception as exc:
            if not is_refusal(exc):
                raise
            await parking.park(Refusal("attach", row["id"], row["video_id"], exc))
        else:
            followed += result is not None
    return followed


async def _follow(ctx: Context, video_id: UUID, task_id: str) -> str | None:
    """What one callback led to; None if that cannot be said yet."""
    try:
        result = await attach(ctx, video_id, task_id)
    except Conflict as exc:
        return exc.detail
    except RunwayUnavailable:
        return None
    return None if result == "busy" else result
