"""Checks of JSON values, and the words in which Runway's validator refuses them.

Shapes and messages are those of zod 4, which is what the live API answers with: all issues at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from service.simulator.assets import asset_fault

Issue = dict[str, Any]
Path = tuple[str | int, ...]
Check = Callable[[object, Path], Iterator[Issue]]

UNDEFINED: Any = object()


class Field(NamedTuple):
    """One key of a body. `required` is about the key; the check judges the value."""

    check: Check
    required: bool = False


class Limits(NamedTuple):
    """Bounds of a number, of a text's UTF-16 code units or of a list's items; None leaves a side open."""

    low: float | None = None
    high: float | None = None
    pattern: str | None = None


class Branch(NamedTuple):
    """One alternative of a union. `origins` are the JSON types of what it can accept."""

    origins: frozenset[str]
    check: Check


def type_name(value: object) -> str:
    """The word by which zod calls the type of a JSON value."""
    if value is UNDEFINED:
        return "undefined"
    names: dict[type, str] = {
        bool: "boolean",
        str: "string",
        list: "array",
        dict: "object",
        type(None): "null",
    }
    return names.get(type(value), "number")


def wrong_type(expected: str, value: object, path: Path) -> Issue:
    """Zod's `invalid_type`."""
    message = f"Invalid input: expected {expected}, received {type_name(value)}"
    return {"expected": expected, "code": "invalid_type", "path": list(path), "message": message}


def out_of_range(origin: str, bound: float, path: Path, *, too_big: bool) -> Issue:
    """Zod's `too_big` and `too_small`."""
    sign, word, key = ("<=", "big", "maximum") if too_big else (">=", "small", "minimum")
    unit = {"string": " characters", "array": " items"}.get(origin, "")
    verb = "to have" if unit else "to be"
    message = f"Too {word}: expected {origin} {verb} {sign}{bound}{unit}"
    head = {"origin": origin, "code": f"too_{word}", key: bound, "inclusive": True}
    return {**head, "path": list(path), "message": message}


def not_an_option(values: Sequence[object], path: Path) -> Issue:
    """Zod's `invalid_value`."""
    options = "|".join(json.dumps(value) for value in values)
    message = f"Invalid input: expected {options}" if len(values) == 1 else f"Invalid option: expected one of {options}"
    return {"code": "invalid_value", "values": list(values), "path": list(path), "message": message}


def utf16_length(text: str) -> int:
    """Length as JavaScript counts it: a character outside the basic plane counts twice."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _range(origin: str, size: float, limits: Limits, path: Path) -> Iterator[Issue]:
    if limits.low is not None and size < limits.low:
        yield out_of_range(origin, limits.low, path, too_big=False)
    if limits.high is not None and size > limits.high:
        yield out_of_range(origin, limits.high, path, too_big=True)


def anything(value: object, path: Path) -> Iterator[Issue]:
    """What Runway's SDK does not describe."""
    if value is UNDEFINED:
        yield wrong_type("nonoptional", value, path)


def boolean(value: object, path: Path) -> Iterator[Issue]:
    """True or false."""
    if not isinstance(value, bool):
        yield wrong_type("boolean", value, path)


def text(limits: Limits) -> Check:
    """A string."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if not isinstance(value, str):
            yield wrong_type("string", value, path)
            return
        yield from _range("string", utf16_length(value), limits, path)
        if limits.pattern and not re.search(limits.pattern, value):
            message = f"Invalid string: must match pattern /{limits.pattern}/"
            head = {"origin": "string", "code": "invalid_format", "format": "regex", "pattern": f"/{limits.pattern}/"}
            yield {**head, "path": list(path), "message": message}

    return check


def number(limits: Limits, *, whole: bool = False) -> Check:
    """A number; where it must be `whole`, 5.0 is, as in JavaScript."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield wrong_type("number", value, path)
        elif whole and value % 1:
            yield {**wrong_type("int", value, path), "format": "safeint"}
        else:
            yield from _range("number", value, limits, path)

    return check


def choice(*values: str | int) -> Check:
    """One of these values."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if isinstance(value, bool) or value not in values:
            yield not_an_option(values, path)

    return check


def items(each: Check, limits: Limits) -> Check:
    """A list of values that `each` accepts."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if not isinstance(value, list):
            yield wrong_type("array", value, path)
            return
        yield from _range("array", len(value), limits, path)
        for index, item in enumerate(value):
            yield from each(item, (*path, index))

    return check


def record(each: Check) -> Check:
    """An object whose keys are free; `each` accepts its values."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if not isinstance(value, dict):
            yield wrong_type("record", value, path)
            return
        for key, item in value.items():
            yield from each(item, (*path, key))

    return check


def union(branches: Sequence[Branch]) -> Check:
    """What one of the branches accepts; the issues of the only one that its type leaves, or of all."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        fitting = [branch for branch in branches if type_name(value) in branch.origins]
        found = [list(branch.check(value, path)) for branch in fitting]
        if len(found) == 1:
            yield from found[0]
        elif all(found):
            errors = [list(branch.check(value, ())) for branch in branches]
            yield {"code": "invalid_union", "errors": errors, "path": list(path), "message": "Invalid input"}

    return check


def strict(fields: Mapping[str, Field]) -> Check:
    """An object with these keys and no others."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if not isinstance(value, dict):
            yield wrong_type("object", value, path)
            return
        for name, field in fields.items():
            if field.required or name in value:
                yield from field.check(value.get(name, UNDEFINED), (*path, name))
        if unknown := [key for key in value if key not in fields]:
            names = ", ".join(f'"{key}"' for key in unknown)
            message = f"Unrecognized key{'s' if len(unknown) > 1 else ''}: {names}"
            yield {"code": "unrecognized_keys", "keys": unknown, "path": list(path), "message": message}

    return check


def asset(kind: str) -> Check:
    """A URI of an image, a video or audio; what is behind an https URL is not fetched."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if not isinstance(value, str):
            yield wrong_type("string", value, path)
        elif isinstance(fault := asset_fault(value, kind), str):
            yield custom(fault, path)
        elif fault is not None:
            yield out_of_range("string", fault.bound, path, too_big=fault.too_big)

    return check


def custom(message: str, path: Path) -> Issue:
    """Zod's `custom`: an issue in words alone."""
    return {"code": "custom", "message": message, "path": list(path)}
