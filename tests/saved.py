"""Answers as the submit step saves them, where a test brings some of its own."""

from __future__ import annotations

from collections.abc import Sequence

from service.context import Context
from service.deadline import Grace
from service.operations.saving import save_left, save_together
from service.store.outcome_row import OutcomeRow


async def save_answers(ctx: Context, answers: Sequence[OutcomeRow], grace: Grace | None = None) -> None:
    """Save all of them: together, and then what is left of them for as long as that is worth it."""
    grace = grace or Grace(ctx.monotonic)
    await save_left(ctx, await save_together(ctx, answers, grace), grace)
