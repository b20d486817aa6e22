"""`taxiway wait`: submit one video in its turn, and follow it until it has ended."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from service.commands import ids
from service.commands.console import fail, run_quietly
from service.commands.list_videos import VideoId
from service.commands.output import AsJson, Every, prints_table
from service.commands.pause import seconds_of
from service.commands.show import watch_until
from service.context import Context
from service.deadline import Deadline
from service.settings import need
from service.videos import Status

cli = typer.Typer()


@cli.command()
def wait(
    video: VideoId,
    seconds: Annotated[
        str | None,
        typer.Option("--for", parser=seconds_of, metavar="TIME", help="For how long at most: 90s, 10min, 1h."),
    ] = None,
    every: Every = 2.0,
    as_json: AsJson = False,
) -> None:
    """Submit a video in its turn, without a tick, and follow it until it has ended. Exit code 0 if it is completed."""
    lasting = math.inf if seconds is None else float(seconds)
    as_table = prints_table(as_json)

    async def work(ctx: Context) -> Status:
        need(ctx.settings, "runway_key")
        deadline = Deadline(ctx.monotonic, ctx.monotonic() + lasting)
        return await watch_until(ctx, await ids.resolve(ctx, video), every, deadline, as_table=as_table)

    status: Status = run_quietly(work)
    if not status.terminal:
        fail(f"taxiway: the video is still {status}: it goes on without you")
    if status is not Status.COMPLETED:
        raise typer.Exit(1)
