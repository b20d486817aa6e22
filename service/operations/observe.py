"""Observe: what is too dear to be looked at by everybody who asks is looked at by a tick, now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import asyncpg

from service.errors import RunwayAway, TaxiwayError
from service.house import House
from service.logs import RUNWAY, VIDEO, event
from service.runway.account import Account
from service.store import snapshots

log = logging.getLogger(__name__)

ACCOUNT_LOOK_SECONDS = 5.0  # nothing waits for it: what is late is left to the next time


async def refresh(house: House, due: Sequence[str]) -> None:
    """Take the snapshots that are due, by name, each in one process. What fails is told to the log alone."""
    for name in due:
        try:
            if await snapshots.take_turn(house.database, name):
                await (snapshots.count(house.database) if name == "counts" else _look(house))
        except (TaxiwayError, asyncpg.PostgresError) as exc:
            event(log, VIDEO, "snapshot_failed", f"No snapshot of {name}: {exc}", level=logging.WARNING)


async def _look(house: House) -> None:
    try:
        async with asyncio.timeout(ACCOUNT_LOOK_SECONDS):
            await account(house)
    except (RunwayAway, TimeoutError) as exc:
        words = exc.detail if isinstance(exc, RunwayAway) else f"no answer within {ACCOUNT_LOOK_SECONDS:g} s"
        event(log, RUNWAY, "account_not_seen", f"Credits left are not known: {words}", level=logging.WARNING)


async def account(house: House) -> Account:
    """Ask Runway for credits left and limits by model, and write them down. Raises RunwayAway."""
    async with house.runway() as runway:
        seen = await runway.organization()
    await snapshots.keep_account(house.database, seen.model_dump(mode="json"))
    return seen
