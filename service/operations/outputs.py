"""What a video came to: films, images, sounds, archives; one file for each output of its task. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from service.runway.catalogue import media_type
from service.videos import Status, Video

# The type of an output by how the path of its address ends; the first ending of a type is that of its download.
MEDIA_TYPES = {
    ".mp4": "video/mp4", ".mov": "video/quicktime", ".webm": "video/webm", ".mkv": "video/x-matroska",
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif",
    ".mp3": "audio/mpeg", ".wav": "audio/wav", ".m4a": "audio/mp4", ".flac": "audio/flac", ".ogg": "audio/ogg",
    ".zip": "application/zip",
}  # fmt: skip


@dataclass(frozen=True)
class Output:
    """One file, at Runway's own address. `name`: for its download. `bytes`: its size, where that is known."""

    url: str
    media_type: str
    name: str
    bytes: int | None
    expires_at: datetime | None

    @property
    def kind(self) -> str:
        """How it is shown: `video`, `image` or `audio`; `application` is downloaded alone."""
        return self.media_type.partition("/")[0]


def outputs(video: Video) -> list[Output]:
    """The outputs of a completed video, in Runway's order; of another none."""
    if video.status is not Status.COMPLETED:
        return []
    usual = media_type(video.operation, video.model, video.input or {})
    urls = video.output or ([video.video_url] if video.video_url else [])
    types = [MEDIA_TYPES.get(_ending(url)) or usual for url in urls]
    return [
        Output(url, kind, _name(video, number, kind), None, video.video_url_expires_at)
        for number, (url, kind) in enumerate(zip(urls, types, strict=True), start=1)
    ]


def _name(video: Video, number: int, kind: str) -> str:
    ending = next((ending for ending, known in MEDIA_TYPES.items() if known == kind), "")
    return f"{video.id}{'' if number == 1 else f'-{number}'}{ending}"


def _ending(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:  # an address that was written with SQL
        return ""
    return PurePosixPath(path).suffix.lower()
