"""A task that Runway says it does not know: one 404 proves nothing, and nor do many, with the key of another account.

Only after three of them over five minutes is a task given up. It may have been charged all the same: its entry in the
ledger stays open, another create needs consent, and for a day it is asked about once an hour.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from service.context import Context
from service.logs import VIDEO, event
from service.operations.parking import ParkingLot
from service.store import vanished
from service.store.tasks import PollResult
from service.store.vanished import DueLook
from service.videos import Status

log = logging.getLogger(__name__)

TRIES = 3  # so often Runway must have said it ...
OVER_SECONDS = 300.0  # ... and over this time
GAP_SECONDS = OVER_SECONDS / (TRIES - 1)
FEWEST_TASKS = 5  # so few tasks say nothing about the key


def is_proof(times: int, seconds: float) -> bool:
    """Whether a task is gone that Runway did not know so often in a row, first so long ago."""
    return times >= TRIES and seconds >= OVER_SECONDS


async def is_everywhere(ctx: Context) -> bool:
    """Whether Runway does not know most of the tasks: then it is the key that is wrong, not the tasks."""
    polled, unknown = await vanished.polled_lately(ctx.database)
    if polled < FEWEST_TASKS or unknown * 2 <= polled:
        return False
    words = (
        f"Runway does not know {unknown} of the {polled} tasks that were polled last: RUNWAYML_API_SECRET may belong "
        "to another account. No video fails for it; correct the key"
    )
    event(log, VIDEO, "key_doubted", words, level=logging.ERROR)
    return True


def put_off(result: PollResult) -> PollResult:
    """This poll, as if it had said nothing: the task is polled again."""
    return replace(
        result, next_status=Status.PROCESSING.value, vanished=False, error_code=None, error_message=None,
        delay_seconds=GAP_SECONDS,
    )  # fmt: skip


async def go_on(ctx: Context, due: DueLook) -> bool:
    """A task that had vanished is there: its video goes on with it, if it waits for it; else the task is a surplus."""
    result = await vanished.found(ctx.database, due, ParkingLot(ctx, "poll"))
    if result is None:
        return False
    words = f"A task that had vanished is there after all: {result}"
    event(log, VIDEO, "found", words, level=logging.WARNING, video=due.video_id, task=due.task_id)
    return True
