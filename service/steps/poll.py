"""Poll: ask Runway about the tasks that are due. This alone finishes every video; callbacks only make it sooner."""

from __future__ import annotations

from collections.abc import Sequence

from service.context import Context, Counts
from service.deadline import Share, unlimited
from service.operations import missing
from service.operations.finalize import finalize
from service.operations.parking import ParkingLot
from service.operations.polling import Polled, Poller, judged
from service.operations.window import Window
from service.runway.client import Runway
from service.store import tasks, vanished
from service.store.tasks import DuePoll
from service.store.vanished import DueLook
from service.videos import Status

NOTHING: Counts = {"polled": 0, "completed": 0, "failed": 0, "retried": 0, "unreachable": 0, "found": 0}
ENDS = (("completed", Status.COMPLETED), ("failed", Status.FAILED), ("retried", Status.QUEUED))
LOOKS_AT_ONCE = 5  # about tasks that had vanished
FEW = 10  # tasks begun at once where others wait: answers of fifty at once would keep a new video waiting for 20 ms


async def run_once(ctx: Context, share: Share | None = None, *, look: bool = True, few: bool = False) -> Counts:
    """Poll due tasks, as many at once as POLL_CONCURRENCY allows, until none is due or the time is over.

    `look`: tasks that had vanished may be due to be asked about once more. `few`: begin a few at a time, for other work
    goes on in this process.
    """
    async with ctx.runway() as runway:
        step = _Step(ctx, runway, share or unlimited(ctx.monotonic), look, FEW if few else None)
        await Window(ctx.settings.poll_concurrency, step.claim, step.call, step.save).run(step.share)
    return step.counts


class _Step:
    def __init__(self, ctx: Context, runway: Runway, share: Share, look: bool, most: int | None) -> None:
        self.ctx, self.share, self.look, self.most = ctx, share, look, most
        self.caller = Poller(ctx, runway, share)
        self.parking = ParkingLot(ctx, "poll")
        self.counts = dict(NOTHING)

    async def claim(self, free: int) -> Sequence[DuePoll | DueLook]:
        if not self.share.may_ask:
            return []
        free = min(free, self.most or free)
        looks: list[DueLook] = []
        if self.look:
            looks = await vanished.claim_looks(self.ctx.database, min(free, LOOKS_AT_ONCE), self.parking)
            self.look = bool(looks)
        due = await tasks.claim_due(self.ctx.database, free - len(looks), self.parking) if free > len(looks) else []
        return [*looks, *due]

    async def call(self, due: DuePoll | DueLook) -> Polled:
        return await (self.caller.poll(due) if isinstance(due, DuePoll) else self.caller.look(due))

    async def save(self, polled: list[Polled]) -> None:
        results = await judged(self.ctx, polled)
        changed = await finalize(self.ctx, results)
        for one in polled:
            self.counts["polled"] += not one.is_look
            self.counts["unreachable"] += not one.is_look and one.result is None
            if one.found is not None:
                self.counts["found"] += await missing.go_on(self.ctx, one.found)
        for name, status in ENDS:
            self.counts[name] += sum(one.next_status == status and one.video_id in changed for one in results)
