"""Heartbeat: a call to a monitor outside after every tick, so that it can raise the alarm when none comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlsplit

from service.context import Context
from service.errors import TaxiwayError
from service.logs import VIDEO, event
from service.tick_report import TickReport

log = logging.getLogger(__name__)

LONGEST_SECONDS = 5.0
P = ParamSpec("P")


def beating(
    work: Callable[Concatenate[Context, P], Coroutine[None, None, TickReport]],
) -> Callable[Concatenate[Context, P], Coroutine[None, None, TickReport]]:
    """Report each run of `work` to HEARTBEAT_URL, inside that run: also that it failed, or that a step did."""

    @wraps(work)
    async def heard(ctx: Context, /, *arguments: P.args, **options: P.kwargs) -> TickReport:
        try:
            report = await work(ctx, *arguments, **options)
        except TaxiwayError:
            await ping(ctx, failed=True)
            raise
        await ping(ctx, failed=bool(report.errors))
        return report

    return heard


async def ping(ctx: Context, *, failed: bool) -> None:
    """One GET; if it fails, only the log says so."""
    url = ctx.settings.heartbeat_url
    if url is None:
        return
    import httpx  # only here: a cold start should not wait for it

    try:
        async with asyncio.timeout(LONGEST_SECONDS), httpx.AsyncClient(timeout=LONGEST_SECONDS) as client:
            answer = await client.get(_failing(url) if failed else url)
            trouble = f"answered {answer.status_code}" if answer.is_error or answer.is_redirect else ""
    except (httpx.HTTPError, OSError, TimeoutError) as exc:
        trouble = f"does not answer ({type(exc).__name__})"
    if trouble:
        event(log, VIDEO, "heartbeat_failed", f"HEARTBEAT_URL {trouble}", level=logging.WARNING)


def _failing(url: str) -> str:
    """Where healthchecks.io, and what follows its convention, take the news of a failure: `/fail` below the URL."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl()
