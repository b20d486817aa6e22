"""What Runway says of a malformed asset URI. Source: its documentation of inputs, and captured answers."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

MEDIA_TYPES = {
    "image": frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp"}),
    "video": frozenset(
        {
            "video/mp4", "video/quicktime", "video/mov", "video/x-matroska", "video/webm", "video/3gpp", "video/ogg",
        }
    ),
    "audio": frozenset(
        {
            "audio/mpeg", "audio/mp3", "audio/wav", "audio/wave", "audio/x-wav", "audio/flac", "audio/x-flac",
            "audio/mp4", "audio/m4a", "audio/x-m4a", "audio/aac",
        }
    ),
}  # fmt: skip
URL_CHARACTERS = (13, 2_048)
UPLOAD_CHARACTERS = (13, 5_000)
DATA_CHARACTERS = 5_242_880

BAD_DATA = "Invalid data URI."
BAD_TYPE = "Unsupported asset type. Data URIs must include the content type of the value they encode."
BAD_URL = "Invalid URL"
NOT_HTTPS = "Only HTTPS URLs are allowed."
NO_DOMAIN = "URLs must be hosted on a domain."


class Length(NamedTuple):
    """A URI that is too long, or too short."""

    bound: int
    too_big: bool


def asset_fault(uri: str, kind: str) -> str | Length | None:
    """What is wrong with this URI of a `kind` of MEDIA_TYPES, in Runway's words; None if nothing is."""
    if uri.startswith("data:"):
        return _data_fault(uri, MEDIA_TYPES[kind])
    if uri.startswith("runway://"):
        return _length_fault(uri, *UPLOAD_CHARACTERS)
    return _url_fault(uri)


def _length_fault(uri: str, low: int, high: int) -> Length | None:
    if len(uri) < low:
        return Length(low, too_big=False)
    return Length(high, too_big=True) if len(uri) > high else None


def _data_fault(uri: str, types: frozenset[str]) -> str | Length | None:
    if len(uri) > DATA_CHARACTERS:
        return Length(DATA_CHARACTERS, too_big=True)
    match = re.fullmatch(r"data:([^;,]*);base64,(.+)", uri, re.DOTALL)
    if not match:
        return BAD_DATA
    if match[1].lower() not in types:
        return BAD_TYPE
    try:
        base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return BAD_DATA
    return None


def _url_fault(uri: str) -> str | Length | None:
    try:
        url = urlsplit(uri)
        host = url.hostname
    except ValueError:
        return BAD_URL
    if not url.scheme or not host:
        return BAD_URL
    if url.scheme != "https":
        return NOT_HTTPS
    if "." not in host or _is_address(host):
        return NO_DOMAIN
    return _length_fault(uri, *URL_CHARACTERS)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
