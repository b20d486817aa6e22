"""Faults on demand, in one small grammar for the header `X-Simulate` and for plans.

Words are separated by commas; some take a value after `=`:

    slow=S             wait S seconds before reading the request
    stall=S            do what was asked, then wait S seconds before answering
    drop_before        close the connection, having done nothing
    drop_after         do what was asked, then close the connection without an answer
    reset              with a drop: a TCP reset instead of an orderly close
    half               do what was asked, send half of the answer, close
    status=N           refuse with this status, having done nothing
    accepted_status=N  do what was asked, answer with this status
    body=KIND          runway, bare, html, none, garbage or no_id instead of the usual body
    retry_after=S      a Retry-After header
    no_credits, key_revoked, daily_limit   Runway's own refusals, for this request
    fail=CODE          the task ends as FAILED with this failureCode (`fail=null` for none)
    empty              the task succeeds without output
    vanish             the task runs and is then unknown; on a retrieve: unknown this once
    throttled          the task stays THROTTLED
    backwards          every second poll of the task shows an earlier state
    cancelled          the task ends as CANCELLED
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

On = Literal["create", "retrieve", "delete"]
Body = Literal["runway", "bare", "html", "none", "garbage", "no_id"]
Refusal = Literal["no_credits", "key_revoked", "daily_limit"]
End = Literal["succeed", "fail", "empty", "vanish", "throttled", "backwards", "cancelled"]


@dataclass(frozen=True)
class Fate:
    """How a task will go, decided when it is made."""

    end: End = "succeed"
    code: str | None = None


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request. The default is nothing."""

    words: str = ""
    slow: float = 0.0
    stall: float = 0.0
    drop: Literal["before", "after"] | None = None
    reset: bool = False
    half: bool = False
    status: int | None = None
    accepted_status: int | None = None
    body: Body | None = None
    retry_after: float | None = None
    refusal: Refusal | None = None
    fate: Fate = field(default_factory=Fate)


def parse_fault(words: str) -> Fault:
    """Read the grammar of this module. Raises ValueError, which names the word."""
    fault = Fault(words=words)
    for word in filter(None, (part.strip() for part in words.split(","))):
        name, _, value = word.partition("=")
        try:
            fault = replace(fault, **_meaning(name.strip(), value.strip()))
        except ValueError:
            raise ValueError(f"the simulator does not know the fault {word!r}") from None
    return fault


def _meaning(name: str, value: str) -> dict[str, Any]:
    match name:
        case "slow" | "stall" | "retry_after":
            return {name: _number(value)}
        case "status" | "accepted_status":
            return {name: _status(value)}
        case "drop_before" | "drop_after":
            return {"drop": name.removeprefix("drop_")}
        case "reset" | "half":
            return {name: True}
        case "fail":
            return {"fate": Fate("fail", None if value in ("", "null") else value)}
        case "body" if value in get_args(Body):
            return {"body": value}
        case _ if name in get_args(Refusal):
            return {"refusal": name}
        case _ if name in get_args(End):
            return {"fate": Fate(name)}  # type: ignore[arg-type]  # one of End, just checked
    raise ValueError(name)


def _number(value: str) -> float:
    if not 0 <= (number := float(value)) < float("inf"):
        raise ValueError(value)
    return number


def _status(value: str) -> int:
    if not 200 <= (number := int(value)) <= 599:
        raise ValueError(value)
    return number


@dataclass
class Planned:
    """A fault that waits for the next requests of its kind."""

    on: On
    fault: Fault
    times: int


class FaultPlan:
    """Faults in waiting, consumed in order by the requests that they are meant for."""

    def __init__(self) -> None:
        self.waiting: list[Planned] = []

    def add(self, items: Iterable[object]) -> int:
        """Take `"words"` or `{"simulate": "words", "on": "create", "times": 1}`; returns how many wait.

        Raises ValueError, and then takes none.
        """
        planned = [_planned(item) for item in items]
        self.waiting.extend(planned)
        return len(self.waiting)

    def take(self, on: On, header: str | None) -> Fault:
        """The header's fault, or the next of the plan. Raises ValueError for a bad header."""
        if header is not None:
            return parse_fault(header)
        entry = next((entry for entry in self.waiting if entry.on == on), None)
        if entry is None:
            return Fault()
        entry.times -= 1
        if entry.times == 0:
            self.waiting.remove(entry)
        return entry.fault

    def clear(self) -> None:
        """Forget what is waiting."""
        self.waiting.clear()


def _planned(item: object) -> Planned:
    entry = {"simulate": item} if isinstance(item, str) else item
    if not isinstance(entry, dict) or not isinstance(entry.get("simulate"), str):
        raise ValueError('a fault is a string, or an object with "simulate", "on" and "times"')
    on, times = entry.get("on", "create"), entry.get("times", 1)
    if on not in get_args(On) or not isinstance(times, int) or times < 1:
        raise ValueError('"on" is create, retrieve or delete, and "times" a number from 1')
    return Planned(on, parse_fault(entry["simulate"]), times)
