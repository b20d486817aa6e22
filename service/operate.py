"""Commands for whoever answers for the money: what was paid, what is unknown, which lanes rest."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any
from uuid import UUID

import typer

from service.console import fail, run
from service.errors import NotFound
from service.house import House
from service.settings import need

cli = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each, for programs.")]


@cli.command()
def audit(
    video: Annotated[UUID | None, typer.Argument(help="The id of one video; all of them without.")] = None,
    as_json: AsJson = False,
) -> None:
    """What the ledger says was paid: each video with its verdict, and the most that can have been paid twice."""
    from service.store.audit import Audit, Totals, audits

    totals = Totals()

    async def work(house: House) -> None:
        async for one in audits(house.database, video):
            totals.add(one)
            if as_json:
                print(json.dumps(_plain(one) | {"verdict": one.verdict}))
            elif video is not None or one.twice or one.unknown:
                print(f"{one.video_id}  {one.status or 'deleted':<10}  {one.submissions} submissions  {one.verdict}")
        if video is not None and not totals.videos:
            raise NotFound(f"no submission of a video {video} was ever permitted")

    def _plain(one: Audit) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(one), default=str))  # type: ignore[no-any-return]  # an object

    run(work)
    if video is None and not as_json:
        print(
            f"{totals.videos} videos, {totals.submissions} submissions: {totals.paid.normalize():f} credits paid, "
            f"at most {totals.most.normalize():f}; {totals.unknown} with an unknown outcome; "
            f"at most {totals.twice.normalize():f} credits paid twice, "
            f"{totals.twice_without_consent} videos of that without consent"
        )


@cli.command("adopt-task")
def adopt_task(
    video: Annotated[UUID, typer.Argument(help="The id of the video.")],
    task: Annotated[str, typer.Argument(help="The id of its task, from Runway's Request History.")],
) -> None:
    """Tell Taxiway which task an unknown submission made. It is checked with Runway first."""
    from service.steps.adopt import adopt

    async def work(house: House) -> str:
        need(house.settings, "runway_key")
        return await adopt(house, video, task)

    print(ADOPTED[run(work)])


ADOPTED = {
    "moved": "adopted: the video is processing again",
    "elsewhere": "booked as a surplus: the video has moved on, and the next tick deletes this task",
    "locked": "booked: another transaction holds the row, and the next tick completes it",
    "held": "nothing changed: this task is in the ledger already",
}


@cli.command()
def pause(
    lane: Annotated[str, typer.Argument(help="A model, or '*' for all.")],
    seconds: Annotated[float, typer.Option(min=1, help="For how long.")] = 3600,
    why: Annotated[str, typer.Option(help="For whoever reads it later.")] = "paused by hand",
) -> None:
    """Send nothing for a model, or for all, for a while. What is queued stays queued."""
    from service.runway.catalogue import models, operations
    from service.store import lanes

    known = sorted({model for operation in operations() for model in models(operation)})
    if lane not in ("*", *known):
        fail(f"taxiway: there is no lane {lane!r}; there are: *, {', '.join(known)}")
    run(lambda house: lanes.pause(house.database, lane, seconds, "by_hand", why))
    print(f"{lane} is paused for {seconds:g} s")


@cli.command()
def resume(lane: Annotated[str, typer.Argument(help="A model, or '*' for the pause of all.")] = "*") -> None:
    """End a pause now."""
    from service.store import lanes

    if not run(lambda house: lanes.resume(house.database, lane)):
        fail(f"taxiway: {lane} was not paused")
    print(f"{lane} is open")
