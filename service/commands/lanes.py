"""Commands about lanes: `pause`, `resume`."""

from __future__ import annotations

from typing import Annotated

import typer

from service.commands import completion
from service.commands.console import fail, run

cli = typer.Typer()


@cli.command()
def pause(
    lane: Annotated[str, typer.Argument(help="A model, or '*' for all.", autocompletion=completion.lanes)],
    seconds: Annotated[float, typer.Option(min=1, help="For how long.")] = 3600,
    why: Annotated[str, typer.Option(help="For whoever reads it later.")] = "paused by hand",
) -> None:
    """Send nothing for a model, or for all, for a while. What is queued stays queued."""
    from service.store import lanes

    known = completion.known_models()
    if lane not in ("*", *known):
        fail(f"taxiway: there is no lane {lane!r}; there are: *, {', '.join(known)}")
    run(lambda house: lanes.pause(house.database, lane, seconds, "by_hand", why))
    print(f"{lane} is paused for {seconds:g} s")


@cli.command()
def resume(
    lane: Annotated[
        str, typer.Argument(help="A model, or '*' for the pause of all.", autocompletion=completion.lanes)
    ] = "*",
) -> None:
    """End a pause now."""
    from service.store import lanes

    if not run(lambda house: lanes.resume(house.database, lane)):
        fail(f"taxiway: {lane} was not paused")
    print(f"{lane} is open")
