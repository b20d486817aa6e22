"""Small files that any player opens, different for every seed."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from fractions import Fraction

import av
from av.audio.frame import AudioFrame

LONGEST_SIDE_PIXELS = 320
FRAMES_PER_SECOND = 12
# H.264 as Runway sends it; a PyAV built without x264 still makes a playable file.
VIDEO_CODECS = ("libx264", "mpeg4")
IMAGE_CODECS = {"png": ("png", "rgb24"), "jpeg": ("mjpeg", "yuvj420p"), "webp": ("libwebp", "yuv420p")}
AUDIO_CODECS = {"mp3": "libmp3lame", "wav": "pcm_s16le", "flac": "flac", "ogg": "libopus"}
SAMPLES_PER_SECOND = 48_000
SEQUENCE_FRAMES = 3


def encode(kind: str, seed: str, ratio: str = "1280:720", prompt: str = "") -> bytes:
    """A file of one of the kinds of outputs.py."""
    if kind in IMAGE_CODECS:
        return encode_image(seed, ratio, kind)
    if kind in AUDIO_CODECS:
        return encode_audio(seed, kind)
    if kind == "svg":
        return _vector(seed, ratio)
    if kind == "zip":
        return _sequence(seed, ratio)
    return encode_mp4(seed, ratio, prompt=prompt, container=kind)


def frame_size(ratio: str) -> tuple[int, int]:
    """Width and height in the proportion of Runway's `1280:720`, small, and even as H.264 wants them."""
    width, height = (int(side) for side in ratio.split(":"))
    scale = LONGEST_SIDE_PIXELS / max(width, height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


@functools.lru_cache(maxsize=128)
def encode_mp4(
    seed: str, ratio: str = "1280:720", seconds: float = 1.5, prompt: str = "", container: str = "mp4"
) -> bytes:
    """A bright bar that crosses a coloured field; the seed decides the colours. Takes some 20 ms of CPU.

    The file says in its metadata, as `comment`, from which prompt it was made: so a film can be matched with its video.
    """
    width, height = frame_size(ratio)
    hues = hashlib.sha256(seed.encode()).digest()
    target = io.BytesIO()
    with av.open(target, "w", format=container) as film:
        film.metadata["comment"] = prompt
        stream = film.add_stream(_codec(), rate=FRAMES_PER_SECOND)
        assert isinstance(stream, av.VideoStream)  # noqa: S101  # what a video codec makes
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        total = max(1, round(seconds * FRAMES_PER_SECOND))
        for index in range(total):
            frame = _frame(width, height, hues, index / total)
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_PER_SECOND)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return target.getvalue()


def prompt_of(film: bytes) -> str:
    """The prompt that is written into a film of `encode_mp4`."""
    with av.open(io.BytesIO(film)) as container:
        return container.metadata.get("comment", "")


@functools.lru_cache(maxsize=128)
def encode_image(seed: str, ratio: str, kind: str, done: float = 0.5) -> bytes:
    """One frame of the film, as a file of its own."""
    width, height = frame_size(ratio)
    codec, pixels = IMAGE_CODECS[kind]
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)  # noqa: S101  # what an image codec is
    context.width, context.height, context.pix_fmt, context.time_base = width, height, pixels, Fraction(1, 1)
    frame = _frame(width, height, hashlib.sha256(seed.encode()).digest(), done).reformat(format=pixels)
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


@functools.lru_cache(maxsize=128)
def encode_audio(seed: str, kind: str, seconds: float = 1.0) -> bytes:
    """A square wave; the seed decides its pitch."""
    half = 60 + hashlib.sha256(seed.encode()).digest()[0]  # samples of half a period: 76 to 400 Hz
    high, low = (value.to_bytes(2, "little", signed=True) for value in (4_000, -4_000))
    wave = (high * half + low * half) * (round(seconds * SAMPLES_PER_SECOND) // (2 * half))
    target = io.BytesIO()
    with av.open(target, "w", format=kind) as film:
        stream = film.add_stream(AUDIO_CODECS[kind], rate=SAMPLES_PER_SECOND)
        assert isinstance(stream, av.AudioStream)  # noqa: S101  # what an audio codec makes
        stream.layout = "mono"
        frame = AudioFrame(format="s16", layout="mono", samples=len(wave) // 2)
        frame.planes[0].update(wave.ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts = SAMPLES_PER_SECOND, 0
        film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return target.getvalue()


def _sequence(seed: str, ratio: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for index in range(SEQUENCE_FRAMES):
            name = zipfile.ZipInfo(f"frame.{index + 1:04d}.png")  # with a fixed date: the same task, the same bytes
            archive.writestr(name, encode_image(seed, ratio, "png", index / SEQUENCE_FRAMES))
    return target.getvalue()


def _vector(seed: str, ratio: str) -> bytes:
    width, height = frame_size(ratio)
    colour = hashlib.sha256(seed.encode()).hexdigest()[:6]
    field = f'<rect width="{width}" height="{height}" fill="#{colour}"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{field}</svg>'.encode()


def _codec() -> str:
    return next(name for name in VIDEO_CODECS if name in av.codecs_available)


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
