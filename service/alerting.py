"""Alerts: a check that turns bad is reported to ALERT_URL once, and once more when it is over.

The checks are those of /health, `taxiway doctor` and the page. Ticks evaluate them, at most once a minute; and where no
tick comes any more, the requests of callers do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from service.context import Context
from service.doctor import at_work, linked_tables
from service.doctor.checks import Check, CheckStatus, fit_to_show
from service.doctor.queue import cron
from service.logs import VIDEO, event
from service.operations import delivering
from service.store import alerts, doctor_queries
from service.store.alerts import Problem

log = logging.getLogger(__name__)

LAST_TICK = "last tick"


async def in_tick(ctx: Context) -> None:
    """Evaluate at the end of a tick, and deliver at once. Whatever fails is logged: the tick's work is done."""
    try:
        if await _evaluate(ctx):
            ctx.outbox.note()
            await delivering.within_request(ctx)
    except Exception as exc:
        _failed(exc)


async def in_request(ctx: Context) -> None:
    """Evaluate inside a request, if the ticks have stopped; the request then delivers. Whatever fails is logged."""
    if not ctx.outbox.take_alerts(ctx.monotonic()):
        return
    try:
        if await _have_ticks_stopped(ctx) and await _evaluate(ctx):
            ctx.outbox.note()
    except Exception as exc:
        _failed(exc)


def _failed(exc: Exception) -> None:
    words = f"Alerts were not evaluated ({type(exc).__name__}): the next tick does"
    event(log, VIDEO, "alerts_failed", words, level=logging.WARNING)


async def _have_ticks_stopped(ctx: Context) -> bool:
    """Not before the first tick: an installation that is being set up has none."""
    recent = await doctor_queries.recent_ticks(ctx.database)
    return bool(recent) and cron(recent, 0)[0].status is CheckStatus.ERROR


async def _evaluate(ctx: Context) -> bool:
    """Whether there is something to report; False also where another process has evaluated within a minute."""
    if not await alerts.take_turn(ctx.database):
        return False
    seen = await at_work.facts(ctx.database, ctx.settings)
    found = at_work.problems(at_work.checks(ctx.settings, seen, ctx.now()))
    shown = fit_to_show(filter(_is_alert, found), ctx.settings.redactor)
    return await alerts.write(ctx.database, _problems(shown)) > 0


def _is_alert(check: Check) -> bool:
    """Settings do not change by themselves; and a cron that misses a call now and then is no alarm, unless it stops."""
    return check.area != "settings" and (check.area != "cron" or check.name == LAST_TICK)


def _problems(found: Iterable[Check]) -> list[Problem]:
    named = {f"{check.area}: {check.name}": check for check in found}
    return [Problem(name, _payload(name, check)) for name, check in named.items()]


def _payload(name: str, check: Check) -> dict[str, str]:
    # What stands in rows of a linked table is for those who may log in.
    message = "`taxiway doctor` says why" if check.area == linked_tables.AREA else check.message
    text = f"Taxiway: {name}: {message}." + (f" Fix: {check.fix}." if check.fix else "")
    return {"name": name, "status": check.status.value, "message": message, "fix": check.fix, "text": text}
