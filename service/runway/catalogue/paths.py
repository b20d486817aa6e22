"""Fields by their path, such as `providerSettings.multiPrompt.duration`, in a schema and in a body.

A path goes through lists: of `promptImage.position`, there may be one for each image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from service.runway.messages import as_text

Schema = Mapping[str, Any]
MEGAPIXELS = " MP"
ABSENT = object()


def by(table: Mapping[str, Any]) -> tuple[str, bool]:
    """The field by which a table goes, and whether it goes by the megapixels of its ratio."""
    path = table["by"]
    return path.removesuffix(MEGAPIXELS), path.endswith(MEGAPIXELS)


def key(value: Any) -> str:
    """A value as tables write it: deprecated spellings differ in case only."""
    return as_text(value).lower()


def schema_at(schema: Schema, path: str) -> Schema | None:
    """The schema of the field at this path, through lists and choices; None if there is none."""
    found: list[Schema] = [schema]
    for name in path.split("."):
        found = [one["properties"][name] for each in found for one in _objects(each) if name in one["properties"]]
    return found[0] if found else None


def _objects(schema: Schema) -> Iterator[Schema]:
    if "properties" in schema:
        yield schema
    for one in schema.get("anyOf", ()):
        yield from _objects(one)
    if "items" in schema:
        yield from _objects(schema["items"])


def values_at(body: Any, schema: Schema, path: str) -> list[Any]:
    """Every value that a body has at this path; what is not given but has a default counts as that."""
    name, _, rest = path.partition(".")
    if isinstance(body, list):
        return [value for one in body for value in values_at(one, schema, path)]
    if not isinstance(body, Mapping):
        return []
    inner = schema_at(schema, name) or {}
    value = body.get(name, inner.get("default", ABSENT))
    if value is ABSENT:
        return []
    return values_at(value, inner, rest) if rest else [value]


def is_given(body: Any, path: str) -> bool:
    """Whether a body itself has something at this path."""
    return bool(given_at(body, path))


def given_at(body: Any, path: str) -> list[Any]:
    """Every value that a body itself has at this path."""
    return values_at(body, {}, path)


def values_of(schema: Schema | None) -> list[Any]:
    """The values that a field may have, if they are few: those of enum and const, the deprecated ones aside."""
    if schema is None:
        return []
    if schema.get("type") == "boolean":
        return [True, False]
    some = schema.get("enum", [schema["const"]] if "const" in schema else [])
    gone = schema.get("x-deprecated", ())
    found = [value for value in some if value not in gone]
    return found + [value for one in schema.get("anyOf", ()) for value in values_of(one)]


def numbers_of(schema: Schema) -> list[Any]:
    """The numbers among the values of a field."""
    return [value for value in values_of(schema) if type(value) in (int, float)]


def least(schema: Schema | None) -> float | None:
    """The least number that a field may be; None if nothing says so."""
    return _end(schema, ("minimum", "exclusiveMinimum"), min)


def most(schema: Schema | None) -> float | None:
    """The greatest number that a field may be; None if nothing says so."""
    return _end(schema, ("maximum",), max)


def _end(schema: Schema | None, keywords: tuple[str, ...], extreme: Any) -> float | None:
    if schema is None:
        return None
    ends = [_end(one, keywords, extreme) for one in schema.get("anyOf", ()) if _may_be_a_number(one)]
    if schema.get("type") in ("integer", "number") and "enum" not in schema:
        ends.append(next((schema[keyword] for keyword in keywords if keyword in schema), None))
    ends += numbers_of({"enum": schema["enum"]}) if "enum" in schema else []
    return None if not ends or None in ends else float(extreme(ends))


def _may_be_a_number(schema: Schema) -> bool:
    return schema.get("type") in ("integer", "number") or bool(numbers_of(schema))
