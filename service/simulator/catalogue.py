"""What Runway accepts, read from its SDK's own types.

types.json is generated from the SDK (`python -m tests.runway_types` says how a type is written); limits.json has the
numbers of its sentences and of its OpenAPI document of August 2026, by operation, model and path: the least, the most,
and for a text the pattern. Both are kept apart from the service's own catalogue on purpose: a mistake in one is found
by the other. Rules between fields are left out, and unknown keys are refused everywhere, although some of Runway's
models ignore them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from service.simulator.assets import MEDIA_TYPES
from service.simulator.rules import (
    Branch,
    Check,
    Field,
    Issue,
    Limits,
    Path,
    anything,
    asset,
    boolean,
    choice,
    items,
    not_an_option,
    number,
    record,
    strict,
    text,
    type_name,
    union,
    wrong_type,
)

Type = Any
ANY_MODEL = "*"  # the one body of an operation whose bodies name no model
# What stands behind the operations that name no model: a router chooses one, a workflow here has one node.
ROUTED = {
    "generate/audio": "eleven_multilingual_v2",
    "generate/image": "gen4_image",
    "generate/video": "gen4.5",
    "workflows": "gen4.5",
}
ORIGINS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean"}


class Medium(NamedTuple):
    """A file that a body refers to. `kind` is image, video or audio."""

    path: Path
    kind: str
    uri: str


def _read(name: str) -> Any:
    return json.loads((resources.files(__package__) / name).read_text(encoding="utf-8"))


TYPES: dict[str, dict[str, Type]] = _read("types.json")
LIMITS: dict[str, dict[str, dict[str, list[Any]]]] = _read("limits.json")


def models() -> tuple[str, ...]:
    """The names under which Runway counts tasks, in alphabetical order."""
    return tuple(sorted({model_of(operation, name) for operation, by_name in TYPES.items() for name in by_name}))


def model_of(operation: str, name: str) -> str:
    """The name under which Runway counts a task of this body: that of the recipe, where it names no model."""
    if "model" in TYPES[operation][name].get("required", {}):
        return name
    return ROUTED.get(operation) or operation.removeprefix("recipes/")


def body_name(operation: str, body: Mapping[str, Any]) -> str:
    """The name of the body, among those that the operation takes."""
    return ANY_MODEL if ANY_MODEL in TYPES[operation] else str(body[_tag(operation)])


def validate(operation: str, body: object) -> list[Issue]:
    """Everything wrong with a body, in zod's words; empty when Runway would take it."""
    if not isinstance(body, dict):
        return [wrong_type("object", body, ())]
    if ANY_MODEL in TYPES[operation]:
        return list(_check_of(operation, ANY_MODEL)(body, ()))
    tag = _tag(operation)
    name, allowed = body.get(tag), tuple(TYPES[operation])
    if not isinstance(name, str):
        wanted = strict({tag: Field(text(Limits()), True)})
        return [*wanted({tag: name} if tag in body else {}, ()), _no_such_body(tag)]
    if name not in allowed:
        return [not_an_option(allowed, (tag,))]
    return list(_check_of(operation, name)(body, ()))


def media(operation: str, body: Mapping[str, Any]) -> list[Medium]:
    """The files that a valid body refers to."""
    return list(_media(TYPES[operation][body_name(operation, body)], body, ()))


def _tag(operation: str) -> str:
    first = next(iter(TYPES[operation].values()))
    return "model" if "model" in first["required"] else "mode"


def _no_such_body(tag: str) -> Issue:
    head: Issue = {"code": "invalid_union", "errors": [], "note": "No matching discriminator"}
    return {**head, "discriminator": tag, "path": [tag], "message": "Invalid input"}


@cache
def _check_of(operation: str, name: str) -> Check:
    return _check(TYPES[operation][name], LIMITS.get(operation, {}).get(name, {}), "")


def _check(kind: Type, limits: Mapping[str, list[Any]], path: str) -> Check:
    """The check of one type; `path` is where limits.json has its numbers."""
    own = Limits(*limits.get(path, ()))
    if isinstance(kind, list):
        return choice(*kind)
    if isinstance(kind, str):
        return asset(kind) if kind in MEDIA_TYPES else _scalar(kind, own)
    if "list" in kind:
        return items(_check(kind["list"], limits, f"{path}[]"), own)
    if "map" in kind:
        return record(_check(kind["map"], limits, f"{path}{{}}"))
    if "any" in kind:
        return union([Branch(_origins(branch), _check(branch, limits, path)) for branch in kind["any"]])
    return strict(
        {
            name: Field(_check(inner, limits, f"{path}.{name}" if path else name), part == "required")
            for part in ("required", "optional")
            for name, inner in kind.get(part, {}).items()
        }
    )


def _scalar(kind: str, limits: Limits) -> Check:
    match kind:
        case "string":
            return text(limits)
        case "integer" | "number":
            return number(limits, whole=kind == "integer")
        case "boolean":
            return boolean
        case _:
            return anything


def _origins(kind: Type) -> frozenset[str]:
    """The JSON types of what a branch of a union can accept."""
    if isinstance(kind, list):
        return frozenset(type_name(value) for value in kind)
    if isinstance(kind, str):
        return frozenset({ORIGINS.get(kind, "string")})
    return frozenset({"array" if "list" in kind else "object"})


def _media(kind: Type, value: Any, path: Path) -> Iterator[Medium]:
    if isinstance(kind, str):
        if kind in MEDIA_TYPES:
            yield Medium(path, kind, value)
    elif isinstance(kind, list):
        return
    elif "list" in kind:
        for index, item in enumerate(value):
            yield from _media(kind["list"], item, (*path, index))
    elif "any" in kind:
        branch = next(one for one in kind["any"] if not any(_check(one, {}, "")(value, ())))
        yield from _media(branch, value, path)
    else:
        fields = {**kind.get("required", {}), **kind.get("optional", {})}
        for name, inner in value.items():
            yield from _media(kind["map"] if "map" in kind else fields[name], inner, (*path, name))
