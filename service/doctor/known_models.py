"""Whether the settings name models that the catalogue has, and what CATALOGUE_FILE makes of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from service.doctor.checks import Check, CheckStatus
from service.runway import catalogue
from service.settings import ENV_NAMES, Settings

SHOWN = 10  # models that a sentence names


def checks(settings: Settings) -> list[Check]:
    """The checks of the catalogue; without a finding, one that says how much there is."""
    found = [*_defaults(settings), *_patterns(settings)]
    known = {model.key for model in catalogue.pairs()}
    words = f"{len(known)} models in {len(catalogue.operations())} endpoints"
    if settings.catalogue_file:
        words += f"; CATALOGUE_FILE {_change(known)}"
    return [*found, Check("models", "catalogue", CheckStatus.OK, words)]


def _defaults(settings: Settings) -> Iterator[Check]:
    for operation, field in (("image_to_video", "image_model"), ("text_to_video", "text_model")):
        name, model = ENV_NAMES[field], getattr(settings, field)
        if model not in catalogue.models(operation):
            words = f"{model} is no model of {operation} in the catalogue: requests that name no model are refused"
            yield Check("models", name, CheckStatus.WARNING, words, f"set {name} to one that `taxiway models` lists")


def _patterns(settings: Settings) -> Iterator[Check]:
    keys = [model.key for model in catalogue.pairs()]
    for pattern in settings.max_credits_per_video:
        if not any(fnmatchcase(key, pattern) for key in keys):
            name = ENV_NAMES["max_credits_per_video"]
            words = f"{pattern} fits no endpoint and model of the catalogue"
            yield Check(
                "models", name, CheckStatus.WARNING, words, f"write it as video_to_video/aleph2, or remove it ({name})"
            )


def _change(known: set[str]) -> str:
    packaged = {model.key for model in catalogue.pairs(catalogue.PACKAGED)}
    parts = [
        f"{verb} {_named(keys)}" for verb, keys in (("adds", known - packaged), ("removes", packaged - known)) if keys
    ]
    return " and ".join(parts) or "adds and removes no model"


def _named(keys: set[str]) -> str:
    shown = ", ".join(sorted(keys)[:SHOWN])
    return shown if len(keys) <= SHOWN else f"{shown} and {len(keys) - SHOWN} more"
