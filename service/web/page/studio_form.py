"""The studio's form, made from the catalogue: its fields, and the request that the filled form means. Pure.

A field is drawn by its schema. Of a choice between objects, the form has the fields of all of them; a file or a list
of files is asked for as one file; of a list, the form has a few rows, and those left empty are not sent. What cannot
be drawn is asked for as JSON, and the whole body may be given so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
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
FILE, HAS_FILE = "file.", "has."  # before such a name: the file that was chosen, and that one was chosen
ROWS, MOST_ROWS = 3, 50  # of a list: drawn while there is nothing in it, and read
LABELS = {
    "promptText": "Prompt", "promptImage": "Image", "duration": "Seconds", "contentModeration": "Moderation",
    "publicFigureThreshold": "Public figures", "outputFormat": "Format", "proresProfile": "ProRes profile",
    "uri": "Address", "max_credits": "Most credits",
}  # fmt: skip
# The smallest files: what stands for a chosen one while a form is only checked and priced.
STAND_INS = {
    "image": "data:image/png;base64,iVBORw0KGgo=",
    "video": "data:video/mp4;base64,AAAA",
    "audio": "data:audio/mpeg;base64,AAAA",
}
GROUPS = {"video": "Video", "image": "Image", "audio": "Audio"}
OTHER = "Other"


@dataclass(frozen=True)
class Part:
    """One field as the template shows it. `kind`: how it is filled in. `media`: the kinds of file that it takes."""

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
    media: tuple[str, ...] = ()
    keeps_file: bool = False


def kinds() -> dict[str, list[tuple[str, str]]]:
    """Every (operation, model) by what comes out: as `Video: image to video`, or `Video` where no model is named."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for model in catalogue.pairs():
        output = GROUPS.get(model.output.partition("/")[0], OTHER)
        group = found.setdefault((output, "" if model.name == model.operation else model.operation), [])
        if (model.operation, model.name) not in group:
            group.append((model.operation, model.name))
    order = [*GROUPS.values(), OTHER]
    keys = sorted(found, key=lambda key: order.index(key[0]))
    return {": ".join(filter(None, key)).replace("_", " "): found[key] for key in keys}


def chosen(what: str, settings: Settings) -> tuple[str, str]:
    """The operation and model of `what`, else those of the settings, else the first."""
    found = [pair for group in kinds().values() for pair in group]
    operation, _, model = what.partition(" ")
    known = catalogue.current().operation(operation)
    wanted = [(known.name if known else operation, model), ("image_to_video", settings.image_model)]
    return next((one for one in wanted if one in found), found[0])


def needs_id(operation: str) -> bool:
    """Whether the operation's name is followed by an id, as of a workflow."""
    found = catalogue.current().operation(operation)
    return found is not None and found.needs_id


def needs_bound(operation: str, model: str) -> bool:
    """Whether the price is not known, so that the form asks for the most that the video may cost."""
    return any(one.price is None for one in _entries(operation, model))


def parts(operation: str, model: str, values: Mapping[str, Any], settings: Settings) -> list[Part]:
    """The fields of one model, with the values that they have, or would be given."""
    wishes = {"ratio": settings.default_ratio, "duration": settings.default_duration}
    schema = _schema(operation, model)
    given = {
        name: wishes[name]
        if name in wishes and "default" in field and not any(walk.check(field, wishes[name], name))
        else field.get("default")
        for name, field in schema["properties"].items()
    }
    return [
        _part(
            f"{PREFIX}{name}", label(name), field, {**given, **values}.get(name),
            is_required=name in schema["required"], only_with=_only_with(operation, model, name),
        )
        for name, field in _drawn(schema)
    ]  # fmt: skip


def label(name: str) -> str:
    """The name of a field in words."""
    return LABELS.get(name) or re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def title(problem: Problem) -> Problem:
    """The problem with the label of its field in place of its pointer."""
    head, *names = problem.pointer.split("/")[1:] or [""]
    if head != "input" or not names:
        return Problem(LABELS.get(head, head or "The request"), problem.detail)
    words = [str(int(name) + 1) if name.isdecimal() else label(name) for name in names]
    return Problem(" ".join(words), problem.detail)


def _entries(operation: str, model: str) -> list[catalogue.Model]:
    known = catalogue.current().operation(operation)
    return [one for one in known.entries.values() if one.name == model] if known else []


def _schema(operation: str, model: str) -> Schema:
    """The fields of a model; of one that takes several forms of body, those of all."""
    return _merged([one.schema for one in _entries(operation, model)])


def _merged(schemas: Iterable[Schema]) -> Schema:
    """One object with the properties of all of these, each as in any of them; what all require is required."""
    schemas = list(schemas)
    found: dict[str, list[Schema]] = {}
    for schema in schemas:
        for name, field in schema["properties"].items():
            if field not in found.setdefault(name, []):
                found[name].append(field)
    required = [name for name in found if all(name in schema.get("required", ()) for schema in schemas)]
    fields = {name: some[0] if len(some) == 1 else {"anyOf": some} for name, some in found.items()}
    return {"type": "object", "properties": fields, "required": required}


def _drawn(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The fields of an object that people fill in."""
    fixed = _fixed(schema)
    return ((name, field) for name, field in schema["properties"].items() if name not in fixed)


def _fixed(schema: Schema) -> dict[str, Any]:
    """The fields of an object that can have one value only."""
    needed = schema.get("required", ())
    return {name: field["const"] for name, field in schema["properties"].items() if name in needed and "const" in field}


def _branches(field: Schema) -> list[Schema]:
    return list(field.get("anyOf", [field]))


def _media(field: Schema) -> tuple[str, ...]:
    return tuple(one["format"].removesuffix("-uri") for one in _branches(field) if "format" in one)


def _kind(field: Schema) -> str:
    """How a field is filled in: a file, an object, rows, a choice, a number, a text, or JSON."""
    branches = _branches(field)
    if _media(field):
        return "media"
    if all("properties" in branch for branch in branches):
        return "object"
    if all("enum" in branch or "const" in branch or branch.get("type") == "boolean" for branch in branches):
        return "choice"
    if len(branches) > 1:
        return "either" if all(branch.get("type") not in ("array", "object") for branch in branches) else "json"
    kind = str(field.get("type"))
    if kind == "array":
        return "json" if _kind(field.get("items", {})) in ("json", "list") else "list"
    return {"integer": "integer", "number": "number", "string": "text"}.get(kind, "json")


def _only_with(operation: str, model: str, name: str) -> str:
    """What a field goes only with, as the rules have it."""
    return "; ".join(
        f"only with {other} {' or '.join(map(as_text, values))}"
        for entry in _entries(operation, model)
        for rule in entry.rules
        if rule.get("when", {}).get(name) == GIVEN
        for other, values in rule.get("only", {}).items()
    )


def _part(name: str, title: str, field: Schema, value: Any, *, is_required: bool, only_with: str = "") -> Part:
    kind = _kind(field)
    least, most = _ends(field, kind)
    choices = tuple(dict.fromkeys(map(as_text, paths.values_of(field)))) if kind == "choice" else ()
    return Part(
        name, title, kind, is_required, "; ".join(filter(None, [_hint(field, kind), only_with])), _shown(kind, value),
        choices, least, most, tuple(_inner(name, field, kind, value)), _media(field),
        keeps_file=_holds_file(value),
    )  # fmt: skip


def _inner(name: str, field: Schema, kind: str, value: Any) -> Iterator[Part]:
    """The fields of an object, and the rows of a list."""
    if kind == "object":
        schema = _merged(_branches(field))
        given: Mapping[str, Any] = value if isinstance(value, dict) else {}
        for key, one in _drawn(schema):
            is_required = key in schema["required"]
            yield _part(f"{name}.{key}", label(key), one, given.get(key), is_required=is_required)
    elif kind == "list":
        rows = value if isinstance(value, list) else []
        least, most = field.get("minItems", 0), field.get("maxItems", ROWS)
        for number in range(max(least, min(ROWS, most), len(rows))):
            row = rows[number] if number < len(rows) else None
            yield _part(f"{name}.{number}", str(number + 1), field["items"], row, is_required=number < least)


def _ends(field: Schema, kind: str) -> tuple[float | None, float | None]:
    if kind == "text":
        return field.get("minLength"), field.get("maxLength")
    return field.get("minimum"), field.get("maximum")


def _hint(field: Schema, kind: str) -> str:
    if kind in ("json", "either"):
        return f"{'as JSON: ' if kind == 'json' else ''}{walk.wanted(field)}"
    least, most = _ends(field, kind)
    return "" if most is None else f"{least or 0:,} to {most:,}" + (" characters" if kind == "text" else "")


def _shown(kind: str, value: Any) -> str:
    """A value as its field shows it. A file that is in the body is kept, but not shown."""
    if value is None or kind in ("object", "list") or (kind == "media" and _holds_file(value)):
        return ""
    return json.dumps(value) if kind == "json" or isinstance(value, dict | list) else as_text(value)


def _holds_file(value: Any) -> bool:
    """Whether a value has the bytes of a file in it: a data URI, or a list with one."""
    return isinstance(value, str | list) and '"data:' in json.dumps(value)


@dataclass(frozen=True)
class Filled:
    """A form as it came. `kept`: the body that it began from, for its files; `is_check`: only checked and priced."""

    form: Mapping[str, str]
    kept: Mapping[str, Any]
    is_check: bool = False

    def text(self, name: str) -> str:
        """What was typed, with the lines of a text as they were, and not as browsers send them."""
        return self.form.get(name, "").replace("\r\n", "\n")

    def file(self, name: str, media: tuple[str, ...]) -> Any:
        """What a field for a file means: the one that was chosen, the address, or what was kept; None if nothing."""
        has_file = self.form.get(HAS_FILE + name, "")
        if self.is_check and has_file:
            return STAND_INS[next((kind for kind in media if has_file.startswith(f"data:{kind}/")), media[0])]
        text = self.text(name).strip()
        given = self.form.get(FILE + name) or (_json(text) if text.startswith("[") else text)
        return given or self._kept_file(name)

    def _kept_file(self, name: str) -> Any:
        found: Any = self.kept
        for key in name.removeprefix(PREFIX).split("."):
            if isinstance(found, list):
                found = found[int(key)] if key.isdecimal() and int(key) < len(found) else None
            else:
                found = found.get(key) if isinstance(found, Mapping) else None
        return found if _holds_file(found) else None


def body(filled: Filled) -> dict[str, Any]:
    """What POST /videos would be sent for this form. Raises InvalidRequest."""
    form = filled.form
    operation, _, model = form.get("what", "").partition(" ")
    if not _entries(operation, model):
        raise InvalidRequest([Problem("/operation", "choose a model")])
    named = {} if model == operation else {"model": model}
    whole = _parsed(form, "body")
    found: dict[str, Any] = {
        "operation": f"{operation}/{form.get('id', '').strip()}" if needs_id(operation) else operation,
        "input": named | (input_of(operation, model, filled) if whole is None else whole),
    }
    if user_id := form.get("user_id", "").strip():
        found["user_id"] = user_id
    for name in ("priority", "max_credits"):
        if text := form.get(name, "").strip():
            found[name] = _number(text)
    if (metadata := _parsed(form, "metadata")) is not None:
        found["metadata"] = metadata
    return found


def input_of(operation: str, model: str, filled: Filled) -> dict[str, Any]:
    """The body that the form's fields make, `model` aside."""
    schema = _schema(operation, model)
    return _fixed(schema) | dict(_values(PREFIX, schema, filled))


def _parsed(form: Mapping[str, str], name: str) -> dict[str, Any] | None:
    """The JSON object in a field; None if it is empty. Raises InvalidRequest."""
    text = form.get(name, "").strip()
    try:
        return bodies.parse(text.encode()) if text else None
    except Malformed as exc:
        raise InvalidRequest([Problem(f"/{name}", exc.detail.removeprefix("the body "))]) from exc


def _values(prefix: str, schema: Schema, filled: Filled) -> Iterator[tuple[str, Any]]:
    for name, field in _drawn(schema):
        if (value := _value(f"{prefix}{name}", field, filled)) is not None:
            yield name, value


def _value(name: str, field: Schema, filled: Filled) -> Any:
    """What was filled in for a field; None if nothing."""
    kind, text = _kind(field), filled.text(name)
    if kind == "object":
        schema = _merged(_branches(field))
        inner = dict(_values(f"{name}.", schema, filled))
        return _fixed(schema) | inner if inner else None
    if kind == "list":
        most = min(MOST_ROWS, field.get("maxItems", MOST_ROWS))
        rows = [_value(f"{name}.{number}", field["items"], filled) for number in range(most)]
        return [row for row in rows if row is not None] or None
    if kind == "media":
        return filled.file(name, _media(field))
    if not text.strip():
        return None
    return text if kind == "text" else _typed(field, kind, text.strip())


def _typed(field: Schema, kind: str, text: str) -> Any:
    if kind in ("choice", "either"):
        named = next((value for value in paths.values_of(field) if as_text(value) == text), None)
        is_number = kind == "either" and any(one.get("type") in ("integer", "number") for one in _branches(field))
        return named if named is not None else _number(text) if is_number else text
    return _json(text) if kind == "json" else _number(text)


def _json(text: str) -> Any:
    """What a text says in JSON, within the bounds of a body; what is none is left to the check, which says so."""
    try:
        return bodies.parse(b'{"value": %s}' % text.encode())["value"]
    except Malformed:
        return text


def _number(text: str) -> float | str:
    """A number; what is none is left to the check, which says so."""
    try:
        number = float(text) if text.isascii() and len(text) < 20 else text
    except ValueError:
        return text
    return int(number) if isinstance(number, float) and number.is_integer() else number
