"""A small MP4 that any player opens, different for every seed."""

from __future__ import annotations

import functools
import hashlib
import io
from fractions import Fraction

import av

LONGEST_SIDE_PIXELS = 320
FRAMES_PER_SECOND = 12
CODECS = (
    "libx264",
    "mpeg4",
)  # H.264 as Runway sends it; a PyAV built without x264 still makes a playable file


def frame_size(ratio: str) -> tuple[int, int]:
    """Width and height in the proportion of Runway's `1280:720`, small, and even as H.264 wants them."""
    width, height = (int(side) for side in ratio.split(":"))
    scale = LONGEST_SIDE_PIXELS / max(width, height)
    return round(width * scale / 2) * 2, round(height * scale / 2) * 2


@functools.lru_cache(maxsize=128)
def encode_mp4(seed: str, ratio: str = "1280:720", seconds: float = 1.5, prompt: str = "") -> bytes:
    """A bright bar that crosses a coloured field; the seed decides the colours. Takes some 20 ms of CPU.

    The file says in its metadata, as `comment`, from which prompt it was made: so a film can be matched with its video.
    """
    width, height = frame_size(ratio)
    hues = hashlib.sha256(seed.encode()).digest()
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        container.metadata["comment"] = prompt
        stream = container.add_stream(_codec(), rate=FRAMES_PER_SECOND)
        assert isinstance(stream, av.VideoStream)  # noqa: S101  # what a video codec makes
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        total = max(1, round(seconds * FRAMES_PER_SECOND))
        for index in range(total):
            frame = _frame(width, height, hues, index / total)
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def prompt_of(film: bytes) -> str:
    """The prompt that is written into a film of `encode_mp4`."""
    with av.open(io.BytesIO(film)) as container:
        return container.metadata.get("comment", "")


def _codec() -> str:
    return next(name for name in CODECS if name in av.codecs_available)


def _frame(width: int, height: int, hues: bytes, done: float) -> av.VideoFrame:
    """Planes are filled by bytes: numpy would be a dependency of 20 MB for three rectangles."""
    frame = av.VideoFrame(width, height, "yuv420p")
    bar = int(done * width)
    luma = bytearray([48 + hues[0] % 96]) * width
    luma[bar : bar + width // 10] = bytes([220]) * len(luma[bar : bar + width // 10])
    rows = (bytes(luma), bytes([hues[1]]) * (width // 2), bytes([hues[2]]) * (width // 2))
    for plane, row in zip(frame.planes, rows, strict=True):
        padding = bytes(plane.line_size - len(row))
        plane.update((row + padding) * plane.height)
    return frame
