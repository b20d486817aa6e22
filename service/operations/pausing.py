"""Pause one model, or all of them, and open it again, as an operator does."""

from __future__ import annotations

import logging
from typing import Any

from service.context import Context
from service.errors import NoSuchModel
from service.logs import VIDEO, event
from service.runway.catalogue import models, operations
from service.runway.outcomes import ALL_MODELS
from service.store import identity
from service.store import models as store

log = logging.getLogger(__name__)

MANUAL = "manual"
# A model that was never used: open, with nothing in it.
EMPTY: dict[str, Any] = {
    "reason": None, "detail": None, "paused_until": None, "paused_at": None, "queued": 0, "in_flight": 0,
    "may_be_in_flight": None,
}  # fmt: skip


def known() -> list[str]:
    """Every model that there can be: 'all' for all of them, and each model of the catalogue."""
    return [ALL_MODELS, *sorted({model for operation in operations() for model in models(operation)})]


async def listed(ctx: Context) -> list[dict[str, Any]]:
    """Every model that there can be, 'all' first, as `store.models.every` has it, those without a video included.

    `waits`: open itself, but nothing is sent, because all models are paused.
    """
    rows = [dict(row) for row in await store.every(ctx.database)]
    never = sorted(set(known()) - {row["model"] for row in rows})
    rows += [EMPTY | {"model": name} for name in never]
    all_paused = any(row["model"] == ALL_MODELS and row["reason"] for row in rows)
    return [row | {"waits": all_paused and not row["reason"]} for row in rows]


async def state_of(ctx: Context, model: str) -> dict[str, Any]:
    """One model as `store.models.every` has it, also one that was never used."""
    rows = {row["model"]: dict(row) for row in await store.every(ctx.database)}
    return rows.get(model, EMPTY | {"model": model})


def _check(model: str) -> None:
    if model not in known():
        raise NoSuchModel(f"there is no model {model[:100]!r}; there are: {', '.join(known())}", models=known())


async def pause(ctx: Context, model: str, seconds: float, why: str) -> None:
    """Send nothing for this model for a while; of two pauses, the longer stands. Raises NoSuchModel."""
    _check(model)
    await store.pause(ctx.database, model, seconds, MANUAL, why, ctx.actor)
    event(log, VIDEO, "model_paused", f"Model paused by {ctx.actor} for {seconds:g} s: {why}", model=model)


async def consequences(ctx: Context, model: str) -> str | None:
    """What to resume this model may cost, if its database was restored: words to ask the operator with."""
    return await identity.consequences(ctx.database) if model == ALL_MODELS else None


async def resume(ctx: Context, model: str) -> bool:
    """Open a model; whether it was paused. Raises NoSuchModel.

    Of all models that also accepts a database that was restored: `consequences` says what that may cost.
    """
    _check(model)
    was_paused = await store.resume(ctx.database, model, ctx.actor)
    if model == ALL_MODELS:
        was_paused = await identity.accept(ctx.database, ctx.actor) or was_paused
    if was_paused:
        event(log, VIDEO, "model_resumed", f"Model resumed by {ctx.actor}", model=model)
    return was_paused
