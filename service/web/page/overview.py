"""/: is it well, what is under way, and how the last hour, day or week went. Its parts refresh themselves."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.doctor import at_work
from service.doctor.queue import cron
from service.operations.accounting import spent
from service.store import throughput
from service.store.throughput import BUCKETS, Span
from service.videos import LISTED, Status
from service.web.auth import context_of
from service.web.page import account_card, base, check_list, plots

REFRESH_SECONDS = 3
LARGEST_SHARE = 0.05  # of the time, at most, that the database counts for one page that is open


async def show(request: Request) -> Response:
    """GET /: the overview: is it well, and what is going on."""
    return base.render(request, "overview.html", window=_window(request), **await _state(request))


async def state(request: Request) -> Response:
    """GET /ui/overview/state: everything of the overview that the database knows."""
    return base.render(request, "overview_state.html", **await _state(request))


async def account(request: Request) -> Response:
    """GET /ui/overview/account: what Runway says of the account, or that it cannot be asked."""
    ctx = context_of(request)
    flying = await throughput.in_flight(ctx.database)
    return base.render(request, "overview_account.html", account=await account_card.ask(ctx), in_flight=flying)


async def plot(request: Request) -> Response:
    """GET /ui/overview/plots: the plots of an hour, a day or a week, by `?window=`."""
    window = _window(request)
    buckets = await throughput.series(context_of(request).database, window)
    return base.render(
        request, "overview_plots.html", window=window, buckets=buckets, bucket_seconds=BUCKETS[window][0],
        enqueued=plots.enqueued(buckets, window), ended=plots.ended(buckets, window),
        times=plots.times(buckets, window),
    )  # fmt: skip


def _window(request: Request) -> Span:
    asked = request.query_params.get("window", "")
    return Span(asked) if asked in list(Span) else Span.HOUR


async def _state(request: Request) -> dict[str, Any]:
    ctx = context_of(request)
    database, now = ctx.database, datetime.fromtimestamp(ctx.now(), UTC)
    before = ctx.monotonic()
    seen = await at_work.facts(database, ctx.settings)
    took = ctx.monotonic() - before
    report, recent = seen.report, seen.recent
    credits = await spent(ctx)
    rhythm = cron(recent, seen.under_way)
    statuses = [status.value for status in LISTED]
    return {
        "report": report,
        "counts": {name: report["counts"].get(name, 0) for name in statuses},
        "others": {name: count for name, count in report["counts"].items() if name not in set(Status)},
        "summary": check_list.summary(ctx.settings, seen, now),
        "screen_of": check_list.screen_of,
        "last_tick": recent[0] if recent else None,
        "cron_kind": check_list.KINDS[rhythm[0].status],
        "spent_today": credits.today,
        "most_a_day": credits.most,
        "refresh_seconds": max(REFRESH_SECONDS, math.ceil(took / LARGEST_SHARE)),
    }
