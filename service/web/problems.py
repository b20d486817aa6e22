"""Errors over HTTP: RFC 9457 problem+json, for everything that can go wrong. On the page they are pages."""

from __future__ import annotations

import json
import logging
import math
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    NotConfigured,
    RunwayUnavailable,
    TaxiwayError,
    TooMany,
    Unauthorized,
    cut,
)
from service.logs import VIDEO, event
from service.redaction import redacted

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = "10"


LARGEST_REFUSAL_BYTES = 64_000
LONGEST_DETAIL = 4_000  # characters, of all that is wrong together
FEW = 4  # of the errors, and of the detail one part of so many, where the whole would be too large


def problem(status: int, slug: str, title: str, detail: str, **extra: Any) -> Response:
    """One problem document. `slug` makes its type: stable, for programs; title and detail are for people."""
    known = {"type": f"urn:taxiway:problem:{slug}", "title": title, "status": status}
    raw = _encoded(known | {"detail": cut(detail, LONGEST_DETAIL)} | extra)
    if len(raw) > LARGEST_REFUSAL_BYTES:  # characters that take six bytes each
        errors = extra.get("errors", [])
        left = [*errors[:FEW], {"pointer": "", "detail": f"and {len(errors) - FEW} more"}] if errors else []
        raw = _encoded(known | {"detail": cut(detail, LONGEST_DETAIL // FEW), "errors": left})
    return Response(raw, status_code=status, media_type="application/problem+json")


def _encoded(body: dict[str, Any]) -> bytes:
    # What was sent is often repeated in what is wrong with it; an image or a key belongs in no answer.
    return redacted(json.dumps(body, ensure_ascii=False)).encode("utf-8", "backslashreplace")


def _page(request: Request, exc: Exception) -> Response | None:
    """The error as a page, for a person to read: on a screen, or for a browser that asked for no route of ours."""
    endpoint = request.scope.get("endpoint")
    if not (hasattr(endpoint, "screen") or (endpoint is None and "text/html" in request.headers.get("accept", ""))):
        return None
    from service.web.page import error_pages  # templates are loaded where they are needed

    return error_pages.render(request, exc)


async def taxiway_error(request: Request, exc: Exception) -> Response:
    """Handler for our own tree."""
    assert isinstance(exc, TaxiwayError)  # noqa: S101  # registered for this class alone
    extra = dict(exc.extra)
    if isinstance(exc, InvalidRequest):
        extra["errors"] = [{"pointer": p.pointer, "detail": p.detail} for p in exc.problems]
    detail = exc.detail
    if isinstance(exc, DatabaseUnavailable | RunwayUnavailable):
        event(log, VIDEO, exc.slug.replace("-", "_"), f"{exc.title}: {exc.detail}", level=logging.ERROR)
        if isinstance(exc, DatabaseUnavailable):
            detail = "Try again shortly."  # its own detail names hosts
    response = _page(request, exc) or problem(exc.status, exc.slug, exc.title, detail, **extra)
    if isinstance(exc, DatabaseUnavailable | RunwayUnavailable | NotConfigured):
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    if isinstance(exc, TooMany):
        response.headers["Retry-After"] = f"{max(1, math.ceil(exc.retry_after))}"
    if isinstance(exc, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def http_error(request: Request, exc: Exception) -> Response:
    """Handler for what the framework refuses: no such route, wrong method."""
    assert isinstance(exc, HTTPException)  # noqa: S101  # registered for this class alone
    title = HTTPStatus(exc.status_code).phrase
    response = _page(request, exc) or problem(exc.status_code, title.lower().replace(" ", "-"), title, exc.detail)
    response.headers.update(exc.headers or {})
    return response


async def unexpected(request: Request, exc: Exception) -> Response:
    """Handler for the rest. The traceback goes to the log, never to the caller."""
    detail = "This is a defect; the log has its trace."
    return _page(request, exc) or problem(500, "internal-error", TaxiwayError.__doc__ or "", detail)
