"""What an answer to a create, or the lack of one, means; and what then becomes of the video. Pure.

Runway has no idempotency key and no list of tasks: a create whose answer is lost can neither be repeated nor be
looked up. So there are four outcomes, and only two of them allow another create:

    accepted   200 with an id, also out of a body that broke off behind it
    not sent   proof that no byte of the request was written
    rejected   an answer that says that no task was made
    unknown    everything else, also what was not foreseen
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from service import response_parsing, videos
from service.settings import Settings
from service.videos import FailureCode

# Runway sheds load at once; its gateway's own 503 comes at 30 s, while the backend may go on and make the task.
PROMPT_REFUSAL_SECONDS = 5.0
ALL_MODELS = "all"
LONGEST_REQUEST_ID = 200
# With these a gateway gives up a request that it may have passed on before.
GIVEN_UP = (408, 499)
# These say nothing about the request itself, however often they come: it is the caller, or all that it sends.
ABOUT_ALL = (401, 407, 429)


class Kind(StrEnum):
    """The four outcomes of a create."""

    ACCEPTED = "accepted"
    NOT_SENT = "not_sent"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a create was rejected, by what is to be done about it."""

    INVALID = "invalid"  # this request will never be taken
    NO_CREDITS = "no_credits"
    KEY_REFUSED = "key_refused"
    WRONG_HEADERS = "wrong_headers"  # the API version, or a header that this account needs: no video is at fault
    WRONG_ENDPOINT = "wrong_endpoint"
    DAILY_LIMIT = "daily_limit"
    NOT_RUNWAY = "not_runway"  # a gateway or a firewall in between said it
    TOO_LARGE_FOR_GATEWAY = "too_large_for_gateway"
    BUSY = "busy"


@dataclass(frozen=True)
class HttpResult:
    """An HTTP answer whose headers were read. `seconds` is how long it took, from when it could be sent.

    `torn`: what broke the body off, None if it was read to its end. `retry_after`: seconds, if the answer names them.
    """

    status: int
    body: bytes
    seconds: float = 0.0
    request_id: str | None = None
    torn: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class Broken:
    """A call without an answer. `sent` is False only with proof that no byte of the request was written."""

    error: str
    sent: bool = True


@dataclass(frozen=True)
class Outcome:
    """What one permitted create came to."""

    kind: Kind
    detail: str
    reason: Reason | None = None
    http_status: int | None = None
    request_id: str | None = None
    task_id: str | None = None
    estimated_credits: Decimal | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class Pause:
    """A model (one model, or ALL_MODELS) that is to be left alone for a while."""

    model: str
    reason: str
    detail: str
    seconds: float
    video_id: UUID | None = None  # whose create it was


@dataclass(frozen=True)
class Decision:
    """What becomes of the video: its next status, and why."""

    next_status: videos.Status
    error_code: str | None = None
    error_message: str | None = None
    delay_seconds: float = 0.0
    retry: bool = False
    resubmit: bool = False
    pause: Pause | None = None
    by_gateway: bool = False  # a gateway refused it, perhaps for what this video sends


def classify(result: HttpResult | Broken) -> Outcome:
    """Which of the four outcomes this is."""
    if isinstance(result, Broken):
        return Outcome(Kind.UNKNOWN if result.sent else Kind.NOT_SENT, response_parsing.storable(result.error))
    body = response_parsing.read(result.body)
    task_id = response_parsing.task_id(body)
    if result.status == 200 and not body:
        task_id = response_parsing.torn_task_id(result.body)
    request_id = result.request_id and response_parsing.storable(result.request_id, LONGEST_REQUEST_ID)
    facts: dict[str, Any] = {"http_status": result.status, "request_id": request_id}
    if result.status == 200 and task_id:  # also if the connection broke right behind it: an id is an id
        return Outcome(
            Kind.ACCEPTED, "task created", task_id=task_id, estimated_credits=response_parsing.estimate(body), **facts
        )
    reason = _reason(result, body)
    if reason is None:
        return Outcome(Kind.UNKNOWN, _doubt(result, body, task_id), **facts)
    words = response_parsing.words(body) or f"HTTP {result.status} without Runway's JSON error"
    return Outcome(Kind.REJECTED, words, reason=reason, retry_after=result.retry_after, **facts)


def _doubt(answer: HttpResult, body: dict[str, Any], task_id: str | None) -> str:
    """Why an answer proves nothing, with whatever may help to find the task."""
    broken = f", broken off ({answer.torn})" if answer.torn else ""
    named = f"; it names task {task_id}" if task_id else ""
    words = response_parsing.words(body) or ("no readable task id" if answer.status == 200 else "no readable reason")
    return response_parsing.storable(f"HTTP {answer.status}{broken}: {words}{named}")


def _reason(answer: HttpResult, body: dict[str, Any]) -> Reason | None:
    """Why no task was made; None if the answer does not prove that none was."""
    if answer.torn is not None:
        return None
    error = response_parsing.error(body)
    if 400 <= answer.status < 500 and not error:
        return _gateways_reason(answer.status)
    match answer.status:
        case 400 | 403 if "enough credits" in error.lower():
            return Reason.NO_CREDITS
        case 400 if "x-runway-" in error.lower():
            return Reason.WRONG_HEADERS
        case 400 | 403 | 413 | 422:
            return Reason.INVALID
        case 401:
            return Reason.KEY_REFUSED
        case 404 | 405 | 508:  # 508: Taxiway itself answers there
            return Reason.WRONG_ENDPOINT
        case 429:
            return Reason.DAILY_LIMIT
        case 502 | 503 if error and answer.seconds <= PROMPT_REFUSAL_SECONDS:
            return Reason.BUSY
        case _:
            return None


def _gateways_reason(status: int) -> Reason | None:
    """Why a gateway in front of Runway refused a create, by its status; None if it may have passed it on."""
    if status in GIVEN_UP:
        return None
    return Reason.TOO_LARGE_FOR_GATEWAY if status == 413 else Reason.NOT_RUNWAY


# How long a model rests before one create tries again.
PAUSE_SECONDS = {
    Reason.NO_CREDITS: 600.0,
    Reason.KEY_REFUSED: 300.0,
    Reason.WRONG_HEADERS: 300.0,
    Reason.WRONG_ENDPOINT: 300.0,
    Reason.NOT_RUNWAY: 60.0,
    Reason.DAILY_LIMIT: 900.0,  # the limit is a rolling 24 h: room comes back a little at a time
}
# A daily limit belongs to one model, an operation that is gone must not stop the others, and nor must a gateway that
# refuses what one of them is sent; the rest concerns all.
MODEL_REASONS = {Reason.DAILY_LIMIT, Reason.WRONG_ENDPOINT, Reason.NOT_RUNWAY}
TOO_LARGE_WORDS = (
    "A gateway between Taxiway and Runway refused the request as too large (HTTP 413). Nothing was made, and nothing "
    "paid. Put the image behind an https URL, or have the gateway take larger bodies; then retry."
)


def decide(
    outcome: Outcome,
    *,
    model: str,
    retries: int,
    resubmissions: int,
    bound: Decimal | None,
    settings: Settings,
    random: float,
) -> Decision:
    """What becomes of a video after this outcome. `bound`: the most that its task may cost, in credits."""
    if outcome.kind is Kind.ACCEPTED:  # the usual, with nothing to work out
        return _TAKEN
    wait = videos.backoff(retries, random)
    match outcome.kind:
        case Kind.NOT_SENT:
            return _wait(outcome, wait)
        case Kind.UNKNOWN:
            may_resubmit = settings.unknown_policy == "resubmit" and resubmissions < settings.unknown_resubmits
            if may_resubmit:
                return replace(_wait(outcome, wait), resubmit=True)
            return Decision(videos.Status.FAILED, FailureCode.SUBMISSION_UNKNOWN, unknown_words(outcome.detail, bound))
    reason = outcome.reason or Reason.INVALID
    if reason is Reason.INVALID:
        return Decision(videos.Status.FAILED, FailureCode.REJECTED, f"Runway refused the request: {outcome.detail}")
    if reason is Reason.TOO_LARGE_FOR_GATEWAY:
        return Decision(videos.Status.FAILED, FailureCode.REFUSED_BY_GATEWAY, TOO_LARGE_WORDS)
    asked = outcome.retry_after or 0.0
    if reason is Reason.BUSY:
        return _wait(outcome, max(wait, asked))
    model = model if reason in MODEL_REASONS else ALL_MODELS
    pause = Pause(model, reason.value, outcome.detail, max(PAUSE_SECONDS[reason], asked))
    if reason is Reason.NOT_RUNWAY:  # it steps back, so that another tries whether it is this one alone
        is_its_own = outcome.http_status not in ABOUT_ALL
        return replace(_wait(outcome, pause.seconds + wait), pause=pause, by_gateway=is_its_own)
    return replace(_wait(outcome, 0.0), retry=False, pause=pause)


_TAKEN = Decision(videos.Status.PROCESSING)


def _wait(outcome: Outcome, seconds: float) -> Decision:
    """Back to the queue; meanwhile the row says why."""
    words = f"Waiting to be sent again: {outcome.detail}"
    return Decision(videos.Status.QUEUED, error_message=words, delay_seconds=seconds, retry=True)


def unknown_words(detail: str, bound: Decimal | None) -> str:
    """What a person should know about a video whose submission has no known outcome."""
    cost = f"may have cost up to {bound.normalize():f} credits" if bound is not None else "may have cost credits"
    return (
        f"It is not known whether Runway took this video ({detail}). It was not sent again, and {cost}. "
        "Look for it in Runway's Request History: attach the task if it is there, or retry with accept_double_charge."
    )
