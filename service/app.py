"""The web process, as a table of contents.

`create_app()` builds it; `app` is what ASGI hosts look for. Neither needs the lifespan to have run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from service import context as contexts
from service import logs
from service.context import Context
from service.errors import BadSettings
from service.operations.video_view import VideoView
from service.web import (
    batch_routes,
    bulk,
    callbacks,
    cron,
    docs,
    door,
    health,
    metrics,
    openapi,
    operations,
    page,
    prefer,
    problems,
    request_limits,
    uploads,
    video_routes,
    webhook_routes,
)
from service.web.attempts import Attempts, RefusedLog
from service.web.auth import CHANGE, CREATE, CRON, OPERATE, PUBLIC, READ, SIGNED, VIEW
from service.web.endpoint import JSON, Endpoint, routes
from service.web.request_limits import Kinds, Limits
from service.web.schemas import (
    CallbackHint,
    Enqueued,
    FileQuery,
    ListQuery,
    RetryRequest,
    SubmissionList,
    TickCounts,
    VideoPage,
    VideoRequest,
)
from service.web.schemas_batch import BatchRequest, BatchResults
from service.web.schemas_bulk import BulkCounts, BulkRequest, ErasureView, EventList, QuoteView
from service.web.schemas_operations import (
    AccountView,
    AttachRequest,
    ModelList,
    ModelView,
    PauseRequest,
    Stats,
    StatsQuery,
    TickList,
    TickQuery,
    UsageQuery,
    UsageView,
)
from service.web.schemas_webhooks import (
    DeliveryPage,
    DeliveryQuery,
    DeliveryReport,
    EndpointList,
    EndpointView,
    TestRequest,
    TestResults,
)
from service.web.uploads import UploadRequest, UploadView

IMAGES_AT_ONCE = 8  # fetched for pages; each may have 16 MB
WAITERS_AT_ONCE = 40  # requests that wait for their video: fewer than there may be ordinary ones

# The API. Each line of an endpoint says: the call, the handler and whom it lets in; what it is for; what it takes; what
# it answers. The page has its own table (service/web/page/__init__.py).
ENDPOINTS = (
    Endpoint(
        "POST", "/videos", video_routes.enqueue, CREATE,
        "Queue a video; the answer has its address in Location",
        body=VideoRequest, parameters=(video_routes.IDEMPOTENCY_KEY, prefer.WAIT),
        responses={202: ("Accepted", Enqueued), 200: ("Ended, with `Prefer: wait`", VideoView)},
        problems=(409, 410, 429),
    ),
    Endpoint(
        "POST", "/videos/batch", batch_routes.enqueue, CREATE,
        "Queue up to 1,000 videos at once: all or none, or each for itself",
        body=BatchRequest, parameters=(video_routes.IDEMPOTENCY_KEY,),
        responses={202: ("Accepted", BatchResults)}, problems=(429,),
    ),
    Endpoint(
        "GET", "/videos", video_routes.listing, READ,
        "List videos, newest first",
        query=ListQuery,
        responses={200: ("A page", VideoPage)},
    ),
    Endpoint(
        "GET", "/videos/{id}", video_routes.read, READ,
        "Read one video, with an ETag; its task is polled if that is due",
        responses={200: ("The video", VideoView), 304: ("Unchanged since the ETag in If-None-Match", None)},
        problems=(410,),
    ),
    Endpoint(
        "DELETE", "/videos/{id}", video_routes.erase, CHANGE,
        "Erase what a user wrote: cancels the video, deletes its tasks at Runway, keeps the ledger",
        responses={204: ("Erased", None), 202: ("The ticks erase it; send it again to see", ErasureView)},
        problems=(409,),
    ),
    Endpoint(
        "GET", "/videos/{id}/file", video_routes.file, READ,
        "Redirect to a live address of an output, the first unless asked; 410 when Runway no longer has it",
        query=FileQuery,
        responses={302: ("A live URL", None)}, problems=(409, 410),
    ),
    Endpoint(
        "GET", "/videos/{id}/submissions", video_routes.ledger_of, READ,
        "List the submissions of a video, oldest first, each with its outcome and its cost",
        responses={200: ("Oldest first", SubmissionList)},
    ),
    Endpoint(
        "GET", "/videos/{id}/events", video_routes.events_of, READ,
        "Everything that happened to a video, in order, and who did it; errors in full",
        responses={200: ("Oldest first", EventList)},
    ),
    Endpoint(
        "POST", "/videos/{id}/retry", video_routes.retry, CHANGE,
        "Queue a failed video again; it needs your consent where it may cost twice",
        body=RetryRequest, body_required=False,
        responses={202: ("Queued", VideoView)}, problems=(409, 410, 429),
    ),
    Endpoint(
        "POST", "/videos/{id}/cancel", video_routes.cancel, CHANGE,
        "Cancel a video; its task at Runway is deleted too",
        responses={200: ("Cancelled", VideoView)}, problems=(409, 410),
    ),
    Endpoint(
        "POST", "/videos/{id}/attach", operations.attach, OPERATE,
        "Attach the task that an unknown submission made; Taxiway checks it with Runway first",
        body=AttachRequest,
        responses={200: ("The video", VideoView)}, problems=(409,),
    ),
    Endpoint(
        "POST", "/uploads", uploads.begin, CREATE,
        "Begin an upload: Runway's own form for a file; its bytes go to Runway directly",
        body=UploadRequest, kind=request_limits.UPLOAD,
        responses={200: ("The form, and the URI of the file", UploadView)}, problems=(429,),
    ),
    Endpoint(
        "GET", "/models", operations.list_models, VIEW,
        "List models: what is paused and why, what waits, what is at Runway",
        responses={200: ("Every model", ModelList)},
    ),
    Endpoint(
        "POST", "/models/{model}/pause", operations.pause_model, OPERATE,
        "Send nothing for a model for a while; what is queued stays queued",
        body=PauseRequest, body_required=False,
        responses={200: ("The model", ModelView)},
    ),
    Endpoint(
        "POST", "/models/{model}/resume", operations.resume_model, OPERATE,
        "End the pause of a model now",
        responses={200: ("The model", ModelView)},
    ),
    Endpoint(
        "GET", "/ticks", operations.list_ticks, VIEW,
        "List the last ticks and what each did",
        query=TickQuery,
        responses={200: ("Newest first", TickList)},
    ),
    Endpoint(
        "GET", "/stats", operations.statistics, VIEW,
        "What entered and what ended, and how long it took, in the last hour, day or week",
        query=StatsQuery,
        responses={200: ("Oldest bucket first", Stats)},
    ),
    Endpoint(
        "GET", "/usage", operations.show_usage, VIEW,
        "What was spent, by day, model and user",
        query=UsageQuery,
        responses={200: ("The newest day first", UsageView)},
    ),
    Endpoint(
        "GET", "/account", operations.account, VIEW,
        "Credits left and limits by model, from Runway",
        responses={200: ("The account", AccountView)},
    ),
    Endpoint(
        "GET", "/deliveries", webhook_routes.list_deliveries, VIEW,
        "List webhooks that were sent, or are due: to whom, and what was answered, newest first",
        query=DeliveryQuery,
        responses={200: ("A page", DeliveryPage)},
    ),
    Endpoint(
        "GET", "/deliveries/{id}", webhook_routes.read_delivery, VIEW,
        "Read one delivery with what is sent, and every attempt",
        responses={200: ("The delivery", DeliveryReport)},
    ),
    Endpoint(
        "POST", "/deliveries/{id}/replay", webhook_routes.replay_delivery, OPERATE,
        "Send a webhook again, now and under the same id; if that fails, the ticks try again",
        responses={200: ("The delivery, after the attempt", DeliveryReport)}, problems=(409,),
    ),
    Endpoint(
        "GET", "/webhooks", webhook_routes.list_endpoints, VIEW,
        "List the endpoints of webhooks: since when one fails, what waits for it, whether it is disabled",
        responses={200: ("Every endpoint", EndpointList)},
    ),
    Endpoint(
        "POST", "/webhooks/test", webhook_routes.test_endpoints, OPERATE,
        "Send a test event to one endpoint, or to all, once, and answer with what each said",
        body=TestRequest, body_required=False,
        responses={200: ("What each answered", TestResults)}, problems=(404, 409),
    ),
    Endpoint(
        "POST", "/webhooks/{id}/enable", webhook_routes.enable_endpoint, OPERATE,
        "Send to an endpoint again that was disabled, or has failed; what was held back is due at once",
        responses={200: ("The endpoint", EndpointView)},
    ),
    Endpoint(
        "GET", "/metrics", metrics.show, VIEW,
        "Metrics for Prometheus, as text or in the OpenMetrics form",
        responses={200: ("Metrics", "text/plain, application/openmetrics-text")}, delivers=False,
    ),
    Endpoint(
        "POST", "/quotes", bulk.quote, CREATE,
        "Price a video, and say how long it may take; nothing is queued",
        body=VideoRequest,
        responses={200: ("The quote", QuoteView)},
    ),
    Endpoint(
        "POST", "/bulk/retry", bulk.retry, CHANGE,
        "Queue all failed videos again that match, a batch at a time, but those that need consent",
        body=BulkRequest,
        responses={200: ("What this batch came to", BulkCounts)}, problems=(429,),
    ),
    Endpoint(
        "POST", "/bulk/cancel", bulk.cancel, CHANGE,
        "Cancel all videos that match, a batch at a time",
        body=BulkRequest,
        responses={200: ("What this batch came to", BulkCounts)}, problems=(429,),
    ),
    # Callers do not follow redirects, so a slash at the end is served as well.
    Endpoint(
        "POST|GET", "/process-queued", cron.process_queued, CRON,
        "Run one tick, and answer with its counts",
        parameters=(cron.BUDGET,), also=("/process-queued/",), kind=request_limits.CRON, delivers=False,
        responses={200: ("What was done", TickCounts)},
    ),
    Endpoint(
        "POST|GET", "/poll-processing", cron.poll_processing, CRON,
        "Poll the tasks that are due, and do nothing else",
        parameters=(cron.BUDGET,), also=("/poll-processing/",), kind=request_limits.CRON,
        responses={200: ("What was done", TickCounts)},
    ),
    Endpoint(
        "HEAD|OPTIONS", "/process-queued", cron.look_only, PUBLIC,
        "Do nothing: monitors and browsers send these by themselves",
        also=("/process-queued/", "/poll-processing", "/poll-processing/"), kind=request_limits.CRON,
        responses={204: ("Nothing was done", None)},
    ),
    Endpoint(
        "POST", "/callbacks/runway", callbacks.receive, SIGNED,
        "Take a signed hint that a task changed (Standard Webhooks)",
        body=CallbackHint, kind=request_limits.CALLBACK,
        responses={202: ("Kept: the next tick polls its task", JSON), 200: ("Kept before", JSON)}, problems=(409,),
    ),
    Endpoint(
        "GET", "/health", health.show, PUBLIC,
        "Health summary: whether all is well, and counts by status; with any token but the cron's also the oldest "
        "queued, what is stuck or unknown, the last tick, paused models, linked tables that are paused or refuse rows, "
        "missing settings; with a viewer token also what doctor says",
        responses={200: ("Yes", JSON)}, problems=(503,), kind=request_limits.HEALTH,
    ),
    Endpoint(
        "GET", "/health/live", health.live, PUBLIC,
        "Answer while the process does",
        responses={200: ("Yes", JSON)}, kind=request_limits.HEALTH,
    ),
    Endpoint(
        "GET", "/health/ready", health.ready, PUBLIC,
        "Answer 200 while the database answers",
        responses={200: ("Yes", JSON)}, problems=(503,), kind=request_limits.HEALTH,
    ),
    Endpoint(
        "GET", "/openapi.json", openapi.document, PUBLIC,
        "All of this as OpenAPI 3.1, with the schema of each model",
        responses={200: ("OpenAPI 3.1", JSON)}, kind=request_limits.OPEN,
    ),
    Endpoint(
        "GET", "/docs", docs.show, PUBLIC,
        "All of this as a page to read, with examples",
        responses={200: ("A page", "text/html")}, kind=request_limits.OPEN,
    ),
    Endpoint(
        "GET", "/docs/{name}", docs.show_page, PUBLIC,
        "A page of the documentation of this version",
        responses={200: ("A page", "text/html")}, kind=request_limits.OPEN,
    ),
)  # fmt: skip

KINDS = {path: one.kind for one in (*ENDPOINTS, *page.SCREENS) for path in one.paths}


def create_app(ctx: Context) -> Starlette:
    """The app of this context. Bodies are bounded where they are read, so that 413 is a problem document, too."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await ctx.database.close()

    built = Starlette(
        routes=routes(ENDPOINTS),
        lifespan=lifespan,
        middleware=[Middleware(Limits, kinds=Kinds(KINDS))],
        exception_handlers=problems.handlers(problems.document),
    )
    built.router.redirect_slashes = False
    built.state.ctx = ctx
    built.state.endpoints = ENDPOINTS
    built.state.reports = health.Reports(ctx)
    built.state.images = asyncio.Semaphore(IMAGES_AT_ONCE)
    built.state.waiters = asyncio.Semaphore(WAITERS_AT_ONCE)
    built.state.attempts = Attempts(ctx.monotonic, ctx.sleep)
    built.state.refused = RefusedLog(ctx.monotonic)
    built.router.routes.extend(door.mounts(built.state, ctx))
    built.router.routes.append(Mount("/", page.create(built.state)))  # everything that is no path of the API
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
