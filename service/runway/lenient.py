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
from service.runway.fields import Choice, Field
from service.runway.messages import truncate

NAMES = ("aspect_ratio", "resolution", "fps", "generate_audio", "references")
_SHAPES = ("aspect_ratio", "resolution")
_RATIO = re.compile(r"(\d{1,5}(?:\.\d{1,4})?):(\d{1,5}(?:\.\d{1,4})?)")


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


def fit(
    fields: Mapping[str, Field], given: Mapping[str, Any], lenient: Mapping[str, Any], owner: str, default_ratio: str
) -> Fitted:
    """Translate `lenient`, by the names of NAMES, for a model with these fields whose input has `given`.

    `owner`: the model, in messages; `default_ratio`: the shape to take where several fit.
    """
    found = Fitted()
    asked = {name: lenient[name] for name in NAMES if lenient.get(name) is not None}
    shape = next(((name, one) for name, one in fields.items() if isinstance(one, Choice) and one.shapes), None)
    if shape is not None:
        _fit_shape(found, *shape, given, {name: asked.pop(name) for name in _SHAPES if name in asked}, default_ratio)
    for name, value in asked.items():
        own = next((own for own, one in fields.items() if one.means == name), None)
        if own is None:
            found.warnings.append(FieldWarning("unsupported", name, f"{owner} has no {name}: it is not sent"))
        elif own in given and given[own] != value:
            found.problems.append(_contradiction(name, own))
        elif problems := list(fields[own].check(value, f"/{name}")):
            found.problems += problems
        else:
            found.fields[own] = value
    return found


def _fit_shape(
    found: Fitted, own: str, choice: Choice, given: Mapping[str, Any], asked: Mapping[str, str], default_ratio: str
) -> None:
    """Find the value of `choice` that has the shape asked for; of several the default, else the first."""
    left = list(choice.shapes)
    for name, wanted in asked.items():
        fits = [value for value in left if _HAS[name](choice.shapes, value, wanted)]
        if not fits:
            shapes = ", ".join(_SHOWN[name](choice.shapes, value) for value in left)
            found.problems.append(Problem(f"/{name}", f"must be one of {shapes}; got {truncate(wanted)}"))
            return
        left = fits
    if asked and given.get(own) in choice.shapes:
        found.problems += [_contradiction(name, own) for name in list(asked)[:1] if given[own] not in left]
    elif asked and own not in given:
        found.fields[own] = next((one for one in (default_ratio, choice.default) if one in left), left[0])


def _contradiction(name: str, own: str) -> Problem:
    return Problem(f"/{name}", f"contradicts `{own}` of the input: leave one of them out")


Shapes = Mapping[str, tuple[str, str]]


def _has_ratio(shapes: Shapes, value: str, wanted: str) -> bool:
    """By its name or by its pixels: 4:3 and 1104:832 are the same shape of gen4_turbo."""
    ratio = _fraction(wanted)
    return ratio is not None and ratio in (_fraction(shapes[value][0]), _fraction(value))


def _has_resolution(shapes: Shapes, value: str, wanted: str) -> bool:
    return wanted.lower() in (shapes[value][1], value.replace(":", "x"))


def _fraction(text: str) -> Fraction | None:
    found = _RATIO.fullmatch(text)
    return Fraction(found[1]) / Fraction(found[2]) if found and Fraction(found[2]) else None


_HAS: Mapping[str, Callable[[Shapes, str, str], bool]] = {"aspect_ratio": _has_ratio, "resolution": _has_resolution}
_SHOWN: Mapping[str, Callable[[Shapes, str], str]] = {
    "aspect_ratio": lambda shapes, value: f"{shapes[value][0]} ({value})",
    "resolution": lambda shapes, value: f"{value.replace(':', 'x')} ({shapes[value][1]})",
}
