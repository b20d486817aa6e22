"""Fields that other APIs for videos have, beside `input`: sent as the model's own field, or answered with a warning.

What a model can do is never changed for another: a shape that it lacks is refused, with those that it has. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from service.errors import Problem
from service.runway.catalogue import paths, walk
from service.runway.catalogue.load import Model, Schema
from service.runway.messages import truncate

NAMES = ("aspect_ratio", "resolution", "fps", "generate_audio", "references")
_SHAPES = ("aspect_ratio", "resolution")
# Runway's fields for each of them; of several, a model has one.
OWN = {
    "aspect_ratio": ("ratio", "aspectRatio", "targetAspectRatio"),
    "resolution": ("resolution",),
    "fps": ("targetFramerate",),
    "generate_audio": ("audio",),
    "references": ("references", "referenceImages"),
}
_RATIO = re.compile(r"(\d{1,5}(?:\.\d{1,4})?):(\d{1,5}(?:\.\d{1,4})?)")
_PIXELS = re.compile(r"(\d{3,}):(\d{3,})")
# What a ratio in pixels is called: Runway rounds to whole blocks, so that 1104:832 is its 4:3.
ASPECTS = ("16:9", "9:16", "4:3", "3:4", "1:1", "21:9", "9:21", "3:2", "2:3", "5:4", "4:5")
CLOSE = 0.04
# What a size of a video is called, by the megapixels up to which it is; sizes of images have other names.
CLASSES = ((0.3, "360p"), (0.6, "480p"), (1.2, "720p"), (2.5, "1080p"), (20.0, "4k"))


@dataclass(frozen=True)
class FieldWarning:
    """What was not sent as it was asked for, in the form of the AI SDK. `feature`: the field of the request."""

    type: Literal["unsupported", "other"]
    feature: str
    message: str


@dataclass
class Fitted:
    """What the lenient fields come to: fields of the input, warnings, and what is wrong with them."""

    fields: dict[str, Any] = field(default_factory=dict)
    warnings: list[FieldWarning] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def fit(model: Model, given: Mapping[str, Any], lenient: Mapping[str, Any], default_ratio: str) -> Fitted:
    """Translate `lenient`, by the names of NAMES, for this model, whose input has `given`.

    `default_ratio`: the shape to take where several fit.
    """
    found = Fitted()
    asked = {name: lenient[name] for name in NAMES if lenient.get(name) is not None}
    if not asked:
        return found
    if (own := _own(model, "aspect_ratio")) and (shapes := _shapes(model, own)):
        has_sizes = any(one.is_size for one in shapes.values()) and _own(model, "resolution") is None
        names = _SHAPES if has_sizes else _SHAPES[:1]
        wishes = {name: asked.pop(name) for name in names if name in asked}
        usual = [default_ratio, model.fields[own].get("default")]
        _fit_shape(found, own, shapes, given, wishes, usual)
    for name, value in asked.items():
        own = _own(model, name)
        if own is None:
            found.warnings.append(FieldWarning("unsupported", name, f"{model.title} has no {name}: it is not sent"))
            continue
        value = _as_own(model.fields[own], value)
        if own in given and given[own] != value:
            found.problems.append(_contradiction(name, own))
        elif problems := list(walk.check(model.fields[own], value, f"/{name}")):
            found.problems += problems
        else:
            found.fields[own] = value
    return found


def _own(model: Model, name: str) -> str | None:
    return next((own for own in OWN[name] if own in model.fields), None)


def _as_own(schema: Schema, value: Any) -> Any:
    """The value as the field has it: images in a list as objects, a word in the catalogue's spelling."""
    if isinstance(value, list):
        return [{"uri": one} if isinstance(one, str) else one for one in value]
    return next((one for one in paths.values_of(schema) if paths.key(one) == paths.key(value)), value)


@dataclass(frozen=True)
class Shape:
    """A shape that a model has: how its aspect is called, whether it is a size in pixels, and how that is called."""

    aspect: str
    is_size: bool = False
    size_name: str | None = None


def _shapes(model: Model, own: str) -> dict[str, Shape]:
    """The shapes that a field has, by its values."""
    is_video = model.output.startswith("video/")
    found = {}
    for value in paths.values_of(model.fields[own]):
        if pixels := _PIXELS.fullmatch(str(value)):
            width, height = int(pixels[1]), int(pixels[2])
            size = next((name for most, name in CLASSES if width * height / 1e6 <= most), None)
            found[value] = Shape(_aspect(width / height) or value, True, size if is_video else None)
        elif _RATIO.fullmatch(str(value)):
            found[value] = Shape(value)
    return found


def _aspect(ratio: float) -> str | None:
    off = {name: abs(ratio / float(Fraction(*map(int, name.split(":")))) - 1) for name in ASPECTS}
    best = min(off, key=lambda name: off[name])
    return best if off[best] <= CLOSE else None


Shapes = Mapping[str, Shape]


def _fit_shape(
    found: Fitted, own: str, shapes: Shapes, given: Mapping[str, Any], asked: Mapping[str, str], usual: list[Any]
) -> None:
    """Find the shape that was asked for; of several the usual one, else the first."""
    left = list(shapes)
    for name, wanted in asked.items():
        fits = [value for value in left if _HAS[name](shapes, value, wanted)]
        if not fits:
            has = ", ".join(_SHOWN[name](shapes, value) for value in left)
            found.problems.append(Problem(f"/{name}", f"must be one of {has}; got {truncate(wanted)}"))
            return
        left = fits
    if asked and given.get(own) in shapes:
        found.problems += [_contradiction(name, own) for name in list(asked)[:1] if given[own] not in left]
    elif asked and own not in given:
        found.fields[own] = next((one for one in usual if one in left), left[0])


def _contradiction(name: str, own: str) -> Problem:
    return Problem(f"/{name}", f"contradicts `{own}` of the input: leave one of them out")


def _has_ratio(shapes: Shapes, value: str, wanted: str) -> bool:
    """By its name or by its pixels: 4:3 and 1104:832 are the same shape of gen4_turbo."""
    ratio = _fraction(wanted)
    return ratio is not None and ratio in (_fraction(shapes[value].aspect), _fraction(value))


def _has_resolution(shapes: Shapes, value: str, wanted: str) -> bool:
    return wanted.lower() in (shapes[value].size_name, value.replace(":", "x"))


def _fraction(text: str) -> Fraction | None:
    found = _RATIO.fullmatch(text)
    return Fraction(found[1]) / Fraction(found[2]) if found and Fraction(found[2]) else None


_HAS: Mapping[str, Callable[[Shapes, str, str], bool]] = {"aspect_ratio": _has_ratio, "resolution": _has_resolution}
_SHOWN: Mapping[str, Callable[[Shapes, str], str]] = {
    "aspect_ratio": lambda shapes, value: (
        value if shapes[value].aspect == value else f"{shapes[value].aspect} ({value})"
    ),
    "resolution": lambda shapes, value: " ".join(
        filter(None, [value.replace(":", "x"), f"({name})" if (name := shapes[value].size_name) else None])
    ),
}
