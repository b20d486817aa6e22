"""Claiming within MAX_CREDITS_PER_DAY: what the day has no room for waits, with its lane paused until the day turns."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal

from service.house import House
from service.logs import VIDEO, event
from service.runway.outcomes import ALL_LANES
from service.store import lanes, permits, spending
from service.store.permits import Permit, Room

log = logging.getLogger(__name__)

REASON = "daily_budget"


async def claim(
    house: House, limit: int, call_seconds: float, lane: str | None = None, claim_id: int | None = None
) -> list[Permit]:
    """Permit at most `limit` creates, and no more than today's credits allow."""
    database, settings = house.database, house.settings
    if settings.max_credits_per_day is None and not settings.max_credits_per_day_by_model:
        return await permits.claim(database, limit, call_seconds, lane, claim_id=claim_id)
    async with database.transaction():
        await spending.take_turn(database)
        room = _room(house, await spending.today(database))
        taken = await permits.claim(database, limit, call_seconds, lane, room, claim_id)
        if len(taken) < limit:
            await _pause_what_is_spent(house, _less(room, taken))
    return taken


def _room(house: House, spent: dict[str, Decimal]) -> Room:
    cap, caps = house.settings.max_credits_per_day, house.settings.max_credits_per_day_by_model
    by_model = {model: own - spent.get(model, Decimal(0)) for model, own in caps.items()}
    return Room(None if cap is None else cap - sum(spent.values(), Decimal(0)), by_model)


def _less(room: Room, taken: Sequence[Permit]) -> Room:
    cost: dict[str, Decimal] = {}
    for permit in taken:
        cost[permit.model] = cost.get(permit.model, Decimal(0)) + (permit.quoted_credits or Decimal(0))
    by_model = {model: own - cost.get(model, Decimal(0)) for model, own in room.by_model.items()}
    return Room(None if room.for_all is None else room.for_all - sum(cost.values(), Decimal(0)), by_model)


async def _pause_what_is_spent(house: House, room: Room) -> None:
    """Pause each lane whose next video does not fit into what is left of today."""
    for row in await spending.next_prices(house.database):
        price, model = row["quoted_credits"], row["model"]
        if room.for_all is not None and price > room.for_all:
            lane, setting = ALL_LANES, "MAX_CREDITS_PER_DAY"
        elif model in room.by_model and price > room.by_model[model]:
            lane, setting = model, "MAX_CREDITS_PER_DAY_BY_MODEL"
        else:
            continue
        words = f"the next video costs {price.normalize():f} credits, more than {setting} leaves for today"
        if await lanes.pause(house.database, lane, row["day_ends_in_seconds"], REASON, words):
            event(
                log, VIDEO, "lane_paused", f"Lane paused until the day turns: {words}", level=logging.WARNING, lane=lane
            )
