"""How many requests are worked on at once, by what they are: none of them can keep the others out.

Pure ASGI, and a dictionary's lookup: a request pays less than two microseconds for it.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Busy
from service.web import problems

# Whose credentials are checked before any of the body is read.
ORDINARY = 100
# By path; none of these counts among the ordinary ones.
CRON, HEALTH, OPEN, STREAM, CALLBACK = "cron", "health", "open", "stream", "callback"
MOST = {
    "ordinary": ORDINARY,
    CRON: 20,  # reserved: a queue that is busy is worked on
    HEALTH: 200,  # reserved; they wait for one report together
    OPEN: 20,  # what strangers may send a body to, or fetch: they can keep each other out, and no one else
    CALLBACK: 1_000,  # they come in storms, and wait in a line of their own
    STREAM: 100,  # live parts of pages, and films; each takes minutes
}
PATHS = {
    "/process-queued": CRON, "/process-queued/": CRON, "/poll-processing": CRON, "/poll-processing/": CRON,
    "/health": HEALTH, "/health/live": HEALTH, "/health/ready": HEALTH,
    "/callbacks/runway": CALLBACK, "/login": OPEN, "/openapi.json": OPEN,
}  # fmt: skip
STREAMING = ("/events", "/media", "/image")


def kind_of(path: str) -> str:
    """Among which requests one of this path counts."""
    if kind := PATHS.get(path):
        return kind
    if path.startswith("/ui/") and path.endswith(STREAMING):
        return STREAM
    return OPEN if path.startswith(("/static/", "/docs")) else "ordinary"


class Limits:
    """Counts the requests of this process that are under way, and refuses with 503 what is one too many."""

    def __init__(self, app: ASGIApp, most: dict[str, int] = MOST) -> None:
        self._app = app
        self._most = most
        self._now = dict.fromkeys(most, 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on if there is room."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        kind = kind_of(scope["path"])
        if self._now[kind] >= self._most[kind]:
            busy = Busy(f"{self._most[kind]} requests like this are being worked on: try again in a moment")
            refusal = problems.problem(busy.status, busy.slug, busy.title, busy.detail)
            refusal.headers["Retry-After"] = "1"
            await refusal(scope, receive, send)
            return
        self._now[kind] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._now[kind] -= 1
