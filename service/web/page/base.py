"""What every screen stands on: templates, forms, and the headers that keep other sites out."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.errors import Forbidden, Malformed
from service.web import bodies
from service.web.auth import context_of, matches
from service.web.page import formats, session
from service.web.page.session import User
from service.web.page.static import address

TEMPLATES = Path(__file__).parents[1] / "templates"


def policy(*elsewhere: str) -> str:
    """The Content-Security-Policy of a page whose scripts may send to these sources as well as to this host."""
    sources = " ".join(("'self'", *elsewhere))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        f"connect-src {sources}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


HEADERS = {
    "Content-Security-Policy": policy(),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LONGEST_PLACE = 1_000  # characters of an address to come back to after the login
LARGEST_FIELDS = 200
LARGEST_FORM_BYTES = 64_000  # without a file
# Each `%41` takes a microsecond. A form of texts may have this many, and an image one in 34 bytes.
MOST_ESCAPES = 25_000
BYTES_OF_AN_ESCAPE = 20

Form = ImmutableMultiDict[str, str]


class Place(NamedTuple):
    """One entry of the navigation."""

    path: str
    label: str


# In the order of the navigation; each has its route in service/web/page/__init__.py.
PLACES = (
    Place("/", "Overview"),
    Place("/ui/videos", "Videos"),
    Place("/ui/studio", "Studio"),
    Place("/ui/ticks", "Ticks"),
    Place("/ui/models", "Models"),
    Place("/ui/cost", "Cost"),
    Place("/ui/webhooks", "Webhooks"),
    Place("/ui/activity", "Activity"),
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
    """A template with these values, and `user` (None before the login), `path`, `is_fragment` and `now`."""
    return HTMLResponse(text(request, template, **values), status_code=status, headers=HEADERS)


def text(request: Request, template: str, **values: Any) -> Markup:
    """The same as HTML, to be a part of a page."""
    now = datetime.fromtimestamp(context_of(request).now(), UTC)
    given = {"user": user_of(request), "path": request.scope["path"], "is_fragment": is_htmx(request), "now": now}
    return Markup(_environment().get_template(template).render(given | values))  # noqa: S704  # it escapes


def notice(request: Request, template: str, status: int, **values: Any) -> Response:
    """A notice on the page that is open, which stays as it is. The first element has the class `notice`."""
    found = render(request, template, status=status, **values)
    found.headers.update({"HX-Retarget": "#notice", "HX-Reswap": "innerHTML", "HX-Reselect": ".notice"})
    return found


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
    """Who is logged in: set by Starlette's AuthenticationMiddleware, around every screen that is not public."""
    found = request.scope.get("user")
    return found if isinstance(found, User) else None


def recognise(request: Request) -> None:
    """Find out whose cookie this is, for a page that shows an error: the session may have ended. Raises NotConfigured.

    Nothing is asked of the database, which may be what the error is about.
    """
    if "user" not in request.scope:
        request.scope["user"] = session.user(request)


async def refusal_of_form(request: Request, *, has_file: bool = False) -> Response | None:
    """What speaks against a form of a user's: another site sent it, or another session. Raises Forbidden.

    The form of a page that is open is answered with a notice. `has_file`: it may be as large as a body at all.
    """
    user = user_of(request)
    assert user is not None  # noqa: S101  # `requires("viewer")` came first
    if session.is_foreign(request):
        raise Forbidden("Another site sent this request, so nothing was done.")
    limit = context_of(request).settings.max_body_bytes
    fields = await form(request, limit if has_file else min(limit, LARGEST_FORM_BYTES))
    given = request.headers.get(session.CSRF_HEADER) or fields.get(session.CSRF_FIELD, "")
    if matches(given, [user.csrf]):
        return None
    if is_htmx(request):
        return notice(request, "session_changed.html", 403)
    raise Forbidden("Your session has changed since this form was loaded. Reload the page and try again.")


async def form(
    request: Request, limit: int = LARGEST_FORM_BYTES, *, seconds: float = bodies.SLOWEST_BODY_SECONDS
) -> Form:
    """The fields of a form, urlencoded; read once, at most `limit` bytes. Raises TooLarge and Malformed."""
    found: Form | None = request.scope.get("taxiway.form")
    if found is None:
        raw = await bodies.read(request, limit, seconds=seconds)
        if raw.count(b"%") > MOST_ESCAPES + len(raw) // BYTES_OF_AN_ESCAPE:
            raise Malformed("the form cannot be read: most of it is escaped")
        try:
            found = Form(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=LARGEST_FIELDS))
        except ValueError as exc:
            raise Malformed("the form cannot be read") from exc
        request.scope["taxiway.form"] = found
    return found


def to_login(request: Request) -> Response:
    """For a screen without a session: the login, which leads back to it; a page that is open stays as it is."""
    if is_htmx(request):  # what was typed there stays: the login comes to the page
        return notice(request, "session_ended.html", 401, refused=False)
    query = request.scope["query_string"].decode("latin-1")
    where = request.scope["path"] + (f"?{query}" if query else "") if request.method in ("GET", "HEAD") else "/"
    return redirect(_login_before(where))


def _login_before(where: str) -> str:
    is_worth_it = where != "/" and len(where) <= LONGEST_PLACE
    return f"/login?next={quote(where, safe='', errors='replace')}" if is_worth_it else "/login"
