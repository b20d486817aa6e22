"""`taxiway enqueue`: one video from the command line, from the request to the file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from service.commands import completion, ids, waiting
from service.commands.console import CTRL_C, run_quietly
from service.commands.output import AsJson, credits, print_json, prints_table, say
from service.commands.request import Wishes, body_of
from service.context import Context
from service.logs import one_line
from service.store.videos import NewVideo
from service.videos import Status, Video

cli = typer.Typer()

JSON_OR_FILE = "a JSON object, or @FILE"


@cli.command()
def enqueue(
    prompt: Annotated[str | None, typer.Option(help="What is to be seen.")] = None,
    image: Annotated[str | None, typer.Option(help="The first frame: an address, or a file.")] = None,
    model: Annotated[str | None, typer.Option(help="Runway's model.", autocompletion=completion.models)] = None,
    ratio: Annotated[str | None, typer.Option(help="Width and height, such as 1280:720.")] = None,
    duration: Annotated[int | None, typer.Option(help="Seconds of video.")] = None,
    operation: Annotated[
        str | None,
        typer.Option(
            help="Runway's operation; by default by whether there is an image.", autocompletion=completion.operations
        ),
    ] = None,
    input: Annotated[str | None, typer.Option(help=f"Runway's own request body: {JSON_OR_FILE}.")] = None,
    metadata: Annotated[str | None, typer.Option(help=f"Yours, returned as it came: {JSON_OR_FILE}.")] = None,
    user_id: Annotated[str | None, typer.Option("--user", help="Whose video it is, in your words.")] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100; higher is sent first.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key gives the same video.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            parser=ids.parse,
            metavar="VIDEO",
            help="Begin with what this video asked for; other options change it.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the finished file goes.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the video has ended.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it and say what it costs; queue nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue one video, and wait for it."""
    if output is not None and not wait:
        raise typer.BadParameter("it is there only after waiting: leave out --no-wait", param_hint="--output")
    if output is not None and not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.absolute().parent}", param_hint="--output")
    wishes = Wishes(
        prompt, image, model, ratio, duration, operation, input, metadata, user_id, priority, source
    )  # fmt: skip
    as_table = prints_table(as_json)

    async def work(ctx: Context) -> bool:
        new = await _checked(ctx, wishes, idempotency_key)
        if dry_run:
            _print_price(new, as_table=as_table)
            return True
        return await _make(ctx, new, output, wait=wait, as_table=as_table)

    if not run_quietly(work):
        raise typer.Exit(1)


async def _checked(ctx: Context, wishes: Wishes, key: str | None) -> NewVideo:
    """Checked and priced as `POST /videos` does. Raises InvalidRequest."""
    from service.web import bodies
    from service.web.schemas import VideoRequest
    from service.web.videos import canonical_hash, checked_key, new_video

    body = await body_of(ctx, wishes)
    asked = bodies.validated(VideoRequest, body)
    return new_video(asked, ctx.settings, checked_key(key), canonical_hash(body), ctx.actor)


def _print_price(new: NewVideo, *, as_table: bool) -> None:
    from service.web.schemas import shortened

    if as_table:
        print(f"{new.operation} with {new.model}: at most {credits(float(new.quoted_credits))} credits")
    else:
        quote = {"operation": new.operation, "model": new.model, "input": shortened(new.input)}
        print_json([quote | {"quoted_credits": float(new.quoted_credits)}])


async def _make(ctx: Context, new: NewVideo, output: Path | None, *, wait: bool, as_table: bool) -> bool:
    """Queue it and, with `wait`, wait until its file is there. Whether all went well."""
    from service.store import videos as store

    video, is_new = await store.enqueue(ctx.database, new)
    if not is_new:
        say(f"this Idempotency-Key was used before: it is video {video.id}")
    elif as_table and wait:
        say(f"queued as {video.id}, for at most {credits(float(new.quoted_credits))} credits")
    size = None
    if wait:
        try:
            with waiting.bar() as show:
                video = await waiting.until_it_ends(ctx, video, show)
                if output is not None and video.status is Status.COMPLETED:
                    size = await waiting.download(ctx, video, output, show)
        except asyncio.CancelledError:  # Ctrl-C
            say(f"the video goes on without you: `taxiway show {video.id}`")
            raise typer.Exit(CTRL_C) from None
    await _print_end(ctx, video, output if size is not None else None, size, as_table=as_table)
    return not wait or video.status is Status.COMPLETED


async def _print_end(ctx: Context, video: Video, path: Path | None, size: int | None, *, as_table: bool) -> None:
    from service.web.views import view

    shown = await view(ctx, video)
    if not as_table:
        saved: dict[str, Any] = {} if path is None else {"saved_as": str(path), "bytes": size}
        print_json([shown.model_dump(mode="json") | saved])
        return
    words = f"{video.id} is {video.status}"
    if video.status is Status.COMPLETED:
        cost = "" if video.cost_credits is None else f" for {credits(float(video.cost_credits))} credits"
        words += f"{cost}: {path or video.video_url}"
    elif video.status is Status.FAILED:
        words += f": {video.error_code}: {video.error_message}"
    elif shown.waiting is not None:
        words += f": {shown.waiting.detail}"
    print(one_line(words))
