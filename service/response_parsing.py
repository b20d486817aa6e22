"""Reading what Runway says, whatever it is: bodies, ids, sums and words. Pure."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

LONGEST_WORDS = 2000  # characters
LARGEST_CREDITS = 10_000_000  # $100,000 for one video: a number beyond it is garbage

# Made once: json.loads makes a new one for each text, which takes longer than to read it.
_EXACT = json.JSONDecoder(parse_int=Decimal, parse_float=Decimal, parse_constant=lambda _: None)
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


def estimate(body: dict[str, Any]) -> Decimal | None:
    """The estimate; None if it is no sum that a person could owe. It must never be in the way of the id."""
    cost = body.get("estimatedCost")
    amount = cost.get("credits") if isinstance(cost, dict) else None
    return amount if isinstance(amount, Decimal) and 0 <= amount <= LARGEST_CREDITS else None


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
    return storable("; ".join(filter(None, found)))


def storable(text: str, limit: int = LONGEST_WORDS) -> str:
    """At most `limit` characters of a stranger's text, without what PostgreSQL cannot hold: NUL, lone surrogates."""
    return text[:limit].encode("utf-8", "replace").decode().replace("\x00", "")
