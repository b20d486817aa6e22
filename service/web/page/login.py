"""/login and /logout: a token opens a session; where to go then is a path of this page, and nothing else."""

from __future__ import annotations

import logging
import re

from starlette.requests import Request
from starlette.responses import Response

from service.logs import VIDEO, event
from service.web.auth import context_of
from service.web.page import base, session
from service.web.page.refusals import Forbidden

log = logging.getLogger(__name__)

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
    fields = await base.form(request)
    token, where = fields.get("token", "").strip(), local(fields.get("next", ""))
    role = session.role_of(context_of(request).settings, token)
    if role is None:
        event(log, VIDEO, "login_refused", "Login refused: no such token", level=logging.WARNING)
        return _page(request, where, refused=True)
    response = base.redirect(where)
    session.begin(request, response, role, token)
    return response


@base.requires_form
async def leave(request: Request) -> Response:
    """POST /logout: end the session."""
    response = base.redirect("/login")
    session.end(request, response)
    return response


def local(where: str) -> str:
    """`where` if it is a path of this page, else the first screen."""
    return where if LOCAL_PATH.fullmatch(where) and not where.startswith("/login") else "/"


def _page(request: Request, where: str, *, refused: bool = False) -> Response:
    return base.render(request, "login.html", status=401 if refused else 200, next=where, refused=refused)
