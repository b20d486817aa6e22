"""Checks a value against its schema, with sentences for people: what is wrong, what is accepted, what was meant.

Of a choice (`anyOf`) only the branch that was meant is spoken of: by the JSON type, then by a tag, a property that has
another constant in each branch, then by a required key that no other branch requires.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from service.errors import Problem
from service.runway.assets import MEDIA, uri_complaint
from service.runway.messages import escaped, listed, truncate, unknown_field

Schema = Mapping[str, Any]
_TYPES: Mapping[str, type] = {"string": str, "integer": int, "array": list, "object": dict, "boolean": bool}
UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # jsonb takes no NUL, UTF-8 no half of a surrogate pair
NAMED_STRANGERS = 10  # unknown fields that are answered one by one: a hostile body may have thousands
SHOWN_WORDS = 3  # values of a field within a list that a sentence names


def utf16_units(text: str) -> int:
    """The length of a text as JavaScript, and so Runway, counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def check(schema: Schema, value: Any, pointer: str, *, is_required: bool = True) -> Iterator[Problem]:
    """Everything wrong with a value at this JSON pointer."""
    if "anyOf" in schema:
        yield from _check_choice(schema, value, pointer, is_required)
    elif not _fits_type(schema, value) or not _is_among(value, schema) or not _is_within(value, schema):
        yield _refusal(schema, value, pointer, is_required)
    elif isinstance(value, str):
        yield from _check_text(schema, value, pointer)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from check(schema.get("items", {}), one, f"{pointer}/{number}")
    elif isinstance(value, dict):
        yield from check_object(schema, value, pointer, "this object")


def check_object(schema: Schema, value: Mapping[str, Any], pointer: str, owner: str) -> Iterator[Problem]:
    """Everything wrong with an object: what is missing, what is malformed, what `owner` does not have."""
    fields, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    required = schema.get("required", ())
    for name, field in fields.items():
        if name in value:
            yield from check(field, value[name], f"{pointer}/{name}", is_required=name in required)
        elif name in required:
            yield _missing(field, f"{pointer}/{name}")
    strangers = [name for name in value if name not in fields]
    if others is not False:
        for name in strangers:
            if UNSTORABLE.search(name):
                yield Problem(f"{pointer}/{escaped(name)}", "has a name that cannot be stored: choose another")
            yield from check(others, value[name], f"{pointer}/{escaped(name)}")
        return
    for name in strangers[:NAMED_STRANGERS]:
        yield Problem(f"{pointer}/{escaped(name)}", unknown_field(name, list(fields), owner))
    if more := strangers[NAMED_STRANGERS:]:
        yield Problem(pointer, f"has {len(more)} more fields that {owner} does not take: remove them")


def wanted(schema: Schema) -> str:
    """What is accepted, in the words that follow "must be"."""
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(map(wanted, schema["anyOf"])))
    if values := _values(schema):
        return f"one of {listed(values)}"
    kind = schema.get("type")
    if kind == "string":
        return _wanted_text(schema)
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _between(schema)
    if kind == "array":
        return f"a list of {_how_many(schema)}{_item(schema.get('items', {}))}"
    if kind == "object":
        return f"an object with {', '.join(schema['properties'])}" if "properties" in schema else "an object"
    return "any value"


def _wanted_text(schema: Schema) -> str:
    if "format" in schema:
        return f"the URI of {MEDIA[schema['format']]}"
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if most is None:
        return "a text" if not least else f"a text of at least {least} characters"
    length = f"{least} to {most}" if least else f"at most {most}"
    matching = f" that matches {schema['pattern']}" if "pattern" in schema else ""
    return f"a text of {length} characters (UTF-16 code units){matching}"


def _between(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']}"
    if most is not None:
        return f" of at most {most}"
    return f" of at least {least}" if least is not None else ""


def _how_many(schema: Schema) -> str:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if most is None:
        return f"at least {least} " if least else ""
    return f"{least} to {most} " if least > 1 else f"at most {most} "


def _item(schema: Schema, *, with_values: bool = True) -> str:
    """What stands in a list, as people write it: {uri, position: "first"}."""
    if "properties" not in schema:
        return wanted(schema)
    parts = []
    for name, field in schema["properties"].items():
        words = _values(field)
        named = with_values and 0 < len(words) <= SHOWN_WORDS
        parts.append(f"{name}: {' or '.join(f'{chr(34)}{word}{chr(34)}' for word in words)}" if named else name)
    return f"{{{', '.join(parts)}}}"


def _missing(schema: Schema, pointer: str) -> Problem:
    """The problem of a required field that is not there; a file is asked for as the page's forms have it."""
    branches = schema.get("anyOf", [schema])
    media = next((branch["format"] for branch in branches if "format" in branch), None)
    if media is None:
        return Problem(pointer, f"is missing: give {wanted(schema)}")
    accepted = "an https:// URL or a data: URI"
    if lists := [branch for branch in branches if branch.get("type") == "array"]:
        count = "one " if lists[0].get("maxItems") == 1 else _how_many(lists[0])
        items = _item(lists[0].get("items", {}), with_values=False)
        accepted = f"an https:// URL, a data: URI, or a list of {count}{items}"
    words = f"Add {MEDIA[media]}: paste a link or choose a file. (API: `{pointer}` is required: {accepted}.)"
    return Problem(pointer, words)


def _refusal(schema: Schema, value: Any, pointer: str, is_required: bool) -> Problem:
    advice = ": leave the field out if there is no value" if value is None and not is_required else ""
    return Problem(pointer, f"must be {wanted(schema)}; got {truncate(value)}{advice}")


def _check_text(schema: Schema, value: str, pointer: str) -> Iterator[Problem]:
    if "format" in schema:
        if complaint := uri_complaint(value, schema["format"]):
            yield Problem(pointer, complaint)
        return
    units = utf16_units(value)
    if not schema.get("minLength", 0) <= units <= schema.get("maxLength", units):
        yield Problem(pointer, f"must be {wanted(schema)}; got {units} of them")
    elif "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        yield _refusal(schema, value, pointer, is_required=True)


def _check_choice(schema: Schema, value: Any, pointer: str, is_required: bool) -> Iterator[Problem]:
    fitting = [branch for branch in schema["anyOf"] if _fits_type(branch, value)]
    if not fitting:
        yield _refusal(schema, value, pointer, is_required)
    elif len(fitting) == 1:
        yield from check(fitting[0], value, pointer, is_required=is_required)
    elif not isinstance(value, dict):
        if all(any(check(branch, value, pointer)) for branch in fitting):
            yield _refusal({"anyOf": fitting}, value, pointer, is_required)
    elif tag := _tag(fitting):
        words = {branch["properties"][tag]["const"]: branch for branch in fitting}
        if isinstance(value.get(tag), str) and value[tag] in words:
            yield from check(words[value[tag]], value, pointer)
        else:
            said = f"must be one of {listed(list(words))}; got {truncate(value[tag])}" if tag in value else (
                f"is missing: give one of {listed(list(words))}"
            )  # fmt: skip
            yield Problem(f"{pointer}/{tag}", said)
    else:
        yield from _check_by_required_key(fitting, value, pointer)


def _tag(branches: Sequence[Schema]) -> str | None:
    """The property that has another constant in each of these branches."""
    for name in branches[0].get("properties", {}):
        words = [branch.get("properties", {}).get(name, {}).get("const") for branch in branches]
        if None not in words and len(set(words)) == len(words):
            return str(name)
    return None


def _check_by_required_key(branches: Sequence[Schema], value: Mapping[str, Any], pointer: str) -> Iterator[Problem]:
    shared = set.intersection(*(set(branch.get("required", ())) for branch in branches))
    own = [[name for name in branch.get("required", ()) if name not in shared] for branch in branches]
    for branch, names in zip(branches, own, strict=True):
        if any(name in value for name in names):
            yield from check(branch, value, pointer)
            return
    yield Problem(pointer, f"needs {' or '.join(name for names in own for name in names)}: give one of them")


def _fits_type(schema: Schema, value: Any) -> bool:
    if "anyOf" in schema:
        return any(_fits_type(branch, value) for branch in schema["anyOf"])
    if values := _values(schema):
        return any(type(one) is type(value) for one in values)
    kind = schema.get("type")
    if kind is None:
        return True
    if isinstance(value, bool):
        return bool(kind == "boolean")
    if kind == "number":
        return isinstance(value, int) or (isinstance(value, float) and isfinite(value))
    return isinstance(value, _TYPES[kind])


def _values(schema: Schema) -> Sequence[Any]:
    if "enum" in schema:
        values: Sequence[Any] = schema["enum"]
        return values
    if "const" in schema:
        return (schema["const"],)
    return (True, False) if schema.get("type") == "boolean" else ()


def _is_among(value: Any, schema: Schema) -> bool:
    # In Python True == 1; in JSON it is not.
    values = _values(schema)
    return not values or any(type(known) is type(value) and known == value for known in values)


def _is_within(value: Any, schema: Schema) -> bool:
    if isinstance(value, list):
        return bool(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    above = schema.get("exclusiveMinimum")
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value)) and (
        above is None or value > above
    )
