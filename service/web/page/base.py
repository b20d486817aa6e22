"""What every screen stands on: templates, the headers that keep other sites out, and who may see or act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.errors import Malformed
from service.web import bodies
from service.web.auth import context_of, matches
from service.web.page import formats, session
from service.web.page.refusals import Forbidden
from service.web.page.session import User
from service.web.page.static import address

TEMPLATES = Path(__file__).parents[1] / "templates"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LARGEST_FIELDS = 200

Form = ImmutableMultiDict[str, str]
Handler = Callable[[Request], Awaitable[Response]]


class Place(NamedTuple):
    """One entry of the navigation."""

    path: str
    label: str


# In the order of the navigation; each has its route in service/web/page/__init__.py.
PLACES = (
    Place("/", "Overview"),
    Place("/ui/videos", "Videos"),
    Place("/ui/studio", "Studio"),
    Place("/ui/bulk", "Bulk"),
    Place("/ui/ticks", "Ticks"),
    Place("/ui/models", "Models"),
)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    environment.filters.update(formats.FILTERS)
    environment.globals.update(static=address, places=PLACES)
    return environment


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A template with these values, and `user` (None before the login), `path` and `is_fragment`."""
    return HTMLResponse(text(request, template, **values), status_code=status, headers=HEADERS)


def text(request: Request, template: str, **values: Any) -> Markup:
    """The same as HTML, to be a part of a page."""
    given = {"user": user_of(request), "path": request.url.path, "is_fragment": is_htmx(request)}
    return Markup(_environment().get_template(template).render(given | values))  # noqa: S704  # it escapes


def redirect(path: str) -> RedirectResponse:
    """See other; `path` is a path of this page."""
    return RedirectResponse(path, status_code=303, headers=HEADERS)


def done(request: Request, path: str) -> Response:
    """After an action: on to the screen `path`, with and without htmx."""
    if is_htmx(request):
        return Response(status_code=204, headers=HEADERS | {"HX-Redirect": path})
    return redirect(path)


def is_htmx(request: Request) -> bool:
    """Whether a part of a page is asked for, and not a page."""
    return request.headers.get("hx-request") == "true"


def user_of(request: Request) -> User | None:
    """Who is logged in, once `authenticate` has found out, which `requires_viewer` and `requires_admin` do."""
    found: User | None = request.scope.get("taxiway.user")
    return found


def authenticate(request: Request) -> User | None:
    """Find out who is logged in. Raises NotConfigured if no token is set."""
    request.scope["taxiway.user"] = found = session.user(request)
    return found


def requires_viewer(handler: Handler) -> Handler:
    """For a screen: every role may see it; a browser without a session is sent to the login."""

    @wraps(handler)
    async def guarded(request: Request) -> Response:
        if authenticate(request) is None:
            return _to_login(request)
        return await handler(request)

    guarded.credentials = "login"  # type: ignore[attr-defined]  # a function may bear what the table of routes says
    return guarded


def requires_admin(handler: Handler) -> Handler:
    """For a POST that does something: an administrator's, from our own page. Raises Forbidden."""
    return requires_form(handler, admin=True)


def requires_form(handler: Handler, *, admin: bool = False) -> Handler:
    """For a POST of anybody who is logged in, from our own page. Raises Forbidden."""

    @wraps(handler)
    async def checked(request: Request) -> Response:
        user = user_of(request)
        assert user is not None  # noqa: S101  # `requires_viewer` came first
        if session.is_foreign(request):
            raise Forbidden("Another site sent this request, so nothing was done.")
        given = request.headers.get(session.CSRF_HEADER) or (await form(request)).get(session.CSRF_FIELD, "")
        if not matches(given, [user.csrf]):
            raise Forbidden("Your session has changed since this form was loaded. Reload the page and try again.")
        if admin and not user.may_act:
            raise Forbidden("You have read-only access. To do this, log in with one of ADMIN_TOKENS.")
        return await handler(request)

    guarded = requires_viewer(checked)
    guarded.credentials = "admin login" if admin else "login"  # type: ignore[attr-defined]  # as in requires_viewer
    return guarded


async def form(request: Request) -> Form:
    """The fields of a form, urlencoded; read once. Raises TooLarge and Malformed."""
    found: Form | None = request.scope.get("taxiway.form")
    if found is None:
        raw = await bodies.read(request, context_of(request).settings.max_body_bytes)
        try:
            found = Form(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=LARGEST_FIELDS))
        except ValueError as exc:
            raise Malformed("the form cannot be read") from exc
        request.scope["taxiway.form"] = found
    return found


def _to_login(request: Request) -> Response:
    if is_htmx(request):
        open_page = urlsplit(request.headers.get("hx-current-url", "/"))
        where = open_page.path + (f"?{open_page.query}" if open_page.query else "")
        return Response(status_code=401, headers=HEADERS | {"HX-Redirect": _login_before(where)})
    query = f"?{request.url.query}" if request.url.query else ""
    where = request.url.path + query if request.method in ("GET", "HEAD") else "/"
    return redirect(_login_before(where))


def _login_before(where: str) -> str:
    return "/login" if where == "/" else f"/login?next={quote(where, safe='')}"
