"""Commands about what runs and what rests: `ticks`, `lanes`, `pause`, `resume`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import completion
from service.commands.console import fail, run_quietly
from service.commands.output import AsJson, ago, console, for_people, print_json, table, until
from service.house import House

if TYPE_CHECKING:
    from rich.console import RenderableType

cli = typer.Typer()

Watch = Annotated[bool, typer.Option("--watch", help="Go on, and show what changes, until Ctrl-C.")]
Every = Annotated[float, typer.Option(min=0.2, help="Seconds between two looks of --watch.")]


@cli.command()
def ticks(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most, the newest first.")] = 20,
    watch: Watch = False,
    every: Every = 2.0,
    as_json: AsJson = False,
) -> None:
    """The last ticks, and what each of them did."""

    async def look(house: House) -> list[dict[str, Any]]:
        from service.store import ticks
        from service.web.models_operations import TickView

        return [TickView(**row).model_dump(mode="json") for row in await ticks.recent(house.database, limit)]

    _show(look, "id", _ticks, every if watch else None, people=for_people(as_json))


def _ticks(found: list[dict[str, Any]]) -> RenderableType:
    from service.tick import summary

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


@cli.command("lanes")
def lanes_(watch: Watch = False, every: Every = 2.0, as_json: AsJson = False) -> None:
    """Every lane: what waits in it, what is at Runway, and whether it is paused, why and until when."""

    async def look(house: House) -> list[dict[str, Any]]:
        from service.store import lanes
        from service.web.models_operations import LaneView

        return [LaneView.of(dict(row)).model_dump(mode="json") for row in await lanes.every(house.database)]

    _show(look, "lane", _lanes, every if watch else None, people=for_people(as_json))


def _lanes(found: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            lane["lane"], "paused" if lane["paused"] else "open", lane["queued"], lane["in_flight"], lane["reason"],
            until(lane["paused_until"]), lane["detail"],
        )
        for lane in found
    ]  # fmt: skip
    return table(("lane", "state", "queued", "in flight", "reason", "for", "why"), rows, wide=["why"])


def _show(
    look: Callable[[House], Awaitable[list[dict[str, Any]]]], key: str,
    draw: Callable[[list[dict[str, Any]]], RenderableType], every: float | None, *, people: bool,
) -> None:  # fmt: skip
    async def work(house: House) -> None:
        from service.commands.output import watch

        if every is not None:
            await watch(lambda: look(house), key, draw, lambda: house.sleep(every), people=people)
        elif people:
            console().print(draw(await look(house)))
        else:
            print_json(await look(house))

    run_quietly(work)


@cli.command()
def pause(
    lane: Annotated[str, typer.Argument(help="A model, or '*' for all.", autocompletion=completion.lanes)],
    seconds: Annotated[float, typer.Option(min=1, help="For how long.")] = 3600,
    why: Annotated[str, typer.Option(help="For whoever reads it later.")] = "paused by hand",
    as_json: AsJson = False,
) -> None:
    """Send nothing for a model, or for all, for a while. What is queued stays queued."""
    from service.store import lanes

    known = completion.known_models()
    if lane not in ("*", *known):
        fail(f"taxiway: there is no lane {lane!r}; there are: *, {', '.join(known)}")
    run_quietly(lambda house: lanes.pause(house.database, lane, seconds, "by_hand", why))
    if for_people(as_json):
        print(f"{lane} is paused for {seconds:g} s")
    else:
        print_json([{"lane": lane, "paused": True, "seconds": seconds}])


@cli.command()
def resume(
    lane: Annotated[
        str, typer.Argument(help="A model, or '*' for the pause of all.", autocompletion=completion.lanes)
    ] = "*",
    as_json: AsJson = False,
) -> None:
    """End a pause now."""
    from service.store import lanes

    if not run_quietly(lambda house: lanes.resume(house.database, lane)):
        fail(f"taxiway: {lane} was not paused")
    if for_people(as_json):
        print(f"{lane} is open")
    else:
        print_json([{"lane": lane, "paused": False}])
