"""Claim and tick with a past of a million videos and a long queue, against an empty database: turn by turn.

In the empty one just as many are queued as are then claimed. Claims go on behind each other, as those of a worker do.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from service import context as contexts
from service.context import Context
from service.operations.saving import as_outcome_row
from service.runway.outcomes import ALL_MODELS, Decision, Kind, Outcome
from service.store import claim as claims
from service.store import models, submissions
from service.store.claim import Aim
from service.store.front import Front
from service.tick import tick
from service.videos import Status
from tests.benchmarks.contenders.taxiway import QUEUED, multiply
from tests.benchmarks.figures import Figure, Measured, Values, percentile
from tests.benchmarks.lab import Lab
from tests.database import execute
from tests.world import settings

CLAIMS = (1, 10, 50)  # how many at once
FIGURES = (
    *(Figure(f"claim_{many}", f"claim of {many}, p99 ms", 2) for many in CLAIMS),
    *(Figure(f"median_{many}", f"median ms of {many}", 2) for many in CLAIMS),
    Figure("tick", "tick, p99 ms", 1),
)
NAMES = EMPTY, FULL = "empty", "full"
# A plan that PostgreSQL made without looking at the values is kept until the next ANALYZE.
GENERIC = "ALTER DATABASE {} SET plan_cache_mode = force_generic_plan"
CALL_SECONDS = 60.0
# The tasks of what was claimed here are nobody's: they end before a tick asks for them. A tick compares all that are
# under way with their videos, and is not measured with thousands more from round to round.
ENDED = """
WITH ended AS (
    UPDATE taxiway.submissions SET task_status = 'SUCCEEDED', settled_at = now(), cost_credits = quoted_credits
    WHERE settled_at IS NULL AND outcome = 'accepted' RETURNING video_id
)
UPDATE taxiway.videos v SET status = 'completed', task_status = 'SUCCEEDED', finished_at = now(), updated_at = now(),
    poll_after = NULL, cost_credits = v.quoted_credits
FROM ended WHERE v.id = ended.video_id
"""


async def run(lab: Lab) -> Measured:
    """Claims are timed alone; what was claimed is then saved as accepted, as the product does it."""
    urls = dict(zip(NAMES, await lab.with_history(), strict=True))
    repeats, ticks = lab.size(200, 5), lab.size(30, 2)
    rounds = []
    fed = urls[EMPTY] if urls[EMPTY] != urls[FULL] else None  # against another tree, both are the full one
    if lab.unqueued:
        for url in urls.values():
            await execute(url, GENERIC.format(url.rpartition("/")[2]))
    async with _context(lab, urls[EMPTY]) as empty, _context(lab, urls[FULL]) as full:
        by_name = {EMPTY: empty, FULL: full}
        if lab.unqueued:
            for ctx in by_name.values():
                await _plan(ctx)
            await lab.queue_up()
        for number in range(lab.rounds):
            rounds.append(await _round(by_name, fed, repeats, ticks, number))
            lab.say(f"    round {number + 1}: {rounds[-1]}")
    title = "Claims and a tick with 1,000,000 finished and 100,000 queued, planned while nothing was queued"
    result = Measured("history", title, FIGURES, rounds)
    for many in CLAIMS:
        ratio = result.ratio(f"claim_{many}", FULL, EMPTY)
        result.bar(f"p99 of a claim of {many} against an empty database", ratio, most=1.3)
    result.bar("p99 of a tick against an empty database", result.ratio("tick", FULL, EMPTY), most=1.3)
    return result


async def _plan(ctx: Context) -> None:
    """Claim and tick once with nothing to claim: what is planned then, each connection keeps."""
    assert not await claims.claim(ctx.database, max(CLAIMS), CALL_SECONDS, claim_id=secrets.randbits(63))
    await tick(ctx)


@asynccontextmanager
async def _context(lab: Lab, url: str) -> AsyncIterator[Context]:
    ctx = contexts.build(settings(url, runway_url=lab.servers.runway.url))
    try:
        yield ctx
    finally:
        await ctx.database.close()


async def _round(
    by_name: dict[str, Context], fed: str | None, repeats: int, ticks: int, number: int
) -> dict[str, Values]:
    """`fed`: the database in which so many are queued before each claim as it takes."""
    order = list(by_name) if number % 2 == 0 else list(reversed(by_name))
    fronts = {name: Front(time.monotonic) for name in by_name}
    took: dict[str, dict[str, list[float]]] = {name: {} for name in by_name}
    for many in CLAIMS:
        for _ in range(repeats):
            if fed is not None:
                await multiply(fed, many, QUEUED, source="template")  # behind what is claimed already
            for name in order:
                took[name].setdefault(f"{many}", []).append(await _claim(by_name[name], fronts[name], many))
    for name in order:
        ctx = by_name[name]
        await fronts[name].settle()
        await models.pause(ctx.database, ALL_MODELS, 3600, "no_credits", "the benchmark looks at a tick without claims")
        await ctx.database.execute(ENDED)
        await tick(ctx)
        for _ in range(ticks):
            began = time.perf_counter()
            await tick(ctx)
            took[name].setdefault("tick", []).append(time.perf_counter() - began)
        await models.resume(ctx.database, ALL_MODELS)
    return {name: _values(times) for name, times in took.items()}


def _values(times: dict[str, list[float]]) -> Values:
    values = {f"claim_{many}": 1000 * percentile(times[f"{many}"], 0.99) for many in CLAIMS}
    values |= {f"median_{many}": 1000 * percentile(times[f"{many}"], 0.5) for many in CLAIMS}
    return values | {"tick": 1000 * percentile(times["tick"], 0.99)}


async def _claim(ctx: Context, front: Front, many: int) -> float:
    began = time.perf_counter()
    aim = Aim(behind=front.behind())
    front.look(ctx.database)
    permitted = await claims.claim(ctx.database, many, CALL_SECONDS, aim, claim_id=secrets.randbits(63))
    front.note(permitted, many)
    seconds = time.perf_counter() - began
    assert len(permitted) == many
    answers = [
        as_outcome_row(
            one.submission_id, one.video_id,
            Outcome(Kind.ACCEPTED, "task created", http_status=200, task_id=str(uuid4())), Decision(Status.PROCESSING),
            announced=one.announced,
        )
        for one in permitted
    ]  # fmt: skip
    await submissions.save_each(ctx.database, answers)
    return seconds
