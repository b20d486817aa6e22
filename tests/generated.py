"""Bodies made from a schema of the catalogue: half of them valid, the others wrong in one or two places.

A seed makes the same bodies every time. Lists are short, and optional fields are left out at random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence
from copy import deepcopy
from random import Random
from typing import Any

Schema = Mapping[str, Any]
PNG = "iVBORw0KGgo="
URIS = {
    "image-uri": ("https://example.com/boat.png", "runway://0123456789", f"data:image/png;base64,{PNG}"),
    "video-uri": ("https://example.com/boat.mp4", "runway://0123456789", f"data:video/mp4;base64,{PNG}"),
    "audio-uri": ("https://example.com/boat.mp3", "runway://0123456789", f"data:audio/mpeg;base64,{PNG}"),
}
WRONG_URIS = (
    "boat.png", "http://example.com/boat.png", "runway://a", "https://a.b", "data:text/plain;base64,aaaa",
    "https://example.com/" + "a" * 2_048,
)  # fmt: skip
SHIP = "\N{SPEEDBOAT}"  # one code point, two UTF-16 code units
STRANGE: tuple[Any, ...] = (None, True, False, 0, -1, 1, 5.0, 2.5, 10**10, "", "boat", SHIP, [], {}, [None], {"a": 1})
LONGEST_TEXT = 40_000

Place = tuple[MutableMapping[str, Any] | MutableSequence[Any], Any, Schema]  # a container, a key in it, its schema


def bodies(schema: Schema, random: Random, count: int) -> Iterator[dict[str, Any]]:
    """So many bodies."""
    for _ in range(count):
        body = valid(schema, random)
        if random.random() < 0.5:
            for _ in range(random.randint(1, 2)):
                spoil(body, schema, random)
        yield body


def valid(schema: Schema, random: Random) -> Any:
    """A value that the schema takes; rules between fields aside."""
    if "anyOf" in schema:
        return valid(random.choice(schema["anyOf"]), random)
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return random.choice(values)
    match schema.get("type"):
        case "object":
            return _object(schema, random)
        case "array":
            least = schema.get("minItems", 0)
            count = random.randint(least, min(schema.get("maxItems", least + 2), least + 2))
            return [valid(schema.get("items", {}), random) for _ in range(count)]
        case "string":
            return _text(schema, random)
        case "integer":
            return random.randint(*_ends(schema))
        case "number":
            low, high = _ends(schema)
            return random.choice((low, high, float(low), (low + high) / 2))
        case "boolean":
            return random.random() < 0.5
        case _:
            return random.choice(("boat", 1, True))


def _object(schema: Schema, random: Random) -> dict[str, Any]:
    others = schema.get("additionalProperties")
    if isinstance(others, Mapping):
        return {name: valid(others, random) for name in random.sample(("a", "b", "c"), random.randint(0, 2))}
    required = schema.get("required", ())
    return {
        name: valid(field, random)
        for name, field in schema.get("properties", {}).items()
        if name in required or random.random() < 0.4
    }


def _ends(schema: Schema) -> tuple[int, int]:
    low = int(schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1))
    if low < schema.get("minimum", low):
        low += 1
    return low, int(schema.get("maximum", low + 10))


def _text(schema: Schema, random: Random) -> str:
    if "format" in schema:
        uris = URIS[schema["format"]]
        return random.choice(uris)
    low: int = schema.get("minLength", 0)
    high: int = min(schema.get("maxLength", LONGEST_TEXT), LONGEST_TEXT)
    if "pattern" in schema:
        return "a" * random.choice((low, high))
    length = random.choice((low, high, random.randint(low, min(high, low + 50))))
    ships = random.choice((0, 0, length // 2))
    return SHIP * ships + "b" * (length - 2 * ships)


def spoil(body: dict[str, Any], schema: Schema, random: Random) -> None:
    """Make one thing wrong in this body, or at least strange."""
    if places := [*_places(body, schema)]:
        random.choice(SPOILERS)(*random.choice(places), random)


def _places(value: Any, schema: Schema) -> Iterator[Place]:
    """Every value in a body, with the schema that it may have been made from."""
    if "anyOf" in schema:
        for branch in schema["anyOf"]:
            yield from _places(value, branch)
    elif isinstance(value, dict):
        fields, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name in value:
            inner = fields.get(name) or (others if isinstance(others, Mapping) else {})
            yield value, name, inner
            yield from _places(value[name], inner)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield value, number, schema.get("items", {})
            yield from _places(item, schema.get("items", {}))


def _remove(container: Any, key: Any, schema: Schema, random: Random) -> None:
    del container[key]


def _add(container: Any, key: Any, schema: Schema, random: Random) -> None:
    if isinstance(container, dict):
        container[random.choice(("callback_url", "prompttext", "seed", "audio"))] = deepcopy(random.choice(STRANGE))
    else:
        container.extend([container[key]] * random.choice((1, 3, 30)))


def _replace(container: Any, key: Any, schema: Schema, random: Random) -> None:
    container[key] = deepcopy(random.choice(STRANGE))


def _exceed(container: Any, key: Any, schema: Schema, random: Random) -> None:
    """A value of the right type and just beyond a limit, or a float that is whole."""
    value = container[key]
    ends = [schema[name] + step for name, step in (("minimum", -1), ("maximum", 1)) if name in schema]
    if "format" in schema or ("anyOf" in schema and isinstance(value, str)):
        container[key] = random.choice(WRONG_URIS)
    elif isinstance(value, bool | dict | list):
        container[key] = [value]
    elif isinstance(value, int | float):
        container[key] = random.choice([*ends, float(value), -value])
    elif isinstance(value, str):
        most = min(schema.get("maxLength", LONGEST_TEXT), LONGEST_TEXT)
        beyond = "b" * (most + 1), "b" * (schema.get("minLength", 1) - 1), SHIP * (most // 2 + 1)
        container[key] = random.choice((f"{value}.",) if "enum" in schema else beyond)


SPOILERS: tuple[Callable[[Any, Any, Schema, Random], None], ...] = (_remove, _add, _replace, _exceed)
