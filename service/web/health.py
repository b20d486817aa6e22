"""/health: the health summary; /health/live and /health/ready for platforms that restart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.context import Context
from service.doctor import at_work, linked_tables
from service.doctor.checks import Check, CheckStatus, missing
from service.errors import DatabaseUnavailable, NotConfigured
from service.operations.rhythm import late_after, usual
from service.settings import Settings
from service.store import ticks
from service.store.database import Database
from service.web.auth import READ, VIEW, has_token
from service.web.fresh import Fresh

T = TypeVar("T")

READY_SECONDS = 4.0  # Render gives a health check 5 s
SHOWN_TO_STRANGERS = ("counts", "counted_at")


async def live(_ctx: Context, _request: Request) -> Response:
    """GET /health/live: the process answers. It depends on nothing, so a stuck queue restarts no process."""
    return JSONResponse({"status": "alive"})


async def ready(_ctx: Context, request: Request) -> Response:
    """GET /health/ready: the database answers, too."""
    reports: Reports = request.app.state.reports
    try:
        async with asyncio.timeout(READY_SECONDS):
            await reports.ready.get()
    except TimeoutError as exc:
        raise DatabaseUnavailable(f"no answer within {READY_SECONDS:g} s") from exc
    return JSONResponse({"status": "ready"})


class Reports:
    """What strangers may ask for as often as they like: one report for all of them, at most two seconds old."""

    def __init__(self, ctx: Context) -> None:
        def fresh(make: Callable[[], Awaitable[T]]) -> Fresh[T]:
            return Fresh(make, ctx.report_seconds, ctx.monotonic)

        self.ready = fresh(lambda: ctx.database.fetchval("SELECT 1"))
        self.facts = fresh(lambda: _facts(ctx.database, ctx.settings))


async def show(ctx: Context, request: Request) -> Response:
    """GET /health: to strangers whether it is well, and counts; with a token everything. 503 without a database."""
    reports = request.app.state.reports
    is_known = has_token(request, READ)
    more = await _doctor(ctx) if has_token(request, VIEW) else {}
    try:
        seen, body = await reports.facts.get()
    except (DatabaseUnavailable, NotConfigured) as exc:
        down: dict[str, Any] = {"status": "down"}
        if is_known:
            down |= {"database": _database_words(exc), "missing_settings": _missing(ctx, frozenset())}
        return JSONResponse(down | more, status_code=503, headers={"Retry-After": "10"})
    problems = at_work.problems(at_work.checks(ctx.settings, seen, ctx.now()))
    status = "attention" if problems else "ok"
    if not is_known:
        return JSONResponse({"status": status} | {name: body[name] for name in SHOWN_TO_STRANGERS})
    concerns = [ctx.settings.redactor(_sentence(check)) for check in problems]
    known = {"status": status, "concerns": concerns, "missing_settings": _missing(ctx, seen.unused)}
    return JSONResponse(known | body | more)


def _missing(ctx: Context, unused: frozenset[str]) -> list[str]:
    return [check.name for check in missing(ctx.settings, unused) if check.status is not CheckStatus.OK]


def _sentence(check: Check) -> str:
    """A check for every token. What stands in rows of a linked table is for viewers, whom `doctor` shows it."""
    words = "`taxiway doctor` says why" if check.area == linked_tables.AREA else check.message
    return f"{check.name}: {words}"


async def _doctor(ctx: Context) -> dict[str, Any]:
    """For a request with a viewer or an admin token: the checks of `taxiway doctor`. They ask Runway, too."""
    from service.doctor.report import run_checks

    return {"doctor": [asdict(check) for check in await run_checks(ctx, os.environ)]}


def _database_words(exc: DatabaseUnavailable | NotConfigured) -> str:
    """What every token may know: that a migration or setting is missing, but not where the database is."""
    return exc.detail if isinstance(exc, NotConfigured) else exc.title


async def _facts(database: Database, settings: Settings) -> tuple[at_work.Facts, dict[str, Any]]:
    """What the checks are made of, and what of it is shown as it is."""
    seen = await at_work.facts(database, settings)
    last = await ticks.last(database)
    facts = dict(seen.report)
    facts["counted_at"] = facts["counted_at"] and facts["counted_at"].isoformat()
    facts["last_tick"] = None
    if last:
        late = late_after(usual([tick["began_seconds_ago"] for tick in seen.recent]))
        facts["last_tick"] = {
            "kind": last[0],
            "finished_at": last[1].isoformat(),
            "age_seconds": round(last[2], 1),
            "late_after_seconds": round(late, 1),
        }
    facts["models_paused"] = [
        {
            "model": row["model"],
            "reason": row["reason"],
            "detail": row["detail"],
            "paused_until": row["paused_until"] and row["paused_until"].isoformat(),
        }
        for row in seen.paused
    ]
    facts["links"] = [
        {
            "link": one.link,
            "is_paused": one.paused is not None,
            "refusing_rows": one.rows,
            "refusing_since": one.since and one.since.isoformat(),
        }
        for one in seen.troubled
    ]
    return seen, facts
