"""Where schedules are played, one after the other, and those that fail are made short."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.crash.accounts import Accounts
from tests.crash.schedules import ground
from tests.crash.schedules.database import Shared
from tests.crash.schedules.decisions import Decisions, shorten
from tests.crash.schedules.loop import VirtualLoop
from tests.crash.schedules.simulation import Broken, Simulation


@dataclass
class Result:
    """What became of one schedule. `trace`: a line for each step."""

    seed: int
    decisions: list[int]
    trace: list[str]
    happened: Counter[str]
    failure: BaseException | None = None
    accounts: Accounts | None = None

    @property
    def promise(self) -> str | None:
        """What was broken, in a word."""
        if self.failure is None:
            return None
        return self.failure.promise if isinstance(self.failure, Broken) else type(self.failure).__name__


class Theatre:
    """One database and one loop for many schedules."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.loop = VirtualLoop()
        self.shared = Shared(self.loop, url)
        self.loop.run_until_complete(ground.install(url))
        self.monitor = self.loop.run_until_complete(ground.connect(url))

    def play(self, seed: int, given: Sequence[int] | None = None) -> Result:
        """One schedule: by its seed, or by the decisions that are given."""
        decisions = Decisions(seed, given)
        self.loop.begin_again()
        self.loop.run_until_complete(ground.forget(self.monitor))
        simulation = Simulation(self.loop, self.url, self.shared, self.monitor, seed, decisions)
        simulation.checked = self.shared.writes
        result = Result(seed, decisions.made, simulation.trace, simulation.happened)
        try:
            result.accounts = self.loop.run_until_complete(simulation.run())
        except Exception as exc:
            result.failure = exc
        finally:
            self._clear(simulation)
        return result

    def story(self, result: Result, tries: int = 250) -> str:
        """A failure with the steps that lead to it, as few as can be found in so many tries."""

        def fails(decisions: list[int]) -> bool:
            return self.play(result.seed, decisions).promise == result.promise

        short = self.play(result.seed, shorten(result.decisions, fails, tries))
        if short.promise != result.promise:
            short = result
        unusual = sum(one != 0 for one in short.decisions)
        return "\n".join(
            [
                f"seed {result.seed}: {result.failure!r}",
                f"{len(result.trace)} steps; these {len(short.trace)} suffice, with {unusual} decisions:",
                *short.trace,
                f"{short.failure!r}",
                f"decisions: {short.decisions}",
            ]
        )

    def _clear(self, simulation: Simulation) -> None:
        async def end() -> None:
            current = asyncio.current_task()
            simulation.network.is_dead = True
            for process in simulation.processes.values():
                process.is_dead = True
            while tasks := asyncio.all_tasks() - {current}:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

        self.loop.run_until_complete(end())
        self.loop.run_until_complete(self.shared.renew())

    def close(self) -> None:
        """Close every connection, and the loop."""

        async def end() -> None:
            await self.shared.close()
            await self.monitor.close()

        self.loop.run_until_complete(end())
        self.loop.close()
