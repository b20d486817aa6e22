"""Bringing a world of one process to its end, from one event to the next, and judging it."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from tests.crash.accounts import Accounts, seconds_to_next_event, settle
from tests.database import connected
from tests.world import World


async def until_idle(w: World, rounds: int = 70) -> int:
    """Tick and let time pass, from one event to the next, until nothing is under way; the ticks that it took.

    The longer it takes, the longer the steps: what Runway keeps waiting for a day is a matter of seconds here.
    """
    for round_ in range(rounds):
        await w.tick()
        async with connected(w.url) as connection:
            wait = await seconds_to_next_event(connection)
        if wait is None:
            return round_ + 1
        await w.later(seconds=max(wait + 0.01, 2 ** (round_ / 3)))
    raise AssertionError(await w.rows("SELECT * FROM taxiway.videos WHERE status IN ('queued', 'processing')"))


async def judged(w: World, prompts: Mapping[UUID, str], removed: frozenset[UUID] = frozenset()) -> Accounts:
    """The accounts, without a complaint. `removed`: rows that the app deleted."""
    entries = w.runway.state.runway.ledger.as_json()["entries"]
    async with connected(w.url) as connection:
        accounts = await settle(connection, entries, prompts, removed=removed)
    assert not accounts.complaints, accounts.complaints
    assert accounts.booked == accounts.billed
    return accounts
