"""What differs between the catalogue and Runway's SDK, in lines that a person can read.

Both are flattened to what stands at each path of a body: `promptImage[].position` is "first, last" or "required". A
sentence of the SDK is compared by its hash, for limits and prices stand in sentences alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from service.runway import catalogue
from service.runway.catalogue import Model
from tests.runway_types import Bodies, hashes

KNOWN = Path(__file__).with_name("drift_known.json")
# Keyword, which end it is, and what makes it inclusive for a whole number.
BOUNDS = (
    ("minimum", 0, 0), ("minLength", 0, 0), ("minItems", 0, 0), ("exclusiveMinimum", 0, 1),
    ("maximum", 1, 0), ("maxLength", 1, 0), ("maxItems", 1, 0),
)  # fmt: skip
JSON_TYPES = {"array": "list"}
TAG = "model"  # the catalogue has it in the name of an entry

Facts = dict[str, set[str]]
Models = Mapping[str, Mapping[str, Mapping[str, Any]]]  # operation, model, schema of the body


def entries() -> list[tuple[str, str, Model]]:
    """Every entry of the catalogue, with its operation and its name there; `*` where the body names none."""
    known = catalogue.current()
    return [
        (operation, name, model)
        for operation in known.operations
        if (found := known.operation(operation))
        for name, model in found.entries.items()
    ]


def schemas() -> Models:
    """What `compare` compares."""
    found: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for operation, name, model in entries():
        found[operation][name] = model.schema | {"required": [*model.schema["required"], *model.filled]}
    return found


@cache
def known_differences() -> dict[str, str]:
    """The differences that are meant, with the reason of each, by operation, model and path."""
    found: dict[str, str] = json.loads(KNOWN.read_text(encoding="utf-8"))
    return found


def compare(models: Models, sdk: Bodies) -> list[str]:
    """The differences, a line each, in the order of operation, model and path."""
    ours = {(operation, name) for operation, by_name in models.items() for name in by_name}
    theirs = {(operation, name) for operation, by_name in sdk.items() for name in by_name}
    lines = [f"{operation} {name}: is new in the SDK" for operation, name in theirs - ours]
    lines += [f"{operation} {name}: is gone from the SDK" for operation, name in ours - theirs]
    for operation, name in ours & theirs:
        catalogue, types = facts_of_schema(models[operation][name]), facts_of_type(sdk[operation][name].type)
        unsaid = tuple(f"{path}." for path, facts in types.items() if "anything" in facts)
        for path in catalogue.keys() | types.keys():
            ours_here, theirs_here = (_said(facts.get(path)) for facts in (catalogue, types))
            if ours_here != theirs_here and path != TAG and not path.startswith(unsaid):
                lines.append(f"{operation} {name} {path}: the catalogue has {ours_here}, the SDK {theirs_here}")
    return sorted(lines)


def changed_sentences(sdk: Bodies, known: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The fields whose sentence is not the one that was read last, a line each."""
    lines = []
    now = hashes(sdk)
    for body, sentences in ((f"{op} {name}", one.sentences) for op, by in sdk.items() for name, one in by.items()):
        lines += [
            f"{body} {path}: says now: {sentence}"
            for path, sentence in sentences.items()
            if known.get(body, {}).get(path) != now[body][path]
        ]
    for body, paths in known.items():
        lines += [f"{body} {path}: says nothing more" for path in paths if path not in now.get(body, {})]
    return sorted(lines)


def unknown(lines: list[str], known: Mapping[str, str]) -> list[str]:
    """The differences that are not listed; and, as a line each, the listed ones that are no more."""
    places = {line.partition(":")[0] for line in lines}
    new = [line for line in lines if line.partition(":")[0] not in known]
    return new + [f"{place}: no longer differs, take it out of {KNOWN.name}" for place in known if place not in places]


def bounds_of_schema(schema: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The least and the most at each path of the catalogue, as the simulator's limits.json has them."""
    found: dict[str, list[Any]] = defaultdict(lambda: [None, None])
    for path, end, value in _bounds(schema, ""):
        found[path][end] = value
    return found


def _bounds(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, int, Any]]:
    for keyword, end, more in BOUNDS:
        if keyword in schema:
            yield path, end, schema[keyword] + more
    for inner, place in _inner(schema, path):
        yield from _bounds(inner, place)


def _inner(schema: Mapping[str, Any], path: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The schemas right within one, with their paths."""
    yield from ((branch, path) for branch in schema.get("anyOf", ()))
    if "items" in schema:
        yield schema["items"], f"{path}[]"
    if isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"], f"{path}{{}}"
    for name, inner in schema.get("properties", {}).items():
        yield inner, f"{path}.{name}" if path else name


def facts_of_type(kind: Any) -> Facts:
    """What the SDK says at each path; the form of a type is described in tests/runway_types.py."""
    facts: Facts = defaultdict(set)
    for path, fact in _of_type(kind, ""):
        facts[path].add(fact)
    return facts


def facts_of_schema(schema: Mapping[str, Any]) -> Facts:
    """What the catalogue says at each path."""
    facts: Facts = defaultdict(set)
    for path, fact in _of_schema(schema, ""):
        facts[path].add(fact)
    return facts


def _of_type(kind: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(kind, str):
        yield path, kind
    elif isinstance(kind, list):
        yield from ((path, json.dumps(value)) for value in kind)
    elif "any" in kind:
        for branch in kind["any"]:
            yield from _of_type(branch, path)
    elif "list" in kind:
        yield path, "list"
        yield from _of_type(kind["list"], f"{path}[]")
    elif "map" in kind:
        yield path, "object"
        yield from _of_type(kind["map"], f"{path}{{}}")
    else:
        yield path, "object"
        for part in ("required", "optional"):
            for name, inner in kind.get(part, {}).items():
                place = f"{path}.{name}" if path else name
                yield place, part
                yield from _of_type(inner, place)


def _of_schema(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name in schema.get("properties", ()):
        yield f"{path}.{name}" if path else name, "required" if name in schema.get("required", ()) else "optional"
    for inner, place in _inner(schema, path):
        yield from _of_schema(inner, place)
    if "anyOf" in schema:
        return
    if "enum" in schema or "const" in schema:
        yield from ((path, json.dumps(value)) for value in schema.get("enum", [schema.get("const")]))
    else:
        kind = schema.get("type", "anything")
        yield path, schema["format"].removesuffix("-uri") if "format" in schema else JSON_TYPES.get(kind, kind)


def _said(facts: set[str] | None) -> str:
    return ", ".join(sorted(facts)) if facts else "nothing"
