"""/: is it well, what is under way, and how the last hour, day or week went. Its parts refresh themselves."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.store import checks, lanes, spending, standing, stats
from service.store.stats import BUCKETS, Span
from service.videos import Status
from service.web.auth import house_of
from service.web.page import account as accounts
from service.web.page import base, plots, well

REFRESH_SECONDS = 3
LARGEST_SHARE = 0.05  # of the time, at most, that the database counts for one page that is open


@base.sees
async def show(request: Request) -> Response:
    """GET /"""
    return base.render(request, "now.html", window=_window(request), **await _state(request))


@base.sees
async def state(request: Request) -> Response:
    """GET /ui/now/state: everything of it that the database knows."""
    return base.render(request, "now_state.html", **await _state(request))


@base.sees
async def account(request: Request) -> Response:
    """GET /ui/now/account: what Runway says of the account, or that it cannot be asked."""
    house = house_of(request)
    flying = await stats.in_flight(house.database)
    return base.render(request, "now_account.html", account=await accounts.ask(house), in_flight=flying)


@base.sees
async def plot(request: Request) -> Response:
    """GET /ui/now/plots"""
    window = _window(request)
    buckets = await stats.series(house_of(request).database, window)
    return base.render(
        request, "now_plots.html", window=window, buckets=buckets, bucket_seconds=BUCKETS[window][0],
        counts=plots.counts(buckets, window), times=plots.times(buckets, window),
    )  # fmt: skip


def _window(request: Request) -> Span:
    asked = request.query_params.get("window", "")
    return Span(asked) if asked in list(Span) else Span.HOUR


async def _state(request: Request) -> dict[str, Any]:
    house = house_of(request)
    database, now = house.database, datetime.fromtimestamp(house.wall(), UTC)
    before = house.clock()
    report = await standing.report(database)
    took = house.clock() - before
    recent = await checks.recent_ticks(database)
    paused = [dict(row) for row in await lanes.paused(database)]
    spent = await spending.today(database)
    rhythm = well.cron(report, recent)
    statuses = [status.value for status in Status]
    return {
        "report": report,
        "counts": {name: report["counts"].get(name, 0) for name in statuses},
        "others": {name: count for name, count in report["counts"].items() if name not in statuses},
        "wellness": well.judge(house.settings, report, paused, recent, now),
        "last_tick": recent[0] if recent else None,
        "cron_kind": well.KINDS[rhythm[0].state],
        "spent_today": sum(spent.values()),
        "most_a_day": house.settings.max_credits_per_day,
        "refresh_seconds": max(REFRESH_SECONDS, math.ceil(took / LARGEST_SHARE)),
    }
