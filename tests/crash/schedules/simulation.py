"""One schedule: several processes of the service, its users, Runway and the wire, in an order that a seed decides.

Each stops before every statement, every commit, and every event of the wire. Only when nothing moves any more does
the schedule let one of them go on, lets time pass, or ends a process; so what happens is a function of the seed alone.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from uuid import UUID

import httpx

from service.settings import Settings
from service.simulator.app import SimulatorOptions, create_simulator
from tests.crash.accounts import Accounts, seconds_to_next_event, settle
from tests.crash.never import NEVER, NOBODYS
from tests.crash.schedules import actors, ground
from tests.crash.schedules.database import Shared
from tests.crash.schedules.decisions import Decisions
from tests.crash.schedules.loop import VirtualLoop
from tests.crash.schedules.nature import Nature
from tests.crash.schedules.processes import Process
from tests.world import settings

if TYPE_CHECKING:
    from tests.database import Connection

MOST_STEPS = 4_000
SETTLING_ROUNDS = 90
LEAPS = (0.0, 6.0, 31.0, 95.0)  # seconds that may pass at once; 0: until the next timer
# What may happen instead of going on, by where a process stands; the first words of what it is about to do.
UNUSUAL = {
    "statement": ("lost before", "lost after", "dies before", "dies after"),
    "read": ("lost before", "dies before"),
    "commit": ("lost before", "lost after", "dies before", "dies after"),
    "write": ("lost before", "dies before", "dies after"),
    "arrival": ("lost before",),
    "answer": ("lost before",),
}


@cache
def _settings(url: str, policy: str) -> Settings:
    return settings(url, unknown_policy=policy, task_retries=1)


@dataclass(eq=False)
class Parked:
    """One that stands at the switch."""

    process: Process
    what: str
    future: asyncio.Future[str]


class Broken(AssertionError):
    """A promise is broken; `promise` names it."""

    def __init__(self, promise: str, words: object) -> None:
        super().__init__(f"{promise}: {words}")
        self.promise = promise


@dataclass
class Simulation:
    """Everything that one schedule consists of."""

    loop: VirtualLoop
    url: str
    shared: Shared
    monitor: Connection
    seed: int
    decisions: Decisions
    parked: list[Parked] = field(default_factory=list)
    doomed: list[Process] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    prompts: dict[UUID, str] = field(default_factory=dict)
    touched: set[UUID] = field(default_factory=set)  # asked for again, or dragged: may leave an end

    def __post_init__(self) -> None:
        self.nature = Nature.of(self.seed)
        self.settings = _settings(self.url, self.nature.policy)
        runway = create_simulator(
            SimulatorOptions(tier=5, credits=1_000_000), clock=lambda: ground.BEGINNING + self.loop.now,
            random=Random(f"runway {self.seed}"),
        )  # fmt: skip
        self.runway = runway.state.runway
        self.runway_transport = httpx.ASGITransport(app=runway)
        self.names: dict[str, str] = {}
        self.lives: Counter[str] = Counter()
        self.rounds: Counter[str] = Counter()
        self.processes: dict[str, Process] = {}
        self.crowd: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[UUID, tuple[str, str | None]] = {}
        self.last: Process | None = None
        self.dull = False
        self.checked = 0
        self.network = Process(self, "network", self.settings)

    # What the processes call.

    async def switch(self, process: Process, what: str) -> str:
        """Stop until it is this one's turn."""
        if process.is_dead:
            await self.loop.create_future()
        here = Parked(process, what, self.loop.create_future())
        self.parked.append(here)
        try:
            return await here.future
        finally:
            if here in self.parked:
                self.parked.remove(here)

    def note(self, words: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{self.loop.now:10.3f}  {words}")

    def short(self, text: str) -> str:
        """The text with short names for ids, the same in every run."""
        parts = [self.names.setdefault(part, f"task{len(self.names)}") if len(part) == 36 else part
                 for part in text.split("/")]  # fmt: skip
        return "/".join(parts)

    def arrived(self, request: httpx.Request) -> None:
        """Runway has answered a request."""
        self.happened[f"{request.method} at Runway"] += 1

    # What the schedule does.

    async def run(self) -> Accounts:
        """From the first step to the accounts. Raises what is wrong."""
        with patch("service.operations.enqueuing.new_id", lambda *_: actors.new_id(self)):
            for name, life in actors.SERVICE.items():
                self.rounds[name] = self.nature.rounds
                self._begin(name, life)
            for name, work in actors.CROWD.items():
                process = self.processes[name] = Process(self, name, self.settings)
                self.crowd[name] = process.start(work(process))
            await self._until(self._all_done)
            self.dull = True
            await self._until(lambda: not self.parked)
            return await self._settle_accounts()

    def _begin(self, name: str, life: actors.Life) -> None:
        self.lives[name] += 1
        process = self.processes[name] = Process(self, f"{name}.{self.lives[name]}", self.settings)
        process.start(life(process, name))

    def _all_done(self) -> bool:
        for task in self.crowd.values():
            if task.done():
                task.result()
        serving = any(self.processes[name].tasks for name in actors.SERVICE)
        return not serving and all(task.done() for task in self.crowd.values())

    async def _until(self, is_done: Callable[[], bool]) -> None:
        for _ in range(MOST_STEPS):
            await self._come_to_rest()
            if self.doomed:
                await self._kill(self.doomed.pop())
                continue
            is_over = is_done()
            if self.shared.writes != self.checked and (is_over or not self.dull):
                self.checked = self.shared.writes
                await self._check()
            if is_over:
                return
            await self._step()
        raise Broken("it comes to an end", self.trace[-20:])

    async def _come_to_rest(self) -> None:
        """Until nothing moves: what a lock holds up is found out, and what is held up no more."""
        shared = self.shared
        while True:
            if not await self.loop.rest():
                for real in await self._held_up(set(shared.running) - shared.blocked):
                    if not real.gives_up and real in shared.running:
                        self.note(f"    waits for a lock: {shared.running[real].split()[:6]}")
                        self.happened["waits for a lock"] += 1
                        shared.block(real)
                continue
            free = shared.blocked - await self._held_up(shared.blocked)
            if not free:
                return
            for real in free & shared.blocked:
                shared.unblock(real)

    async def _held_up(self, reals: set[Any]) -> set[Any]:
        if not reals:
            return set()
        pids = [real.pid for real in reals]
        held = "SELECT pid FROM unnest($1::int[]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0"
        waiting = {row["pid"] for row in await self.monitor.fetch(held, pids)}
        return {real for real in reals if real.pid in waiting}

    async def _step(self) -> None:
        chance = self.decisions.unusual if not self.dull else (lambda *_: 0)
        if self.parked and (leap := chance(self.nature.time, len(LEAPS))):
            self._pass_time(LEAPS[leap - 1])
            return
        if not self.parked:
            self._pass_time(0.0)
            return
        waiting = sorted(self.parked, key=lambda one: one.process is not self.last)
        one = waiting[chance(self.nature.switching, len(waiting) - 1) if len(waiting) > 1 else 0]
        orders = UNUSUAL.get(one.what.partition(" ")[0], ())
        number = chance(self.nature.trouble, len(orders)) if orders else 0
        order = orders[number - 1] if number else "goes on"
        if not number and one.what.startswith("statement") and chance(self.nature.overlap, 1):
            order = "held"  # other statements run before it is committed
        if order.startswith("dies") and one.process.name.partition(".")[0] not in actors.SERVICE:
            order = "goes on"
        self.note(f"{one.process.name}: {one.what}{'' if order == 'goes on' else f' - {order}'}")
        self.happened[order] += 1
        self.last = one.process
        if order == "dies before":
            await self._kill(one.process)
        else:
            self.parked.remove(one)
            one.future.set_result(order)

    def _pass_time(self, seconds: float) -> None:
        timer = self.loop.next_timer()
        if not seconds and timer is None and self.parked:
            return
        if not seconds and timer is None:
            if self.shared.blocked:
                raise Broken("no lock is held for good", [self.shared.running[one] for one in self.shared.blocked])
            raise Broken("nothing hangs", [repr(task) for task in asyncio.all_tasks(self.loop)])
        self.loop.now = self.loop.now + seconds if seconds or timer is None else max(timer, self.loop.now)
        self.note("time passes")
        self.happened["time passes"] += 1

    async def _kill(self, process: Process) -> None:
        name = process.name.partition(".")[0]
        self.note(f"{process.name}: is dead")
        await process.kill()
        self._begin(name, actors.SERVICE[name])

    # What must hold.

    async def _check(self) -> None:
        row = await self.monitor.fetchrow(_STATE)
        assert row is not None
        for broken in json.loads(row["broken"] or "[]"):
            raise Broken(broken["promise"], broken["row"])
        now: dict[UUID, tuple[str, str | None]] = {}
        for video in json.loads(row["videos"] or "[]"):
            video_id = UUID(video["id"])
            now[video_id] = (video["status"], video["error_code"])
            self._check_film(video_id, video)
        for video_id, (status, error_code) in self.ends.items():
            later = now.get(video_id)
            may_change = error_code == "SUBMISSION_UNKNOWN" or (video_id in self.touched and status != "completed")
            if later != (status, error_code) and not may_change:
                raise Broken("an end stays", f"{status} {error_code} became {later}")
        self.ends = {id: end for id, end in now.items() if end[0] in ("completed", "failed", "cancelled")}

    def _check_film(self, video_id: UUID, video: dict[str, Any]) -> None:
        task = self.runway.tasks.get(video["runway_video_id"])
        if task is not None and task.entry.prompt != video["prompt"]:
            raise Broken("the right film", f"{video['prompt']} has the film of {task.entry.prompt}")

    async def _settle_accounts(self) -> Accounts:
        """Tick, from one event to the next, until nothing is under way; then compare the books."""
        self.runway.faults.clear()
        if self.processes["web"].tasks:
            raise Broken("nothing after the response", self.processes["web"].tasks)
        last = Process(self, "last", self.settings)
        for round_ in range(SETTLING_ROUNDS):
            task = last.start(actors.tick_once(last))
            await self._until(task.done)
            task.result()
            await self.monitor.execute(ground.setting_time(self.loop.now))
            wait = await seconds_to_next_event(self.monitor)
            if wait is None:
                break
            self.loop.now += max(wait + 0.01, 2 ** (round_ / 3))
        else:
            raise Broken("nothing is stuck", await self.monitor.fetch("SELECT * FROM taxiway.videos"))
        if left := await self.monitor.fetch(NOBODYS):
            raise Broken("a task has its video", left)
        entries = self.runway.ledger.as_json()["entries"]
        accounts = await settle(self.monitor, entries, self.prompts)
        if accounts.complaints:
            raise Broken("the books agree", accounts.complaints)
        if accounts.booked != accounts.billed:
            raise Broken("the books agree", f"{accounts.booked} booked, {accounts.billed} billed")
        self.happened.update({f"ended {name}": count for name, count in accounts.statuses.items()})
        self.happened.update({f"{name} outcome": count for name, count in accounts.outcomes.items()})
        self.happened.update(accounts.errors)
        return accounts


# What is broken, and how every video stands, in one look.
_STATE = f"""
SELECT (SELECT jsonb_agg(jsonb_build_object('promise', b.promise, 'row', b.row)) FROM (
    {" UNION ALL ".join(f"SELECT '{name}' AS promise, to_jsonb(x) AS row FROM ({sql}) AS x" for name, sql in NEVER.items())}
) AS b) AS broken,
(SELECT jsonb_agg(jsonb_build_object('id', id, 'status', status, 'error_code', error_code,
    'runway_video_id', runway_video_id, 'prompt', COALESCE(prompt, input ->> 'promptText'))) FROM taxiway.videos) AS videos
"""  # noqa: E501
