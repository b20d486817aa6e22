"""What no log, row or answer may hold: the secrets of the settings, what looks like one, and what is inside data URIs.

Known secrets are taken out where a text comes in (Runway's answers) and where it goes out (log lines, doctor).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

SECRET = "[secret]"  # noqa: S105  # what stands in its place
SHORTEST_SECRET = 8  # a shorter one is none, and would tear the words apart that it happens to occur in
SHORTEST_WORD = 16  # of letters alone: a shorter one may be a word of an address, which has to stay as it is

# Keys; secrets and signatures of webhooks; bearer tokens; passwords inside URLs.
_ALWAYS_SECRET = re.compile(
    r"key_[0-9a-fA-F]{16,}|whsec_[A-Za-z0-9+/=]{8,}|\bv1,[A-Za-z0-9+/=]{20,}"
    r"|(?i:(?<=bearer )|(?<=basic ))[A-Za-z0-9+/=._~-]{16,}"
    r"|(?<=://)[^\s/@?#]+(?=@)"
)
# Parameters of an address that let its bearer in, by their names; also of one that is part of another, or of JSON.
_PARAMETER = re.compile(
    r"((?:[?&;]|%3F|%26|\\u0026)"
    r"(?:sig|signature|token|[\w.-]*[_-]token|jwt|_jwt|auth|authorization|key|[\w.-]*[_-]?api[_-]?key|[\w.-]*[_-]key"
    r"|password|passwd|pwd|secret|[\w.-]*[_-]secret|credential|hmac|hdnts|hdnea|policy|key-pair-id|awsaccesskeyid"
    r"|googleaccessid|x-(?:amz|goog|oss|cos|obs|ms)-[\w-]+)"
    r"(?:=|%3D))[^&\s\"'<>\\]+",
    re.IGNORECASE,
)
_DATA_URI = re.compile(r"(data:[\w.+/-]*(?:;[\w.+=-]*)*,)[^\s\"'<>\\)\]}]+", re.IGNORECASE)
# Text without any of these (lowered) has nothing for the patterns above: looking for them costs a tenth.
_HINTS = ("key_", "whsec_", "v1,", "bearer ", "basic ", "://", "data:", "?", "&", "%3f", "%26")


def redacted(text: str) -> str:
    """The text without what looks like a secret, whatever the settings are, and without the contents of data URIs."""
    lowered = text.lower()
    if text.isascii() and not any(hint in lowered for hint in _HINTS):
        return text
    text = _PARAMETER.sub(rf"\1{SECRET}", _ALWAYS_SECRET.sub(SECRET, text))
    return _DATA_URI.sub(r"\1[…]", text)


class Redactor:
    """Takes known secrets, things that look like one, and the contents of data URIs out of a text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}
        words = {form for form in known if len(form) < SHORTEST_WORD and form.isalpha()}
        self._known = sorted(known - words, key=len, reverse=True)
        self._known_bytes = [form.encode("utf-8", "surrogatepass") for form in self._known]
        # A password `postgres` is a secret, and "postgresql" is none.
        whole = "|".join(map(re.escape, sorted(words)))
        self._words = re.compile(rf"(?<![^\W_])(?:{whole})(?![^\W_])") if words else None

    def __call__(self, text: str) -> str:
        return redacted(self.known(text))

    def known(self, text: str) -> str:
        """The text without the known secrets; everything else stays, such as the signature of a file's address."""
        for form in self._known:
            if form in text:
                text = text.replace(form, SECRET)
        return self._words.sub(SECRET, text) if self._words else text

    def body(self, raw: bytes, *, is_cut: bool = False) -> bytes:
        """The same of bytes from outside. `is_cut`: they broke off somewhere, perhaps inside a secret."""
        for form in self._known_bytes:
            if form in raw:
                raw = raw.replace(form, SECRET.encode())
        return self._without_beginning(raw) if is_cut else raw

    def _without_beginning(self, raw: bytes) -> bytes:
        """The bytes without the beginning of a secret at their end, if that is too long to be chance."""
        longest = 0
        for form in self._known_bytes:
            lengths = range(min(len(form) - 1, len(raw)), SHORTEST_SECRET - 1, -1)
            longest = max(longest, next((n for n in lengths if raw.endswith(form[:n])), 0))
        return raw[: len(raw) - longest] + SECRET.encode() if longest else raw


def _forms(secret: str) -> set[str]:
    """The secret as it is, and as it stands in JSON, in Python's words, in an address and in HTML; all that in JSON."""
    quoted = {quote(secret, safe=safe, errors="surrogatepass") for safe in ("", "/")}
    found = {secret, escape(secret), repr(secret)[1:-1], secret.removeprefix("whsec_"), *quoted, *_in_json(secret)}
    return found | {form for one in found for form in _in_json(one)}


def _in_json(text: str) -> set[str]:
    return {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
