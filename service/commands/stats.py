"""`taxiway stats`: what entered and what ended of late, and how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.console import run_quietly
from service.commands.output import AsJson, console, print_json, prints_table, span, table
from service.context import Context
from service.store.throughput import Span

if TYPE_CHECKING:
    from rich.console import RenderableType

cli = typer.Typer()

TIMES = ("submit_p50", "submit_p95", "done_p50", "done_p95")


@cli.command()
def stats(
    window: Annotated[Span, typer.Option(help="How far back: by the minute, quarter of an hour, or hour.")] = Span.HOUR,
    as_json: AsJson = False,
) -> None:
    """What was enqueued, completed and failed of late, and how long it took. Tables leave empty stretches out.

    The times count from when a video was created: until it was sent to Runway, and until it was completed.
    """

    async def work(ctx: Context) -> None:
        from service.store import throughput
        from service.web.schemas_operations import BucketView, Stats

        view = Stats.of(window, await throughput.series(ctx.database, window), await throughput.in_flight(ctx.database))
        buckets: list[BucketView] = view.buckets
        found = [bucket.model_dump(mode="json") for bucket in buckets]
        if not prints_table(as_json):
            print_json(found)
            return
        console().print(_table([one for one in found if one["enqueued"] or one["completed"] or one["failed"]]))
        flying = ", ".join(f"{model}: {count}" for model, count in view.in_flight.items())
        console().print(f"at Runway now: {flying or 'nothing'}")

    run_quietly(work)


def _table(found: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            bucket["at"][:16].replace("T", " "), bucket["enqueued"], bucket["completed"], bucket["failed"],
            *(None if bucket[name] is None else span(bucket[name]) for name in TIMES),
        )
        for bucket in found
    ]  # fmt: skip
    headings = ("from (UTC)", "enqueued", "completed", "failed", "taken p50", "p95", "done p50", "p95")
    return table(headings, rows) if rows else "nothing entered and nothing ended"
