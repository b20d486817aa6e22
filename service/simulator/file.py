"""A file over HTTP, whole or in one range: players ask for ranges to seek."""

from __future__ import annotations

import re

from starlette.responses import Response


def file_response(content: bytes, media_type: str, wanted: str | None) -> Response:
    """200 with all of it, 206 with the one range that the `Range` header names, or 416."""
    headers = {"accept-ranges": "bytes"}
    span = _span(wanted, len(content))
    if span is None:
        return Response(content, 200, headers, media_type)
    begin, end = span
    if begin >= end:
        return Response(b"", 416, headers | {"content-range": f"bytes */{len(content)}"})
    headers["content-range"] = f"bytes {begin}-{end - 1}/{len(content)}"
    return Response(content[begin:end], 206, headers, media_type)


def _span(wanted: str | None, length: int) -> tuple[int, int] | None:
    """Begin and end (exclusive); None without a range, or for a form that may be ignored (RFC 9110)."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if not match or match[1] == match[2] == "":
        return None
    if not match[1]:
        return max(0, length - int(match[2])), length
    return int(match[1]), min(int(match[2]) + 1, length) if match[2] else length
