"""Saving what creates came to. An id that is lost here was paid for nothing.

While PostgreSQL cannot be reached, the same is tried again for as long as this process lives; once it is to stop, for
SAVE_GRACE_SECONDS. An answer that PostgreSQL refuses, or whose row in the ledger is held, costs the others nothing: it
is tried again beside them for a while, and then with each tick of this process (`Context.unsaved`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from uuid import UUID

import asyncpg

from service.context import Context
from service.deadline import Grace
from service.errors import TaxiwayError
from service.logs import VIDEO, event
from service.operations.parking import ParkingLot
from service.runway.outcomes import ALL_MODELS, Decision, Outcome, Pause
from service.store import circuit_state, gateway, models, submissions
from service.store.batches import Refusal
from service.store.circuit_state import Change
from service.store.driver_errors import Meaning, is_unreachable, is_wide, meaning
from service.store.outcome_row import OutcomeRow

log = logging.getLogger(__name__)
T = TypeVar("T")

SAVE_AGAIN_FIRST_SECONDS = 0.2
SAVE_AGAIN_CAP_SECONDS = 10.0
# What is refused, or held, is tried so often in one tick: for 6 s, and for a minute where it may pass.
REFUSED_TRIES, HELD_TRIES = 6, 11
WATCH_SECONDS = 0.5  # how often a write that hangs is asked whether its time is over


def as_outcome_row(
    submission_id: int, video_id: UUID, outcome: Outcome, decision: Decision, *, announced: bool = True
) -> OutcomeRow:
    """The row to save for one submission. `announced`: an endpoint may want to know that Runway took it."""
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
        announced=announced,
    )


async def retry_until_saved(ctx: Context, write: Callable[[], Awaitable[T]], grace: Grace, tries: int) -> T | None:
    """Do one write until what it returns is true; that, or None.

    While PostgreSQL cannot be reached, that goes on until the grace is over. Otherwise it is tried so many times.
    """
    wait = SAVE_AGAIN_FIRST_SECONDS
    while True:
        try:
            async with _within(grace):
                if result := await write():
                    return result
            tries -= 1
        except TimeoutError:
            return None
        except (TaxiwayError, asyncpg.PostgresError) as exc:
            event(log, VIDEO, "save_again", f"Not saved yet, trying again: {exc}", level=logging.ERROR)
            tries -= not is_unreachable(exc)
        if tries <= 0 or not await _pause(ctx, wait, grace):
            return None
        wait = min(wait * 2, SAVE_AGAIN_CAP_SECONDS)


@asynccontextmanager
async def _within(grace: Grace) -> AsyncIterator[None]:
    """Cuts off what is inside, with a TimeoutError, once the grace is over."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as limit:  # a task for it would cost each save two turns of the loop

        def watch() -> None:
            nonlocal timer
            if grace.is_over:
                limit.reschedule(loop.time())
            else:
                timer = loop.call_later(WATCH_SECONDS, watch)

        timer = loop.call_later(WATCH_SECONDS, watch)
        try:
            yield
        finally:
            timer.cancel()


async def _pause(ctx: Context, seconds: float, grace: Grace) -> bool:
    """Wait; whether there is time for another try."""
    if grace.is_over:
        return False
    try:
        async with _within(grace):
            await ctx.sleep(seconds)
    except TimeoutError:
        return False
    return not grace.is_over


async def pause_model(ctx: Context, pause: Pause, grace: Grace, tries: int = REFUSED_TRIES) -> bool:
    """Pause a model, and say so if it was open; False if its row was held, or refused it, each time."""
    newly = False

    async def write() -> bool:
        nonlocal newly
        done = await models.try_pause(
            ctx.database, pause.model, pause.seconds, pause.reason, pause.detail, pause.video_id
        )
        newly = bool(done)
        return done is not None

    if not await retry_until_saved(ctx, write, grace, tries):
        return False
    if newly:
        which = "all models" if pause.model == ALL_MODELS else pause.model
        words = f"Model paused ({which}) for {pause.seconds:g} s, {pause.reason}: {pause.detail}"
        event(log, VIDEO, "model_paused", words, level=logging.WARNING, model=pause.model)
    return True


async def resume_model(ctx: Context, model: str, grace: Grace, tries: int = REFUSED_TRIES) -> bool:
    """Open a model; False if its row was held, or refused it, each time."""

    async def write() -> bool:
        return await models.try_resume(ctx.database, model)

    if not await retry_until_saved(ctx, write, grace, tries):
        return False
    event(log, VIDEO, "model_resumed", "Model resumed: Runway takes videos again", model=model)
    return True


async def change_circuit(ctx: Context, change: Change, grace: Grace, tries: int = REFUSED_TRIES) -> bool:
    """Write down what outcomes mean for a model; False if its row was held, or refused it, each time."""
    seconds: float | None = None

    async def write() -> bool:
        nonlocal seconds
        seconds = await circuit_state.change(ctx.database, change)
        return seconds is not None

    if not await retry_until_saved(ctx, write, grace, tries):
        return False
    if seconds:
        words = f"Model paused ({change.model}) for {seconds:g} s, {circuit_state.REASON}: {change.detail}"
        event(log, VIDEO, "model_paused", words, level=logging.WARNING, model=change.model)
    return True


@dataclass(frozen=True)
class Left:
    """Answers that were not written. `may_pass`: their rows are held, or the server is in trouble."""

    answers: Sequence[OutcomeRow] = ()
    may_pass: bool = False


async def save_together(ctx: Context, answers: Sequence[OutcomeRow], grace: Grace) -> Left:
    """Save these with as few statements as PostgreSQL allows; what is refused or held is left."""
    left = None
    try:
        left = await retry_until_saved(ctx, partial(_save, ctx, answers), grace, tries=1)
    except Exception:
        event(log, VIDEO, "not_saved", f"{len(answers)} answers are not saved yet", level=logging.ERROR, trace=True)
    left = left or Left(answers, may_pass=True)
    for answer in left.answers:
        ctx.unsaved[answer.submission_id] = answer
    return left


async def save_left(ctx: Context, left: Left, grace: Grace) -> None:
    """Try again what was refused or held; what is left then is logged, and tried with the next ticks."""
    wait, tries = SAVE_AGAIN_FIRST_SECONDS, 1
    while left.answers and tries < (HELD_TRIES if left.may_pass else REFUSED_TRIES) and await _pause(ctx, wait, grace):
        left = await save_together(ctx, left.answers, grace)
        wait, tries = min(wait * 2, SAVE_AGAIN_CAP_SECONDS), tries + 1
    for answer in left.answers:
        words = f"Not saved: {answer.outcome}, task id {answer.task_id}; its submission is unknown from its deadline on"
        event(
            log, VIDEO, "not_saved", words, level=logging.ERROR,
            video=answer.video_id, submission=answer.submission_id, task=answer.task_id,
        )  # fmt: skip


async def save_what_was_left(ctx: Context) -> None:
    """Once more what earlier ticks of this process could not save."""
    if ctx.unsaved:
        await _save(ctx, list(ctx.unsaved.values()))


async def _save(ctx: Context, answers: Sequence[OutcomeRow]) -> Left:
    """One attempt; what is left. What is written is no longer kept in `ctx.unsaved`."""
    parking = _Noting(ctx)
    results = await submissions.save_each(ctx.database, answers, parking)
    left = []
    for answer in answers:
        result = results.get(answer.submission_id, "kept")
        if result == "busy" or str(answer.submission_id) in parking.refused:
            left.append(answer)
            continue
        ctx.unsaved.pop(answer.submission_id, None)
        words = _ROW_WORDS[result].format(status=answer.next_status)
        if result == "moved" and answer.next_status == "failed" and answer.error_message:
            words += f", {answer.error_message}"
        event(
            log, VIDEO, "row_updated", words,
            video=answer.video_id, submission=answer.submission_id, task=answer.task_id,
        )  # fmt: skip
    return Left(left, may_pass="busy" in results.values() or parking.may_pass)


class _Noting(ParkingLot):
    """Parks what is refused, and remembers it for this attempt."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx, "submit")
        self.refused: set[str] = set()
        self.may_pass = False

    async def park(self, refusal: Refusal) -> None:
        """Put one aside."""
        self.refused.add(refusal.key)
        self.may_pass |= meaning(refusal.error) is Meaning.FOR_NOW or is_wide(refusal.error)
        await super().park(refusal)


GATEWAY_WORDS = (
    "A gateway between Taxiway and Runway refused this video three times, while it let others pass ({detail}). Nothing "
    "was made, and nothing paid. Change the prompt or the image, or have the gateway's rules changed; then retry."
)


async def count_refusals(ctx: Context, details: Mapping[UUID, str]) -> None:
    """Count that a gateway refused these videos; one that it alone refuses fails. What fails of that is logged."""
    words = {id: GATEWAY_WORDS.format(detail=detail) for id, detail in details.items()}
    try:
        for id in await gateway.refused(ctx.database, words):
            event(log, VIDEO, "refused_by_gateway", words[id], level=logging.WARNING, video=id)
    except (TaxiwayError, asyncpg.PostgresError) as exc:
        event(log, VIDEO, "not_counted", f"{len(words)} refusals are not counted: {exc}", level=logging.WARNING)


_ROW_WORDS = {
    "kept": "Outcome was known already",
    "moved": "Row updated: status {status}",
    "locked": "The video's row is held, or refuses it: saved to the ledger, the row follows",
    "waits": "Saved to the ledger; the video waits for something else",
    "erased": "Saved to the ledger, without words: the video is erased, and a task is a surplus to be deleted",
    "elsewhere": "Saved to the ledger; the video has moved on, and this task is a surplus to be deleted",
}
