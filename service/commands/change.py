"""Commands that change videos, one or all that match: `retry`, `cancel`."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands import ids, output
from service.commands.console import confirm, fail, run_quietly
from service.commands.output import AsJson, console, print_json, prints_table
from service.commands.videos import ErrorCode, Model, Query, Statuses, wanted_of
from service.context import Context
from service.errors import Conflict

if TYPE_CHECKING:
    from service.store.bulk import Bulk
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

Batch = Callable[[int, bool], Awaitable["Bulk"]]  # of a size, or only counted


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
    wanted = _which(video, wanted_of(status, model, error_code, q))
    as_table = prints_table(as_json)
    if wanted is None:
        run_quietly(lambda ctx: _retry(ctx, video, consent=accept_double_charge, as_table=as_table))
        return
    if accept_double_charge:
        raise typer.BadParameter("is for one VIDEO, not for all that match", param_hint="--accept-double-charge")
    run_quietly(lambda ctx: _retry_all(ctx, wanted, yes=yes, dry_run=dry_run, as_table=as_table))


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
    wanted = _which(video, wanted_of(status, model, error_code, q))
    as_table = prints_table(as_json)
    if video is not None:
        one = video
        run_quietly(lambda ctx: _cancel(ctx, one, as_table=as_table))
    elif wanted is not None:
        run_quietly(lambda ctx: _cancel_all(ctx, wanted, yes=yes, dry_run=dry_run, as_table=as_table))


def _which(video: str | None, wanted: Wanted) -> Wanted | None:
    """The filters, or None if one video is named. Raises BadParameter unless it is one of the two."""
    filters = any((wanted.statuses, wanted.model, wanted.error_code, wanted.q))
    if video is None and not filters:
        raise typer.BadParameter("name a video, or at least one filter", param_hint="VIDEO")
    if video is not None and filters:
        raise typer.BadParameter("name a video, or filters, but not both", param_hint="VIDEO")
    return wanted if video is None else None


async def _cancel(ctx: Context, video: str, *, as_table: bool) -> None:
    from service.store import videos as store

    done = await store.cancel(ctx.database, await ids.resolve(ctx, video), ctx.actor)
    await _print_video(ctx, done, "is cancelled", as_table)


async def _retry(ctx: Context, digits: str | None, *, consent: bool, as_table: bool) -> None:
    from service.store import videos as store

    assert digits is not None  # noqa: S101  # otherwise there were filters
    video = await ids.resolve(ctx, digits)
    try:
        done = await store.retry(
            ctx.database, video, consent=consent, timeout_seconds=ctx.settings.queue_timeout, actor=ctx.actor
        )  # fmt: skip
    except Conflict as exc:
        if "error_code" not in exc.extra:
            raise
        fail(
            f"taxiway: Runway may have taken and charged {video} already. If its task is in Runway's Request "
            f"History: `taxiway attach {video} TASK`. To pay a second time if need be: --accept-double-charge"
        )
    await _print_video(ctx, done, "is queued again", as_table)


async def _print_video(ctx: Context, video: Video, words: str, as_table: bool) -> None:
    from service.web.views import view

    if as_table:
        print(f"{video.id} {words}")
    else:
        print_json([(await view(ctx, video)).model_dump(mode="json")])


async def _retry_all(ctx: Context, wanted: Wanted, *, yes: bool, dry_run: bool, as_table: bool) -> None:
    from dataclasses import replace

    from service.store import bulk

    # What fails again meanwhile is not retried for ever.
    begun = replace(wanted, finished_before=datetime.now(UTC))

    async def batch(size: int, only_count: bool) -> Bulk:
        timeout = ctx.settings.queue_timeout
        return await bulk.retry(
            ctx.database, begun, limit=size, timeout_seconds=timeout, dry_run=only_count, actor=ctx.actor
        )

    await _all(batch, ("Retry", "queued again"), yes=yes, dry_run=dry_run, as_table=as_table)


async def _cancel_all(ctx: Context, wanted: Wanted, *, yes: bool, dry_run: bool, as_table: bool) -> None:
    from service.store import bulk

    async def batch(size: int, only_count: bool) -> Bulk:
        return await bulk.cancel(ctx.database, wanted, limit=size, dry_run=only_count, actor=ctx.actor)

    await _all(batch, ("Cancel", "cancelled"), yes=yes, dry_run=dry_run, as_table=as_table)


async def _all(batch: Batch, words: tuple[str, str], *, yes: bool, dry_run: bool, as_table: bool) -> None:
    """Say how many match, ask, and do one batch after the other until none is left."""
    count = await batch(BATCH, True)
    done, left = 0, count.left
    if left and not dry_run:
        apart = f" ({count.skipped} more may be paid for already, and are left out)" if count.skipped else ""
        confirm(f"{words[0]} {left} videos{apart}?", yes=yes)
        with _bar(words[1], left) as advance:
            while left:
                part = await batch(BATCH, False)
                done, left = done + part.done, part.left if part.done else 0
                advance(part.done)
    skipped = count.matched - (count.left if dry_run else done)
    if not as_table:
        print_json([{"matched": count.matched, "done": done, "skipped": skipped}])
    elif dry_run:
        print(f"{count.left} videos would be {words[1]}, {skipped} left out")
    else:
        print(f"{done} videos {words[1]}, {skipped} left out")


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
