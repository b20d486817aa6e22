"""The tick: every step once, in order, inside a budget. All work is done here, in somebody's request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from service.deadline import Bell, Window
from service.errors import DatabaseAway, NotConfigured, TaxiwayError
from service.heartbeat import beating
from service.house import Counts, House
from service.logs import VIDEO, as_tick, event, tick_ref
from service.operations import observe
from service.settings import need
from service.steps import cancel, intake, poll, prune, rescue, submit
from service.store import ticks
from service.store.overview import EVERYTHING, Overview, overview

log = logging.getLogger(__name__)

# In the order in which they are told.
IDLE: Mapping[str, Counts] = {
    "intake": intake.NOTHING, "rescue": rescue.NOTHING, "cancel": cancel.NOTHING, "submit": submit.NOTHING,
    "poll": poll.NOTHING, "prune": prune.NOTHING,
}  # fmt: skip


@as_tick
@beating
async def tick(
    house: House,
    *,
    budget: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
    kind: str = "tick",
    bell: Bell | None = None,
    carried: Counts | None = None,
) -> dict[str, Any]:
    """One bounded round of work; its counts by step.

    `budget`: seconds in which the answer should be out. `bell`: somebody else submits, and is rung for; `carried`: what
    they have submitted, which is told and set to nothing. Raises NotConfigured or DatabaseAway if it could not run.
    A step that fails is named under "errors" and costs the others nothing.
    """
    need(house.settings, "database_url", "runway_key")
    started = house.clock()
    hard_limit = house.settings.hard_limit
    window = Window(
        clock=house.clock,
        budget_ends=started + (budget or house.settings.tick_budget),
        hard_stop=None if hard_limit is None else started + hard_limit,
        stopping=stopping,
    )
    due = await _due(house)
    counts: dict[str, Any] = {}
    if due.intake:
        await _step(counts, "intake", intake.run_once(house))
    if due.rescue:
        await _step(counts, "rescue", rescue.run_once(house))
    if due.cancel or due.rescue:
        await _step(counts, "cancel", cancel.run_once(house))
    # Side by side: a slow create must not keep a finished video waiting, nor the other way round.
    async with asyncio.TaskGroup() as both:
        if bell is None:
            both.create_task(_step(counts, "submit", submit.run_once(house, window, probe=due.probe)))
        else:
            bell.ring(news=True, probe=due.probe)
        if due.poll or due.intake or due.rescue:
            both.create_task(_step(counts, "poll", poll.run_once(house, lambda: window.is_open)))
    if due.prune:
        await _step(counts, "prune", prune.run_once(house))
    if carried and any(carried.values()):
        counts["submit"] = dict(carried)
        carried.update(submit.NOTHING)
    return await _finish(house, kind, started, counts, idle=IDLE)


async def _due(house: House) -> Overview:
    """The steps that have something to do. If that cannot be said, each is tried, and says for itself what it lacks."""
    try:
        return await overview(house.database, house.settings.video_retention)
    except NotConfigured as exc:
        event(log, VIDEO, "overview_failed", exc.detail, level=logging.ERROR)
        return EVERYTHING


@as_tick
async def submit_now(house: House, *, stopping: Callable[[], bool], bell: Bell) -> Counts:
    """The submit step alone, for a worker: it waits for no other step. Whatever fails is logged, not raised."""
    need(house.settings, "database_url", "runway_key")
    window = Window(house.clock, house.clock() + house.settings.tick_budget, stopping=stopping)
    probe, bell.probe = bell.probe, False
    counts: dict[str, Any] = {}
    await _step(counts, "submit", submit.run_once(house, window, probe=probe, bell=bell))
    for exc in counts.pop("errors", {}).values():
        if isinstance(exc, DatabaseAway):
            event(log, VIDEO, "submit_failed", f"{exc.title}: {exc.detail}", level=logging.ERROR)
    if not window.is_open:
        bell.ring(news=True)  # its time was over, and perhaps not its work
    done: Counts = counts.get("submit", submit.NOTHING)
    return done


@as_tick
async def poll_only(house: House, *, budget: float | None = None) -> dict[str, Any]:
    """The poll step alone, for a second cron."""
    need(house.settings, "database_url", "runway_key")
    started = house.clock()
    ends = started + (budget or house.settings.tick_budget)
    counts: dict[str, Any] = {}
    await _step(counts, "poll", poll.run_once(house, lambda: house.clock() < ends))
    return await _finish(house, "poll", started, counts)


async def _step(counts: dict[str, Any], name: str, work: Awaitable[Counts]) -> None:
    try:
        counts[name] = await work
    except DatabaseAway as exc:
        counts.pop(name, None)
        counts.setdefault("errors", {})[name] = exc
    except Exception as exc:
        counts.pop(name, None)
        event(log, VIDEO, "step_failed", f"Step {name} failed", level=logging.ERROR, trace=True, step=name)
        counts.setdefault("errors", {})[name] = exc


async def _finish(
    house: House,
    kind: str,
    started: float,
    counts: dict[str, Any],
    *,
    idle: Mapping[str, Counts] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write down and tell what was done. `idle`: what is told of steps that had nothing to do."""
    errors: dict[str, Exception] = counts.pop("errors", {})
    away = next((exc for exc in errors.values() if isinstance(exc, DatabaseAway)), None)
    if away is not None and not counts:
        raise away
    counts = {name: counts.get(name, nothing) for name, nothing in idle.items() if name not in errors} or counts
    seconds = house.clock() - started
    told = {name: exc.detail if isinstance(exc, TaxiwayError) else type(exc).__name__ for name, exc in errors.items()}
    try:
        words = "; ".join(f"{name}: {text}" for name, text in told.items())
        due = await ticks.record(house.database, kind, seconds, counts, words or None, tick_ref.get())
        await observe.refresh(house, due if kind != "poll" else [])
    except DatabaseAway as exc:
        told["record"] = exc.detail  # what was done is done, and the caller is told
    if any(value for step in counts.values() for value in step.values()):
        event(log, VIDEO, "tick", f"Tick done in {seconds:.2f} s: {summary(counts)}")
    return counts | {"seconds": round(seconds, 3), "ref": tick_ref.get()} | ({"errors": told} if told else {})


def summary(counts: dict[str, Any]) -> str:
    """The counts that are not zero, as `name=n`."""
    pairs = [(name, value) for step in counts.values() for name, value in step.items() if value]
    return " ".join(f"{name}={value}" for name, value in pairs) or "nothing to do"
