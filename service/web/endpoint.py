"""What one endpoint of the API is, as data: the routes, the OpenAPI document and the limits are made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service import alerting
from service.context import Context
from service.operations import delivering
from service.web.auth import Access, authorize, is_viewer
from service.web.request_limits import ORDINARY

JSON = "application/json"

Handler = Callable[[Context, Request], Awaitable[Response]]
# What an answer has: a model as JSON, text of these media types (JSON of any shape, if that is one), or no body.
Content = type[BaseModel] | str | None


@dataclass(frozen=True)
class Parameter:
    """A parameter that no model validates."""

    name: str
    where: str  # "query" or "header"
    words: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Endpoint:
    """One operation: who may call it, what it takes, and what it answers. The handler is given the context of the
    caller, once the caller has shown the credentials of `access`.

    `problems`: the statuses of the refusals beside those that follow from the rest (`refusals`).
    """

    method: str  # one, or several with a bar between them
    path: str
    handler: Handler
    access: Access
    summary: str
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    responses: Mapping[int, tuple[str, Content]] = field(default_factory=dict)  # words and content, by status
    problems: tuple[int, ...] = ()
    kind: str = ORDINARY  # among which requests it counts (service/web/request_limits.py)
    also: tuple[str, ...] = ()  # other spellings of the path
    delivers: bool = True  # webhooks that are due, inside the request of a caller that was let in

    @property
    def methods(self) -> list[str]:
        """Each of the methods."""
        return self.method.split("|")

    @property
    def paths(self) -> tuple[str, ...]:
        """Every spelling of the path."""
        return (self.path, *self.also)

    @property
    def refusals(self) -> list[int]:
        """The statuses of all problems that it may answer with."""
        found = set(self.problems)
        found |= {401, 503} if self.access.settings else set()  # 503: none of the settings has a token
        found |= {403} if "api_keys" in self.access.settings else set()  # they alone have scopes
        found |= {404} if "{" in self.path else set()
        found |= {400, 408, 413, 422} if self.body else set()
        found |= {422} if self.query or any(one.where == "query" for one in self.parameters) else set()
        return sorted(found)

    async def __call__(self, request: Request) -> Response:
        """Let the caller in, do what is asked, deliver what is due, and answer. Raises Unauthorized, Forbidden and
        NotConfigured.
        """
        ctx = authorize(request, self.access)
        if not self._may_deliver(request):
            return await self.handler(ctx, request)
        await delivering.configure(ctx)
        response = await self.handler(ctx, request)
        if ctx.settings.alert_url:
            await alerting.in_request(ctx)
        await delivering.within_request(ctx)
        return response

    def _may_deliver(self, request: Request) -> bool:
        is_let_in = bool(self.access.settings) and not self.access.is_signed
        return self.delivers and is_let_in and request.method in ("GET", "POST") and not is_viewer(request)


def stopping_of(request: Request) -> Callable[[], bool]:
    """Whether this process is to stop, for a request that takes its time; never, where no server of ours says it."""
    stopping: Callable[[], bool] = getattr(request.app.state, "stopping", lambda: False)
    return stopping


def routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """One route for each path. It takes every method, and refuses those that the path has no endpoint for: what is a
    path of the API is never handed on to the page.
    """
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints:
        for path in endpoint.paths:
            by_path.setdefault(path, {}).update(dict.fromkeys(endpoint.methods, endpoint))
    # A model that no body names is called as its endpoint is, which may have a slash: recipes/product_ad.
    paths = {path: path.replace("{model}", "{model:path}") for path in by_path}
    return [Route(paths[path], _by_method(found), methods=()) for path, found in by_path.items()]


def _by_method(found: dict[str, Endpoint]) -> Callable[[Request], Awaitable[Response]]:
    """HEAD is GET, unless it has an endpoint of its own."""
    if "GET" in found:
        found.setdefault("HEAD", found["GET"])

    async def answer(request: Request) -> Response:
        endpoint = found.get(request.method)
        if endpoint is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(found))})
        return await endpoint(request)

    return answer
