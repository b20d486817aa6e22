"""Runway's task object, and what its state means for the video. Pure.

Shapes and failure codes: `GET /v1/tasks/{id}` of Runway's OpenAPI 2024-11-06 and its guide to task failures.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from service import videos
from service.videos import Event

OUTPUT_LIFE_SECONDS = 24 * 3600  # Runway's URLs live 24 to 48 h; without a date of their own, the shorter
RETRY_DELAYS_SECONDS = (30.0, 300.0, 900.0)

# failureCode, by its longest known beginning: is another task worth it, and what a person should be told.
# SAFETY.INPUT.* names what was wrong for diagnosis only: Runway asks not to show its third part to users.
FAILURES: tuple[tuple[str, bool, str], ...] = (
    (
        "SAFETY.INPUT",
        False,
        "Runway's moderation refused the prompt or the image. Change it; this attempt was charged",
    ),
    ("SAFETY.OUTPUT", False, "Runway's moderation withheld the result. Change the prompt"),
    ("INPUT_PREPROCESSING.SAFETY.TEXT", False, "Runway's moderation refused the prompt. Change it"),
    ("INPUT_PREPROCESSING.INTERNAL", True, "Runway could not prepare the input"),
    ("INTERNAL.BAD_OUTPUT", False, "Runway's model gave a bad result. Change the prompt or the image"),
    ("ASSET.INVALID", False, "The image does not fit the model: check its dimensions and format"),
    ("THIRD_PARTY.UNAVAILABLE", True, "The model's vendor is not available to Runway"),
    ("INTERNAL", True, "Runway failed on its side"),
)


class Credits(BaseModel):
    """An amount of Runway's credits."""

    credits: Decimal


class Task(BaseModel):
    """What `GET /v1/tasks/{id}` says. Statuses that are not known are kept as they come."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    id: str
    status: str
    created_at: datetime | None = Field(None, alias="createdAt")
    progress: float | None = None
    output: list[str] = Field(default_factory=list)
    failure: str | None = None
    failure_code: str | None = Field(None, alias="failureCode")
    cost: Credits | None = None
    estimated_cost: Credits | None = Field(None, alias="estimatedCost")

    @field_validator("status")
    @classmethod
    def _one_spelling(cls, value: str) -> str:
        return "CANCELLED" if value == "CANCELED" else value  # the documentation uses both

    @field_validator("output", mode="before")
    @classmethod
    def _no_output(cls, value: object) -> object:
        return [] if value is None else value


@dataclass(frozen=True)
class Verdict:
    """What the state of a task means for its video. `event` None: it is still under way."""

    event: Event | None
    error_code: str | None = None
    error_message: str | None = None
    delay_seconds: float = 0.0
    task_retry: bool = False
    output: tuple[str, ...] = ()
    url_expires_at: datetime | None = None


def judge(task: Task | None, *, overdue: bool, retries_left: int, task_retries: int, now: datetime) -> Verdict:
    """Apply the rules to one look at a task. None: Runway does not know it (404); `overdue`: patience is over."""
    if task is None:
        words = "Runway no longer knows this task: it was deleted, or cancelled from elsewhere."
        return Verdict(Event.FAIL, videos.TASK_VANISHED, words)
    match task.status:
        case "SUCCEEDED" if task.output:
            return Verdict(Event.COMPLETE, output=tuple(task.output), url_expires_at=url_expiry(task.output[0], now))
        case "SUCCEEDED":
            return Verdict(Event.FAIL, videos.NO_OUTPUT, "Runway says that the task succeeded, and gave no file.")
        case "CANCELLED":
            return Verdict(Event.FAIL, videos.TASK_CANCELLED, "The task was cancelled at Runway.")
        case "FAILED":
            return _failed(task, retries_left, task_retries)
        case _ if overdue:
            words = f"Runway had not finished after the time that TASK_PATIENCE allows (last state: {task.status})."
            return Verdict(Event.FAIL, videos.TASK_TIMEOUT, words)
        case _:
            return Verdict(None)


def _failed(task: Task, retries_left: int, task_retries: int) -> Verdict:
    code = task.failure_code or "INTERNAL"
    known = [(retry, words) for prefix, retry, words in FAILURES if code == prefix or code.startswith(prefix + ".")]
    retry, words = known[0] if known else (False, f"Runway failed for a reason that is new to us ({code})")
    if retry and retries_left > 0:
        delay = RETRY_DELAYS_SECONDS[min(task_retries, len(RETRY_DELAYS_SECONDS) - 1)]
        return Verdict(Event.SEND_BACK, code, f"{words}; it will be tried again.", delay, task_retry=True)
    return Verdict(Event.FAIL, code, f"{words}.")


def url_expiry(url: str, now: datetime) -> datetime:
    """When an output URL dies: the `exp` of its `_jwt` (not verified, only read), else OUTPUT_LIFE_SECONDS from now."""
    try:
        claims = parse_qs(urlsplit(url).query)["_jwt"][0].split(".")[1]
        padded = claims + "=" * (-len(claims) % 4)
        return datetime.fromtimestamp(json.loads(base64.urlsafe_b64decode(padded))["exp"], UTC)
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, OSError):
        return datetime.fromtimestamp(now.timestamp() + OUTPUT_LIFE_SECONDS, UTC)
