"""Saving what creates came to: what the ledger stores of it, again and again, for as long as this process lives."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import asyncpg

from service.errors import TaxiwayError
from service.house import House
from service.logs import VIDEO, event
from service.runway.outcomes import ALL_LANES, Decision, Outcome, Pause
from service.store import lanes, submissions
from service.store.submissions import Answer

log = logging.getLogger(__name__)

SAVE_AGAIN_FIRST_SECONDS = 0.2
SAVE_AGAIN_CAP_SECONDS = 10.0


def as_answer(submission_id: int, video_id: UUID, outcome: Outcome, decision: Decision) -> Answer:
    """The row to save for one submission."""
    return Answer(
        submission_id=submission_id,
        video_id=video_id,
        outcome=outcome.kind.value,
        task_id=outcome.task_id,
        http_status=outcome.http_status,
        request_id=outcome.request_id,
        error=None if outcome.task_id else outcome.detail,
        estimated_credits=outcome.estimated_credits,
        next_status=decision.next_status.value,
        error_code=decision.error_code,
        error_message=decision.error_message,
        delay_seconds=decision.delay_seconds,
        setback=decision.setback,
        resubmit=decision.resubmit,
    )


async def insist(house: House, write: Callable[[], Awaitable[None]]) -> None:
    """Do one write until it succeeds. Only the database can be in the way, and it may come back."""
    wait = SAVE_AGAIN_FIRST_SECONDS
    while True:
        try:
            return await write()
        except (TaxiwayError, asyncpg.PostgresError) as exc:
            event(log, VIDEO, "save_again", f"Not saved yet, trying again: {exc}", level=logging.ERROR)
        await house.sleep(wait)
        wait = min(wait * 2, SAVE_AGAIN_CAP_SECONDS)


async def pause_lane(house: House, pause: Pause) -> None:
    """Pause a lane, and say so if it was open."""
    if await lanes.pause(house.database, pause.lane, pause.seconds, pause.reason, pause.detail):
        which = "all models" if pause.lane == ALL_LANES else pause.lane
        words = f"Lane paused ({which}) for {pause.seconds:g} s, {pause.reason}: {pause.detail}"
        event(log, VIDEO, "lane_paused", words, level=logging.WARNING, lane=pause.lane)


async def resume_lane(house: House, lane: str) -> None:
    """Open a lane."""
    await lanes.resume(house.database, lane)
    event(log, VIDEO, "lane_resumed", "Lane resumed: Runway takes videos again", lane=lane)


async def save_insistently(house: House, answers: Sequence[Answer]) -> None:
    """Save, again and again, for as long as this process lives: an id that is lost here was paid for nothing."""
    results: dict[int, str] = {}

    async def save() -> None:
        results.update(await submissions.save_each(house.database, answers))

    await insist(house, save)
    for answer in answers:
        result = results.get(answer.submission_id, "kept")
        event(
            log, VIDEO, "row_updated", _ROW_WORDS[result].format(status=answer.next_status),
            video=answer.video_id, submission=answer.submission_id, task=answer.task_id,
        )  # fmt: skip


_ROW_WORDS = {
    "kept": "Outcome was known already",
    "moved": "Row updated: status {status}",
    "locked": "Row is held by another transaction: saved to the ledger, the row follows",
    "waits": "Saved to the ledger; the video waits for something else",
    "elsewhere": "Saved to the ledger; the video has moved on, and this task is a surplus to be deleted",
}
