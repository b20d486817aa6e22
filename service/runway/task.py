"""Runway's task object, and what its state means for the video. Pure.

Shapes and failure codes: `GET /v1/tasks/{id}` of Runway's OpenAPI 2024-11-06 and its guide to task failures.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)

from service import response_parsing
from service.redaction import redacted
from service.response_parsing import LONGEST_ADDRESS, storable
from service.videos import Event, FailureCode

OUTPUT_LIFE_SECONDS = 24 * 3600  # Runway's URLs live 24 to 48 h; without a date of their own, the shorter
TINY = Decimal("1e-9")
LONGEST_CODE = 200  # characters of a status or a failureCode that is kept
RETRY_DELAYS_SECONDS = (30.0, 300.0, 900.0)

# failureCode, whether another task is worth it, and the message. An entry also covers the codes below it, unless it
# says to try again: Runway does not advise another task for INTERNAL.SOMETHING_NEW.
# SAFETY.INPUT.* names what was wrong for diagnosis only: Runway asks not to show its third part to users.
FAILURES: tuple[tuple[str, bool, str], ...] = (
    (
        "SAFETY.INPUT",
        False,
        "Runway's moderation refused the prompt or the image. Change it; this attempt was charged",
    ),
    ("SAFETY.OUTPUT", False, "Runway's moderation withheld the result. Change the prompt"),
    ("INPUT_PREPROCESSING.SAFETY", False, "Runway's moderation refused the prompt or the image. Change it"),
    ("INPUT_PREPROCESSING.INTERNAL", True, "Runway could not prepare the input"),
    ("INTERNAL.BAD_OUTPUT", False, "Runway's model gave a bad result. Change the prompt or the image"),
    ("ASSET.INVALID", False, "The image does not fit the model: check its dimensions and format"),
    ("THIRD_PARTY.UNAVAILABLE", True, "The model's vendor is not available to Runway"),
    ("INTERNAL", True, "Runway failed on its side"),
)


def _or_none(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """What is only for show or for the books may be odd: it must not hide the state of a task that was paid for."""
    try:
        return handler(value)
    except ValidationError:
        return None


def _as_text(value: object) -> str | None:
    """A stranger's word, as text that can be stored. Only null is no word: an odd one is still one."""
    if value is None:
        return None
    try:
        text = str(value) if isinstance(value, str | Decimal) else json.dumps(value, default=str)
    except RecursionError:
        text = "nested too deeply to be read"
    return storable(redacted(text), LONGEST_CODE)


def _credits(value: object) -> Decimal:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = Decimal(str(value))
    amount = response_parsing.credits(value)
    if amount is None:
        raise ValueError("no sum that a person could owe")
    return amount


def _plausible(value: datetime) -> datetime:
    if value.year not in PLAUSIBLE_YEARS:
        raise ValueError("no time at which a task was made")
    return value


PLAUSIBLE_YEARS = range(2000, 2200)
Lenient = WrapValidator(_or_none)
Word = Annotated[str | None, BeforeValidator(_as_text)]
Status = Annotated[
    str, BeforeValidator(lambda value: storable(value, LONGEST_CODE) if isinstance(value, str) else value)
]


class Credits(BaseModel):
    """An amount of Runway's credits."""

    credits: Annotated[Decimal, BeforeValidator(_credits)]


class Task(BaseModel):
    """What `GET /v1/tasks/{id}` or `GET /v1/workflow_invocations/{id}` says. Unknown statuses are kept as they come."""

    # Built at its first use: a tick that polls nothing starts sooner.
    model_config = ConfigDict(extra="ignore", populate_by_name=True, defer_build=True)

    id: str
    status: Status
    created_at: Annotated[Annotated[AwareDatetime, AfterValidator(_plausible)] | None, Lenient] = Field(
        None, alias="createdAt"
    )
    progress: Annotated[float | None, BeforeValidator(response_parsing.progress)] = None
    output: list[str] = Field(default_factory=list)
    failure: Word = None
    failure_code: Word = Field(None, alias="failureCode")
    cost: Annotated[Credits | None, Lenient] = None
    estimated_cost: Annotated[Credits | None, Lenient] = Field(None, alias="estimatedCost")
    # Parts of the answer that did not fit and were cut, rounded or left out.
    fitted: tuple[str, ...] = Field((), exclude=True)

    @classmethod
    def of(cls, body: bytes) -> Task:
        """From an answer, its numbers exact, each value fitted to its column. Raises ValidationError."""
        said = response_parsing.read(body)
        task = cls.model_validate({name: value for name, value in said.items() if name != "fitted"})
        return task.model_copy(update={"fitted": tuple(_not_as_said(said, task))})

    @field_validator("status")
    @classmethod
    def _one_spelling(cls, value: str) -> str:
        return "CANCELLED" if value == "CANCELED" else value  # the documentation uses both

    @field_validator("output", mode="before")
    @classmethod
    def _no_output(cls, value: object) -> object:
        values = _files(value)
        return (
            [
                storable(each, LONGEST_ADDRESS) if isinstance(each, str) else each
                for each in values
                if each != "" and not (isinstance(each, str) and len(each) > LONGEST_ADDRESS)
            ]
            if isinstance(values, list)
            else values
        )


def _files(output: object) -> object:
    """The addresses of an `output`: of a workflow, it has a list of them for each node."""
    if isinstance(output, dict) and all(isinstance(files, list) for files in output.values()):
        return [file for files in output.values() for file in files]
    return [] if output is None else [output] if isinstance(output, str) else output


def _not_as_said(said: Mapping[str, Any], task: Task) -> Iterator[str]:
    """The names of what is kept otherwise than Runway said it."""
    for name, kept in (("status", task.status), ("failure", task.failure), ("failureCode", task.failure_code)):
        if isinstance(said.get(name), str) and said[name] not in (kept, "CANCELED"):
            yield name
    for name, cost in (("cost", task.cost), ("estimatedCost", task.estimated_cost)):
        amount = said[name].get("credits") if isinstance(said.get(name), dict) else None
        if amount is not None and (cost is None or cost.credits != amount):
            yield name
    progress = said.get("progress")
    if isinstance(progress, Decimal) and (task.progress is None or abs(progress - Decimal(task.progress)) > TINY):
        yield "progress"
    files = _files(said.get("output"))
    if isinstance(files, list) and [each for each in files if each != ""] != task.output:
        yield "output"


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
    """Apply the rules to one poll of a task. None: Runway does not know it (404); `overdue`: its time is over."""
    if task is None:
        words = (
            "Runway no longer knows this task: it was deleted, or cancelled from elsewhere. It may have been charged, "
            "so it is not sent again by itself: retry it with accept_double_charge. For a day more, Runway is asked "
            "about it once an hour."
        )
        return Verdict(Event.FAIL, FailureCode.TASK_VANISHED, words)
    match task.status:
        case "SUCCEEDED" if task.output:
            return Verdict(Event.COMPLETE, output=tuple(task.output), url_expires_at=url_expiry(task.output[0], now))
        case "SUCCEEDED" if "output" in task.fitted:
            words = (
                f"Runway gave a file whose address is longer than {LONGEST_ADDRESS:,} characters, which is not kept."
            )
            return Verdict(Event.FAIL, FailureCode.NO_OUTPUT, words)
        case "SUCCEEDED":
            return Verdict(Event.FAIL, FailureCode.NO_OUTPUT, "Runway says that the task succeeded, and gave no file.")
        case "CANCELLED":
            return Verdict(Event.FAIL, FailureCode.TASK_CANCELLED, "The task was cancelled at Runway.")
        case "FAILED":
            return _failed(task, retries_left, task_retries)
        case _ if overdue:
            words = f"Runway had not finished after the time that TASK_TIMEOUT allows (last state: {task.status})."
            return Verdict(Event.FAIL, FailureCode.TASK_TIMEOUT, words)
        case _:
            return Verdict(None)


def _failed(task: Task, retries_left: int, task_retries: int) -> Verdict:
    code = "INTERNAL" if task.failure_code is None else task.failure_code
    known = [
        (retry, words) for name, retry, words in FAILURES if code == name or (not retry and code.startswith(f"{name}."))
    ]
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
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, OSError, RecursionError):
        return datetime.fromtimestamp(now.timestamp() + OUTPUT_LIFE_SECONDS, UTC)
