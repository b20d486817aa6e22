"""Attach: evidence that an unknown submission did make a task. Checked with Runway, then saved like a late answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from service.actors import CALLBACK
from service.context import Context
from service.deadline import Share, unlimited
from service.errors import Conflict, RunwayUnavailable
from service.events import Kind as EventKind
from service.logs import VIDEO, event
from service.operations.parking import ParkingLot
from service.operations.reading import find
from service.operations.saving import as_outcome_row
from service.operations.window import Window
from service.runway.client import RETRIEVE_SECONDS
from service.runway.outcomes import Decision, Kind, Outcome
from service.settings import need
from service.store import inbox, ledger, submissions, tasks, vanished
from service.store.batches import Refusal
from service.store.driver_errors import is_refusal
from service.videos import Status

log = logging.getLogger(__name__)

SLOTS = 20  # callbacks that are followed at once


async def attach(ctx: Context, video_id: UUID, task_id: str) -> str:
    """Attach a task to a video, as an operator asks for it; the result as of `attach_evidence`, but never 'busy'.

    Raises NotConfigured without a key; NotFound; Conflict if Runway does not know the task, if it belongs to another
    video or cannot be this one's, or if another transaction holds it; RunwayUnavailable if Runway cannot say.
    """
    need(ctx.settings, "runway_key")
    result = await attach_evidence(ctx, video_id, task_id, actor=ctx.actor)
    if result == "busy":
        raise Conflict("another transaction holds this video's submission at the moment: try again")
    return result


async def attach_evidence(
    ctx: Context, video_id: UUID, task_id: str, seconds: float = RETRIEVE_SECONDS, *, actor: str
) -> str:
    """Attach a task to a video: 'moved' (attached), 'elsewhere' (a surplus, to be deleted), 'locked', 'held' (known).

    'busy': another transaction holds the submission, so nothing was written: try again. `actor`: who attaches it.

    Raises NotFound; Conflict if Runway does not know the task, or it cannot be this video's; RunwayUnavailable if
    Runway cannot say.
    """
    video = await find(ctx, video_id)
    vanished_task = await vanished.of_task(ctx.database, task_id, video_id)
    if vanished_task is None and await _is_held(ctx, video_id, task_id):
        return "held"
    async with ctx.runway() as runway:
        task = await runway.retrieve(task_id, seconds, model=video.model)
    if task is None:
        raise Conflict(f"Runway does not know the task {task_id}")
    if vanished_task is not None:
        kind = EventKind.ATTACHED.value
        return await vanished.found(ctx.database, vanished_task, actor=actor, kind=kind) or "busy"
    submission_id = await ledger.candidate(ctx.database, video_id, task.created_at)
    if submission_id is None:
        raise _impossible(video_id, task_id)
    estimate = task.estimated_cost.credits if task.estimated_cost else None
    outcome = Outcome(Kind.ACCEPTED, "attached", task_id=task_id, estimated_credits=estimate)
    answer = as_outcome_row(submission_id, video_id, outcome, Decision(Status.PROCESSING))
    results = await submissions.save(ctx.database, [answer], actor=actor, kind=EventKind.ATTACHED.value)
    if (result := results.get(submission_id)) is None:  # another caller was faster
        if not await _is_held(ctx, video_id, task_id):
            raise _impossible(video_id, task_id)
        result = "held"
    words = f"Task attached: {result}"
    event(log, VIDEO, "attached", words, video=video_id, task=task_id, submission=submission_id)
    return result


def _impossible(video_id: UUID, task_id: str) -> Conflict:
    return Conflict(f"no submission of video {video_id} with an unknown outcome can have made the task {task_id}")


async def _is_held(ctx: Context, video_id: UUID, task_id: str) -> bool:
    """Whether the ledger has this task already, as this video's. Raises Conflict if it is another's."""
    holder = await ledger.holder(ctx.database, task_id)
    if holder is not None and holder != video_id:
        raise Conflict(f"the task {task_id} belongs to the video {holder}")
    return holder is not None


async def follow_evidence(ctx: Context, share: Share | None = None) -> int:
    """Callbacks in the inbox that name a video with an unknown submission; how many led to something.

    Some at a time, each once, until none is left or the time is over.
    """
    share = share or unlimited(ctx.monotonic)
    parking = ParkingLot(ctx, "rescue")
    tried, followed = parking.passed_over("attach"), 0

    async def claim(free: int) -> Sequence[asyncpg.Record]:
        rows = await inbox.evidence(ctx.database, free, tried) if share.may_ask else []
        tried.extend(row["id"] for row in rows)
        return rows

    async def call(row: asyncpg.Record) -> bool:
        seconds = share.ask_seconds(tasks.CALL_SECONDS)
        return seconds > 0 and await _follow(ctx, row, seconds, parking)

    async def count(led: list[bool]) -> None:
        nonlocal followed
        followed += sum(led)

    await Window(SLOTS, claim, call, count).run(share)
    return followed


async def _follow(ctx: Context, row: asyncpg.Record, seconds: float, parking: ParkingLot) -> bool:
    """One callback; whether it led to something. What PostgreSQL refuses is put aside."""
    try:
        result = await _result(ctx, row["video_id"], row["task_id"], seconds)
        if result is not None:
            await inbox.handled(ctx.database, row["id"], result)
    except Exception as exc:
        if not is_refusal(exc):
            raise
        await parking.park(Refusal("attach", row["id"], row["video_id"], exc))
        return False
    return result is not None


async def _result(ctx: Context, video_id: UUID, task_id: str, seconds: float) -> str | None:
    """What one callback led to; None if that cannot be said yet."""
    try:
        result = await attach_evidence(ctx, video_id, task_id, seconds, actor=CALLBACK)
    except Conflict as exc:
        return exc.detail
    except RunwayUnavailable:
        return None
    return None if result == "busy" else result
