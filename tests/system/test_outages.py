"""An outage of Runway costs a handful of unknown outcomes: two hundred videos, and up to ten processes."""

from __future__ import annotations

import asyncio

import pytest

from service.context import Context
from service.tick import tick
from tests.db.test_circuit import always, others, outcomes
from tests.world import World, warm, world

pytestmark = pytest.mark.anyio


async def outage(w: World, contexts: list[Context], minutes: float = 2.0) -> None:
    """For so long each of these processes ticks every ten seconds."""
    for _ in range(int(minutes * 6)):
        await asyncio.gather(*(tick(ctx) for ctx in contexts))
        await w.later(seconds=10)


@pytest.mark.parametrize("fault", ["status=500", "status=504", "drop_after,reset"])
@pytest.mark.parametrize("processes", [1, 10])
async def test_an_outage_costs_a_handful_from_cold(database_url: str, fault: str, processes: int) -> None:
    """R1: a backlog, and every create answers so for two minutes."""
    async with world(database_url, submit_concurrency=50) as w:
        await w.enqueue_many(200)
        every = [w.ctx, *others(w, processes - 1)]
        try:
            always(w, fault)
            await outage(w, every)
            w.runway.state.runway.faults.clear()
            assert (await outcomes(w))["unknown"] <= 8
            await w.later(minutes=16)
            await w.finish(rounds=60)
        finally:
            for ctx in every[1:]:
                await ctx.database.close()
        found = await outcomes(w)
        assert found["unknown"] <= 8
        assert found["accepted"] == 200 - found["unknown"]


async def test_an_outage_costs_a_window_and_a_handful_when_warm(database_url: str) -> None:
    async with world(database_url, submit_concurrency=20) as w:
        await w.enqueue_many(200)
        await warm(w.url, 20)
        every = [w.ctx, *others(w, 3)]
        try:
            always(w, "status=500")
            await outage(w, every)
            assert (await outcomes(w))["unknown"] <= 20 + 8
            w.runway.state.runway.faults.clear()
            await w.later(minutes=16)
            await w.finish(rounds=60)
        finally:
            for ctx in every[1:]:
                await ctx.database.close()
        assert (await outcomes(w))["unknown"] <= 20 + 8
