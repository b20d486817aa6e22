"""The page: an app of its own, mounted in the API's. Its table says which screens there are and whom they let in.

A screen's module is imported by its first request: a process that serves no page loads none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, requires
from starlette.datastructures import State
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from service.web import problems
from service.web.request_limits import OPEN, ORDINARY, STREAM, UPLOAD

PUBLIC, VIEWER, ADMIN = "public", "viewer", "admin"

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Screen:
    """A screen, a part of one, or an action. `target`: its handler, as `module.function` of this package.

    `access`: PUBLIC, or the scope that its session must have. `has_file`: its form may have files in it.
    """

    method: str
    path: str
    target: str
    access: str = VIEWER
    kind: str = ORDINARY  # among which requests it counts (service/web/request_limits.py)
    has_file: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Every spelling of the path: this one."""
        return (self.path,)


SCREENS = (
    Screen("GET", "/", "overview.show"),
    Screen("GET", "/ui/overview/state", "overview.state"),
    Screen("GET", "/ui/overview/account", "overview.account"),
    Screen("GET", "/ui/overview/plots", "overview.plot"),
    Screen("GET", "/ui/ticks", "tick_list.show"),
    Screen("GET", "/ui/ticks/list", "tick_list.ticked"),
    Screen("POST", "/ui/ticks/run", "tick_list.run", ADMIN),
    Screen("GET", "/ui/models", "model_list.show"),
    Screen("GET", "/ui/models/list", "model_list.listed"),
    Screen("GET", "/ui/models/limits", "model_list.limits"),
    Screen("POST", "/ui/models/pause", "model_list.pause", ADMIN),
    Screen("POST", "/ui/models/resume", "model_list.resume", ADMIN),
    Screen("GET", "/ui/cost", "usage_list.show"),
    Screen("GET", "/ui/webhooks", "webhook_list.show"),
    Screen("GET", "/ui/webhooks/list", "webhook_list.listed"),
    Screen("POST", "/ui/webhooks/test", "webhook_list.test", ADMIN),
    Screen("POST", "/ui/webhooks/enable", "webhook_list.enable", ADMIN),
    Screen("GET", "/ui/webhooks/{id}", "webhook_list.delivery"),
    Screen("POST", "/ui/webhooks/{id}/replay", "webhook_list.replay", ADMIN),
    Screen("GET", "/ui/activity", "activity.show"),
    Screen("GET", "/ui/videos", "video_list.show"),
    Screen("GET", "/ui/videos/events", "video_list.events", kind=STREAM),
    Screen("POST", "/ui/videos/bulk/count", "selection.count", ADMIN),
    Screen("POST", "/ui/videos/bulk", "selection.batch", ADMIN),
    Screen("GET", "/ui/videos/{id}", "video.show"),
    Screen("GET", "/ui/videos/{id}/events", "video.events", kind=STREAM),
    Screen("GET", "/ui/videos/{id}/media", "media.file", kind=STREAM),
    Screen("GET", "/ui/videos/{id}/image", "media.image", kind=STREAM),
    Screen("GET", "/ui/videos/{id}/thumbnail", "media.thumbnail", kind=STREAM),
    Screen("POST", "/ui/videos/{id}/retry", "video.retry", ADMIN),
    Screen("POST", "/ui/videos/{id}/cancel", "video.cancel", ADMIN),
    Screen("POST", "/ui/videos/{id}/attach", "video.attach", ADMIN),
    Screen("POST", "/ui/videos/{id}/erase", "video.erase", ADMIN),
    Screen("GET", "/ui/studio", "studio.show"),
    Screen("POST", "/ui/studio", "studio.enqueue", ADMIN, has_file=True),
    Screen("POST", "/ui/studio/quote", "studio.quote", ADMIN, has_file=True),
    Screen("POST", "/ui/studio/upload", "studio.upload", ADMIN, kind=UPLOAD),
    Screen("GET", "/login", "login.form", PUBLIC, kind=OPEN),
    Screen("POST", "/login", "login.enter", PUBLIC, kind=OPEN),
    Screen("POST", "/logout", "login.leave"),
    Screen("GET", "/static/{path}", "static.serve", PUBLIC, kind=OPEN),
)


def create(state: State) -> Starlette:
    """The page as an app, on the state of the app that it is mounted in."""
    built = Starlette(routes=[_route(screen) for screen in SCREENS], exception_handlers=problems.handlers(_shown))
    built.router.redirect_slashes = False
    built.state = state
    return built


class Sessions(AuthenticationBackend):
    """Whose session the cookie of a request is. Raises NotConfigured and DatabaseUnavailable."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """The user, with the scope `viewer`, and `admin` for an administrator."""
        from service.web.page import session  # with what signs

        user = await session.authenticated(conn)
        return None if user is None else (AuthCredentials([VIEWER, ADMIN] if user.may_act else [VIEWER]), user)


@cache
def _route(screen: Screen) -> Route:
    async def handle(request: Request) -> Response:
        module, _, function = screen.target.partition(".")
        response: Response = await getattr(import_module(f"{__name__}.{module}"), function)(request)
        return response

    if screen.access == PUBLIC:
        return Route(screen.path, handle, methods=[screen.method], name=screen.target)
    guarded: Handler = requires(ADMIN)(handle) if screen.access == ADMIN else handle
    if screen.method == "POST":
        guarded = _checked(guarded, has_file=screen.has_file)
    guarded = requires(VIEWER, status_code=401)(guarded)  # shown as the login
    session = [Middleware(AuthenticationMiddleware, backend=Sessions())]
    return Route(screen.path, guarded, methods=[screen.method], name=screen.target, middleware=session)


def _checked(handle: Handler, *, has_file: bool) -> Handler:
    """For a form that does something: it must come from our own page, with the token of its session."""

    async def checked(request: Request) -> Response:
        from service.web.page import base  # with the templates

        return await base.refusal_of_form(request, has_file=has_file) or await handle(request)

    return checked


def _shown(request: Request, exc: Exception) -> Response:
    """An error as a page; as a problem document where a program asked for what is no route at all."""
    endpoint: Any = request.scope["endpoint"]
    is_lost = endpoint is request.app  # where the mount left it: no screen has this path
    if is_lost and "text/html" not in request.headers.get("accept", ""):
        return problems.document(request, exc)
    from service.web.page import error_pages  # with the templates

    return error_pages.render(request, exc)
