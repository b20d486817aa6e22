"""Poll: look at the tasks that are due. This alone finishes every video; callbacks only make it sooner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from service.errors import RunwayAway
from service.house import Counts, House
from service.logs import RUNWAY, event
from service.operations.finalize import finalize, look, now, out_of_reach
from service.runway.client import RETRIEVE_SECONDS, Runway
from service.store import tasks, videos
from service.store.tasks import Due, Seen
from service.videos import Status, Video

log = logging.getLogger(__name__)

NOTHING: Counts = {"polled": 0, "completed": 0, "failed": 0, "retried": 0, "unreachable": 0}
LEASE_SECONDS = RETRIEVE_SECONDS + 10  # a claimed look that came to nothing is due again after this


async def run_once(house: House, may_go_on: Callable[[], bool] = lambda: True) -> Counts:
    """Look at due tasks: one batch, and more until none is due or `may_go_on` says that the time is over."""
    counts = dict(NOTHING)
    while not counts["polled"] or may_go_on():
        due = await tasks.claim_due(house.database, house.settings.poll_slots, LEASE_SECONDS)
        if not due:
            break
        async with house.runway() as runway:
            looks = [seen for seen in await asyncio.gather(*(_look(house, runway, one) for one in due)) if seen]
        changed = await finalize(house, looks)
        counts["polled"] += len(due)
        counts["unreachable"] += len(due) - len(looks)
        for name, status in (
            ("completed", Status.COMPLETED),
            ("failed", Status.FAILED),
            ("retried", Status.QUEUED),
        ):
            counts[name] += sum(seen.next_status == status and seen.video_id in changed for seen in looks)
    return counts


async def _look(house: House, runway: Runway, due: Due) -> Seen | None:
    task_id = due.video.runway_video_id or ""
    try:
        task = await runway.retrieve(task_id)
    except RunwayAway as exc:
        event(log, RUNWAY, "poll_failed", exc.detail, level=logging.WARNING, video=due.video.id, task=task_id)
        return out_of_reach(due, house.settings)
    seen = look(due, task, house.settings, now(house), house.chance())
    event(
        log,
        RUNWAY,
        "polled",
        f"Task is {seen.task_status}",
        level=logging.DEBUG,
        video=due.video.id,
        task=task_id,
    )
    return seen


async def look_now(house: House, video_id: UUID, *, hinted: bool = False) -> Video:
    """The video, its task looked at first if that is due (`hinted`: if Runway's gap allows). Raises NotFound."""
    due = (
        await tasks.claim_one(house.database, video_id, LEASE_SECONDS, hinted=hinted)
        if house.settings.runway_key
        else None
    )
    if due is not None:
        async with house.runway() as runway:
            seen = await _look(house, runway, due)
        if seen is not None:
            await finalize(house, [seen])
    return await videos.get(house.database, video_id)
