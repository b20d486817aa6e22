"""Commands about what runs and what rests: `ticks`, `models`, `pause`, `resume`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import completion
from service.commands.console import confirm, fail, run_quietly
from service.commands.output import (
    AsJson,
    Every,
    Watch,
    ago,
    console,
    print_json,
    prints_table,
    say,
    table,
    until,
)
from service.context import Context
from service.operations.rhythm import span

if TYPE_CHECKING:
    from rich.console import RenderableType

cli = typer.Typer()

UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


@cli.command()
def ticks(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most, the newest first.")] = 20,
    watch: Watch = False,
    every: Every = 2.0,
    as_json: AsJson = False,
) -> None:
    """The last ticks, and what each of them did."""

    async def fetch(ctx: Context) -> list[dict[str, Any]]:
        from service.store import ticks
        from service.web.schemas_operations import TickView

        return [TickView(**row).model_dump(mode="json") for row in await ticks.recent(ctx.database, limit)]

    _show(fetch, "id", _ticks, every if watch else None, as_table=prints_table(as_json))


def _ticks(found: list[dict[str, Any]]) -> RenderableType:
    from service.tick_report import summary

    if not found:
        return "no tick has run yet: `taxiway worker`, or whatever calls /process-queued, does it"
    rows = [
        (
            ago(tick["started_at"]), tick["kind"], tick["ref"],
            None if tick["seconds"] is None else f"{tick['seconds']:.2f} s",
            "failed" if tick["error"] else "ok", ": ".join(filter(None, (tick["error"], summary(tick["counts"])))),
        )
        for tick in found
    ]  # fmt: skip
    return table(("ago", "kind", "tick", "took", "result", "what"), rows, wide=["what"])


@cli.command("models")
def models_(watch: Watch = False, every: Every = 2.0, as_json: AsJson = False) -> None:
    """Every model: what waits in it, what is at Runway, and whether it is paused, why and until when."""

    async def fetch(ctx: Context) -> list[dict[str, Any]]:
        from service.store import models
        from service.web.schemas_operations import ModelView

        return [ModelView.of(dict(row)).model_dump(mode="json") for row in await models.every(ctx.database)]

    _show(fetch, "model", _models, every if watch else None, as_table=prints_table(as_json))


def _models(found: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            model["model"], "paused" if model["paused"] else "open", model["queued"], model["in_flight"],
            model["may_be_in_flight"], model["reason"], until(model["paused_until"]), model["detail"],
        )
        for model in found
    ]  # fmt: skip
    return table(("model", "state", "queued", "in flight", "allowed", "reason", "for", "why"), rows, wide=["why"])


def _show(
    fetch: Callable[[Context], Awaitable[list[dict[str, Any]]]], key: str,
    draw: Callable[[list[dict[str, Any]]], RenderableType], every: float | None, *, as_table: bool,
) -> None:  # fmt: skip
    async def work(ctx: Context) -> None:
        from service.commands.output import watch

        if every is not None:
            await watch(lambda: fetch(ctx), key, draw, lambda: ctx.sleep(every), as_table=as_table)
        elif as_table:
            console().print(draw(await fetch(ctx)))
        else:
            print_json(await fetch(ctx))

    run_quietly(work)


def seconds_of(given: str) -> float:
    """Seconds of `90`, `90s`, `30min`, `1h` or `2d`. Raises BadParameter."""
    from service.web.schemas_operations import LONGEST_PAUSE_SECONDS

    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|m|min|h|d|)", given.strip().lower())
    seconds = float(found[1]) * UNIT_SECONDS[found[2]] if found else 0.0
    if not 1 <= seconds <= LONGEST_PAUSE_SECONDS:
        longest = span(LONGEST_PAUSE_SECONDS)
        raise typer.BadParameter(f"{given!r} is no time from 1 s to {longest}: give it as 90s, 30min, 1h or 2d")
    return seconds


@cli.command()
def pause(
    model: Annotated[str, typer.Argument(help="A model, or all.", autocompletion=completion.models_or_all)],
    seconds: Annotated[
        str,
        typer.Option("--for", "--seconds", parser=seconds_of, metavar="TIME", help="For how long: 90s, 30min, 1h, 2d."),
    ] = "1h",
    why: Annotated[str, typer.Option(help="The reason, shown beside the pause.")] = "paused manually",
    as_json: AsJson = False,
) -> None:
    """Send nothing for a model, or for all, for a while. What is queued stays queued."""
    from service.operations import pausing
    from service.web.bodies import validated
    from service.web.schemas_operations import PauseRequest

    lasting = float(seconds)

    async def work(ctx: Context) -> None:
        asked = validated(PauseRequest, {"seconds": lasting, "why": why})
        await pausing.pause(ctx, model, asked.seconds, asked.why)

    run_quietly(work)
    if prints_table(as_json):
        print(f"{model} is paused for {span(lasting)}")
    else:
        print_json([{"model": model, "paused": True, "seconds": lasting}])


@cli.command()
def resume(
    model: Annotated[
        str, typer.Argument(help="A model, or all: the pause of all.", autocompletion=completion.models_or_all)
    ] = "all",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a pause now. Of a database that was restored, it first says what may be sent twice."""
    from service.operations import pausing

    async def work(ctx: Context) -> bool:
        if words := await pausing.consequences(ctx, model):
            say(words)
            confirm("Take this database for the right one, and send what is queued?", yes=yes)
        return await pausing.resume(ctx, model)

    if not run_quietly(work):
        fail(f"taxiway: {model} was not paused")
    if prints_table(as_json):
        print(f"{model} is open")
    else:
        print_json([{"model": model, "paused": False}])
