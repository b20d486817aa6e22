"""What a video is: its states, the transitions between them, and how long to wait. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID


def new_id(seconds: float, random: int) -> UUID:
    """The id of a video made at that time (since 1970), from 74 random bits: a UUID of version 7 (RFC 9562).

    It begins with the time, so that what is new stands side by side in every index.
    """
    milliseconds, rest = int(seconds * 1000), random & (1 << 74) - 1
    return UUID(int=milliseconds << 80 | 7 << 76 | rest >> 62 << 64 | 2 << 62 | rest & (1 << 62) - 1)


class Status(StrEnum):
    """Where a video is in its life."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ERASED = "erased"  # what a user wrote is gone; it is in no list

    @property
    def terminal(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.ERASED)


LISTED = tuple(status for status in Status if status is not Status.ERASED)


class Event(StrEnum):
    """What can happen to a video."""

    REFUSE = "refuse"  # it makes no valid request, or waited too long
    CLAIM = "claim"  # a submission is permitted
    SEND_BACK = "send_back"  # no task was made, or a failed one is worth another: wait and try again
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    RETRY = "retry"  # a user or an operator asks for it again
    ERASE = "erase"  # nothing of it is under way any more, at Runway neither
    ATTACH = "attach"  # late evidence: the task that an unknown submission made, or that had vanished


# The state machine. What is not here does not happen: an event that arrives late or twice changes nothing.
# ATTACH from FAILED is for error_code SUBMISSION_UNKNOWN and TASK_VANISHED alone.
TRANSITIONS: Mapping[tuple[Status, Event], Status] = {
    (Status.QUEUED, Event.REFUSE): Status.FAILED,
    (Status.QUEUED, Event.CLAIM): Status.PROCESSING,
    (Status.QUEUED, Event.CANCEL): Status.CANCELLED,
    (Status.QUEUED, Event.ATTACH): Status.PROCESSING,
    (Status.PROCESSING, Event.SEND_BACK): Status.QUEUED,
    (Status.PROCESSING, Event.COMPLETE): Status.COMPLETED,
    (Status.PROCESSING, Event.FAIL): Status.FAILED,
    (Status.PROCESSING, Event.CANCEL): Status.CANCELLED,
    (Status.FAILED, Event.RETRY): Status.QUEUED,
    (Status.FAILED, Event.ATTACH): Status.PROCESSING,
    (Status.COMPLETED, Event.ERASE): Status.ERASED,
    (Status.FAILED, Event.ERASE): Status.ERASED,
    (Status.CANCELLED, Event.ERASE): Status.ERASED,
}


def sources(event: Event) -> list[str]:
    """The statuses in which `event` may happen, as the statements bind them."""
    return [status.value for (status, happening) in TRANSITIONS if happening is event]


class FailureCode(StrEnum):
    """Why a video failed, where the reason is Taxiway's own; the others in `error_code` are Runway's failureCodes.

    `meaning`: a sentence, as in the page `errors` and in a history.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> FailureCode:
        """A member from its value and its sentence."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    INVALID_REQUEST = "INVALID_REQUEST", "the row makes no valid request; nothing was sent"
    EXPIRED = "EXPIRED", "it was still queued at `expires_at`, or after `QUEUE_TIMEOUT`"
    REJECTED = "REJECTED", "Runway refused the request, in its own words"
    SUBMISSION_UNKNOWN = (
        "SUBMISSION_UNKNOWN",
        "it is not known whether Runway took the request; see `taxiway docs unknown-outcomes`",
    )
    TASK_TIMEOUT = "TASK_TIMEOUT", "Runway had not finished after `TASK_TIMEOUT`; its task is deleted"
    TASK_VANISHED = (
        "TASK_VANISHED",
        "Runway did not know the task three times over five minutes; it may have been charged, so a retry "
        "needs consent; Runway is asked for a day more, and a late answer completes it",
    )
    TASK_CANCELLED = "TASK_CANCELLED", "the task was cancelled at Runway"
    NO_OUTPUT = "NO_OUTPUT", "Runway says that the task succeeded, and gave no file"
    REFUSED_BY_GATEWAY = (
        "REFUSED_BY_GATEWAY",
        "a gateway or firewall in front of Runway refused this video three times while others passed, "
        "or its body as too large (413); nothing was made",
    )
    REFUSED_BY_TABLE = (
        "REFUSED_BY_TABLE",
        "a trigger or constraint of your linked table refused `processing`, in its own words; nothing "
        "was sent; see `taxiway docs linked-tables`",
    )
    UNSTORABLE = (
        "UNSTORABLE",
        "the database refused for a day to store what became of it, for the reason that `error_message` quotes",
    )


def meaning_of(code: str | None) -> str:
    """A failure code in words; Runway's own are returned as they are."""
    own = FailureCode.__members__.get(code or "")
    return own.meaning if own else code or "no reason is known"


BACKOFF_FIRST_SECONDS = 5.0
BACKOFF_CAP_SECONDS = 600.0


def backoff(retries: int, random: float) -> float:
    """Seconds to wait after the n-th retry in a row: exponential, plus up to 50 % at random.

    `random` is in [0, 1). The form is Runway's own advice for 429, 502, 503 and 504 (its API guide, "Errors").
    """
    doubled: float = min(BACKOFF_FIRST_SECONDS * 2 ** min(retries, 20), BACKOFF_CAP_SECONDS)
    return doubled * (1 + random / 2)


class Row(Protocol):
    """A row of the database: values by column name."""

    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True)
class Video:
    """One row of `videos`, as every part of the service sees it. Credits are Runway's (1 credit = $0.01)."""

    id: UUID
    status: Status
    prompt: str | None
    image_url: str | None
    error_message: str | None
    error_code: str | None
    runway_video_id: str | None
    created_at: datetime
    updated_at: datetime
    operation: str | None
    model: str | None
    input: dict[str, Any] | None
    metadata: Any
    warnings: list[dict[str, str]] | None
    group_id: UUID | None
    priority: int
    run_after: datetime
    expires_at: datetime | None
    open_submission_id: int | None
    quoted_credits: Decimal | None
    cost_credits: Decimal | None
    retries: int
    task_retries: int
    resubmissions: int
    submitted_at: datetime | None
    task_status: str | None
    progress: float | None
    polled_at: datetime | None
    poll_after: datetime | None
    output: list[str] | None
    video_url: str | None
    video_url_expires_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def from_row(cls, row: Row) -> Video:
        """Build one from a row that has the columns of this class; jsonb arrives as text."""
        values = {name: row[name] for name in COLUMN_NAMES}
        for name in ("input", "metadata", "warnings", "output"):
            if isinstance(values[name], str):
                values[name] = json.loads(values[name])
        return cls(**(values | {"status": Status(values["status"])}))


COLUMN_NAMES = tuple(field.name for field in fields(Video))
