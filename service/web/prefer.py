"""The header `Prefer` (RFC 7240): what a client would like. What is not understood is ignored, as the RFC wishes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from service.web.endpoint import Parameter

WAIT = Parameter(
    "Prefer", "header", "`wait=N`: submit the video inside this request, and answer when it has ended or after N "
    "seconds, at most 60",
    {"type": "string"},
)  # fmt: skip

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # no password: RFC 9110's `token`
_QUOTED = r'"(?:[^"\\]|\\.)*"'
# One preference: its name, perhaps a value, and parameters, which are of no interest here.
_PREFERENCE = re.compile(rf"[ \t]*({_TOKEN})[ \t]*(?:=[ \t]*({_TOKEN}|{_QUOTED}))?[ \t]*(?:;(?:{_QUOTED}|[^\",])*)?\Z")
# What stands between two commas outside of quotes; a quote that is not closed takes the rest.
_BETWEEN_COMMAS = re.compile(rf'(?:{_QUOTED}|"[^"]*\Z|[^",])+')
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)


def wait_seconds(headers: Iterable[str]) -> int | None:
    """The seconds of the preference `wait` in these header lines; None if there is none, or no number of seconds.

    Of a preference that is given twice, the first counts.
    """
    value = next((value for name, value in _preferences(headers) if name == "wait"), None)
    return int(value) if value is not None and _SECONDS.fullmatch(value) else None


def _preferences(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each preference, its name in lower case, and its value without quotes; without one, it is empty."""
    for line in headers:
        for part in _BETWEEN_COMMAS.findall(line):
            if found := _PREFERENCE.match(part):
                name, value = found[1].lower(), found[2] or ""
                yield name, re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
