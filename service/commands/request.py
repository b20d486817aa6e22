"""What `enqueue` makes of its options: the same body that `POST /videos` takes."""

from __future__ import annotations

import base64
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import typer

from service.commands import upload
from service.context import Context
from service.errors import Malformed
from service.runway.assets import DATA_URI_MAX_LENGTH


@dataclass(frozen=True)
class Wishes:
    """The options of `enqueue` that say what the video shall be; None is what was not given."""

    prompt: str | None
    image: str | None
    model: str | None
    ratio: str | None
    duration: int | None
    operation: str | None
    input: str | None
    metadata: str | None
    user_id: str | None
    priority: int | None
    count: int | None
    max_credits: float | None


async def body_of(ctx: Context, wishes: Wishes, source: UUID | None = None) -> dict[str, Any]:
    """The body for `POST /videos`: what the video `source` had, then --input, then the single options."""
    given: dict[str, Any] = {
        "promptText": wishes.prompt,
        "promptImage": None if wishes.image is None else await image(ctx, wishes.image),
        "model": wishes.model,
        "ratio": wishes.ratio,
        "duration": wishes.duration,
    }
    body: dict[str, Any] = {"input": {}}
    if source is not None:
        body |= await _of_video(ctx, source)
    body["input"] |= read_object(wishes.input, "--input") or {}
    body["input"] |= {name: value for name, value in given.items() if value is not None}
    others = {
        "operation": wishes.operation,
        "priority": wishes.priority,
        "count": wishes.count,
        "max_credits": wishes.max_credits,
        "metadata": read_object(wishes.metadata, "--metadata"),
        "user_id": wishes.user_id,
    }
    body |= {name: value for name, value in others.items() if value is not None}
    return body


async def _of_video(ctx: Context, video_id: UUID) -> dict[str, Any]:
    from service.operations.reading import find

    video = await find(ctx, video_id)
    copied = {"operation": video.operation, "metadata": video.metadata, "priority": video.priority or None}
    known = {name: value for name, value in copied.items() if value is not None}
    return known | {"input": dict(video.input or _written_by_the_app(video.prompt, video.image_url))}


def _written_by_the_app(prompt: str | None, image_url: str | None) -> dict[str, Any]:
    """The input of a row that no tick has read yet."""
    return {name: value for name, value in (("promptText", prompt), ("promptImage", image_url)) if value}


async def image(ctx: Context, text: str) -> str:
    """An address as it is; a file as a data URI, or uploaded where that would be too long. Raises BadParameter."""
    found = _image(text)
    return found if isinstance(found, str) else (await upload.send(ctx, found)).uri


def _image(text: str) -> str | Path:
    """An address, a data URI, or a file that is too large for one."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
        return text
    path = Path(text).expanduser()
    if not path.is_file():
        raise typer.BadParameter(f"{text} is neither an address nor a file", param_hint="--image")
    kind = mimetypes.guess_type(path.name)[0] or ""
    if not kind.startswith("image/"):
        raise typer.BadParameter(f"{text} does not have the name of an image (.png, .jpg, .webp)", param_hint="--image")
    uri = f"data:{kind};base64,{base64.b64encode(_bytes(path, '--image')).decode()}"
    return uri if len(uri) <= DATA_URI_MAX_LENGTH else path


def read_object(text: str | None, option: str) -> dict[str, Any] | None:
    """A JSON object, written out or as @FILE. Raises BadParameter."""
    from service.web.bodies import parse

    if text is None:
        return None
    raw = _bytes(Path(text[1:]).expanduser(), option) if text.startswith("@") else text.encode(errors="replace")
    try:
        return parse(raw)
    except Malformed as exc:
        raise typer.BadParameter(exc.detail.replace("the body", "this"), param_hint=option) from None


def _bytes(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise typer.BadParameter(f"{path} cannot be read: {exc.strerror}", param_hint=option) from None
