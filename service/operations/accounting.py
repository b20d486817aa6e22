"""The account at Runway: credits left and each model's limits, asked and written down; and what today has cost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal

from service.context import Context
from service.errors import RunwayUnavailable
from service.runway.account import Account
from service.settings import need
from service.store import maintenance, spending
from service.store import usage as ledger
from service.store.usage import Usage

PATIENCE_SECONDS = 8.0  # of a request that waits for the answer


async def ask(ctx: Context, seconds: float | None = None) -> Account:
    """Ask Runway, which costs nothing. `seconds`: at most, PATIENCE_SECONDS by default.

    Raises NotConfigured without a key, and RunwayUnavailable, also if the answer is late.
    """
    need(ctx.settings, "runway_key")
    seconds = PATIENCE_SECONDS if seconds is None else seconds
    try:
        async with asyncio.timeout(seconds), ctx.runway() as runway:
            return await runway.organization()
    except TimeoutError:
        raise RunwayUnavailable(f"Runway did not answer within {seconds:g} s") from None


async def observe(ctx: Context, seconds: float | None = None) -> Account:
    """Ask Runway, and write the answer down for /metrics and for what shows it later. Raises as `ask`."""
    seen = await ask(ctx, seconds)
    await maintenance.keep_account(ctx.database, seen.model_dump(mode="json"))
    return seen


async def usage(ctx: Context, days: int, limit: int, user_id: str | None = None, model: str | None = None) -> Usage:
    """What the last so many days (UTC) cost, by day, model and user: at most `limit` rows."""
    return await ledger.usage(ctx.database, days, limit, user_id, model)


@dataclass(frozen=True)
class Spending:
    """Credits of today (UTC): what its submissions cost, or may cost, and MAX_CREDITS_PER_DAY."""

    today: Decimal
    most: Decimal | None


async def spent(ctx: Context) -> Spending:
    """What today has cost so far."""
    by_model = await spending.today(ctx.database)
    return Spending(sum(by_model.values(), Decimal(0)), ctx.settings.max_credits_per_day)
