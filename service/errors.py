"""Everything that can go wrong, as one tree.

    TaxiwayError                  status 500
    ├── BadSettings               the environment contradicts itself; every complaint at once
    ├── NotConfigured             503: a route needs a setting that is not there; names it
    ├── DatabaseUnavailable              503: PostgreSQL cannot be reached or does not answer
    │   └── StatementRefused      503: it answered, and would not do this now: a deadlock, a lock, a full disk
    ├── RunwayUnavailable                503: Runway cannot be reached or does not answer (never raised by a create)
    ├── MigrationBlocked          the schema cannot be changed as it stands; carries the SQL to run
    ├── Unauthorized              401: no valid key, secret or signature
    ├── Forbidden                 403: the key, the token or the form does not allow it
    ├── NotFound                  404: no such video
    │   ├── NoSuchOutput           404: a video has no output of this number
    │   ├── NotInLedger            404: no video, and no task of one, ever had this id
    │   ├── NoSuchModel            404: no such model; names those that there are
    │   ├── NoSuchDelivery         404: no such delivery of a webhook
    │   └── NoSuchEndpoint         404: no such address of webhooks
    ├── Conflict                  409: the video's state does not allow it
    │   ├── NeedsConsent          409: Runway may have charged it already; a second payment needs consent
    │   └── CannotReplay          409: a delivery cannot be sent again as it stands
    ├── Gone                      410: what was asked for existed once
    ├── Malformed                 400: the body cannot be read at all
    ├── TooLarge                  413: the body is larger than the setting allows
    ├── TooMany                   429: too many attempts; says when to try again
    │   └── OverLimit             429: MAX_QUEUED or MAX_CREDITS_PER_DAY_BY_KEY is reached
    ├── WouldWait                 429: it would be queued, and the caller wants to fail instead
    ├── Busy                      503: as many requests of this kind are being worked on as may be
    └── InvalidRequest            422: says which field and why; carries a list of problems

The docstring of a class is the title that people read; the argument is the detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from service.redaction import redacted

MOST_PROBLEMS = 20  # that one refusal names
LONGEST_POINTER, LONGEST_DETAIL = 120, 600  # characters of one of them


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one field: a JSON pointer (RFC 6901) and a sentence that says what to do."""

    pointer: str
    detail: str


def cut(text: str, longest: int) -> str:
    """At most so many characters of the text, and `…` where it goes on."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _shortened(problems: Iterable[Problem]) -> list[Problem]:
    """They are kept in rows, and shown: what they repeat of a request must be short, and no secret."""
    return [
        Problem(redacted(cut(one.pointer, LONGEST_POINTER)), redacted(cut(one.detail, LONGEST_DETAIL)))
        for one in problems
    ]


class TaxiwayError(Exception):
    """Something went wrong in Taxiway."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"

    def __init__(self, detail: str, **extra: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    @property
    def title(self) -> str:
        """The class's docstring, first line, without the full stop."""
        return (type(self).__doc__ or "").strip().splitlines()[0].rstrip(".")


class BadSettings(TaxiwayError):
    """The settings contradict themselves or are malformed."""

    status = 503
    slug = "bad-settings"

    def __init__(self, complaints: list[str]) -> None:
        super().__init__("; ".join(complaints))
        self.complaints = complaints


class NotConfigured(TaxiwayError):
    """A setting that this needs is missing."""

    status = 503
    slug = "not-configured"


class DatabaseUnavailable(TaxiwayError):
    """The database does not answer."""

    status = 503
    slug = "database-unavailable"


class StatementRefused(DatabaseUnavailable):
    """The database could not do this for now."""


class RunwayUnavailable(TaxiwayError):
    """Runway does not answer."""

    status = 503
    slug = "runway-unavailable"


class MigrationBlocked(TaxiwayError):
    """The migration stopped and changed nothing."""

    slug = "migration-blocked"

    def __init__(self, obstacles: list[tuple[str, str]]) -> None:
        """`obstacles`: pairs of (what stands in the way, the SQL that removes it)."""
        super().__init__("; ".join(why for why, _ in obstacles))
        self.obstacles = obstacles


class Unauthorized(TaxiwayError):
    """The credentials are missing or wrong."""

    status = 401
    slug = "unauthorized"


class Forbidden(TaxiwayError):
    """This is not allowed."""

    status = 403
    slug = "forbidden"


class NotFound(TaxiwayError):
    """There is no such video."""

    status = 404
    slug = "not-found"


class NoSuchOutput(NotFound):
    """There is no such output."""


class NotInLedger(NotFound):
    """No video ever had this id, nor did a task of one."""


class NoSuchModel(NotFound):
    """There is no such model."""


class NoSuchDelivery(NotFound):
    """There is no such delivery."""


class NoSuchEndpoint(NotFound):
    """There is no such webhook endpoint."""


class Conflict(TaxiwayError):
    """The state of the video does not allow this."""

    status = 409
    slug = "conflict"


class NeedsConsent(Conflict):
    """Runway may have charged this video already."""


class CannotReplay(Conflict):
    """This delivery cannot be sent again."""


class Gone(TaxiwayError):
    """What was asked for no longer exists."""

    status = 410
    slug = "gone"


class Malformed(TaxiwayError):
    """The body cannot be read."""

    status = 400
    slug = "malformed"


class TooLarge(TaxiwayError):
    """The body is too large."""

    status = 413
    slug = "too-large"


class TooMany(TaxiwayError):
    """Too many attempts."""

    status = 429
    slug = "too-many"

    def __init__(self, detail: str, retry_after: float = 1.0) -> None:
        """`retry_after`: seconds until another attempt may be made."""
        super().__init__(detail)
        self.retry_after = retry_after


class OverLimit(TooMany):
    """A limit of this installation is reached."""

    slug = "over-limit"


class WouldWait(TaxiwayError):
    """The video would have to wait."""

    status = 429
    slug = "would-wait"

    def __init__(self, detail: str, reason: str = "") -> None:
        """`reason`: of the pause that it would wait for, as `taxiway.models` has it."""
        super().__init__(detail)
        self.reason = reason


class Busy(TaxiwayError):
    """Too many requests are being worked on."""

    status = 503
    slug = "busy"


class InvalidRequest(TaxiwayError):
    """The request is not valid."""

    status = 422
    slug = "invalid-request"

    def __init__(self, problems: Sequence[Problem]) -> None:
        """The first of the problems are kept, shortened, and the number of the others: an answer has its limits."""
        problems, more = _shortened(problems[:MOST_PROBLEMS]), len(problems) - MOST_PROBLEMS
        if more > 0:
            problems.append(Problem("", f"and {more} more"))
        super().__init__("; ".join(f"{p.pointer}: {p.detail}" if p.pointer else p.detail for p in problems))
        self.problems = problems
