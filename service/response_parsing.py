"""Reading what Runway says, whatever it is: bodies, ids, sums and words. Pure."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

from service.redaction import redacted

LONGEST_WORDS = 2000  # characters
LONGEST_ADDRESS = 16_384  # characters of an output's address; it is kept whole or not at all, for a cut one is dead
LARGEST_CREDITS = 10_000_000  # $100,000 for one video: a number beyond it is garbage
SMALLEST_CREDITS = Decimal("0.000001")  # what is finer is rounded to this
SMALLEST_PROGRESS = 1e-6  # less is nothing; a `real` column could not hold it


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except ArithmeticError:
        return None  # an exponent beyond everything: garbage, and in the way of nothing else


# Made once: json.loads makes a new one for each text, which takes longer than to read it.
_EXACT = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=lambda _: None)
_ONE_SPELLING = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read(body: bytes) -> dict[str, Any]:
    """The JSON object, its numbers exact; empty if it is none."""
    try:
        value = _EXACT.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, ArithmeticError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def task_id(body: dict[str, Any]) -> str | None:
    """The task's id in its one spelling; None if there is none."""
    try:
        said = body["id"]
        return said if _ONE_SPELLING.fullmatch(said) else str(UUID(said))
    except (KeyError, ValueError, TypeError, AttributeError):
        return None


def torn_task_id(body: bytes) -> str | None:
    """The `id` of a JSON object that broke off somewhere behind it; None if the object, or its id, broke off before."""
    try:
        text = body.decode(json.detect_encoding(body), "replace")
        place = _after_space(text, 0)
        while text[place : place + 1] in ("{", ","):
            name, place = _EXACT.raw_decode(text, _after_space(text, place + 1))
            place = _after_space(text, place)
            if not isinstance(name, str) or text[place : place + 1] != ":":
                return None
            value, place = _EXACT.raw_decode(text, _after_space(text, place + 1))
            if name == "id":
                return task_id({"id": value})
            place = _after_space(text, place)
    except (ValueError, ArithmeticError, RecursionError):
        return None  # it broke off here
    return None


def _after_space(text: str, place: int) -> int:
    return place + len(text[place:]) - len(text[place:].lstrip(" \t\r\n"))


def estimate(body: dict[str, Any]) -> Decimal | None:
    """The estimate; None if it is no sum that a person could owe. It must never be in the way of the id.

    A router says it beside what it chose.
    """
    routing = body.get("routing")
    cost = (routing if isinstance(routing, dict) else body).get("estimatedCost")
    return credits(cost.get("credits")) if isinstance(cost, dict) else None


def credits(amount: object) -> Decimal | None:
    """An amount of credits that a person could owe, to a millionth; None for anything else."""
    if not isinstance(amount, Decimal) or not amount.is_finite() or not 0 <= amount <= LARGEST_CREDITS:
        return None
    is_fine = int(amount.as_tuple().exponent) < int(SMALLEST_CREDITS.as_tuple().exponent)
    return amount.quantize(SMALLEST_CREDITS) if is_fine else amount


def progress(share: object) -> float | None:
    """How far a task is, from 0 to 1: what is outside is moved to the nearer end; None for what is no number."""
    if isinstance(share, bool) or not isinstance(share, int | float | Decimal) or math.isnan(share):
        return None
    if share >= 1:
        return 1.0
    return float(share) if share >= SMALLEST_PROGRESS else 0.0


def error(body: dict[str, Any]) -> str:
    """What Runway says went wrong; empty if it does not."""
    said = body.get("error")
    return said if isinstance(said, str) else ""


def words(body: dict[str, Any]) -> str:
    """Runway's own words: the error, and each validation issue with its path."""
    found = [error(body)]
    issues = body.get("issues")
    for issue in issues if isinstance(issues, list) else []:
        if isinstance(issue, dict):
            path = issue.get("path")
            where = ".".join(map(str, path)) if isinstance(path, list) else ""
            found.append(f"{where}: {issue.get('message', issue.get('code', ''))}".removeprefix(": "))
    return storable(redacted("; ".join(filter(None, found))))


def storable(text: str, limit: int = LONGEST_WORDS) -> str:
    """At most `limit` characters of a stranger's text, without what PostgreSQL cannot hold: NUL, lone surrogates."""
    return text[:limit].encode("utf-8", "replace").decode().replace("\x00", "")
