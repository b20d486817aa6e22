"""MAX_CREDITS_PER_DAY: a claim predicate over the ledger."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from service.store import models, spending
from tests.database import execute
from tests.world import World, world

pytestmark = pytest.mark.anyio

TEXT = {"operation": "text_to_video", "input": {"promptText": "a boat"}}  # 60 credits with gen4.5


@pytest.mark.parametrize(("cap", "sent"), [(24, 0), (25, 1), (49, 1), (50, 2), (125, 5)])
async def test_no_more_is_permitted_than_the_day_allows(database_url: str, cap: int, sent: int) -> None:
    async with world(database_url, max_credits_per_day=Decimal(cap)) as w:
        for _ in range(5):
            await w.enqueue()
        await asyncio.gather(*(w.tick() for _ in range(4)))
        assert len(w.creates) == sent
        paused = await models.paused(w.ctx.database)
        assert [(row["model"], row["reason"]) for row in paused] == ([("all", "daily_budget")] if sent < 5 else [])
        if paused:
            assert "MAX_CREDITS_PER_DAY" in paused[0]["detail"]


async def test_a_model_has_its_own_limit_and_starves_no_other(database_url: str) -> None:
    async with world(database_url, max_credits_per_day_by_model="gen4_turbo=30") as w:
        for _ in range(3):
            await w.enqueue()
        for _ in range(3):
            await w.enqueue(**TEXT)
        await w.tick()
        assert sorted(entry.model for entry in w.creates) == ["gen4.5", "gen4.5", "gen4.5", "gen4_turbo"]
        assert [row["model"] for row in await models.paused(w.ctx.database)] == ["gen4_turbo"]


async def test_what_did_cost_nothing_leaves_room_and_the_day_turns(database_url: str) -> None:
    async with world(database_url, max_credits_per_day=Decimal(25)) as w:
        w.faults("status=400, body=runway")
        first = await w.enqueue()
        await w.tick()
        assert (await w.row(first))["error_code"] == "REJECTED"
        await w.enqueue()
        await w.enqueue()
        await w.tick()
        assert len(w.creates) == 2
        await w.later(hours=25)
        await w.tick()
        assert len(w.creates) == 3


async def test_an_unknown_outcome_counts_with_its_bound(database_url: str) -> None:
    async with world(database_url, max_credits_per_day=Decimal(49)) as w:
        w.faults("drop_after")
        await w.enqueue()
        await w.tick()
        await w.enqueue()
        await w.tick()
        assert len(w.creates) == 1
        await execute(database_url, "UPDATE taxiway.submissions SET outcome = 'not_sent', settled_at = taxiway.now()")
        await models.resume(w.ctx.database, "all")
        await w.tick()
        assert len(w.creates) == 2


@pytest.mark.parametrize(
    ("quoted", "estimated", "cost", "counted"),
    [(25, None, None, 25), (25, 40, None, 40), (25, 10, None, 25), (None, 40, None, 40), (25, 40, 30, 30)],
)
async def test_until_the_cost_is_known_the_higher_of_both_prices_counts(
    w: World, quoted: int | None, estimated: int | None, cost: int | None, counted: int
) -> None:
    await w.enqueue()
    await w.tick()
    await w.rows(
        "UPDATE taxiway.submissions SET quoted_credits = $1, estimated_credits = $2, cost_credits = $3",
        quoted, estimated, cost,
    )  # fmt: skip
    assert await spending.today(w.ctx.database) == {"gen4_turbo": Decimal(counted)}
