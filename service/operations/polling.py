"""Poll one task: ask Runway about it, judge what it says, and finish its video if it has ended."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from service.context import Context
from service.deadline import Share, unlimited
from service.errors import RunwayUnavailable
from service.logs import RUNWAY, event
from service.operations import missing
from service.operations.finalize import evaluate, finalize, now, out_of_reach
from service.runway.client import Runway
from service.store import tasks, video_rows
from service.store.tasks import DuePoll, PollResult
from service.store.vanished import DueLook
from service.videos import Video

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Polled:
    """What one call came to. `result` None: Runway could not be asked; `is_overdue`: the task's time is over.

    `found`: a task that had vanished, and is there after all.
    """

    result: PollResult | None = None
    is_overdue: bool = False
    is_look: bool = False
    found: DueLook | None = None


async def judged(ctx: Context, polled: Sequence[Polled]) -> list[PollResult]:
    """The results, in which a task is given up as vanished only if its key can be believed."""
    results = [(one.result, one.is_overdue) for one in polled if one.result is not None]
    if any(one.vanished and not is_overdue for one, is_overdue in results) and await missing.is_everywhere(ctx):
        return [missing.put_off(one) if one.vanished and not is_overdue else one for one, is_overdue in results]
    return [one for one, _ in results]


@dataclass(frozen=True)
class Poller:
    """Asks Runway about one task; whatever goes wrong costs this task alone its turn."""

    ctx: Context
    runway: Runway
    share: Share

    async def poll(self, due: DuePoll) -> Polled:
        """One poll of a task that is under way."""
        ids: dict[str, Any] = {"video": due.video.id, "task": due.video.runway_video_id}
        try:
            return await self._poll(due)
        except RunwayUnavailable as exc:
            event(log, RUNWAY, "poll_failed", exc.detail, level=logging.WARNING, **ids)
        except Exception:
            words = "A poll failed in an unforeseen way"
            event(log, RUNWAY, "poll_broke", words, level=logging.ERROR, trace=True, **ids)
        return Polled(out_of_reach(due, self.ctx.settings))

    async def _poll(self, due: DuePoll) -> Polled:
        ctx, task_id = self.ctx, due.video.runway_video_id or ""
        seconds = self.share.ask_seconds(tasks.call_seconds(due.tries))
        if seconds <= 0:
            raise RunwayUnavailable("there was no time left for this poll")
        task = await self.runway.retrieve(task_id, seconds, model=due.video.model)
        result = evaluate(due, task, ctx.settings, now(ctx), ctx.random())
        words = f"Task is {result.task_status}"
        event(log, RUNWAY, "polled", words, level=logging.DEBUG, video=due.video.id, task=task_id)
        return Polled(result, is_overdue=due.age_seconds > ctx.settings.task_timeout)

    async def look(self, due: DueLook) -> Polled:
        """One more look for a task that had vanished."""
        seconds = self.share.ask_seconds(tasks.CALL_SECONDS)
        try:
            if seconds > 0 and await self.runway.retrieve(due.task_id, seconds, model=due.model) is not None:
                return Polled(is_look=True, found=due)
        except RunwayUnavailable as exc:
            words = exc.detail
            event(log, RUNWAY, "poll_failed", words, level=logging.WARNING, video=due.video_id, task=due.task_id)
        return Polled(is_look=True)


async def poll_now(ctx: Context, video_id: UUID, share: Share | None = None) -> Video:
    """The video, its task polled first if that is due and the time allows it. Raises NotFound."""
    share = share or unlimited(ctx.monotonic)
    due = await tasks.claim_one(ctx.database, video_id) if ctx.settings.runway_key and share.may_ask else None
    if due is not None:
        async with ctx.runway() as runway:
            polled = await Poller(ctx, runway, share).poll(due)
        await finalize(ctx, await judged(ctx, [polled]))
    return await video_rows.get(ctx.database, video_id)
