"""How a check speaks: what was given, what is accepted, what was perhaps meant."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence

Scalar = bool | int | float | str

SHOWN_CHARACTERS = 40
LISTED_CHARACTERS = 300  # of values in one sentence, which is cut at twice as many
COMPARED_CHARACTERS = 100  # comparing costs the product of both lengths


def as_text(value: Scalar) -> str:
    """A value of the catalogue as people write it: true, 5, 1280:720."""
    return value if isinstance(value, str) else json.dumps(value)


def listed(values: Sequence[Scalar]) -> str:
    """The values, separated by commas; of many, as many as a sentence bears."""
    words = list(map(as_text, values))
    while len(shown := ", ".join(words)) > LISTED_CHARACTERS:
        words.pop()
    return shown if len(words) == len(values) else f"{shown}, … ({len(values)} in all)"


def truncate(value: object) -> str:
    """What was given, short enough for a sentence and safe to encode."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of length {len(value)}"
    text = repr(value[: SHOWN_CHARACTERS + 1]) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= SHOWN_CHARACTERS + 2 else f"{text[:SHOWN_CHARACTERS]}…"


def unknown_field(name: str, known: Sequence[str], owner: str) -> str:
    """The sentence for a field that `owner` does not have."""
    folded = {each.lower(): each for each in known}
    asked = name[:COMPARED_CHARACTERS].replace("_", "").lower()
    near = difflib.get_close_matches(asked, list(folded), n=1, cutoff=0.7)
    guess = f"did you mean {folded[near[0]]}? " if near else "remove it. "
    return f"is not a field of {owner}: {guess}It takes {', '.join(known)}"


def escaped(name: str) -> str:
    """A field's name as a token of a JSON pointer (RFC 6901), shortened, and safe to encode."""
    printable = name[:COMPARED_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    return printable.replace("~", "~0").replace("/", "~1")
