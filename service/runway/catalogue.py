"""Runway's models as data: what may be asked of each, checked and priced before anything is queued.

catalogue.toml says it all; a model whose fields are of the known kinds is added there, without code.
Everything here is pure once the file has been read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, model_validator

from service.errors import InvalidRequest, Problem
from service.runway.assets import signature_ends
from service.runway.fields import AnyField, Choice, Frames, ImageUri, check_object, schema_of_object
from service.runway.lenient import FieldWarning, fit
from service.runway.messages import as_text, truncate


@dataclass(frozen=True)
class Request:
    """A request that Runway can take: the complete body of the POST, and the most it can cost in credits.

    `warnings`: what was asked for beside the body, and is not in it.
    """

    operation: str
    model: str
    input: dict[str, Any]
    quoted_credits: Decimal
    warnings: tuple[FieldWarning, ...] = ()


class Price(BaseModel):
    """Credits for each second of `duration`, plus what the values of other fields add to each second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    per_second: Decimal
    extra: dict[str, dict[str, Decimal]] = {}
    minimum: Decimal = Decimal(0)


class Model(BaseModel):
    """One model in one operation. Without a price it is known, and refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fields: dict[str, AnyField]
    price: Price | None = None

    @model_validator(mode="after")
    def _whole(self) -> Model:
        for name, field in self.fields.items():
            if field.default is not None and any(field.check(field.default, name)):
                raise ValueError(f"the default of {name} is not a value that it may have")
            if field.explicit and field.default is None:
                raise ValueError(f"{name} is explicit: it needs a default")
        if self.price is None:
            return self
        if not {"duration"} <= self.fields.keys() or not self.fields["duration"].explicit:
            raise ValueError("a price per second needs an explicit duration")
        for name, extra in self.price.extra.items():
            choice = self.fields.get(name)
            if not isinstance(choice, Choice) or not (choice.required or choice.default is not None):
                raise ValueError(f"{name} sets the price: it must be a choice that always has a value")
            if {as_text(value) for value in choice.values} != extra.keys():
                raise ValueError(f"the price must list every value of {name}")
        return self

    def quote(self, body: Mapping[str, Any]) -> Decimal | None:
        """The most that this valid body can cost, in credits; None without a price."""
        if self.price is None:
            return None
        rate = self.price.per_second
        for name, extra in self.price.extra.items():
            rate += extra[as_text(body.get(name, self.fields[name].default))]
        return max(rate * Decimal(body["duration"]), self.price.minimum)


Catalogue = dict[str, dict[str, Model]]
MP4 = "video/mp4"


def parse(text: str) -> Catalogue:
    """The catalogue written in this TOML, by operation and model. Raises pydantic.ValidationError."""
    data = tomllib.loads(text, parse_float=Decimal)
    shared, prices = data.pop("fields", {}), data.pop("prices", {})
    for models in data.values():
        for model in models.values():
            model["fields"] = {name: _resolved(field, shared) for name, field in model["fields"].items()}
            if "price" in model:
                model["price"] = _resolved(model["price"], prices)
    return TypeAdapter(Catalogue).validate_python(data)


def _resolved(entry: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in entry.items() if key != "is"}
    return {**shared[entry["is"]], **own} if "is" in entry else own


PACKAGED = parse((resources.files(__package__) / "catalogue.toml").read_text(encoding="utf-8"))


def operations(catalogue: Catalogue = PACKAGED) -> tuple[str, ...]:
    """The operations, by Runway's names: the path after /v1/."""
    return tuple(catalogue)


def models(operation: str, catalogue: Catalogue = PACKAGED) -> tuple[str, ...]:
    """The models of one operation. Raises InvalidRequest for an unknown operation."""
    return tuple(_models(operation, catalogue))


def infer_operation(input: Mapping[str, Any], catalogue: Catalogue = PACKAGED) -> str:
    """The operation that this input is for: of those that have its model, the one that needs most of its images."""
    name = input.get("model")
    having = {operation: models for operation, models in catalogue.items() if isinstance(name, str) and name in models}
    needed = {operation: _images_needed(models) for operation, models in (having or catalogue).items()}
    whole = [operation for operation, images in needed.items() if images <= input.keys()]
    return max(whole or needed, key=lambda operation: len(needed[operation]))


def _images_needed(models: Mapping[str, Model]) -> set[str]:
    """The images without which no model of an operation works."""
    each = [
        {name for name, field in model.fields.items() if field.required and isinstance(field, Frames | ImageUri)}
        for model in models.values()
    ]
    return set.intersection(*each)


def media_type(
    operation: str | None, model: str | None, input: Mapping[str, Any], catalogue: Catalogue = PACKAGED
) -> str:
    """What the files of this request are: as its format says, else MP4."""
    known = catalogue.get(operation or "", {}).get(model or "")
    for name, field in known.fields.items() if known else ():
        if isinstance(field, Choice) and field.media_types:
            return field.media_types.get(input.get(name, field.default), MP4)
    return MP4


def json_schema(operation: str, model: str, catalogue: Catalogue = PACKAGED) -> dict[str, Any]:
    """JSON Schema 2020-12 of the input that `build_request` takes. Raises InvalidRequest."""
    schema = schema_of_object(_model(operation, model, catalogue).fields)
    return {**schema, "properties": {"model": {"const": model}, **schema["properties"]}}


def build_request(
    operation: str,
    input: dict[str, Any],
    *,
    default_model: str,
    default_ratio: str,
    default_duration: int,
    lenient: Mapping[str, Any] | None = None,
    sent_at: datetime | None = None,
    catalogue: Catalogue = PACKAGED,
) -> Request:
    """Check, complete and price one request. Raises InvalidRequest with every problem at once.

    `lenient`: fields beside the input, as `lenient.fit` takes them. `sent_at`: the earliest time at which it is sent;
    an image whose signed address has ended by then is refused. A default that the model does not take gives way to the
    model's own; a value of the caller's never does.
    """
    known = _models(operation, catalogue)
    if not isinstance(input, dict):
        raise InvalidRequest([Problem("/input", f"must be an object, as Runway takes it; got {truncate(input)}")])
    name = input.get("model", default_model)
    model = _model(operation, name, catalogue)
    given = {key: value for key, value in input.items() if key != "model"}
    fitted = fit(model.fields, given, lenient or {}, f"{name} in {operation}", default_ratio)
    given |= fitted.fields
    problems = [*fitted.problems, *check_object(model.fields, given, "/input", f"{name} in {operation}")]
    if sent_at is not None and not problems:
        problems += _ended(model, given, sent_at)
    if model.price is None:
        priced = ", ".join(each for each, entry in known.items() if entry.price) or "none yet"
        why = f"{name} has no price in the catalogue, so its cost has no bound: use one that has ({priced})"
        problems.append(Problem("/input/model", why))
    if problems:
        raise InvalidRequest(problems)
    wishes = {"ratio": default_ratio, "duration": default_duration}
    body = {"model": name, **given, **dict(_completion(model, given, wishes))}
    quoted = model.quote(body)
    assert quoted is not None  # noqa: S101  # a model without a price was refused above
    return Request(operation, name, body, quoted, tuple(fitted.warnings))


def _ended(model: Model, given: Mapping[str, Any], sent_at: datetime) -> Iterator[Problem]:
    for name, field in model.fields.items():
        if not isinstance(field, Frames | ImageUri) or name not in given:
            continue
        value = given[name]
        frames = [(f"/{name}", value)] if isinstance(value, str) else [
            (f"/{name}/{number}/uri", frame["uri"]) for number, frame in enumerate(value)
        ]  # fmt: skip
        for pointer, uri in frames:
            ends = signature_ends(uri)
            if ends is not None and ends <= sent_at:
                words = f"its signature ends at {ends:%Y-%m-%d %H:%M:%S} UTC, before the video is sent"
                yield Problem(
                    f"/input{pointer}", f"{words}: sign the address for longer, or upload the image to Runway"
                )


def _completion(model: Model, given: Mapping[str, Any], wishes: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, field in model.fields.items():
        if field.explicit and name not in given:
            fits = name in wishes and not any(field.check(wishes[name], name))
            yield name, wishes[name] if fits else field.default


def _models(operation: object, catalogue: Catalogue) -> dict[str, Model]:
    if isinstance(operation, str) and operation in catalogue:
        return catalogue[operation]
    known = ", ".join(catalogue)
    raise InvalidRequest([Problem("/operation", f"must be one of {known}; got {truncate(operation)}")])


def _model(operation: object, name: object, catalogue: Catalogue) -> Model:
    known = _models(operation, catalogue)
    if isinstance(name, str) and name in known:
        return known[name]
    wanted = f"must be one of {', '.join(known)} for {operation}; got {truncate(name)}"
    raise InvalidRequest([Problem("/input/model", wanted)])
