"""The studio's form, made from the catalogue: its fields, and the request that the filled form means. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import InvalidRequest, Malformed, Problem
from service.runway import catalogue
from service.runway.catalogue import paths, walk
from service.runway.catalogue.rules import GIVEN
from service.runway.messages import as_text
from service.settings import Settings
from service.web import bodies

Schema = Mapping[str, Any]
PREFIX = "f."  # of the names of the catalogue's fields
LABELS = {
    "promptText": "Prompt", "promptImage": "Image", "ratio": "Ratio", "duration": "Seconds", "seed": "Seed",
    "contentModeration": "Moderation", "publicFigureThreshold": "Public figures", "outputFormat": "Format",
    "proresProfile": "ProRes profile",
}  # fmt: skip
# A picture of one point: what stands for a chosen file while a form is only checked and priced.
STANDS_FOR_A_FILE = "data:image/png;base64,iVBORw0KGgo="


@dataclass(frozen=True)
class Part:
    """One field as the template shows it. `kind`: how it is filled in."""

    name: str
    label: str
    kind: str
    required: bool
    hint: str
    value: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    parts: tuple[Part, ...] = ()


def kinds() -> list[tuple[str, str]]:
    """Every (operation, model) that can be had without saying what it may cost."""
    return [
        (model.operation, model.name) for model in catalogue.pairs() if model.price is not None and _has_one_form(model)
    ]


def _has_one_form(model: catalogue.Model) -> bool:
    return sum(one.name == model.name for one in catalogue.pairs() if one.operation == model.operation) == 1


def chosen(what: str, settings: Settings) -> tuple[str, str]:
    """The operation and model of `what`, else those of the settings, else the first."""
    found = kinds()
    wanted = [tuple(what.split(" ", 1)), ("image_to_video", settings.image_model)]
    return next((one for one in found if one in wanted[:1]), next((one for one in found if one in wanted), found[0]))


def parts(operation: str, model: str, values: Mapping[str, Any], settings: Settings) -> list[Part]:
    """The fields of one model, with the values that they have, or would be given."""
    wishes = {"ratio": settings.default_ratio, "duration": settings.default_duration}
    fields = _fields(operation, model)
    required = catalogue.json_schema(operation, model)["required"]
    given = {
        name: wishes[name]
        if name in wishes and "default" in field and not any(walk.check(field, wishes[name], name))
        else field.get("default")
        for name, field in fields.items()
    }
    return [
        _part(
            PREFIX, name, field, {**given, **values}.get(name), is_required=name in required,
            only_with=_only_with(operation, model, name),
        )
        for name, field in fields.items()
    ]  # fmt: skip


def _only_with(operation: str, model: str, name: str) -> str:
    """What a field goes only with, as the rules have it."""
    found = catalogue.current().model(operation, model)
    return "; ".join(
        f"only with {other} {' or '.join(map(as_text, values))}"
        for rule in (found.rules if found else ())
        if rule.get("when", {}).get(name) == GIVEN
        for other, values in rule.get("only", {}).items()
    )


def _fields(operation: str, model: str) -> Mapping[str, Schema]:
    found = catalogue.current().model(operation, model)
    return found.fields if found else {}


def _part(prefix: str, name: str, field: Schema, value: Any, *, is_required: bool, only_with: str = "") -> Part:
    kind = _kind(field)
    inner: tuple[Part, ...] = ()
    if kind == "object":
        given = value if isinstance(value, dict) else {}
        needed = field.get("required", ())
        inner = tuple(
            _part(f"{prefix}{name}.", key, one, given.get(key), is_required=key in needed)
            for key, one in field["properties"].items()
        )
    least = field.get("minLength" if kind == "text" else "minimum")
    most = field.get("maxLength" if kind == "text" else "maximum")
    hint = "" if most is None else f"{least or 0:,} to {most:,}" + (" characters" if kind == "text" else "")
    hint = "; ".join(filter(None, [hint, only_with]))
    if kind == "json":
        hint = f"as JSON: {walk.wanted(field)}"
        shown = "" if value is None else json.dumps(value)
    else:
        shown = "" if value is None or isinstance(value, dict | list) else as_text(value)
    choices = tuple(map(as_text, paths.values_of(field))) if kind == "choice" else ()
    return Part(f"{prefix}{name}", LABELS.get(name, name), kind, is_required, hint, shown, choices, least, most, inner)


def _kind(field: Schema) -> str:
    """How a field is filled in: as an image, an object of its own fields, a choice, a number, a text, or as JSON."""
    branches = field.get("anyOf", [field])
    if any(branch.get("format") == "image-uri" for branch in branches):
        return "image"
    if "properties" in field:
        return "object"
    if all("enum" in branch or "const" in branch or branch.get("type") == "boolean" for branch in branches):
        return "choice"
    kind = field.get("type")
    return {"integer": "integer", "number": "number", "string": "text"}.get(str(kind), "json")


def body(form: Mapping[str, str], image: str) -> dict[str, Any]:
    """What POST /videos would be sent for this form. `image`: the URI of the image, if any. Raises InvalidRequest."""
    operation, _, model = form.get("what", "").partition(" ")
    fields = _fields(operation, model)
    if not fields:
        raise InvalidRequest([Problem("/operation", "choose a model")])
    given = dict(_values(PREFIX, fields, form, image))
    found: dict[str, Any] = {"operation": operation, "input": {"model": model} | given}
    if user_id := form.get("user_id", "").strip():
        found["user_id"] = user_id
    if priority := form.get("priority", "").strip():
        found["priority"] = _number(priority)
    if text := form.get("metadata", "").strip():
        try:
            found["metadata"] = bodies.parse(text.encode())
        except Malformed as exc:
            raise InvalidRequest([Problem("/metadata", exc.detail.removeprefix("the body "))]) from exc
    return found


def _values(
    prefix: str, fields: Mapping[str, Schema], form: Mapping[str, str], image: str
) -> Iterator[tuple[str, Any]]:
    for name, field in fields.items():
        text, kind = form.get(f"{prefix}{name}", ""), _kind(field)
        if kind == "object":
            if inner := dict(_values(f"{prefix}{name}.", field["properties"], form, image)):
                yield name, inner
        elif kind == "image":
            if uri := image or text.strip():
                yield name, uri
        elif kind == "text":
            if text.strip():
                yield name, text.replace("\r\n", "\n")  # as browsers send a text's lines
        elif text.strip():
            yield name, _typed(field, kind, text.strip())


def _typed(field: Schema, kind: str, text: str) -> Any:
    if kind == "choice":
        return next((value for value in paths.values_of(field) if as_text(value) == text), text)
    return _json(text) if kind == "json" else _number(text)


def _json(text: str) -> Any:
    """What a text says in JSON; what is none is left to the check, which says so."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _number(text: str) -> float | str:
    """A number; what is none is left to the check, which says so."""
    try:
        number = float(text) if text.isascii() and len(text) < 20 else text
    except ValueError:
        return text
    return int(number) if isinstance(number, float) and number.is_integer() else number
