"""Which operation an input is for, where it says so: by its model, its fields and what each operation requires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from service.errors import InvalidRequest, Problem
from service.runway.catalogue.load import Catalogue, Model, Schema

# What an input without a model is for, if it fits one of them: what the settings have a default model for.
USUAL = ("text_to_video", "image_to_video")
A_FIT = (0, 0, 1, 0)  # scores below have no strange field, and lack none


def infer(catalogue: Catalogue, input: Mapping[str, Any]) -> str:
    """The operation of this input. Raises InvalidRequest if two of them fit equally well."""
    name = input.get("model")
    every = [found for each in catalogue.operations if (found := catalogue.operation(each))]
    known = [model for one in every for model in one.entries.values()]
    if entries := [model for model in known if model.name == name]:
        best = _best(entries, input)
        if len(best) > 1:
            words = f"is required: {name} can do {' and '.join(best)} with this input; say which"
            raise InvalidRequest([Problem("/operation", words)])
        return best[0]
    usual = [model for one in every if one.name in USUAL for model in one.entries.values()]
    unnamed = [model for model in known if model.name == model.operation and _score(model, input) < A_FIT]
    fits = any(_score(model, input)[0] == 0 for model in usual)
    others = _best(unnamed, input) if unnamed and not fits else []
    return others[0] if len(others) == 1 else _best(usual, input)[0]


def _best(entries: Iterable[Model], input: Mapping[str, Any]) -> list[str]:
    """The operations whose entry fits best: the fewest strange fields, then the least missing, then the most met."""
    scores: dict[str, tuple[int, int, int, int]] = {}
    for model in entries:
        scores[model.operation] = min(_score(model, input), scores.get(model.operation, (9**9, 0, 0, 0)))
    best = min(scores.values())
    return [operation for operation, score in scores.items() if score == best]


def _score(model: Model, input: Mapping[str, Any]) -> tuple[int, int, int, int]:
    required = model.schema["required"]
    missing = [name for name in required if name not in input]
    files = sum(_is_a_file(model.fields[name]) for name in missing)
    # By the model's fields, which are few: a hostile input may have thousands.
    known = len(input.keys() & (model.fields.keys() | {"model"}))
    return len(input) - known, files, len(missing) - files, len(missing) - len(required)


def _is_a_file(schema: Schema) -> bool:
    """Whether the field takes the URI of an image, a video or a sound, itself or within."""
    if "format" in schema:
        return True
    inner = [*schema.get("anyOf", ()), *schema.get("properties", {}).values()]
    return any(map(_is_a_file, inner + ([schema["items"]] if "items" in schema else [])))
