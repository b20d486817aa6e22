"""The tick: every step once, in order, inside a budget. All work is done here, before the caller gets its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from service.context import Context, Counts
from service.deadline import Deadline, Wake
from service.errors import DatabaseUnavailable, NotConfigured, TaxiwayError
from service.heartbeat import beating
from service.logs import VIDEO, as_tick, event, tick_ref
from service.operations import observe
from service.settings import need
from service.steps import cancel, intake, mirror, poll, prune, rescue, submit
from service.store import ticks
from service.store.driver_errors import is_refusal
from service.store.linked_table import LinkedTable
from service.store.links import open_links
from service.store.pending_work import EVERYTHING, PendingWork, pending_work

log = logging.getLogger(__name__)

INTAKE_SHARE = 0.5  # of the budget, at most, for rows to take: submitting waits for it
RESCUE_SHARE = 0.5  # of what is then left
MIRROR_SECONDS = 5.0  # at least, also if the steps before it have used the budget

# What a step with nothing to do reports, in the order of the report.
IDLE: Mapping[str, Counts] = {
    "intake": intake.NOTHING, "rescue": rescue.NOTHING, "cancel": cancel.NOTHING,
    "submit": submit.NOTHING, "poll": poll.NOTHING, "mirror": mirror.NOTHING, "prune": prune.NOTHING,
}  # fmt: skip


@as_tick
@beating
async def tick(
    ctx: Context,
    *,
    budget: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
    kind: str = "tick",
    wake: Wake | None = None,
    submitted: Counts | None = None,
) -> dict[str, Any]:
    """One bounded round of work; its counts by step.

    `budget`: seconds in which the answer should be out. `wake`: the submit step runs beside this tick, and is woken;
    `submitted`: what it has submitted since, which is reported and set to nothing. Raises NotConfigured or
    DatabaseUnavailable if the tick could not run.
    A step that fails is named under "errors" and costs the others nothing.
    """
    need(ctx.settings, "database_url", "runway_key")
    started = ctx.monotonic()
    deadline = _deadline(ctx, started, budget, stopping)
    due = await _due(ctx)
    counts: dict[str, Any] = {}
    tables = await _tables(ctx, counts) if due.links else []
    if due.intake:
        await _step(counts, "intake", intake.run_once(ctx, tables, deadline.share(INTAKE_SHARE)))
    elif tables:
        await _step(counts, "intake", intake.take_linked(ctx, tables, deadline.share(INTAKE_SHARE)))
    if due.rescue:
        await _step(counts, "rescue", rescue.run_once(ctx, deadline.share(RESCUE_SHARE)))
    # Side by side: a slow call of one kind must not keep the others waiting.
    async with asyncio.TaskGroup() as calls:
        if wake is None:
            calls.create_task(_step(counts, "submit", submit.run_once(ctx, deadline, probe=due.probe)))
        else:
            wake.set(due_work=True, probe=due.probe)
        if due.cancel or due.rescue or counts.get("intake", intake.NOTHING)["recalled"]:
            calls.create_task(_step(counts, "cancel", cancel.run_once(ctx, deadline.whole())))
        if due.poll or due.look or due.intake or due.rescue:
            calls.create_task(_step(counts, "poll", poll.run_once(ctx, deadline.whole(), look=due.look or due.rescue)))
    if tables and _may_be_behind(tables, counts):
        await _step(counts, "mirror", mirror.run_once(ctx, tables, deadline.or_at_least(MIRROR_SECONDS)))
    if due.prune:
        await _step(counts, "prune", prune.run_once(ctx))
    if submitted and any(submitted.values()):
        counts["submit"] = dict(submitted)
        submitted.update(submit.NOTHING)
    return await _finish(ctx, kind, started, counts, idle=IDLE)


def _deadline(
    ctx: Context, started: float, budget: float | None, stopping: Callable[[], bool] = lambda: False
) -> Deadline:
    hard_limit = ctx.settings.hard_limit
    return Deadline(
        monotonic=ctx.monotonic,
        budget_ends=started + (budget or ctx.settings.tick_budget),
        hard_stop=None if hard_limit is None else started + hard_limit,
        stopping=stopping,
    )


async def _tables(ctx: Context, counts: dict[str, Any]) -> list[LinkedTable]:
    """The linked tables. If they cannot be read, the videos that do not need them go on."""
    try:
        return await open_links(ctx.database)
    except Exception as exc:
        event(log, VIDEO, "step_failed", "Linked tables could not be read", level=logging.ERROR, trace=True)
        counts.setdefault("errors", {})["links"] = exc
        return []


def _may_be_behind(tables: Sequence[LinkedTable], counts: Mapping[str, Any]) -> bool:
    """Whether a row may be behind its video, or a link waits for its end: in an idle tick nothing has to be asked."""
    if any(table.is_behind or table.link.state == "closing" for table in tables):
        return True
    return any(value for step, done in counts.items() if step != "errors" for value in done.values())


async def _due(ctx: Context) -> PendingWork:
    """The steps that have something to do. If that cannot be said, each is tried, and says for itself what it lacks."""
    try:
        return await pending_work(ctx.database, ctx.settings.video_retention)
    except NotConfigured as exc:
        event(log, VIDEO, "overview_failed", exc.detail, level=logging.ERROR)
        return EVERYTHING


@as_tick
async def submit_now(ctx: Context, *, stopping: Callable[[], bool], wake: Wake) -> Counts:
    """The submit step alone, for a worker: it waits for no other step. Whatever fails is logged, not raised."""
    need(ctx.settings, "database_url", "runway_key")
    deadline = Deadline(ctx.monotonic, ctx.monotonic() + ctx.settings.tick_budget, stopping=stopping)
    probe, wake.probe = wake.probe, False
    counts: dict[str, Any] = {}
    await _step(counts, "submit", submit.run_once(ctx, deadline, probe=probe, wake=wake))
    for exc in counts.pop("errors", {}).values():
        if isinstance(exc, DatabaseUnavailable):
            event(log, VIDEO, "submit_failed", f"{exc.title}: {exc.detail}", level=logging.ERROR)
    if not deadline.is_open:
        wake.set(due_work=True)  # its time was over, and perhaps not its work
    done: Counts = counts.get("submit", submit.NOTHING)
    return done


@as_tick
async def poll_only(ctx: Context, *, budget: float | None = None) -> dict[str, Any]:
    """The poll step alone, for a second cron."""
    need(ctx.settings, "database_url", "runway_key")
    started = ctx.monotonic()
    deadline = _deadline(ctx, started, budget)
    counts: dict[str, Any] = {}
    await _step(counts, "poll", poll.run_once(ctx, deadline.whole()))
    return await _finish(ctx, "poll", started, counts)


async def _step(counts: dict[str, Any], name: str, work: Awaitable[Counts]) -> None:
    try:
        counts[name] = await work
    except DatabaseUnavailable as exc:
        counts.pop(name, None)
        counts.setdefault("errors", {})[name] = exc
    except Exception as exc:
        counts.pop(name, None)
        event(log, VIDEO, "step_failed", f"Step {name} failed", level=logging.ERROR, trace=True, step=name)
        counts.setdefault("errors", {})[name] = exc


async def _finish(
    ctx: Context,
    kind: str,
    started: float,
    counts: dict[str, Any],
    *,
    idle: Mapping[str, Counts] = MappingProxyType({}),
) -> dict[str, Any]:
    """Record what was done, and report it. `idle`: what steps report that had nothing to do."""
    errors: dict[str, Exception] = counts.pop("errors", {})
    away = next((exc for exc in errors.values() if isinstance(exc, DatabaseUnavailable)), None)
    if away is not None and not counts:
        raise away
    has_run = bool(counts)
    counts = {name: counts.get(name, nothing) for name, nothing in idle.items() if name not in errors} or counts
    seconds = ctx.monotonic() - started
    failures = {
        name: exc.detail if isinstance(exc, TaxiwayError) else type(exc).__name__ for name, exc in errors.items()
    }
    try:
        words = "; ".join(f"{name}: {text}" for name, text in failures.items())
        due = await ticks.record(ctx.database, kind, seconds, counts, words or None, tick_ref.get())
        await observe.refresh(ctx, due if kind != "poll" else [])
    except DatabaseUnavailable as exc:
        failures["record"] = exc.detail  # the work is done all the same, and so the caller gets its counts
    except Exception as exc:
        if not is_refusal(exc) or (isinstance(exc, NotConfigured) and not has_run):
            raise  # a defect, or a database without the schema
        failures["record"] = str(exc)
        event(log, VIDEO, "tick_not_recorded", f"The tick cannot be written down: {exc}", level=logging.ERROR)
    if any(value for step in counts.values() for value in step.values()):
        event(log, VIDEO, "tick", f"Tick done in {seconds:.2f} s: {summary(counts)}")
    return counts | {"seconds": round(seconds, 3), "ref": tick_ref.get()} | ({"errors": failures} if failures else {})


def summary(counts: dict[str, Any]) -> str:
    """The counts that are not zero, as `name=n`."""
    pairs = [(name, value) for step in counts.values() for name, value in step.items() if value]
    return " ".join(f"{name}={value}" for name, value in pairs) or "nothing to do"
