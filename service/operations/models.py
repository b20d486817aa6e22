"""Lanes by hand: pause one, or all of them, and open it again."""

from __future__ import annotations

import logging

from service.errors import NoSuchLane
from service.house import House
from service.logs import VIDEO, event
from service.runway.catalogue import models, operations
from service.runway.outcomes import ALL_LANES
from service.store import lanes

log = logging.getLogger(__name__)

BY_HAND = "by_hand"


def known() -> list[str]:
    """Every lane that there can be: '*' for all of them, and each model of the catalogue."""
    return [ALL_LANES, *sorted({model for operation in operations() for model in models(operation)})]


def _check(lane: str) -> None:
    if lane not in known():
        raise NoSuchLane(f"there is no lane {lane[:100]!r}; there are: {', '.join(known())}", lanes=known())


async def pause(house: House, lane: str, seconds: float, why: str) -> None:
    """Send nothing for this lane for a while; of two pauses, the longer stands. Raises NoSuchLane."""
    _check(lane)
    await lanes.pause(house.database, lane, seconds, BY_HAND, why)
    event(log, VIDEO, "lane_paused", f"Lane paused by hand for {seconds:g} s: {why}", lane=lane)


async def resume(house: House, lane: str) -> bool:
    """Open a lane; whether it was paused. Raises NoSuchLane."""
    _check(lane)
    was_paused = await lanes.resume(house.database, lane)
    if was_paused:
        event(log, VIDEO, "lane_resumed", "Lane resumed by hand", lane=lane)
    return was_paused
