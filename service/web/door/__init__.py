"""Runway's own door: `/v1/…`, for Runway's SDKs and whatever else speaks its API, mounted in the API's app.

    RUNWAYML_BASE_URL=https://taxiway.example.com   RUNWAYML_API_SECRET=<a key of API_KEYS>

Bodies, statuses and errors are Runway's. What makes a task is queued as a video; nothing of it waits for Runway.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.datastructures import Headers, State
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from service.context import Context
from service.runway.client import API_VERSION, HOP
from service.web import problems
from service.web.auth import CHANGE, CREATE, READ
from service.web.door import creates, relay_routes, runway_errors, task_routes
from service.web.door.relay_routes import Lately
from service.web.endpoint import Endpoint, routes

ENDPOINTS = (
    Endpoint("GET", "/tasks/{id}", task_routes.retrieve, READ, "Show a video as a task of Runway's"),
    Endpoint("DELETE", "/tasks/{id}", task_routes.delete, CHANGE, "Cancel it, or hide it once it has ended"),
    Endpoint("GET", "/workflow_invocations/{id}", task_routes.retrieve, READ, "Show a video that a workflow makes"),
    Endpoint("POST", "/uploads", relay_routes.upload, CREATE, "Begin an upload at Runway"),
    Endpoint("GET", "/organization", relay_routes.organization, READ, "Show the account at Runway"),
    Endpoint("POST", "/organization/usage", relay_routes.usage, READ, "Show what the account has used"),
    # What was committed must be answered, so nothing is delivered in between.
    Endpoint("POST", "/{operation:path}", creates.create, CREATE, "Queue a video", delivers=False),
)


class Guard:
    """Before the routes: refuses a call of Taxiway's own, and another version of Runway's API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, unless it is one of these."""
        headers = Headers(scope=scope)
        if HOP in headers:
            await runway_errors.loop()(scope, receive, send)
        elif headers.get("x-runway-version", API_VERSION) != API_VERSION:
            await runway_errors.wrong_version()(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def mounts(state: State, ctx: Context) -> list[Mount]:
    """The door as routes of the app with this state. A base URL that ends in `/v1` is as good as one without."""
    built = Starlette(
        routes=routes(ENDPOINTS),
        middleware=[Middleware(Guard)],
        exception_handlers=problems.handlers(runway_errors.document),
    )
    built.router.redirect_slashes = False
    built.state = state
    state.lately = Lately(ctx.monotonic)
    return [Mount("/v1/v1", built), Mount("/v1", built)]
