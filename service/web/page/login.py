"""/login and /logout: a token opens a session; where to go then is a path of this page, and nothing else."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from service.errors import Forbidden
from service.web.attempts import Attempts
from service.web.auth import context_of
from service.web.page import base, session

LARGEST_LOGIN_BYTES = 4_000
SLOWEST_LOGIN_SECONDS = 5.0
LONGEST_ADDRESS = 50  # characters
# Begins with one slash; browsers take `//` and `/\` for another host. No control characters, which they drop first.
LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")


async def form(request: Request) -> Response:
    """GET /login: the form for a token of `ADMIN_TOKENS` or `VIEWER_TOKENS`."""
    session.user(request)
    return _page(request, local(request.query_params.get("next", "")))


async def enter(request: Request) -> Response:
    """POST /login: open a session of 12 hours with `token`."""
    if session.is_foreign(request):
        raise Forbidden("another site sent this form; log in on this page")
    attempts: Attempts = request.app.state.attempts
    address = _address(request)
    attempts.check(address)
    fields = await base.form(request, LARGEST_LOGIN_BYTES, seconds=SLOWEST_LOGIN_SECONDS)
    token, where = fields.get("token", "").strip(), local(fields.get("next", ""))
    attempts.check(address)  # others may have tried meanwhile
    role = session.role_of(context_of(request).settings, token)
    if role is None:
        request.app.state.refused.add("login_refused", "Login refused: no such token")
        await attempts.wrong(address)
        if base.is_htmx(request):
            return base.notice(request, "session_ended.html", 401, refused=True)
        return _page(request, where, refused=True)
    attempts.right(address)
    request.scope["user"], cookie = session.opened(role, token)
    # A page whose session had ended goes on where it was, with the CSRF token of the new one.
    is_open = base.is_htmx(request)
    response = base.notice(request, "session_begun.html", 200) if is_open else base.redirect(where)
    session.begin(request, response, cookie)
    return response


async def leave(request: Request) -> Response:
    """POST /logout: end the session, in every browser that has its cookie."""
    response, user = base.redirect("/login"), base.user_of(request)
    assert user is not None  # noqa: S101  # `requires("viewer")` came first
    await session.end(request, response, user)
    return response


def _address(request: Request) -> str:
    """Who tries: the address that calls, and what the proxy next to us says that it calls for."""
    caller = request.client.host if request.client else ""
    return f"{caller} {request.headers.get('x-forwarded-for', '').rpartition(',')[2].strip()[:LONGEST_ADDRESS]}"


def local(where: str) -> str:
    """`where` if it is a path of this page, else the first screen."""
    return where if LOCAL_PATH.fullmatch(where) and not where.startswith("/login") else "/"


def _page(request: Request, where: str, *, refused: bool = False) -> Response:
    return base.render(
        request, "login.html", status=401 if refused else 200, next=where, refused=refused,
        needs_https=session.needs_https(request),
    )  # fmt: skip
