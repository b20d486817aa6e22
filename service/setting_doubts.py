"""What the environment must not say twice; and what it may say, and is probably a mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from service.env_parsing import RUNWAY_URL

if TYPE_CHECKING:
    from service.settings import Settings

# Settings that had another name, by their old one. It still counts, but must not contradict the new one.
RENAMED = {
    "QUEUE_PATIENCE": "QUEUE_TIMEOUT",
    "TASK_PATIENCE": "TASK_TIMEOUT",
    "SUBMIT_SLOTS": "SUBMIT_CONCURRENCY",
    "POLL_SLOTS": "POLL_CONCURRENCY",
}

RUNWAY_KEY_FORM = re.compile(r"key_[0-9a-f]{128}")


def doubts(settings: Settings) -> list[str]:
    """What is allowed, and probably a mistake."""
    real = urlsplit(settings.runway_url).hostname == urlsplit(RUNWAY_URL).hostname
    found = []
    if real and settings.runway_key and not RUNWAY_KEY_FORM.fullmatch(settings.runway_key):
        found.append("RUNWAYML_API_SECRET does not look like a key of Runway's: key_ and 128 hexadecimal digits")
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
