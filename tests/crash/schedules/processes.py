"""A process of the simulation: a context of the product's own, tasks that die together, and its way to the switch."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from service.context import Context
from service.settings import Settings
from service.store.url import normalise
from tests.crash.schedules.database import SimulatedDatabase
from tests.crash.schedules.ground import BEGINNING
from tests.crash.schedules.loop import owner
from tests.crash.schedules.wire import Wire

if TYPE_CHECKING:
    from tests.crash.schedules.database import Session
    from tests.crash.schedules.simulation import Simulation

T = TypeVar("T")
DEATH_ROUNDS = 50


class Process:
    """`name` with a number for each life. A dead one does nothing more: whatever it awaits is cancelled."""

    def __init__(self, simulation: Simulation, name: str, settings: Settings) -> None:
        self.simulation, self.name = simulation, name
        self.is_dead = False
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in the order in which they began
        self.sessions: dict[Session, None] = {}
        loop, dice = simulation.loop, Random(f"{simulation.seed} {name}")
        self.ctx = Context(
            settings,
            SimulatedDatabase(normalise(simulation.url), self),
            transport=lambda: Wire(self),
            monotonic=loop.time,
            now=lambda: BEGINNING + loop.time(),
            sleep=asyncio.sleep,
            random=dice.random,
        )

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something in this process."""
        token = owner.set(self.tasks)
        try:
            return self.simulation.loop.create_task(work)
        finally:
            owner.reset(token)

    async def switch(self, what: str) -> str:
        """Stop here until the schedule comes to it; what is to happen then."""
        return await self.simulation.switch(self, what)

    async def die(self) -> None:
        """Its last act: nothing of it goes on behind this line."""
        self.simulation.doomed.append(self)
        await self.simulation.loop.create_future()

    async def kill(self) -> None:
        """As `kill -9`: what it had sent is sent; the server ends its transactions."""
        shared = self.simulation.shared
        self.is_dead = True
        for session in list(self.sessions):
            real, session.real = session.real, None
            if real is not None:
                await shared.end(real)
        for _ in range(DEATH_ROUNDS):
            if not self.tasks:
                break
            for task in list(self.tasks):
                task.cancel()
            await self.simulation.loop.rest()
        assert not self.tasks, f"{self.name} goes on after its death: {self.tasks}"
