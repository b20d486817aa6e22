"""The settings of this process, read from its environment; and what the environment says and is probably a mistake."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.env_parsing import RUNWAY_URL
from service.errors import BadSettings
from service.settings import ENV_NAMES, Settings

log = logging.getLogger(__name__)

# Settings that had another name, by their old one. It still counts, but must not contradict the new one.
RENAMED = {
    "QUEUE_PATIENCE": "QUEUE_TIMEOUT",
    "TASK_PATIENCE": "TASK_TIMEOUT",
    "SUBMIT_SLOTS": "SUBMIT_CONCURRENCY",
    "POLL_SLOTS": "POLL_CONCURRENCY",
}

RUNWAY_KEY_FORM = re.compile(r"key_[0-9a-f]{128}")


def load() -> Settings:
    """The settings of this process. Raises BadSettings with every complaint at once; none repeats what was given."""
    complaints = list(contradictions(os.environ))
    try:
        settings = Settings()
    except ValidationError as exc:
        complaints += [_complaint(error) for error in exc.errors(include_input=False)]
        raise BadSettings(complaints) from None
    if complaints:
        raise BadSettings(complaints)
    for doubt in doubts(settings):
        log.warning("%s", doubt)
    return settings


def _complaint(error: ErrorDetails) -> str:
    where = str(error["loc"][0])
    message = error["msg"].removeprefix("Value error, ")
    return f"{ENV_NAMES.get(where, where)} {message[:1].lower()}{message[1:]}"


def doubts(settings: Settings) -> list[str]:
    """What is allowed, and probably a mistake."""
    real = urlsplit(settings.runway_url).hostname == urlsplit(RUNWAY_URL).hostname
    found = []
    if real and settings.runway_key and not RUNWAY_KEY_FORM.fullmatch(settings.runway_key):
        found.append("RUNWAYML_API_SECRET does not look like a key of Runway's: key_ and 128 hexadecimal digits")
    if settings.runway_key and settings.runway_key in {*settings.api_keys, *settings.admin_tokens}:
        found.append(
            "RUNWAYML_API_SECRET is a key of this Taxiway, which calls itself if RUNWAYML_BASE_URL is its own address: "
            "both names are Runway's here, and Taxiway's in the environment of your app alone"
        )
    if real and settings.runway_url.startswith("http:"):
        found.append(f"RUNWAYML_BASE_URL sends the key to Runway unencrypted: use {RUNWAY_URL}")
    if settings.submit_keepalive:
        found.append(
            "SUBMIT_KEEPALIVE lets one connection carry several creates: a surplus answer may give a video the film of "
            "another, and a connection that Runway closes meanwhile leaves a create unknown"
        )
    if real and settings.runway_key and settings.max_credits_per_day is None:
        found.append("MAX_CREDITS_PER_DAY is not set: nothing limits what this key may spend in a day")
    return found


def contradictions(environment: Mapping[str, str]) -> Iterator[str]:
    """A complaint for each setting whose old and new name are both set, to different values."""
    given = {name.upper(): value.strip() for name, value in environment.items()}
    for old, new in RENAMED.items():
        if given.get(old) and given.get(new) and given[old] != given[new]:
            yield f"{new} and {old}, its old name, are set to different values: remove {old}"
