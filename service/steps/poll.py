"""Poll: ask Runway about the tasks that are due. This alone finishes every video; callbacks only make it sooner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from service.context import Context, Counts
from service.errors import RunwayUnavailable
from service.logs import RUNWAY, event
from service.operations.finalize import evaluate, finalize, now, out_of_reach
from service.operations.parking import ParkingLot
from service.runway.client import RETRIEVE_SECONDS, Runway
from service.store import tasks, videos
from service.store.tasks import DuePoll, PollResult
from service.videos import Status, Video

log = logging.getLogger(__name__)

NOTHING: Counts = {"polled": 0, "completed": 0, "failed": 0, "retried": 0, "unreachable": 0}
LEASE_SECONDS = RETRIEVE_SECONDS + 10  # a claimed poll that came to nothing is due again after this


async def run_once(ctx: Context, may_go_on: Callable[[], bool] = lambda: True) -> Counts:
    """Poll due tasks: one batch, and more until none is due or `may_go_on` says that the time is over."""
    counts = dict(NOTHING)
    while not counts["polled"] or may_go_on():
        parking = ParkingLot(ctx, "poll")
        due = await tasks.claim_due(ctx.database, ctx.settings.poll_concurrency, LEASE_SECONDS, parking)
        if not due:
            break
        async with ctx.runway() as runway:
            results = [result for result in await asyncio.gather(*(_poll(ctx, runway, one) for one in due)) if result]
        changed = await finalize(ctx, results)
        counts["polled"] += len(due)
        counts["unreachable"] += len(due) - len(results)
        for name, status in (
            ("completed", Status.COMPLETED),
            ("failed", Status.FAILED),
            ("retried", Status.QUEUED),
        ):
            counts[name] += sum(result.next_status == status and result.video_id in changed for result in results)
    return counts


async def _poll(ctx: Context, runway: Runway, due: DuePoll) -> PollResult | None:
    task_id = due.video.runway_video_id or ""
    try:
        task = await runway.retrieve(task_id)
    except RunwayUnavailable as exc:
        event(log, RUNWAY, "poll_failed", exc.detail, level=logging.WARNING, video=due.video.id, task=task_id)
        return out_of_reach(due, ctx.settings)
    result = evaluate(due, task, ctx.settings, now(ctx), ctx.random())
    event(
        log,
        RUNWAY,
        "polled",
        f"Task is {result.task_status}",
        level=logging.DEBUG,
        video=due.video.id,
        task=task_id,
    )
    return result


async def poll_now(ctx: Context, video_id: UUID, *, hinted: bool = False) -> Video:
    """The video, its task polled first if that is due (`hinted`: if Runway's gap allows). Raises NotFound."""
    due = (
        await tasks.claim_one(ctx.database, video_id, LEASE_SECONDS, hinted=hinted) if ctx.settings.runway_key else None
    )
    if due is not None:
        async with ctx.runway() as runway:
            result = await _poll(ctx, runway, due)
        if result is not None:
            await finalize(ctx, [result])
    return await videos.get(ctx.database, video_id)
