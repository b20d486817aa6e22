"""Errors over HTTP: RFC 9457 problem+json, for everything that can go wrong. The page shows them as pages."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

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


def document(_request: Request, exc: Exception) -> Response:
    """Any error as a problem document."""
    if isinstance(exc, HTTPException):  # what the framework refuses: no such route, wrong method
        title = HTTPStatus(exc.status_code).phrase
        return problem(exc.status_code, title.lower().replace(" ", "-"), title, exc.detail)
    if not isinstance(exc, TaxiwayError):
        return problem(500, "internal-error", TaxiwayError.__doc__ or "", "This is a defect; the log has its trace.")
    extra = dict(exc.extra)
    if isinstance(exc, InvalidRequest):
        extra["errors"] = [{"pointer": p.pointer, "detail": p.detail} for p in exc.problems]
    detail = "Try again shortly." if isinstance(exc, DatabaseUnavailable) else exc.detail  # its own names hosts
    return problem(exc.status, exc.slug, exc.title, detail, **extra)


def handlers(show: Callable[[Request, Exception], Response]) -> dict[Any, ExceptionHandler]:
    """The exception handlers of an app that shows every error with `show`. They add the headers, and the log line."""

    async def taxiway_error(request: Request, exc: Exception) -> Response:
        if isinstance(exc, DatabaseUnavailable | RunwayUnavailable):
            event(log, VIDEO, exc.slug.replace("-", "_"), f"{exc.title}: {exc.detail}", level=logging.ERROR)
        response = show(request, exc)
        if isinstance(exc, DatabaseUnavailable | RunwayUnavailable | NotConfigured):
            response.headers["Retry-After"] = RETRY_AFTER_SECONDS
        if isinstance(exc, TooMany):
            response.headers["Retry-After"] = f"{max(1, math.ceil(exc.retry_after))}"
        if isinstance(exc, Unauthorized):
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    async def http_error(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101  # registered for this class alone
        response = show(request, exc)
        response.headers.update(exc.headers or {})
        return response

    async def unexpected(request: Request, exc: Exception) -> Response:
        # The traceback goes to the log, never to the caller.
        return show(request, exc)

    return {TaxiwayError: taxiway_error, HTTPException: http_error, Exception: unexpected}
