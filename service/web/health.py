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
from service.doctor.queue import MANY_MODERATED, MODEL_FIXES, lost_answers
from service.errors import DatabaseUnavailable, NotConfigured
from service.operations.rhythm import late_after, usual
from service.settings import ENV_NAMES
from service.store import doctor_queries, link_queries, models, queue_stats, ticks
from service.store.circuit import REASON as CIRCUIT
from service.store.database import Database
from service.web.auth import READ, VIEW, context_of, has_token
from service.web.fresh import Fresh

T = TypeVar("T")

READY_SECONDS = 4.0  # Render gives a health check 5 s
SHOWN_TO_STRANGERS = ("counts", "counted_at")
WANTED = ("database_url", "runway_key", "api_keys", "cron_secret")


async def live(_request: Request) -> Response:
    """GET /health/live: the process answers. It depends on nothing, so a stuck queue restarts no process."""
    return JSONResponse({"status": "alive"})


async def ready(request: Request) -> Response:
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
        self.facts = fresh(lambda: _facts(ctx.database))


async def show(request: Request) -> Response:
    """GET /health: to strangers whether it is well, and counts; with a token everything. 503 without a database."""
    ctx, reports = context_of(request), request.app.state.reports
    missing = [ENV_NAMES[name] for name in WANTED if not getattr(ctx.settings, name)]
    is_known = has_token(request, READ)
    more = await _doctor(ctx) if has_token(request, VIEW) else {}
    try:
        facts: dict[str, Any] = await reports.facts.get()
    except (DatabaseUnavailable, NotConfigured) as exc:
        body: dict[str, Any] = {"status": "down"}
        if is_known:
            body |= {"database": _database_words(exc), "missing_settings": missing}
        return JSONResponse(body | more, status_code=503, headers={"Retry-After": "10"})
    concerns = _concerns(facts, missing)
    status = "attention" if concerns else "ok"
    if not is_known:
        return JSONResponse({"status": status} | {name: facts[name] for name in SHOWN_TO_STRANGERS})
    return JSONResponse({"status": status, "concerns": concerns, "missing_settings": missing} | facts | more)


async def _doctor(ctx: Context) -> dict[str, Any]:
    """For a request with a viewer or an admin token: the checks of `taxiway doctor`. They ask Runway, too."""
    from service.doctor.report import run_checks

    return {"doctor": [asdict(check) for check in await run_checks(ctx, os.environ)]}


def _database_words(exc: DatabaseUnavailable | NotConfigured) -> str:
    """What every token may know: that a migration or setting is missing, but not where the database is."""
    return exc.detail if isinstance(exc, NotConfigured) else exc.title


async def _facts(database: Database) -> dict[str, Any]:
    facts = await queue_stats.report(database)
    facts["counted_at"] = facts["counted_at"] and facts["counted_at"].isoformat()
    last = await ticks.last(database)
    paused = await models.paused(database)
    interval = usual([tick["began_seconds_ago"] for tick in await doctor_queries.recent_ticks(database)])
    facts["last_tick"] = None
    if last:
        facts["last_tick"] = {
            "kind": last[0],
            "finished_at": last[1].isoformat(),
            "age_seconds": round(last[2], 1),
            "late_after_seconds": round(late_after(interval), 1),
        }
    facts["models_paused"] = [
        {
            "model": row["model"],
            "reason": row["reason"],
            "detail": row["detail"],
            "paused_until": row["paused_until"] and row["paused_until"].isoformat(),
        }
        for row in paused
    ]
    facts["links"] = [
        {
            "link": one.link,
            "is_paused": one.paused is not None,
            "refusing_rows": one.rows,
            "refusing_since": one.since and one.since.isoformat(),
        }
        for one in await link_queries.troubled(database)
    ]
    return facts


def _pause(model: dict[str, Any]) -> str:
    if model["reason"] != CIRCUIT:
        return f"model {model['model']} is paused: {model['reason']}"
    words = lost_answers(f"model {model['model']}", model["detail"] or "", f"until {model['paused_until']}")
    return f"{words}: {MODEL_FIXES[CIRCUIT][1]}"


def _concerns(facts: dict[str, Any], missing: list[str]) -> list[str]:
    """What needs an operator, one sentence each; empty if all is well."""
    concerns = [f"{name} is not set" for name in missing]
    if facts["last_tick"] is None:
        concerns.append("no tick has ever run: point a cron at /process-queued, or run `taxiway worker`")
    elif facts["last_tick"]["age_seconds"] > facts["last_tick"]["late_after_seconds"]:
        concerns.append(f"the last tick ended {facts['last_tick']['age_seconds']:.0f} s ago: has the cron stopped?")
    if facts["stuck"]:
        concerns.append(f"{facts['stuck']} videos are stuck")
    if facts["unknown"]:
        concerns.append(f"{facts['unknown']} submissions have an unknown outcome")
    concerns += map(_pause, facts["models_paused"])
    if facts["moderated"] >= MANY_MODERATED:
        concerns.append(
            f"Runway's moderation refused {facts['moderated']} videos in the last hour: it suspends accounts for that"
        )
    why = "`taxiway doctor` says why"
    for one in facts["links"]:
        if one["is_paused"]:
            concerns.append(f"the linked table {one['link']} is paused: {why}")
        if one["refusing_rows"]:
            concerns.append(f"{one['refusing_rows']} rows of {one['link']} refuse to show their videos: {why}")
    return concerns
