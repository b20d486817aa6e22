"""What Runway takes as the URI of an image, a video or a sound: https, one of its own uploads, or itself as a data URI.

The rules are Runway's (https://docs.dev.runwayml.com/assets/inputs; the lengths are in its OpenAPI document).
What can only be checked in the file itself (its size, its shape) is left to Runway, which answers at once; of a data
URI, the first bytes say whether it is an image at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

UPLOAD = "runway://"  # how the URI of an upload begins
UPLOAD_MAX_BYTES = 200_000_000
UPLOAD_LIVES = timedelta(hours=24)  # after it was made; the trigger bound_upload of the schema has the same
HTTPS_LENGTH = (13, 2_048)
UPLOAD_LENGTH = (13, 5_000)
DATA_URI_MAX_LENGTH = 5_242_880
# The formats of the catalogue, and how a sentence calls what they stand for.
MEDIA = {"image-uri": "an image", "video-uri": "a video", "audio-uri": "an audio file"}
DATA_URI_HEADS = {
    "image-uri": re.compile(r"data:image/(jpeg|jpg|png|webp);base64,"),
    "video-uri": re.compile(r"data:video/[A-Za-z0-9.+-]+;base64,"),
    "audio-uri": re.compile(r"data:audio/[A-Za-z0-9.+-]+;base64,"),
}
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
# The first bytes of JPEG, PNG and WebP, as they stand in base64.
SIGNATURE = re.compile(r"/9j/|iVBORw0KGg|UklGR[\w+/]{6}XRUJQ")
NOT_IN_A_URI = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")
HOST_LABEL = re.compile(r"\w(?:[\w-]{0,61}\w)?")
NUMBER = re.compile(r"\d+|0[xX][0-9a-fA-F]*")  # a host whose last label is one is an IP address (WHATWG URL)


def uri_schema(kind: str) -> dict[str, Any]:
    """JSON Schema of a URI of this format, one of MEDIA."""
    return {
        "type": "string",
        "anyOf": [
            {"pattern": "^https://", "minLength": HTTPS_LENGTH[0], "maxLength": HTTPS_LENGTH[1]},
            {"pattern": "^runway://", "minLength": UPLOAD_LENGTH[0], "maxLength": UPLOAD_LENGTH[1]},
            {"pattern": f"^{DATA_URI_HEADS[kind].pattern}", "maxLength": DATA_URI_MAX_LENGTH},
        ],
    }


def uri_complaint(uri: str, kind: str) -> str | None:
    """What is wrong with this URI of a format of MEDIA, as a sentence, or None. The URI itself is never repeated."""
    if uri.startswith("data:"):
        return _data_complaint(uri, kind)
    if NOT_IN_A_URI.search(uri):
        return "contains spaces or control characters: percent-encode or remove them"
    if uri.startswith("https://"):
        return _length_complaint(uri, HTTPS_LENGTH) or _host_complaint(uri)
    if uri.startswith("runway://"):
        return _length_complaint(uri, UPLOAD_LENGTH)
    it = MEDIA[kind].split(" ", 1)[1]
    example = {"image-uri": "image/png", "video-uri": "video/mp4", "audio-uri": "audio/mpeg"}[kind]
    return (
        f"must start with https:// (Runway fetches the {it} from there), runway:// (an upload) "
        f"or data:{example};base64, (the {it} itself)"
    )


def texts(value: Any) -> Iterator[str]:
    """Every text in this JSON value, names aside."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)


def has_upload(value: Any) -> bool:
    """Whether one of Runway's own uploads is anywhere in this JSON value."""
    return any(text.startswith(UPLOAD) for text in texts(value))


def signature_ends(uri: str) -> datetime | None:
    """When the signature of this address ends, if it has one of a known form; after that the address answers no more.

    Known are Amazon's and Google's version 4 (`X-Amz-Date` and `X-Amz-Expires`, `X-Goog-…`), Amazon's older one and
    CloudFront's (`Expires`, seconds since 1970, beside a signature), and Azure's (`se`, a time, beside `sig`).
    """
    if not uri.startswith("https://") or "?" not in uri:
        return None
    with suppress(ValueError, OverflowError):
        asked = {name.lower(): values[0] for name, values in parse_qs(urlsplit(uri).query).items()}
        for vendor in ("x-amz", "x-goog"):
            if {f"{vendor}-date", f"{vendor}-expires"} <= asked.keys():
                begins = datetime.strptime(asked[f"{vendor}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                return begins + timedelta(seconds=int(asked[f"{vendor}-expires"]))
        if "expires" in asked and {"signature", "key-pair-id", "googleaccessid"} & asked.keys():
            return datetime.fromtimestamp(int(asked["expires"]), UTC)
        if {"se", "sig"} <= asked.keys():
            ends = datetime.fromisoformat(asked["se"])
            return ends if ends.tzinfo else ends.replace(tzinfo=UTC)
    return None


def _length_complaint(uri: str, limits: tuple[int, int]) -> str | None:
    least, most = limits
    return None if least <= len(uri) <= most else f"must be {least} to {most} characters long; got {len(uri)}"


def _host_complaint(uri: str) -> str | None:
    try:
        url = urlsplit(uri)
        host, _ = url.hostname or "", url.port  # reading the port is what checks it
    except ValueError:
        return "is not a URL: its host or port is malformed"
    if "@" in url.netloc:
        return "has a user or a password before its host, which would be kept and shown: sign the address instead"
    labels = unicodedata.normalize("NFKC", host).removesuffix(".").split(".")
    if ":" in host or NUMBER.fullmatch(labels[-1]):
        return "must name a domain, not an IP address: Runway refuses addresses"
    if len(labels) < 2 or not all(HOST_LABEL.fullmatch(label) for label in labels):
        return "must name a public domain such as images.example.com: Runway fetches the image from there"
    return None


def _data_complaint(uri: str, kind: str) -> str | None:
    it = MEDIA[kind].split(" ", 1)[1]
    if len(uri) > DATA_URI_MAX_LENGTH:
        return (
            f"is a data URI of {len(uri)} characters, and Runway takes {DATA_URI_MAX_LENGTH}: "
            f"upload the {it} to Runway or give its https:// URL"
        )
    head = DATA_URI_HEADS[kind].match(uri)
    if not head:
        if kind == "image-uri":
            return "must start with data:image/jpeg;base64, (or jpg, png, webp): Runway takes no other data URI"
        return f"must start with data:{kind[:5]}/…;base64,: Runway takes no other data URI here"
    if not BASE64.fullmatch(uri, head.end()):
        return f"is not valid base64 after the comma: encode the {it} with the standard alphabet, without spaces"
    if kind == "image-uri" and not SIGNATURE.match(uri, head.end()):
        return "is no JPEG, PNG or WebP image, whatever it is called: choose an image"
    return None
