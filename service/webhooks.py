"""Webhooks, signed and verified. Pure: headers, bytes, secrets and the time in, a message or a refusal out.

The rules are Standard Webhooks': https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_bytes

from service.errors import BadSettings, Unauthorized

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
PREFIX = "whsec_"
KEY_BYTES = (24, 64)
TOLERANCE_SECONDS = 300

ID_FORM = re.compile(r"[!-~]{1,256}")  # it becomes a key in the database: printable, and not endless
TIMESTAMP_FORM = re.compile(r"[1-9][0-9]{0,11}")
SIGNATURE_FORM = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
MOST_SIGNATURES = 20  # of one message: one for each secret that is in use while it is replaced


@dataclass(frozen=True)
class Message:
    """What the headers of a genuine webhook say: the sender's id for it, and its time in Unix seconds."""

    id: str
    timestamp: int


class SignatureRefused(Unauthorized):
    """The credentials are missing or wrong."""

    def __init__(self, reason: str) -> None:
        """`reason` is for the log alone: to a forger every failure looks the same."""
        super().__init__("The signature does not verify.")
        self.reason = reason


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """The signature of one message, `v1,` included. Raises BadSettings for a malformed secret."""
    text = b"%s.%d.%s" % (id.encode(), timestamp, body)
    return f"v1,{base64.b64encode(hmac.digest(_key(secret), text, hashlib.sha256)).decode()}"


def headers(secret: str, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers that go with `body`."""
    return {ID: id, TIMESTAMP: str(timestamp), SIGNATURE: sign(secret, id, timestamp, body)}


@dataclass(frozen=True)
class Claim:
    """What the three headers claim, before the body is there to prove it."""

    message: Message
    signatures: tuple[str, ...]


def claim(headers: Mapping[str, str], now: float) -> Claim:
    """Read the three headers, and refuse what no body could make good. `now`: Unix seconds. Raises SignatureRefused."""
    id, stamp, signatures = (_only(headers, name) for name in (ID, TIMESTAMP, SIGNATURE))
    if not ID_FORM.fullmatch(id):
        raise SignatureRefused(f"{ID} is empty, too long, or not printable ASCII")
    if not TIMESTAMP_FORM.fullmatch(stamp):
        raise SignatureRefused(f"{TIMESTAMP} is not a number of whole seconds")
    timestamp = int(stamp)
    if abs(now - timestamp) > TOLERANCE_SECONDS:
        raise SignatureRefused(f"{TIMESTAMP} is {now - timestamp:+.0f} s from this clock")
    given = tuple(signature for signature in signatures.split(" ") if signature.isascii())
    if len(given) > MOST_SIGNATURES or not any(map(SIGNATURE_FORM.fullmatch, given)):
        raise SignatureRefused(f"{SIGNATURE} has no signature of the form v1,… or more than {MOST_SIGNATURES}")
    return Claim(Message(id, timestamp), given)


def proven(claimed: Claim, body: bytes, secrets: Sequence[str]) -> Message:
    """The message, if one of the secrets signed its body. Raises SignatureRefused; BadSettings for a secret of ours."""
    message, given = claimed.message, [signature.encode() for signature in claimed.signatures]
    ours = [sign(secret, message.id, message.timestamp, body).encode() for secret in secrets]
    if not any(hmac.compare_digest(expected, signature) for expected in ours for signature in given):
        raise SignatureRefused(f"none of {len(given)} signatures is by one of {len(ours)} secrets")
    return message


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> Message:
    """Say whose message this is, if one of the secrets signed it within five minutes of `now` (Unix seconds).

    Whatever a stranger sends, only SignatureRefused is raised; BadSettings if a secret of ours is malformed.
    """
    return proven(claim(headers, now), body, secrets)


def new_secret(random_bytes: Callable[[int], bytes] = token_bytes) -> str:
    """A secret to share with the other side."""
    return PREFIX + base64.b64encode(random_bytes(32)).decode()


def check_secret(secret: str) -> str | None:
    """What is wrong with a secret, in words that follow its name and do not repeat it, or None."""
    try:
        _decoded(secret)
    except ValueError as exc:
        return str(exc)
    return None


def _key(secret: str) -> bytes:
    try:
        return _decoded(secret)
    except ValueError as exc:
        raise BadSettings([f"a webhook secret {exc}"]) from None


def _decoded(secret: str) -> bytes:
    least, most = KEY_BYTES
    wanted = f"must be {PREFIX} and the base64 of {least} to {most} random bytes"
    if not secret.startswith(PREFIX):
        raise ValueError(f"{wanted}: it does not start with {PREFIX}")
    text = secret.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:  # so does a character outside ASCII
        raise ValueError(f"{wanted}: it is not base64") from None
    if not least <= len(key) <= most:
        raise ValueError(f"{wanted}: it has {len(key)}")
    return key


def _only(headers: Mapping[str, str], wanted: str) -> str:
    found = [value for name, value in headers.items() if name.lower() == wanted]
    if len(found) != 1:
        raise SignatureRefused(f"{wanted} is there {len(found)} times")
    return found[0]
