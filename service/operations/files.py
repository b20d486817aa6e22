"""The files that a video came to. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from service.runway.catalogue import media_type
from service.videos import Status, Video

# By how the path of an address ends; where that says nothing, the format of the request does.
MEDIA_TYPES = {
    ".mp4": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm", ".zip": "application/zip",
    ".wav": "audio/wav", ".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif",
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """One file, at Runway's own address. `bytes`: its size, where that is known."""

    url: str
    media_type: str
    bytes: int | None
    expires_at: datetime | None


def files(video: Video) -> list[File]:
    """The files of a completed video, in Runway's order; of another none."""
    if video.status is not Status.COMPLETED:
        return []
    usual = media_type(video.operation, video.model, video.input or {})
    urls = video.output or ([video.video_url] if video.video_url else [])
    return [File(url, _by_ending(url) or usual, None, video.video_url_expires_at) for url in urls]


def _by_ending(url: str) -> str | None:
    try:
        path = urlsplit(url).path
    except ValueError:  # an address that was written with SQL
        return None
    return MEDIA_TYPES.get(PurePosixPath(path).suffix.lower())
