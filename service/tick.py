"""The tick: every step once, in order, inside a budget. All work is done here, before the caller gets its answer."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from service.context import Context, Counts
from service.deadline import Deadline, Wake
from service.errors import DatabaseUnavailable, NotConfigured
from service.heartbeat import beating
from service.logs import VIDEO, as_tick, event, tick_ref
from service.operations import delivering, observe
from service.settings import need
from service.steps import cancel, deliver, intake, mirror, poll, prune, rescue, submit
from service.store import alerts, endpoints, ticks
from service.store.driver_errors import is_refusal
from service.store.linked_table import LinkedTable
from service.store.links import open_links
from service.store.pending_work import EVERYTHING, PendingWork, pending_work
from service.tick_report import TickReport, summary

log = logging.getLogger(__name__)

INTAKE_SHARE = 0.5  # of the budget, at most, for rows to take: submitting waits for it
RESCUE_SHARE = 0.5  # of what is then left
MIRROR_SECONDS = 5.0  # at least, also if the steps before it have used the budget
DELIVER_SECONDS = 5.0  # the same

# What a step with nothing to do reports, in the order of the report.
IDLE: Mapping[str, Counts] = {
    "intake": intake.NOTHING, "rescue": rescue.NOTHING, "cancel": cancel.NOTHING,
    "submit": submit.NOTHING, "poll": poll.NOTHING, "mirror": mirror.NOTHING,
    "deliver": deliver.NOTHING, "prune": prune.NOTHING,
}  # fmt: skip


class SubmitLoop:
    """A worker's submit step, which runs beside its ticks: how they wake it, and what it has done since the last."""

    def __init__(self) -> None:
        self.wake = Wake()
        self._counts: Counter[str] = Counter()

    def add(self, counts: Counts) -> None:
        """One more run of the step."""
        self._counts.update(counts)

    def take(self) -> Counts:
        """What was submitted since this was last asked."""
        done, self._counts = self._counts, Counter()
        return submit.NOTHING | done


@as_tick
@beating
async def tick(
    ctx: Context,
    *,
    budget: float | None = None,
    stopping: Callable[[], bool] = lambda: False,
    kind: str = "tick",
    beside: SubmitLoop | None = None,
) -> TickReport:
    """One bounded round of work, and its report.

    `budget`: seconds in which the answer should be out. `beside`: the submit step runs beside this tick, which wakes
    it, and reports what it has done. Raises NotConfigured or DatabaseUnavailable if the tick could not run.
    A step that fails is named under `errors` and costs the others nothing.
    """
    need(ctx.settings, "database_url", "runway_key")
    started = ctx.monotonic()
    deadline = _deadline(ctx, started, budget, stopping)
    due = await _due(ctx)
    report = TickReport(tick_ref.get())
    if due.endpoints:
        await _name_endpoints(ctx, report)
    tables = await _tables(ctx, report) if due.links else []
    if due.intake:
        await report.step("intake", intake.run_once(ctx, tables, deadline.share(INTAKE_SHARE)))
    elif tables:
        await report.step("intake", intake.take_linked(ctx, tables, deadline.share(INTAKE_SHARE)))
    if due.rescue:
        await report.step("rescue", rescue.run_once(ctx, deadline.share(RESCUE_SHARE)))
    # Side by side: a slow call of one kind must not keep the others waiting.
    async with asyncio.TaskGroup() as calls:
        if beside is not None:
            beside.wake.set(due=True, probe=due.probe)
        elif due.submit or due.probe or ctx.unsaved or report.counts:  # or the steps before it have found some
            calls.create_task(report.step("submit", submit.run_once(ctx, deadline, probe=due.probe)))
        else:
            calls.create_task(report.step("submit", submit.look(ctx)))
        if due.cancel or due.rescue or report.counts.get("intake", intake.NOTHING)["recalled"]:
            calls.create_task(report.step("cancel", cancel.run_once(ctx, deadline.whole())))
        if due.poll or due.look or due.intake or due.rescue:
            look = due.look or due.rescue
            polling = poll.run_once(ctx, deadline.whole(), look=look, few=beside is not None)
            calls.create_task(report.step("poll", polling))
    if tables and _may_be_behind(tables, report):
        await report.step("mirror", mirror.run_once(ctx, tables, deadline.or_at_least(MIRROR_SECONDS)))
    # Something may just have ended. Without a secret that signs, nothing can be sent.
    if ctx.settings.webhook_secrets and (due.deliver or report.has_done):
        await report.step("deliver", deliver.run_once(ctx, deadline.or_at_least(DELIVER_SECONDS)))
    if due.prune:
        await report.step("prune", prune.run_once(ctx))
    if beside is not None and any((submitted := beside.take()).values()):
        report.counts["submit"] = submitted
    return await _finish(ctx, kind, started, report, idle=IDLE)


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


async def _name_endpoints(ctx: Context, report: TickReport) -> None:
    """Let the table of endpoints say what the settings say. If that fails, the next tick tries again."""
    try:
        await endpoints.configure(ctx.database, delivering.configured(ctx.settings))
    except Exception as exc:
        event(log, VIDEO, "step_failed", "The endpoints were not written", level=logging.ERROR, trace=True)
        report.failed("endpoints", exc)


async def _tables(ctx: Context, report: TickReport) -> list[LinkedTable]:
    """The linked tables. If they cannot be read, the videos that do not need them go on."""
    try:
        return await open_links(ctx.database)
    except Exception as exc:
        event(log, VIDEO, "step_failed", "Linked tables could not be read", level=logging.ERROR, trace=True)
        report.failed("links", exc)
        return []


def _may_be_behind(tables: Sequence[LinkedTable], report: TickReport) -> bool:
    """Whether a row may be behind its video, or a link waits for its end: in an idle tick nothing has to be asked."""
    return report.has_done or any(table.is_behind or table.link.state == "closing" for table in tables)


async def _due(ctx: Context) -> PendingWork:
    """The steps that have something to do. If that cannot be said, each is tried, and says for itself what it lacks."""
    try:
        return await pending_work(ctx.database, ctx.settings.video_retention, delivering.configured(ctx.settings))
    except NotConfigured as exc:
        event(log, VIDEO, "overview_failed", exc.detail, level=logging.ERROR)
        return EVERYTHING


@as_tick
async def submit_now(ctx: Context, *, stopping: Callable[[], bool], wake: Wake) -> Counts:
    """The submit step alone, for a worker: it waits for no other step. Whatever fails is logged, not raised."""
    need(ctx.settings, "database_url", "runway_key")
    deadline = Deadline(ctx.monotonic, ctx.monotonic() + ctx.settings.tick_budget, stopping=stopping)
    probe, wake.probe = wake.probe, False
    report = TickReport(tick_ref.get())
    await report.step("submit", submit.run_once(ctx, deadline, probe=probe, wake=wake))
    if (away := report.unavailable) is not None:
        event(log, VIDEO, "submit_failed", f"{away.title}: {away.detail}", level=logging.ERROR)
    if not deadline.is_open:
        wake.set(due=True)  # its time was over, and perhaps not its work
    return report.counts.get("submit", submit.NOTHING)


@as_tick
async def poll_only(ctx: Context, *, budget: float | None = None) -> TickReport:
    """The poll step alone, for a second cron."""
    need(ctx.settings, "database_url", "runway_key")
    started = ctx.monotonic()
    report = TickReport(tick_ref.get())
    await report.step("poll", poll.run_once(ctx, _deadline(ctx, started, budget).whole()))
    return await _finish(ctx, "poll", started, report)


async def _finish(
    ctx: Context, kind: str, started: float, report: TickReport, *, idle: Mapping[str, Counts] | None = None
) -> TickReport:
    """Record what was done. `idle`: what steps report that had nothing to do."""
    has_run = any(report.counts.values())
    if report.unavailable is not None and not has_run:
        raise report.unavailable
    if idle:
        report.fill(idle)
    report.seconds = ctx.monotonic() - started
    try:
        words = "; ".join(f"{name}: {text}" for name, text in report.errors.items()) or None
        due = await ticks.record(ctx.database, kind, report.seconds, report.counts, words, report.ref)
        if kind != "poll":
            await observe.refresh(ctx, [name for name in due if name != alerts.NAME])
            if alerts.NAME in due:
                from service import alerting  # with the checks, which an idle tick does not load

                await alerting.in_tick(ctx)
    except DatabaseUnavailable as exc:
        if not has_run:
            raise
        report.failed("record", exc)  # the work is done all the same, and so the caller gets its counts
    except Exception as exc:
        if not is_refusal(exc) or (isinstance(exc, NotConfigured) and not has_run):
            raise  # a defect, or a database without the schema
        report.errors["record"] = str(exc)
        event(log, VIDEO, "tick_not_recorded", f"The tick cannot be written down: {exc}", level=logging.ERROR)
    if report.has_done:
        event(log, VIDEO, "tick", f"Tick done in {report.seconds:.2f} s: {summary(report.counts)}")
    return report
