"""A whole Taxiway for one test: its own database, a simulated Runway, and clients of both."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import httpx
from pydantic import BaseModel

from service import context as contexts
from service.app import create_app
from service.context import Context
from service.settings import Settings
from service.simulator.app import Simulator, SimulatorOptions, create_simulator
from service.tick import tick
from tests.database import execute, later
from tests.kept import asking, going_on

if TYPE_CHECKING:
    import pytest

    from service.store.database import Database

API_KEY = "api-key-for-tests-0001"
CRON_SECRET = "cron-secret-for-tests-1"
CALLBACK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RUNWAY_KEY = "key_" + "0" * 128
IMAGE = "https://example.com/boat.jpg"


class Clock:
    """Seconds that pass when told to; begins at the real time, which the database keeps, too."""

    def __init__(self) -> None:
        self.began = self.now = time.time()

    @property
    def passed(self) -> float:
        """By how many seconds it is ahead of where it began."""
        return self.now - self.began

    def __call__(self) -> float:
        return self.now


class _Given(Settings):
    """Settings that look for nothing in the environment, which takes longer than to check them."""

    def __init__(self, **values: Any) -> None:
        BaseModel.__init__(self, **values)


def settings(url: str, **changes: Any) -> Settings:
    """Complete settings, with no environment read: tests remove its variables."""
    values: dict[str, Any] = {
        "database_url": url,
        "runway_key": RUNWAY_KEY,
        "runway_url": "http://runway.test",
        "api_keys": (API_KEY,),
        "cron_secret": (CRON_SECRET,),
        "callback_secrets": (CALLBACK_SECRET,),
    }
    return _Given(**(values | changes))


@dataclass
class World:
    """Everything a test of the whole needs. `api` and `cron` carry their credentials, `anyone` carries none."""

    ctx: Context
    runway: Simulator
    clock: Clock
    url: str
    api: httpx.AsyncClient
    cron: httpx.AsyncClient
    anyone: httpx.AsyncClient

    async def enqueue(self, **changes: Any) -> UUID:
        """Hand in one video; its id."""
        body = {"input": {"promptText": "a boat", "promptImage": IMAGE}} | changes
        response = await self.api.post("/videos", json=body)
        assert response.status_code == 202, response.text
        return UUID(response.json()["id"])

    async def enqueue_many(self, count: int, **changes: Any) -> list[UUID]:
        """So many alike."""
        return [await self.enqueue(**changes) for _ in range(count)]

    async def tick(self, **options: Any) -> dict[str, Any]:
        """One tick, in this process."""
        counts = (await tick(self.ctx, **options)).as_json()
        assert "errors" not in counts, counts
        return counts

    async def later(self, **interval: float) -> None:
        """Let time pass: in the database, here, and at Runway."""
        self.clock.now += timedelta(**interval).total_seconds()
        await later(self.url, **interval)

    async def row(self, video_id: UUID) -> asyncpg.Record:
        """The video as the app sees it."""
        return (await self.rows("SELECT * FROM taxiway.videos WHERE id = $1", video_id))[0]

    async def rows(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database directly."""
        async with asking(self.url) as connection:
            return await connection.fetch(sql, *arguments)

    async def ledger(self, video_id: UUID) -> list[asyncpg.Record]:
        """The submissions of a video, oldest first."""
        return await self.rows("SELECT * FROM taxiway.submissions WHERE video_id = $1 ORDER BY id", video_id)

    @property
    def creates(self) -> list[Any]:
        """Every create in Runway's own book."""
        return list(self.runway.state.runway.ledger.entries)

    def faults(self, *faults: Any) -> None:
        """Plan faults for the next calls of Runway."""
        self.runway.state.runway.faults.add(list(faults))

    async def finish(self, rounds: int = 12) -> None:
        """Tick, a minute apart, until no video is under way."""
        for _ in range(rounds):
            await self.tick()
            if not await self.rows("SELECT FROM taxiway.videos WHERE status IN ('queued', 'processing')"):
                return
            await self.later(minutes=1)
        raise AssertionError(await self.rows("SELECT status, error_message, run_after, poll_after FROM taxiway.videos"))


def fetched(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements whose rows are fetched from now on, as they come."""
    statements: list[str] = []
    usual = database.fetch

    async def noted(sql: str, *arguments: object) -> list[asyncpg.Record]:
        statements.append(sql)
        return await usual(sql, *arguments)

    monkeypatch.setattr(database, "fetch", noted)
    return statements


async def warm(url: str, size: int, model: str = "gen4_turbo") -> None:
    """Let so many creates of a model be in flight at once, as after a while of use."""
    await execute(
        url,
        f"INSERT INTO taxiway.models (model, max_in_flight, held) VALUES ('{model}', {size}, {size}) "
        "ON CONFLICT (model) DO UPDATE SET max_in_flight = EXCLUDED.max_in_flight, held = EXCLUDED.held",
    )


@asynccontextmanager
async def world(
    url: str, *, options: dict[str, Any] | None = None, receiver: Any = None, **changes: Any
) -> AsyncIterator[World]:
    """A Taxiway whose Runway is the simulator, in the same process and on a clock that the test sets.

    `receiver`: an ASGI app that gets all its webhooks.
    """
    clock = Clock()
    runway = create_simulator(SimulatorOptions(**(options or {})), clock=clock, random=Random(7))
    ctx = replace(
        contexts.build(settings(url, **changes)),
        transport=lambda: httpx.ASGITransport(app=runway),
        webhook_transport=lambda: httpx.ASGITransport(app=receiver),
        now=clock,
        random=lambda: 0.0,
        report_seconds=0.0,  # a test asks again at once, and means now
    )
    transport = httpx.ASGITransport(app=create_app(ctx))

    def client(token: str | None) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(transport=transport, base_url="http://taxiway.test", headers=headers)

    async with (
        going_on(url, ctx.database),
        client(API_KEY) as api,
        client(CRON_SECRET) as cron,
        client(None) as anyone,
    ):
        yield World(ctx, runway, clock, url, api, cron, anyone)
