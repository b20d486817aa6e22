"""The web process, as a table of contents.

`create_app()` builds it; `app` is what ASGI hosts look for. Neither needs the lifespan to have run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service import context as contexts
from service import logs
from service.context import Context
from service.errors import BadSettings, TaxiwayError
from service.web import bulk, callbacks, cron, docs, health, metrics, openapi, operations, page, problems, videos
from service.web.attempts import Attempts, RefusedLog
from service.web.limits import Limits

IMAGES_AT_ONCE = 8  # fetched for pages; each may have 16 MB
TICK_METHODS = ["GET", "POST", "HEAD", "OPTIONS"]

ROUTES = [
    Route("/videos", videos.enqueue, methods=["POST"]),
    Route("/videos", videos.listing, methods=["GET"]),
    Route("/videos/{id}", videos.read, methods=["GET"]),
    Route("/videos/{id}", videos.erase, methods=["DELETE"]),
    Route("/videos/{id}/file", videos.file, methods=["GET"]),
    Route("/videos/{id}/submissions", videos.ledger_of, methods=["GET"]),
    Route("/videos/{id}/events", videos.events_of, methods=["GET"]),
    Route("/videos/{id}/retry", videos.retry, methods=["POST"]),
    Route("/videos/{id}/cancel", videos.cancel, methods=["POST"]),
    Route("/videos/{id}/attach", operations.attach, methods=["POST"]),
    Route("/models", operations.list_models, methods=["GET"]),
    Route("/models/{model}/pause", operations.pause_model, methods=["POST"]),
    Route("/models/{model}/resume", operations.resume_model, methods=["POST"]),
    Route("/ticks", operations.list_ticks, methods=["GET"]),
    Route("/stats", operations.statistics, methods=["GET"]),
    Route("/account", operations.account, methods=["GET"]),
    Route("/metrics", metrics.show, methods=["GET"]),
    Route("/quotes", bulk.quote, methods=["POST"]),
    Route("/bulk/retry", bulk.retry, methods=["POST"]),
    Route("/bulk/cancel", bulk.cancel, methods=["POST"]),
    # Callers do not follow redirects, so a slash at the end is served as well.
    Route("/process-queued", cron.process_queued, methods=TICK_METHODS),
    Route("/process-queued/", cron.process_queued, methods=TICK_METHODS),
    Route("/poll-processing", cron.poll_processing, methods=TICK_METHODS),
    Route("/poll-processing/", cron.poll_processing, methods=TICK_METHODS),
    Route("/callbacks/runway", callbacks.receive, methods=["POST"]),
    Route("/health", health.show, methods=["GET"]),
    Route("/health/live", health.live, methods=["GET"]),
    Route("/health/ready", health.ready, methods=["GET"]),
    Route("/openapi.json", openapi.document, methods=["GET"]),
    Route("/docs", docs.show, methods=["GET"]),
    Route("/docs/{name}", docs.show_page, methods=["GET"]),
    *page.ROUTES,
]


def create_app(ctx: Context) -> Starlette:
    """The app of this context. Bodies are bounded where they are read, so that 413 is a problem document, too."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await ctx.database.close()

    built = Starlette(
        routes=ROUTES,
        lifespan=lifespan,
        middleware=[Middleware(Limits)],
        exception_handlers={
            TaxiwayError: problems.taxiway_error,
            HTTPException: problems.http_error,
            Exception: problems.unexpected,
        },
    )
    built.router.redirect_slashes = False
    built.state.ctx = ctx
    built.state.reports = health.Reports(ctx)
    built.state.images = asyncio.Semaphore(IMAGES_AT_ONCE)
    built.state.attempts = Attempts(ctx.monotonic, ctx.sleep)
    built.state.refused = RefusedLog(ctx.monotonic)
    return built


@cache
def _from_environment() -> ASGIApp:
    ctx = contexts.from_environment()
    logs.configure(ctx.settings.log_format, ctx.settings.log_level, ctx.settings.secrets)
    return create_app(ctx)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The app for hosts that import one. Settings that contradict themselves stop the start, or answer 503."""
    try:
        inner = _from_environment()
    except BadSettings as exc:
        if scope["type"] != "http":
            raise
        inner = problems.problem(exc.status, exc.slug, exc.title, exc.detail)
    await inner(scope, receive, send)
