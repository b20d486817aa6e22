"""Waiting for one video, with a progress bar, until its outputs are on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from service.commands import output
from service.commands.console import fail
from service.commands.output import console, say
from service.context import Context
from service.errors import DatabaseUnavailable
from service.logs import one_line
from service.operations.waiting import Reason, waiting

if TYPE_CHECKING:
    from service.videos import Video

LOOK_SECONDS = 1.0
# A database that is restarted is back by then.
PATIENCE_SECONDS = 60.0
FETCH_SECONDS = 60.0  # without a byte
# What does not go by within moments is said in a line of its own, once: the bar is for terminals alone.
WORTH_A_LINE = frozenset(Reason) - {Reason.NEXT_TICK, Reason.SLOTS, Reason.RUNWAY_SLOT}

Show = Callable[[str, float | None], None]  # what is going on, and how far in [0, 1] if that is known


@contextlib.contextmanager
def bar() -> Iterator[Show]:
    """A progress bar on stderr, where that is a terminal; nothing elsewhere."""
    if not output.on_terminal(stderr=True):
        yield lambda _words, _done: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("queued", total=None)

        def show(words: str, done: float | None) -> None:
            progress.update(task, description=words, total=None if done is None else 1.0, completed=done or 0.0)

        yield show


async def until_it_ends(ctx: Context, video: Video, show: Show) -> Video:
    """Poll the video until it has ended, and show what it waits for. A tick elsewhere does the work."""
    from service.operations.reading import read

    said: set[Reason] = set()
    away_since: float | None = None
    while not video.status.terminal:
        try:
            why = (await waiting(ctx, [video])).get(video.id)
            words = f"{video.status.value}: {why.detail}" if why else video.status.value
            show(words, video.progress if video.status == "processing" else None)
            if why and why.reason in WORTH_A_LINE and why.reason not in said:
                said.add(why.reason)
                say(one_line(f"the video waits. {why.detail}"))
            await ctx.sleep(LOOK_SECONDS)
            video = await read(ctx, video.id)
            away_since = None
        except DatabaseUnavailable:
            away_since = ctx.monotonic() if away_since is None else away_since
            if ctx.monotonic() - away_since > PATIENCE_SECONDS:
                raise
            show("the database does not answer", None)
    return video


async def download(ctx: Context, video: Video, path: Path, show: Show) -> dict[Path, int]:
    """Fetch the outputs of a completed video: the first to `path`, the others beside it; the size of each in bytes."""
    from service.operations.reading import live_outputs

    first, *others = await live_outputs(ctx, video)
    sizes = {path: await _fetch(ctx, video, first.url, path, show)}
    for number, other in enumerate(others, start=2):
        beside = path.with_name(f"{path.stem}-{number}{Path(other.name).suffix}")
        sizes[beside] = await _fetch(ctx, video, other.url, beside, show)
    return sizes


async def _fetch(ctx: Context, video: Video, url: str, path: Path, show: Show) -> int:
    """Fetch one file to `path`, which is there as a whole or not at all; its size in bytes."""
    import httpx

    part = path.with_name(f"{path.name}.part")
    try:
        transport = ctx.transport() if ctx.transport else None
        async with (
            httpx.AsyncClient(transport=transport, timeout=FETCH_SECONDS, follow_redirects=True) as client,
            client.stream("GET", url) as response,
        ):
            response.raise_for_status()
            total = int(response.headers.get("content-length", 0))
            size = 0
            with part.open("wb") as file:
                async for chunk in response.aiter_bytes():
                    size += file.write(chunk)
                    show("fetching the file", size / total if total else None)
        part.replace(path)
    except httpx.HTTPStatusError as exc:
        fail(f"taxiway: {_again(video.id)}: its server answers {exc.response.status_code}")
    except httpx.HTTPError as exc:
        fail(f"taxiway: {_again(video.id)}: {type(exc).__name__} {exc}".rstrip())
    except OSError as exc:
        fail(f"taxiway: {path} cannot be written: {exc.strerror}; {_again(video.id)}")
    finally:
        part.unlink(missing_ok=True)
    return size


def _again(video_id: UUID) -> str:
    return f"video {video_id} is completed, but its file was not fetched"
