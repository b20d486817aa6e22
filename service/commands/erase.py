"""`taxiway erase`: what a user wrote goes, from one video or from all of a user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.commands import ids
from service.commands.change import DryRun, Yes
from service.commands.console import confirm, fail, run_quietly
from service.commands.output import AsJson, print_json, prints_table
from service.context import Context

if TYPE_CHECKING:
    from uuid import UUID

cli = typer.Typer()

KEPT = "The ledger and the history stay; nothing brings the rest back."
LATER = "the ticks erase them, once Runway has deleted their tasks; give the same command again to see"


@cli.command()
def erase(
    video: Annotated[
        str | None, typer.Argument(metavar="VIDEO", parser=ids.parse, help=f"{ids.HELP} Or --user.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="All videos of this `user_id`.")] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Erase what a user wrote: inputs, prompt, metadata, errors, files at Runway. The ledger stays.

    What has not ended is cancelled first. It can be given again at any time, also after Ctrl-C.
    """
    if (video is None) == (user is None):
        raise typer.BadParameter("name a video, or a user with --user", param_hint="VIDEO")
    if user is not None:
        run_quietly(lambda ctx: _all(ctx, user, yes=yes, dry_run=dry_run, as_table=prints_table(as_json)))
    elif video is not None:
        run_quietly(lambda ctx: _one(ctx, video, yes=yes, dry_run=dry_run, as_table=prints_table(as_json)))


async def _one(ctx: Context, digits: str, *, yes: bool, dry_run: bool, as_table: bool) -> None:
    from service.operations import erasing

    video_id: UUID = await ids.resolve(ctx, digits)
    if dry_run:
        print(f"{video_id} would be erased") if as_table else print_json([{"id": str(video_id), "erased": False}])
        return
    confirm(f"Erase the video {video_id}? {KEPT}", yes=yes)
    found = await erasing.erase(ctx, video_id)
    if not as_table:
        print_json([{"id": str(video_id), "erased": found.waits_for is None, "waits_for": found.waits_for}])
    elif found.waits_for is None:
        print(f"{video_id} is erased")
    else:
        print(f"{video_id} will be erased by a tick: {found.waits_for}")


async def _all(ctx: Context, user: str, *, yes: bool, dry_run: bool, as_table: bool) -> None:
    from service.operations import erasing

    found = await erasing.of_user(ctx, user)
    asked = erased = 0
    if found and not dry_run:
        confirm(f"Erase {len(found)} videos of this user? {KEPT}", yes=yes)
        async for part in erasing.erase_all(ctx, found):
            asked, erased = asked + part[0], erased + part[1]
    waiting, held = asked - erased, 0 if dry_run else len(found) - asked
    if not as_table:
        print_json([{"matched": len(found), "erased": erased, "waiting": waiting, "held": held}])
    elif dry_run:
        print(f"{len(found)} videos would be erased")
    else:
        print(f"{erased} videos erased" + (f", {waiting} wait: {LATER}" if waiting else ""))
    if held:
        fail(f"taxiway: {held} videos are held by another transaction, and were left out: give the command again")
