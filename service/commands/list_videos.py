"""`taxiway videos`: the list, once or until Ctrl-C; and the filters that other commands share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import completion, ids, output
from service.commands.console import run_quietly
from service.commands.output import AsJson, ago, console, cost, print_json, prints_table, table
from service.context import Context
from service.videos import Status

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.store.search import Wanted

cli = typer.Typer()

Statuses = Annotated[list[Status] | None, typer.Option("--status", help="Only these; may be given several times.")]
Model = Annotated[
    str | None, typer.Option(help="Only videos of this model of Runway's.", autocompletion=completion.models)
]
ErrorCode = Annotated[
    str | None, typer.Option(help="Only videos that failed for this reason.", autocompletion=completion.reasons)
]
Query = Annotated[
    str | None, typer.Option("--q", help="Only these: an id, a Runway id, or words of prompt and metadata.")
]
VideoId = Annotated[str, typer.Argument(metavar="VIDEO", parser=ids.parse, help=ids.HELP)]

PAGE = 200


def wanted_of(status: list[Status] | None, model: str | None, error_code: str | None, q: str | None) -> Wanted:
    """The filters of a command line. None is what was not given."""
    from service.store.search import Wanted

    statuses = [one.value for one in status] if status else None
    return Wanted(statuses=statuses, model=model, error_code=error_code, q=q)


@cli.command()
def videos(
    status: Statuses = None,
    model: Model = None,
    error_code: ErrorCode = None,
    q: Query = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many at most, the newest first.")] = 50,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and show what changes, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two rounds of --watch.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """List videos, newest first."""
    wanted = wanted_of(status, model, error_code, q)
    as_table = prints_table(as_json)

    def fetch(ctx: Context) -> Callable[[], Awaitable[list[dict[str, Any]]]]:
        async def once() -> list[dict[str, Any]]:
            return [view async for view in views(ctx, wanted, limit)]

        return once

    async def work(ctx: Context) -> None:
        if watch:
            await output.watch(fetch(ctx), "id", _table, lambda: ctx.sleep(every), as_table=as_table)
        elif as_table:
            console().print(_table(await fetch(ctx)()))
        else:
            async for view in views(ctx, wanted, limit):
                print_json([view])

    run_quietly(work)


async def views(ctx: Context, wanted: Wanted, limit: int) -> AsyncIterator[dict[str, Any]]:
    """The videos that are meant as the API shows them, newest first, read page by page."""
    from service.operations.reading import page
    from service.web.schemas import VideoPage

    before = None
    while limit > 0:
        found = await page(ctx, wanted, before, min(limit, PAGE))
        for view in VideoPage.of(found).videos:
            yield view.model_dump(mode="json")
        limit -= len(found.videos)
        before = found.next
        if before is None:
            return


def _table(found: list[dict[str, Any]]) -> RenderableType:
    headings = ("video", "status", "created", "model", "credits", "what")
    shown = ids.shortened([view["id"] for view in found])
    rows = [
        (
            shown[view["id"]], view["status"], ago(view["created_at"]), view["model"],
            cost(view), _what(view),
        )
        for view in found
    ]  # fmt: skip
    return table(headings, rows, wide=["what"]) if rows else "no videos"


def _what(view: dict[str, Any]) -> str:
    """What matters most of a video: why it waits or failed, how far it is, or what was asked for."""
    if (error := view["error"]) and view["status"] != "queued":
        return ": ".join(filter(None, (error["code"], error["message"])))
    if view["status"] == "processing" and view["progress"] is not None:
        return f"{view['progress']:.0%}"
    prompt = str((view["input"] or {}).get("promptText", ""))
    return " · ".join(filter(None, (view["waiting"]["detail"], prompt))) if view["waiting"] else prompt
