"""The studio's form, made from the catalogue: its fields, and the request that the filled form means. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import InvalidRequest, Malformed, Problem
from service.runway import catalogue
from service.runway.fields import Choice, Field, Frames, ImageUri, Integer, Object, Text
from service.runway.messages import as_text
from service.settings import Settings
from service.web import bodies

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
    """One field as the template shows it. `kind` is the catalogue's."""

    name: str
    label: str
    kind: str
    required: bool
    hint: str
    value: str
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    parts: tuple[Part, ...] = ()


def kinds() -> list[tuple[str, str]]:
    """Every (operation, model) that can be had."""
    return [
        (operation, model)
        for operation in catalogue.operations()
        for model in catalogue.models(operation)
        if catalogue.PACKAGED[operation][model].price is not None
    ]


def chosen(what: str, settings: Settings) -> tuple[str, str]:
    """The operation and model of `what`, else those of the settings, else the first."""
    found = kinds()
    wanted = [tuple(what.split(" ", 1)), ("image_to_video", settings.image_model)]
    return next((one for one in found if one in wanted[:1]), next((one for one in found if one in wanted), found[0]))


def parts(operation: str, model: str, values: Mapping[str, Any], settings: Settings) -> list[Part]:
    """The fields of one model, with the values that they have, or would be given."""
    wishes = {"ratio": settings.default_ratio, "duration": settings.default_duration}
    fields = catalogue.PACKAGED[operation][model].fields
    given = {
        name: wishes[name] if name in wishes and not any(field.check(wishes[name], name)) else field.default
        for name, field in fields.items()
    }
    return [_part(PREFIX, name, field, {**given, **values}.get(name)) for name, field in fields.items()]


def _part(prefix: str, name: str, field: Field, value: Any) -> Part:
    inner: tuple[Part, ...] = ()
    choices: tuple[str, ...] = ()
    least = most = None
    if isinstance(field, Object):
        given = value if isinstance(value, dict) else {}
        inner = tuple(_part(f"{prefix}{name}.", key, one, given.get(key)) for key, one in field.fields.items())
    if isinstance(field, Choice):
        choices = tuple(map(as_text, field.values))
    if isinstance(field, Text | Integer):
        least, most = field.min, field.max
    only = [f"only with {other} {' or '.join(rules)}" for other, rules in field.only_with.items()]
    bounds = [f"{least:,} to {most:,}" + (" characters" if isinstance(field, Text) else "")] if most is not None else []
    shown = (
        value if isinstance(value, str) else "" if value is None or isinstance(value, dict | list) else as_text(value)
    )
    return Part(
        f"{prefix}{name}", LABELS.get(name, name), _kind(field), field.required, "; ".join(bounds + only), shown,
        choices, least, most, inner,
    )  # fmt: skip


def _kind(field: Field) -> str:
    kind: str = field.kind  # type: ignore[attr-defined]  # each class of the union has it, and their base has not
    return kind


def body(form: Mapping[str, str], image: str) -> dict[str, Any]:
    """What POST /videos would be sent for this form. `image`: the URI of the image, if any. Raises InvalidRequest."""
    operation, _, model = form.get("what", "").partition(" ")
    fields = catalogue.PACKAGED.get(operation, {}).get(model)
    if fields is None:
        raise InvalidRequest([Problem("/operation", "choose a model")])
    given = dict(_values(PREFIX, fields.fields, form, image))
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


def _values(prefix: str, fields: Mapping[str, Field], form: Mapping[str, str], image: str) -> Iterator[tuple[str, Any]]:
    for name, field in fields.items():
        text = form.get(f"{prefix}{name}", "")
        if isinstance(field, Object):
            if inner := dict(_values(f"{prefix}{name}.", field.fields, form, image)):
                yield name, inner
        elif isinstance(field, Frames | ImageUri):
            if uri := image or text.strip():
                yield name, uri
        elif isinstance(field, Text):
            if text.strip():
                yield name, text.replace("\r\n", "\n")  # as browsers send a text's lines
        elif text.strip():
            yield name, _choice(field, text.strip())


def _choice(field: Field, text: str) -> Any:
    if isinstance(field, Choice):
        return next((value for value in field.values if as_text(value) == text), text)
    return _number(text)


def _number(text: str) -> int | str:
    """A whole number; what is none is left to the check, which says so."""
    try:
        return int(text) if text.isascii() and len(text) < 20 else text
    except ValueError:
        return text
