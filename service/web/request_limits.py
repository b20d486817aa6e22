"""How many requests are worked on at once, by what they are: none of them can keep the others out.

Pure ASGI, before the routing: a request pays a few microseconds for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Busy
from service.web import problems

# Its credentials are checked before any of the body is read.
ORDINARY = "ordinary"
# None of these counts among the ordinary ones.
CRON, HEALTH, OPEN, STREAM, CALLBACK, UPLOAD = "cron", "health", "open", "stream", "callback", "upload"
MOST = {
    ORDINARY: 100,
    CRON: 20,  # reserved: a queue that is busy is worked on
    HEALTH: 200,  # reserved; they wait for one report together
    OPEN: 20,  # what strangers may send a body to, or fetch: they can keep each other out, and no one else
    UPLOAD: 20,  # each waits for Runway
    CALLBACK: 1_000,  # they come in storms, and wait in a line of their own
    STREAM: 100,  # live parts of pages, and films; each takes minutes
}


class Kinds:
    """Among which requests each path counts, by the paths of the tables and their kinds."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._exact = {path: kind for path, kind in kinds.items() if "{" not in path}
        special = {path: kind for path, kind in kinds.items() if "{" in path and kind != ORDINARY}
        self._patterns = [(compile_path(path)[0], kind) for path, kind in special.items()]

    def of(self, path: str) -> str:
        """The kind of this path of a request."""
        if kind := self._exact.get(path):
            return kind
        return next((kind for pattern, kind in self._patterns if pattern.match(path)), ORDINARY)


class Limits:
    """Counts the requests of this process that are under way, and refuses with 503 what is one too many."""

    def __init__(self, app: ASGIApp, kinds: Kinds, most: dict[str, int] = MOST) -> None:
        self._app = app
        self._kinds = kinds
        self._most = most
        self._now = dict.fromkeys(most, 0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on if there is room."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        kind = self._kinds.of(scope["path"])
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
