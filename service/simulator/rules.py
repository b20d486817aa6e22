"""What Runway's validator accepts, and the words in which it refuses.

The schemas are data, kept apart from the service's own catalogue on purpose: a mistake in one is found by the
other. Shapes and messages are those of zod 4, which is what the live API answers with: all issues at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from service.simulator.assets import IMAGE_TYPES, asset_fault

Issue = dict[str, Any]
Path = tuple[str | int, ...]
Check = Callable[[object, Path], Iterator[Issue]]

UNDEFINED: Any = object()


class Field(NamedTuple):
    """One key of a body. `required` is about the key; the check judges the value."""

    check: Check
    required: bool = False


class Model(NamedTuple):
    """One model's price and fields, by operation."""

    credits_per_second: int
    operations: Mapping[str, Mapping[str, Field]]
    default_duration: int


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


def not_an_option(values: tuple[str, ...], path: Path) -> Issue:
    """Zod's `invalid_value`."""
    options = "|".join(f'"{value}"' for value in values)
    message = f"Invalid input: expected {options}" if len(values) == 1 else f"Invalid option: expected one of {options}"
    return {"code": "invalid_value", "values": list(values), "path": list(path), "message": message}


def utf16_length(text: str) -> int:
    """Length as JavaScript counts it: a character outside the basic plane counts twice."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _range(origin: str, size: float, low: int, high: int, path: Path) -> Iterator[Issue]:
    if size < low:
        yield out_of_range(origin, low, path, too_big=False)
    if size > high:
        yield out_of_range(origin, high, path, too_big=True)


def text(low: int, high: int) -> Check:
    """A string of so many UTF-16 code units."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if isinstance(value, str):
            yield from _range("string", utf16_length(value), low, high, path)
        else:
            yield wrong_type("string", value, path)

    return check


def integer(low: int, high: int) -> Check:
    """A whole number; 5.0 is one, as in JavaScript."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield wrong_type("number", value, path)
        elif value != value // 1:
            yield {**wrong_type("int", value, path), "format": "safeint"}
        else:
            yield from _range("number", value, low, high, path)

    return check


def choice(*values: str) -> Check:
    """One of these strings."""

    def check(value: object, path: Path) -> Iterator[Issue]:
        if not isinstance(value, str) or value not in values:
            yield not_an_option(values, path)

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


def image_uri(value: object, path: Path) -> Iterator[Issue]:
    """A URI of an image; what is behind an https URL is not fetched."""
    if not isinstance(value, str):
        yield wrong_type("string", value, path)
    elif isinstance(fault := asset_fault(value, IMAGE_TYPES), str):
        yield {"code": "custom", "message": fault, "path": list(path)}
    elif fault is not None:
        yield out_of_range("string", fault.bound, path, too_big=fault.too_big)


FIRST_FRAME = strict({"uri": Field(image_uri, True), "position": Field(choice("first"), True)})


def prompt_image(value: object, path: Path) -> Iterator[Issue]:
    """A URI, or a list of one frame."""
    if isinstance(value, str):
        yield from image_uri(value, path)
    elif isinstance(value, list):
        yield from _range("array", len(value), 1, 1, path)
        for index, frame in enumerate(value):
            yield from FIRST_FRAME(frame, (*path, index))
    else:
        branches = [[wrong_type(expected, value, ())] for expected in ("string", "array")]
        yield {"code": "invalid_union", "errors": branches, "path": list(path), "message": "Invalid input"}
