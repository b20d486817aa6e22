"""A Taxiway in virtual time: its clocks and the database's stand still while it works, and jump when all of it waits.

Runway is a double whose calls take virtual seconds, or hang until their deadline. Minutes pass in a moment, and what is
measured does not depend on the machine.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from service import context as contexts
from service.context import Context
from service.errors import RunwayUnavailable
from service.runway.account import Account
from service.runway.client import Runway
from service.runway.outcomes import Broken, HttpResult
from service.runway.task import Task
from service.store.database import Database
from service.tick import SubmitLoop, submit_now, tick
from tests.database import connected, execute
from tests.world import settings

if TYPE_CHECKING:
    from tests.database import Connection

CALL_SECONDS = 0.2  # of a call that does not hang
TOGETHER_SECONDS = 0.05  # what is due within that is woken together
IDLE_TURNS = 40  # of the event loop, without a statement under way: then nothing is left but to wait

# The product's time, read from a table.
VIRTUAL_NOW = """
CREATE SCHEMA virtual;
CREATE TABLE virtual.clock AS SELECT pg_catalog.now() AS began, 0::float8 AS seconds;
CREATE OR REPLACE FUNCTION taxiway.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT began + make_interval(secs => seconds) FROM virtual.clock';
"""


class Clock:
    """Seconds since the beginning; who sleeps is woken when nobody has anything else to do."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def __call__(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Until so many virtual seconds have passed."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (self.seconds + seconds, self._count, woken))
        await woken

    async def jump(self, connection: Connection) -> bool:
        """To the next time at which somebody is to be woken; False if nobody sleeps."""
        while self._waiting and self._waiting[0][2].done():
            heapq.heappop(self._waiting)
        if not self._waiting:
            return False
        self.seconds = max(self.seconds, self._waiting[0][0]) + TOGETHER_SECONDS
        await connection.execute("UPDATE virtual.clock SET seconds = $1", self.seconds)
        while self._waiting and self._waiting[0][0] <= self.seconds:
            woken = heapq.heappop(self._waiting)[2]
            if not woken.done():
                woken.set_result(None)
        return True


class CountingDatabase(Database):
    """Knows whether a statement is under way."""

    busy = 0

    async def _run(self, method: str, sql: str, arguments: tuple[object, ...]) -> Any:
        self.busy += 1
        try:
            return await super()._run(method, sql, arguments)
        finally:
            self.busy -= 1

    @asynccontextmanager
    async def connection(self, work: str = "") -> AsyncIterator[Any]:
        """As it is, and counted."""
        self.busy += 1
        try:
            async with super().connection(work) as raw:
                yield raw
        finally:
            self.busy -= 1


@dataclass
class FakeRunway(Runway):
    """Runway's double. `hangs`: whether the next call with this method hangs; `ends`: when a task ends."""

    clock: Clock
    hangs: Callable[[str], bool] = lambda _method: False
    ends: dict[str, float] = field(default_factory=dict)
    unknown: bool = False  # every GET says 404
    calls: list[str] = field(default_factory=list)
    longest: dict[str, float] = field(default_factory=dict)  # by method, the longest that a call was allowed to take

    async def _call_takes(self, method: str, seconds: float) -> None:
        self.calls.append(method)
        self.longest[method] = max(self.longest.get(method, 0.0), seconds)
        if self.hangs(method):
            await self.clock.sleep(seconds)
            raise RunwayUnavailable(f"{method}: no answer within {seconds:g} s")
        await self.clock.sleep(CALL_SECONDS)

    async def create(
        self,
        operation: str,
        body: dict[str, Any] | str,
        *,
        give_up_at: float,
        wall_give_up_at: float = math.inf,
        video: object = None,
    ) -> HttpResult | Broken:
        try:
            await self._call_takes("POST", give_up_at - self.clock())
        except RunwayUnavailable as exc:
            return Broken(exc.detail)
        task_id = str(uuid4())
        self.ends[task_id] = self.clock() + 60
        return HttpResult(200, json.dumps({"id": task_id}).encode(), CALL_SECONDS)

    async def retrieve(self, task_id: str, seconds: float = 20.0, *, model: str | None = None) -> Task | None:
        await self._call_takes("GET", seconds)
        if self.unknown:
            return None
        has_ended = self.ends.get(task_id, 0.0) <= self.clock()
        rest = {"output": ["https://example.com/a.mp4"], "cost": {"credits": 25}} if has_ended else {}
        return Task.of(json.dumps({"id": task_id, "status": "SUCCEEDED" if has_ended else "PENDING"} | rest).encode())

    async def delete(self, task_id: str, seconds: float = 20.0) -> bool:
        await self._call_takes("DELETE", seconds)
        return True

    async def organization(self) -> Account:
        raise RunwayUnavailable("it is not asked here")


@dataclass
class Virtual:
    """One Taxiway in virtual time."""

    ctx: Context
    clock: Clock
    runway: FakeRunway
    database: CountingDatabase
    control: Connection
    url: str

    async def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do this, with time jumping whenever all of it waits for time to pass."""
        task, idle = asyncio.create_task(work), 0
        while not task.done():
            await asyncio.sleep(0)
            idle += 1
            if self.database.busy:
                idle = 0
                await asyncio.sleep(0.0002)
            elif idle > IDLE_TURNS:
                idle = 0
                if not await self.clock.jump(self.control):
                    await asyncio.sleep(0.001)
        return task.result()

    async def worker(self, seconds: float) -> None:
        """What `taxiway worker` does for so long: ticks, and beside them the submit step."""
        beside, ends = SubmitLoop(), self.clock() + seconds
        wake = beside.wake

        async def submitting() -> None:
            while self.clock() < ends:
                if wake.due:
                    wake.due = False
                    await submit_now(self.ctx, stopping=lambda: self.clock() >= ends, wake=wake)
                await self.clock.sleep(0.5)

        async def ticking() -> None:
            while self.clock() < ends:
                await tick(self.ctx, kind="worker", beside=beside)
                await self.clock.sleep(self.ctx.settings.worker_interval)

        await self.run(_both(submitting(), ticking()))

    async def cron(self, seconds: float) -> list[float]:
        """Ticks a minute apart for so long, which may overlap; the seconds that each took."""
        took: list[float] = []

        async def one() -> None:
            began = self.clock()
            assert not (await tick(self.ctx)).errors
            took.append(self.clock() - began)

        async def ticking() -> None:
            async with asyncio.TaskGroup() as ticks:
                for _ in range(int(seconds // 60)):
                    ticks.create_task(one())
                    await self.clock.sleep(60)

        await self.run(ticking())
        return took

    async def in_flight(self, count: int, ends: Callable[[int], float] = lambda _: 0.0) -> None:
        """So many videos whose tasks are at Runway and due, of three models; `ends`: when the n-th task does."""
        ids = [str(uuid4()) for _ in range(count)]
        self.runway.ends |= {task_id: ends(n) for n, task_id in enumerate(ids)}
        await self.control.execute(IN_FLIGHT, json.dumps(ids))
        await self.control.execute("ANALYZE taxiway.videos, taxiway.submissions")

    async def queued(self, count: int) -> None:
        """So many videos that wait to be sent."""
        await self.control.execute(QUEUED, count)

    async def late(self) -> list[float]:
        """By how many seconds each video that has ended was noticed after its task's end, the least first."""
        sql = """SELECT runway_video_id AS task, extract(epoch FROM finished_at - c.began)::float8 AS at
                 FROM taxiway.videos, virtual.clock c WHERE status = 'completed'"""
        return sorted(row["at"] - self.runway.ends[row["task"]] for row in await self.control.fetch(sql))

    async def count(self, condition: str) -> int:
        """How many videos there are of which this holds."""
        return int(await self.control.fetchval(f"SELECT count(*) FROM taxiway.videos WHERE {condition}") or 0)


IN_FLIGHT = """
WITH task AS (SELECT value AS id, ordinality AS n FROM jsonb_array_elements_text($1::jsonb) WITH ORDINALITY),
model AS (INSERT INTO taxiway.models (model) SELECT 'model' || n FROM generate_series(0, 2) n ON CONFLICT DO NOTHING),
v AS (
    INSERT INTO taxiway.videos (operation, model, input, quoted_credits, status, runway_video_id, submitted_at, origin)
    SELECT 'image_to_video', 'model' || n % 3, '{}', 25, 'processing', id, taxiway.now(), 'api' FROM task
    RETURNING id, model, runway_video_id
)
INSERT INTO taxiway.submissions (video_id, model, opened_at, call_deadline, deadline, outcome, closed_at, task_id)
SELECT id, model, taxiway.now(), taxiway.now() + interval '1 minute', taxiway.now() + interval '2 minutes',
       'accepted', taxiway.now(), runway_video_id FROM v
"""
QUEUED = """
WITH model AS (INSERT INTO taxiway.models (model) VALUES ('model0') ON CONFLICT DO NOTHING)
INSERT INTO taxiway.videos (operation, model, input, quoted_credits, run_after, origin)
SELECT 'image_to_video', 'model0', '{}', 25, taxiway.now(), 'api' FROM generate_series(1, $1)
"""


async def _both(*work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.TaskGroup() as all_of_it:
        for one in work:
            all_of_it.create_task(one)


def five_percent(method: str) -> Callable[[str], bool]:
    """One call in twenty of this method hangs."""
    random = Random(11)
    return lambda called: called == method and random.random() < 0.05


@asynccontextmanager
async def virtual(url: str, hangs: Callable[[str], bool] = lambda _: False, **changes: Any) -> AsyncIterator[Virtual]:
    """A Taxiway on this database, in virtual time."""
    await execute(url, VIRTUAL_NOW)
    built = contexts.build(settings(url, **changes))
    clock, began = Clock(), time.time()
    database = CountingDatabase(built.database.target)
    runway = FakeRunway(clock, hangs)
    ctx = replace(
        built, database=database, open_client=runway, monotonic=clock, now=lambda: began + clock(), sleep=clock.sleep,
        random=Random(5).random,
    )  # fmt: skip
    async with connected(url) as control:
        try:
            yield Virtual(ctx, clock, runway, database, control, url)
        finally:
            await database.close()
