"""The page's routes. A screen's module is imported by its first request: a process that serves no page loads none."""

from __future__ import annotations

from importlib import import_module

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Screen:
    """The handler `module.function` of this package, found when it is asked for."""

    def __init__(self, target: str) -> None:
        self.target = target

    async def __call__(self, request: Request) -> Response:
        """Hand the request on."""
        module, _, function = self.target.partition(".")
        response: Response = await getattr(import_module(f"{__name__}.{module}"), function)(request)
        return response


def _route(method: str, path: str, target: str) -> Route:
    screen = Screen(target)

    async def endpoint(request: Request) -> Response:
        return await screen(request)

    # Errors of these routes are rendered as a page (service/web/problems.py).
    endpoint.screen = target  # type: ignore[attr-defined]  # a function may bear anything
    return Route(path, endpoint, methods=[method], name=target)


ROUTES = [
    _route("GET", "/", "overview.show"),
    _route("GET", "/ui/overview/state", "overview.state"),
    _route("GET", "/ui/overview/account", "overview.account"),
    _route("GET", "/ui/overview/plots", "overview.plot"),
    _route("GET", "/ui/ticks", "ticks.show"),
    _route("GET", "/ui/ticks/list", "ticks.ticked"),
    _route("POST", "/ui/ticks/run", "ticks.run"),
    _route("GET", "/ui/models", "models.show"),
    _route("GET", "/ui/models/list", "models.listed"),
    _route("GET", "/ui/models/limits", "models.limits"),
    _route("POST", "/ui/models/pause", "models.pause"),
    _route("POST", "/ui/models/resume", "models.resume"),
    _route("GET", "/ui/activity", "activity.show"),
    _route("GET", "/ui/videos", "videos.show"),
    _route("GET", "/ui/videos/events", "videos.events"),
    _route("POST", "/ui/videos/bulk/count", "bulk.count"),
    _route("POST", "/ui/videos/bulk", "bulk.batch"),
    _route("GET", "/ui/videos/{id}", "video.show"),
    _route("GET", "/ui/videos/{id}/events", "video.events"),
    _route("GET", "/ui/videos/{id}/media", "media.file"),
    _route("GET", "/ui/videos/{id}/image", "media.image"),
    _route("POST", "/ui/videos/{id}/retry", "video.retry"),
    _route("POST", "/ui/videos/{id}/cancel", "video.cancel"),
    _route("POST", "/ui/videos/{id}/attach", "video.attach"),
    _route("POST", "/ui/videos/{id}/erase", "video.erase"),
    _route("GET", "/ui/studio", "studio.show"),
    _route("POST", "/ui/studio", "studio.enqueue"),
    _route("POST", "/ui/studio/quote", "studio.quote"),
    _route("GET", "/login", "login.form"),
    _route("POST", "/login", "login.enter"),
    _route("POST", "/logout", "login.leave"),
    _route("GET", "/static/{path}", "static.serve"),
]
