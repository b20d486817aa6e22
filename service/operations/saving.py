"""Saving what creates came to: what the ledger stores of it, again and again, for as long as this process lives."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import asyncpg

from service.context import Context
from service.errors import TaxiwayError
from service.logs import VIDEO, event
from service.runway.outcomes import ALL_MODELS, Decision, Outcome, Pause
from service.store import models, submissions
from service.store.submissions import OutcomeRow

log = logging.getLogger(__name__)

SAVE_AGAIN_FIRST_SECONDS = 0.2
SAVE_AGAIN_CAP_SECONDS = 10.0


def as_outcome_row(submission_id: int, video_id: UUID, outcome: Outcome, decision: Decision) -> OutcomeRow:
    """The row to save for one submission."""
    return OutcomeRow(
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
        retry=decision.retry,
        resubmit=decision.resubmit,
    )


async def retry_until_saved(ctx: Context, write: Callable[[], Awaitable[None]]) -> None:
    """Do one write until it succeeds. Only the database can be in the way, and it may come back."""
    wait = SAVE_AGAIN_FIRST_SECONDS
    while True:
        try:
            return await write()
        except (TaxiwayError, asyncpg.PostgresError) as exc:
            event(log, VIDEO, "save_again", f"Not saved yet, trying again: {exc}", level=logging.ERROR)
        await ctx.sleep(wait)
        wait = min(wait * 2, SAVE_AGAIN_CAP_SECONDS)


async def pause_model(ctx: Context, pause: Pause) -> None:
    """Pause a model, and say so if it was open."""
    if await models.pause(ctx.database, pause.model, pause.seconds, pause.reason, pause.detail):
        which = "all models" if pause.model == ALL_MODELS else pause.model
        words = f"Model paused ({which}) for {pause.seconds:g} s, {pause.reason}: {pause.detail}"
        event(log, VIDEO, "model_paused", words, level=logging.WARNING, model=pause.model)


async def resume_model(ctx: Context, model: str) -> None:
    """Open a model."""
    await models.resume(ctx.database, model)
    event(log, VIDEO, "model_resumed", "Model resumed: Runway takes videos again", model=model)


async def save_answers(ctx: Context, answers: Sequence[OutcomeRow]) -> None:
    """Save, again and again, for as long as this process lives: an id that is lost here was paid for nothing."""
    results: dict[int, str] = {}

    async def save() -> None:
        results.update(await submissions.save_each(ctx.database, answers))

    await retry_until_saved(ctx, save)
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
