"""Errors for people: what happened, and what to do about it, as a page or as a notice on the page that is open."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.errors import BadSettings, DatabaseUnavailable, NotConfigured, RunwayUnavailable, TaxiwayError, cut
from service.redaction import redacted
from service.web.page import base

LONGEST_DETAIL = 4_000  # characters

ADVICE: dict[type[TaxiwayError], str] = {
    DatabaseUnavailable: "Nothing can be seen or done until PostgreSQL answers. What is queued there is safe. See "
    "your database's own page, or run `taxiway doctor` where Taxiway runs: it says what is wrong and how to fix it.",
    NotConfigured: "Set it where Taxiway runs, and start it again; `taxiway doctor` lists everything that is missing.",
    BadSettings: "Correct it where Taxiway runs, and start it again.",
    RunwayUnavailable: "Nothing is lost: Taxiway goes on asking. Try again in a minute.",
}

# Of what the framework refuses: no such route, and a session without the scope `admin`.
WORDS: dict[int, tuple[str, str]] = {
    HTTPStatus.NOT_FOUND: ("There is no such page.", "Begin at the first one."),
    HTTPStatus.FORBIDDEN: ("You have read-only access. To do this, log in with one of ADMIN_TOKENS.", ""),
}


def render(request: Request, exc: Exception) -> Response:
    """The page, or for htmx the notice, that shows an error; the login for a screen that needs one."""
    if isinstance(exc, HTTPException) and exc.status_code == HTTPStatus.UNAUTHORIZED:
        return base.to_login(request)
    with suppress(NotConfigured):
        base.recognise(request)
    if isinstance(exc, TaxiwayError):
        status, title, detail = exc.status, exc.title, exc.detail
        advice = next((words for kind, words in ADVICE.items() if isinstance(exc, kind)), "")
        user = base.user_of(request)
        if isinstance(exc, DatabaseUnavailable) and not (user and user.may_act):
            detail = ""  # it may name the host
    elif isinstance(exc, HTTPException):
        status, title = exc.status_code, HTTPStatus(exc.status_code).phrase
        detail, advice = WORDS.get(status, (exc.detail, ""))
    else:
        status, title, detail = 500, "Something went wrong in Taxiway", "This is a defect; the log has its trace."
        advice = "Nothing is lost by it: every video's state is in the database."
    values = {"title": title, "detail": redacted(cut(detail, LONGEST_DETAIL)), "advice": advice}
    if not base.is_htmx(request):
        return base.render(request, "error.html", status=status, **values)
    return base.notice(request, "error_notice.html", status, passing=request.method == "GET", **values)
