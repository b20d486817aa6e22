"""The kinds of field that a model's input is made of: each checks a value and draws its own JSON Schema.

A check yields one Problem for each thing wrong; every sentence says what is accepted. Nothing here does I/O.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, model_validator
from pydantic import Field as Given

from service.errors import Problem
from service.runway.assets import URI_SCHEMA, image_uri_complaint
from service.runway.messages import Scalar, escaped, listed, truncate, unknown_field

UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # jsonb takes no NUL, UTF-8 no half of a surrogate pair
NAMED_STRANGERS = 10  # unknown fields that are answered one by one: a hostile body may have thousands


class Field(BaseModel, ABC):
    """What every kind has; the head of catalogue.toml says what it means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    required: bool = False
    default: Scalar | None = None
    explicit: bool = False
    means: Literal["fps", "generate_audio", "references"] | None = None
    only_with: dict[str, dict[str, tuple[Scalar, ...]]] = {}

    @property
    @abstractmethod
    def wanted(self) -> str:
        """What is accepted, in the words that follow "must be"."""

    @abstractmethod
    def check(self, value: object, pointer: str) -> Iterator[Problem]:
        """Everything wrong with `value`, which stands at `pointer`."""

    @abstractmethod
    def schema_of_value(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of an accepted value."""

    def missing(self, pointer: str) -> Problem:
        """The problem of a required field that is not there."""
        return Problem(pointer, f"is missing: give {self.wanted}")

    def refusal(self, value: object, pointer: str) -> Problem:
        """The usual problem: something else was wanted."""
        advice = ": leave the field out if there is no value" if value is None and not self.required else ""
        return Problem(pointer, f"must be {self.wanted}; got {truncate(value)}{advice}")


class Text(Field):
    """A string whose length is counted as JavaScript counts it."""

    kind: Literal["text"]
    min: int
    max: int

    @property
    def wanted(self) -> str:
        return f"a text of {self.min} to {self.max} characters (UTF-16 code units)"

    def check(self, value: object, pointer: str) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield self.refusal(value, pointer)
            return
        if UNSTORABLE.search(value):
            yield Problem(pointer, "contains a NUL character or half of a surrogate pair: remove it")
        units = len(value.encode("utf-16-le", "surrogatepass")) // 2
        if not self.min <= units <= self.max:
            yield Problem(pointer, f"must be {self.wanted}; got {units} of them")

    def schema_of_value(self) -> dict[str, Any]:
        counted = "The length is counted in UTF-16 code units."
        return {"type": "string", "minLength": self.min, "maxLength": self.max, "description": counted}


class Integer(Field):
    """A whole number within bounds."""

    kind: Literal["integer"]
    min: int
    max: int

    @property
    def wanted(self) -> str:
        return f"a whole number from {self.min} to {self.max}"

    def check(self, value: object, pointer: str) -> Iterator[Problem]:
        if type(value) is not int or not self.min <= value <= self.max:
            yield self.refusal(value, pointer)

    def schema_of_value(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.min, "maximum": self.max}


class Choice(Field):
    """One of a few values: words, numbers, or true and false."""

    kind: Literal["choice"]
    values: Annotated[tuple[Scalar, ...], Given(min_length=1)]
    shapes: dict[str, tuple[str, str]] = {}
    media_types: dict[str, str] = {}

    @model_validator(mode="after")
    def _of_every_value(self) -> Choice:
        for table in (self.shapes, self.media_types):
            if table and set(self.values) != table.keys():
                raise ValueError("shapes and media_types must list every value")
        return self

    @property
    def wanted(self) -> str:
        return f"one of {listed(self.values)}"

    def check(self, value: object, pointer: str) -> Iterator[Problem]:
        if not _among(value, self.values):
            yield self.refusal(value, pointer)

    def schema_of_value(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


class ImageUri(Field):
    """One image, by its URI."""

    kind: Literal["image_uri"]

    @property
    def wanted(self) -> str:
        return "the URI of an image"

    def missing(self, pointer: str) -> Problem:
        return _missing_image(pointer, "an https:// URL or a data: URI")

    def check(self, value: object, pointer: str) -> Iterator[Problem]:
        if not isinstance(value, str):
            yield self.refusal(value, pointer)
        elif complaint := image_uri_complaint(value):
            yield Problem(pointer, complaint)

    def schema_of_value(self) -> dict[str, Any]:
        return URI_SCHEMA


class Frames(Field):
    """Images for positions in the video: one URI, which is the first frame, or a list of {uri, position}."""

    kind: Literal["frames"]
    positions: Annotated[tuple[str, ...], Given(min_length=1)]

    @property
    def wanted(self) -> str:
        places = " or ".join(f'"{place}"' for place in self.positions)
        return f"the URI of an image, or a list of at most {len(self.positions)} {{uri, position: {places}}}"

    def missing(self, pointer: str) -> Problem:
        count = len(self.positions)
        some = "a list of one {uri, position}" if count == 1 else f"a list of at most {count} {{uri, position}}"
        return _missing_image(pointer, f"an https:// URL, a data: URI, or {some}")

    @cached_property
    def _frame(self) -> dict[str, Field]:
        uri = ImageUri(kind="image_uri", required=True)
        return {"uri": uri, "position": Choice(kind="choice", values=self.positions, required=True)}

    def check(self, value: object, pointer: str) -> Iterator[Problem]:
        if isinstance(value, str):
            yield from self._frame["uri"].check(value, pointer)
        elif not isinstance(value, list) or not 1 <= len(value) <= len(self.positions):
            yield self.refusal(value, pointer)
        else:
            for index, frame in enumerate(value):
                yield from check_object(self._frame, frame, f"{pointer}/{index}", "an image in a list")

    def schema_of_value(self) -> dict[str, Any]:
        frame = schema_of_object(self._frame)
        frames = {"type": "array", "items": frame, "minItems": 1, "maxItems": len(self.positions)}
        return {"anyOf": [URI_SCHEMA, frames]}


class Object(Field):
    """Settings within settings."""

    kind: Literal["object"]
    fields: dict[str, AnyField]

    @property
    def wanted(self) -> str:
        return f"an object with {', '.join(self.fields)}"

    def check(self, value: object, pointer: str) -> Iterator[Problem]:
        yield from check_object(self.fields, value, pointer, "this object")

    def schema_of_value(self) -> dict[str, Any]:
        return schema_of_object(self.fields)


AnyField = Annotated[Text | Integer | Choice | ImageUri | Frames | Object, Discriminator("kind")]


def _missing_image(pointer: str, accepted: str) -> Problem:
    words = f"Add an image: paste a link or choose a file. (API: `{pointer}` is required: {accepted}.)"
    return Problem(pointer, words)


def check_object(fields: Mapping[str, Field], value: object, pointer: str, owner: str) -> Iterator[Problem]:
    """Everything wrong with an object: what is missing, what is malformed, what `owner` does not have."""
    if not isinstance(value, dict):
        yield Problem(pointer, f"must be an object with {', '.join(fields)}; got {truncate(value)}")
        return
    for name, field in fields.items():
        if name in value:
            yield from field.check(value[name], f"{pointer}/{name}")
            yield from _check_company(field, name, value, f"{pointer}/{name}")
        elif field.required:
            yield field.missing(f"{pointer}/{name}")
    strangers = [name for name in value if name not in fields]
    for name in strangers[:NAMED_STRANGERS]:
        yield Problem(f"{pointer}/{escaped(name)}", unknown_field(name, list(fields), owner))
    if more := strangers[NAMED_STRANGERS:]:
        yield Problem(pointer, f"has {len(more)} more fields that {owner} does not take: remove them")


def schema_of_object(fields: Mapping[str, Field]) -> dict[str, Any]:
    """JSON Schema of an object with these fields and no others."""
    rules = [_schema_of_company(name, field) for name, field in fields.items() if field.only_with]
    required = [name for name, field in fields.items() if field.required]
    return {
        "type": "object",
        "properties": {name: _schema_of_field(field) for name, field in fields.items()},
        **({"required": required} if required else {}),
        "additionalProperties": False,
        **({"allOf": rules} if rules else {}),
    }


def _among(value: object, values: tuple[Scalar, ...]) -> bool:
    # In Python True == 1; in JSON it is not.
    return any(type(known) is type(value) and known == value for known in values)


def _check_company(field: Field, name: str, siblings: dict[str, Any], pointer: str) -> Iterator[Problem]:
    for other, rules in field.only_with.items():
        company = siblings.get(other)
        if not isinstance(company, str) or company not in rules:
            yield Problem(pointer, f"goes only with {other} {' or '.join(rules)}: set that, or leave {name} out")
        elif not _among(siblings[name], rules[company]):
            fitting = listed(rules[company])
            yield Problem(
                pointer, f"must be one of {fitting} where {other} is {company}; got {truncate(siblings[name])}"
            )


def _schema_of_company(name: str, field: Field) -> dict[str, Any]:
    pairs = [
        {"properties": {other: {"const": company}, name: {"enum": list(values)}}, "required": [other]}
        for other, rules in field.only_with.items()
        for company, values in rules.items()
    ]
    return {"if": {"required": [name]}, "then": {"anyOf": pairs}}


def _schema_of_field(field: Field) -> dict[str, Any]:
    schema = field.schema_of_value()
    if field.explicit:
        return {**schema, "description": "Always sent; left out, the service's own default is taken."}
    return schema if field.default is None else {**schema, "default": field.default}
