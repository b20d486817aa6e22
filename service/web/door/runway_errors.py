"""Errors as Runway words them: `{"error", "issues", "docUrl"}`. An SDK sends again what it may, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.errors import (
    Conflict,
    DatabaseUnavailable,
    InvalidRequest,
    NotFound,
    Problem,
    RunwayUnavailable,
    TaxiwayError,
    TooMany,
    Unauthorized,
    WouldWait,
)
from service.redaction import redacted
from service.runway.outcomes import Reason

DOC_URL = "https://docs.dev.runwayml.com/api"
NOT_VALID = "Validation of body failed"
# Runway's own words, as captured (service/simulator/wire.py has them as well, as a second source).
NO_TASK = "Could not find Task"
WRONG_KEY, NO_KEY = "The API key that was provided is not valid.", "No API key was provided."
WRONG_VERSION = "The API version that was provided in the X-Runway-Version header is not valid."
NO_CREDITS = "You do not have enough credits to run this task."
DAILY_LIMIT = "Your daily task limit has been reached."
LOOP = (
    "This is Taxiway's own call: its RUNWAYML_BASE_URL leads to a Taxiway. Set it, and RUNWAYML_API_SECRET, to "
    "Runway's there, and to Taxiway's in the environment of your app alone"
)
LONGEST_PAUSE_SECONDS = 60.0  # a longer `Retry-After` is ignored by the SDK for Python, and slept through by Node's
SHORT_PAUSE_MILLISECONDS = "500"  # after a commit that may have been made: the next attempt finds the video
WHERE = "/input"  # before the pointers of what is Runway's own
# Headers of ours for what has no place in Runway's body, and the fields of `POST /videos` that they stand for.
USER, MAX_CREDITS = "taxiway-user", "taxiway-max-credits"
HEADERS = {"/user_id": USER, "/max_credits": MAX_CREDITS}


def document(request: Request, exc: Exception) -> Response:
    """Any error in Runway's shape, and whether it is worth another attempt."""
    answer = _answer(request, exc)
    if not _may_improve(exc):
        answer.headers["x-should-retry"] = "false"
    if isinstance(exc, DatabaseUnavailable) and request.method == "POST":
        answer.headers["retry-after-ms"] = SHORT_PAUSE_MILLISECONDS
    return answer


def _may_improve(exc: Exception) -> bool:
    """Whether the same request may be answered otherwise within a minute."""
    if isinstance(exc, HTTPException):
        return exc.status_code == HTTPStatus.REQUEST_TIMEOUT
    if isinstance(exc, TooMany):
        return exc.retry_after <= LONGEST_PAUSE_SECONDS
    return not isinstance(exc, TaxiwayError) or isinstance(exc, DatabaseUnavailable | RunwayUnavailable | Conflict)


def _answer(request: Request, exc: Exception) -> Response:
    match exc:
        case HTTPException(status_code=404 | 405):  # Runway has no such route, or Taxiway does not serve it
            return _error(404, "Not Found")
        case HTTPException():
            return _error(exc.status_code, exc.detail)
        case InvalidRequest():
            return _error(400, NOT_VALID, issues=list(_issues(exc.problems)))
        case NotFound():
            return JSONResponse({"error": NO_TASK}, 404)
        case Unauthorized():
            return _error(401, WRONG_KEY if request.headers.get("authorization") else NO_KEY)
        case WouldWait(reason=Reason.NO_CREDITS):
            return _error(400, NO_CREDITS)
        case WouldWait(reason=Reason.KEY_REFUSED):
            return _error(400, f"Runway refuses the key of this Taxiway: {exc.detail}")
        case WouldWait():
            return _error(429, DAILY_LIMIT, details=exc.detail)
        case DatabaseUnavailable():  # its own words name hosts
            return _error(exc.status, exc.title)
        case TaxiwayError():
            return _error(exc.status, f"{exc.title}: {exc.detail}")
    return _error(500, "Internal error of Taxiway; its log has the trace")


def _issues(problems: Iterable[Problem]) -> Iterable[dict[str, Any]]:
    """Each problem with its place in the body as Runway takes it."""
    for problem in problems:
        within, inside, pointer = problem.pointer.partition(f"{WHERE}/")
        parts = pointer.split("/") if inside and not within else []
        path = [int(part) if part.isdigit() else part.replace("~1", "/").replace("~0", "~") for part in parts]
        named = HEADERS.get(problem.pointer, problem.pointer)
        words = problem.detail if path or named in ("", WHERE) else f"{named}: {problem.detail}"
        yield {"code": "custom", "path": path, "message": words}


def outside_the_catalogue(operation: str) -> Response:
    """A path that would make a task which no price bounds, and no ledger has."""
    words = f"/v1/{operation} is not in Taxiway's catalogue: it is not handed on, because nothing would count its cost"
    return _error(400, NOT_VALID, issues=[{"code": "custom", "path": [], "message": words}])


def loop() -> Response:
    """To a call of Taxiway's own."""
    answer = _error(508, LOOP)
    answer.headers["x-should-retry"] = "false"
    return answer


def wrong_version() -> Response:
    """To a call for another version of Runway's API."""
    return _error(400, WRONG_VERSION)


def _error(status: int, error: str, **more: Any) -> Response:
    # What was sent is often repeated in what is wrong with it; an image or a key belongs in no answer.
    body = redacted(json.dumps({"error": error, **more, "docUrl": DOC_URL}, ensure_ascii=False))
    return Response(body.encode("utf-8", "backslashreplace"), status, media_type="application/json")
