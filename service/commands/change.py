"""Commands that change videos, one or all that match: `retry`, `cancel`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import ids, output
from service.commands.console import confirm, fail, may_be_paid, run_quietly
from service.commands.list_videos import ErrorCode, Model, Query, Statuses, wanted_of
from service.commands.output import AsJson, console, print_json, prints_table
from service.context import Context
from service.errors import NeedsConsent

if TYPE_CHECKING:
    from service.operations.changing import Action
    from service.store.search import Wanted
    from service.videos import Video

cli = typer.Typer()

VideoId = Annotated[
    str | None,
    typer.Argument(metavar="VIDEO", parser=ids.parse, help=f"{ids.HELP} Without it, all that match the filters."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many match, and do nothing.")]

BATCH = 200

ChangeOne = Callable[[Context, str, bool], Coroutine[Any, Any, None]]  # by its digits; as a table
DONE = {"retry": "queued again", "cancel": "cancelled"}


@cli.command()
def retry(
    video: VideoId = None,
    status: Statuses = None,
    model: Model = None,
    error_code: ErrorCode = None,
    q: Query = None,
    accept_double_charge: Annotated[
        bool,
        typer.Option(
            "--accept-double-charge", help="For one video: send it again, although its first request may be paid for."
        ),
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Queue a failed video again, or all that match. Those that may be paid for already are left out."""
    if accept_double_charge and video is None:
        raise typer.BadParameter("is for one VIDEO, not for all that match", param_hint="--accept-double-charge")
    wanted = wanted_of(status, model, error_code, q)
    one = partial(_retry, consent=accept_double_charge)
    _run("retry", one, video, wanted, yes=yes, dry_run=dry_run, as_table=prints_table(as_json))


@cli.command()
def cancel(
    video: VideoId = None,
    status: Statuses = None,
    model: Model = None,
    error_code: ErrorCode = None,
    q: Query = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Cancel a queued or processing video, or all that match; tasks at Runway are deleted by the next tick."""
    wanted = wanted_of(status, model, error_code, q)
    _run("cancel", _cancel, video, wanted, yes=yes, dry_run=dry_run, as_table=prints_table(as_json))


def _run(
    action: Action, change_one: ChangeOne, video: str | None, wanted: Wanted, *, yes: bool, dry_run: bool,
    as_table: bool,
) -> None:  # fmt: skip
    """Change the video that is named, or all that match. Raises BadParameter unless it is one of the two."""
    filters = any((wanted.statuses, wanted.model, wanted.error_code, wanted.q))
    if video is None and not filters:
        raise typer.BadParameter("name a video, or at least one filter", param_hint="VIDEO")
    if video is not None and filters:
        raise typer.BadParameter("name a video, or filters, but not both", param_hint="VIDEO")
    if video is not None:
        run_quietly(lambda ctx: change_one(ctx, video, as_table))
    else:
        run_quietly(lambda ctx: _all(ctx, action, wanted, yes=yes, dry_run=dry_run, as_table=as_table))


async def _cancel(ctx: Context, video: str, as_table: bool) -> None:
    from service.operations import changing

    done = await changing.cancel(ctx, await ids.resolve(ctx, video))
    await _print_video(ctx, done, "is cancelled", as_table)


async def _retry(ctx: Context, digits: str, as_table: bool, *, consent: bool) -> None:
    from service.operations import changing

    video = await ids.resolve(ctx, digits)
    try:
        done = await changing.retry(ctx, video, consent=consent)
    except NeedsConsent:
        fail(may_be_paid(video))
    await _print_video(ctx, done, "is queued again", as_table)


async def _print_video(ctx: Context, video: Video, words: str, as_table: bool) -> None:
    from service.web.views import view

    if as_table:
        print(f"{video.id} {words}")
    else:
        print_json([(await view(ctx, video)).model_dump(mode="json")])


async def _all(ctx: Context, action: Action, wanted: Wanted, *, yes: bool, dry_run: bool, as_table: bool) -> None:
    """Say how many match, ask, and do one batch after the other until none is left."""
    from service.operations import changing

    found = await changing.preview(ctx, action, wanted)
    count, done, words = found.counted, 0, DONE[action]
    if count.left and not dry_run:
        apart = f" ({count.skipped} more may be paid for already, and are left out)" if count.skipped else ""
        confirm(f"{action.capitalize()} {count.left} videos{apart}?", yes=yes)
        with _bar(words, count.left) as advance:
            async for part in changing.batches(ctx, action, found.wanted, BATCH):
                done += part.done
                advance(part.done)
    skipped = count.matched - (count.left if dry_run else done)
    if not as_table:
        print_json([{"matched": count.matched, "done": done, "skipped": skipped}])
    elif dry_run:
        print(f"{count.left} videos would be {words}, {skipped} left out")
    else:
        print(f"{done} videos {words}, {skipped} left out")


@contextlib.contextmanager
def _bar(words: str, total: int) -> Iterator[Callable[[int], None]]:
    if not output.on_terminal(stderr=True):
        yield lambda _done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(words, total=total)
        yield lambda done: progress.advance(task, done)
