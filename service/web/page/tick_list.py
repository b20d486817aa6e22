"""/ui/ticks: the last ticks and their rhythm, and a button that runs one, inside the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service import tick
from service.doctor.queue import cron
from service.store import doctor_queries, queue_stats, ticks
from service.tick_report import TickReport
from service.web.auth import context_of
from service.web.page import base, check_list

REFRESH_SECONDS = 5
LISTED = 100
BUDGET_SECONDS = 5.0  # a person is waiting; a create that was sent is waited for all the same
MANUAL = "page"  # the kind of tick


async def show(request: Request) -> Response:
    """GET /ui/ticks: the last ticks, what each did, how long it took, and their rhythm."""
    return await _page(request)


async def ticked(request: Request) -> Response:
    """GET /ui/ticks/list: the part of it that refreshes itself."""
    return base.render(request, "ticks_list.html", **await _ticks(request))


async def run(request: Request) -> Response:
    """POST /ui/ticks/run: run one tick now. Raises NotConfigured and DatabaseUnavailable, as the tick does."""
    stopping = getattr(request.app.state, "stopping", lambda: False)
    report = await tick.tick(context_of(request), budget=BUDGET_SECONDS, stopping=stopping, kind=MANUAL)
    return await _page(request, report)


async def _page(request: Request, report: TickReport | None = None) -> Response:
    ran = report or TickReport(None)
    return base.render(
        request, "ticks.html", ran=did(ran.counts), seconds=round(ran.seconds, 3), errors=ran.errors,
        has_run=report is not None, budget=BUDGET_SECONDS, **await _ticks(request),
    )  # fmt: skip


async def _ticks(request: Request) -> dict[str, Any]:
    database = context_of(request).database
    recent = await ticks.recent(database, LISTED)
    rhythm = await doctor_queries.recent_ticks(database)
    # Without a tick it matters whether anything waits; with one, nothing need be counted.
    counts = {} if rhythm else (await queue_stats.report(database))["counts"]
    rhythm_checks = cron(rhythm, counts.get("queued", 0) + counts.get("processing", 0))
    return {
        "groups": grouped(recent),
        "checks": [(check_list.KINDS[one.status], one) for one in rhythm_checks],
        "refresh_seconds": REFRESH_SECONDS,
    }


def grouped(recent: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Ticks, newest first, with what each did as `did`; neighbours that had nothing to do are one group."""
    groups: list[list[dict[str, Any]]] = []
    for one in recent:
        shown = one | {"did": did(one["counts"])}
        idle = not shown["did"] and not shown["error"]
        before = groups[-1][-1] if groups else None
        if idle and before and not before["did"] and not before["error"] and before["kind"] == shown["kind"]:
            groups[-1].append(shown)
        else:
            groups.append([shown])
    return groups


def did(counts: Mapping[str, Any]) -> str:
    """What a tick did, as `3 accepted, 1 poll failed`; empty if nothing. The counts may be another version's."""
    steps = [step for step in counts.values() if isinstance(step, Mapping)]
    done = [(name, value) for step in steps for name, value in step.items() if value]
    return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in done)
