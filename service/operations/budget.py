"""Claiming within MAX_CREDITS_PER_DAY: what the day has no room for waits: its model pauses until the day turns.

And within the limits of each user: what he has no room for is passed over, and others' videos go first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from service.context import Context
from service.errors import DatabaseUnavailable, StatementRefused
from service.logs import VIDEO, event
from service.runway.outcomes import ALL_MODELS
from service.store import batches, identity, models, spending
from service.store import claim as claims
from service.store.batches import RAISE, Parking
from service.store.claim import ALL_DUE, Aim, OpenSubmission, PerUser, Room
from service.store.database import Connection
from service.store.memory import Made

log = logging.getLogger(__name__)

REASON = "daily_budget"


async def claim(
    ctx: Context,
    limit: int,
    call_seconds: float,
    aim: Aim = ALL_DUE,
    claim_id: int | None = None,
    parking: Parking = RAISE,
) -> list[OpenSubmission]:
    """Permit at most `limit` creates, and no more than today's credits and each user's limits allow; none in a database
    that was restored.
    """
    limits = per_user(ctx)
    aim = replace(aim, per_user=None if limits == claims.UNLIMITED else limits)
    parts = await batches.write_chosen(
        "claim",
        usual=lambda: _recognised(ctx, limit, call_seconds, aim, claim_id),
        choose=lambda passed_over: claims.choose(ctx.database, limit, aim, passed_over),
        these=lambda keys: _recognised(ctx, limit, call_seconds, aim, claim_id, keys),
        parking=parking,
    )
    return [submission for part in parts for submission in part]


def per_user(ctx: Context) -> PerUser:
    """What each user may have in flight and spend a day."""
    return PerUser(ctx.settings.max_in_flight_per_user, ctx.settings.max_credits_per_day_per_user)


async def _recognised(
    ctx: Context,
    limit: int,
    call_seconds: float,
    aim: Aim,
    claim_id: int | None,
    only: Sequence[str] | None = None,
) -> list[OpenSubmission]:
    async with identity.recognised(ctx.database) as connection:
        taken = await _claim(ctx, connection, limit, call_seconds, aim, claim_id, only) if connection else []
    # Only now is it certain that the claim was committed.
    ctx.database.memory.remember(Made(one.video_id, one.submission_id, claim_id) for one in taken)
    return taken


async def _claim(
    ctx: Context,
    connection: Connection,
    limit: int,
    call_seconds: float,
    aim: Aim,
    claim_id: int | None,
    only: Sequence[str] | None,
) -> list[OpenSubmission]:
    settings = ctx.settings
    has_budget = settings.max_credits_per_day is not None or bool(settings.max_credits_per_day_by_model)
    if not has_budget and aim.per_user is None:
        return await claims.claim(connection, limit, call_seconds, aim, claim_id=claim_id, only=only)
    async with connection.transaction():
        await _take_turn(connection)
        room = _room(ctx, await spending.today(connection) if has_budget else {})
        taken = await claims.claim(connection, limit, call_seconds, aim, room, claim_id, only)
        if has_budget and len(taken) < limit:
            await _pause_what_is_spent(connection, _less(room, taken))
    return taken


async def _take_turn(tx: Connection) -> None:
    """Raises DatabaseUnavailable while another transaction holds the turn: no video is at fault, none is parked."""
    try:
        await spending.take_turn(tx)
    except StatementRefused as exc:
        raise DatabaseUnavailable(exc.detail) from None


def _room(ctx: Context, spent: dict[str, Decimal]) -> Room:
    cap, caps = ctx.settings.max_credits_per_day, ctx.settings.max_credits_per_day_by_model
    by_model = {model: own - spent.get(model, Decimal(0)) for model, own in caps.items()}
    return Room(None if cap is None else cap - sum(spent.values(), Decimal(0)), by_model)


def _less(room: Room, taken: Sequence[OpenSubmission]) -> Room:
    cost: dict[str, Decimal] = {}
    for submission in taken:
        cost[submission.model] = cost.get(submission.model, Decimal(0)) + (submission.quoted_credits or Decimal(0))
    by_model = {model: own - cost.get(model, Decimal(0)) for model, own in room.by_model.items()}
    return Room(None if room.for_all is None else room.for_all - sum(cost.values(), Decimal(0)), by_model)


async def _pause_what_is_spent(tx: Connection, room: Room) -> None:
    """Pause each model whose next video does not fit into what is left of today."""
    for row in await spending.next_prices(tx):
        price, model = row["quoted_credits"], row["model"]
        if room.for_all is not None and price > room.for_all:
            paused, setting = ALL_MODELS, "MAX_CREDITS_PER_DAY"
        elif model in room.by_model and price > room.by_model[model]:
            paused, setting = model, "MAX_CREDITS_PER_DAY_BY_MODEL"
        else:
            continue
        words = f"the next video costs {price.normalize():f} credits, more than {setting} leaves for today"
        if await models.pause(tx, paused, row["day_ends_in_seconds"], REASON, words, "submit"):
            event(
                log,
                VIDEO,
                "model_paused",
                f"Model paused until the day turns: {words}",
                level=logging.WARNING,
                model=paused,
            )
