"""`taxiway enqueue`: one video from the command line, from the request to the file."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from service.commands import completion, follow, ids
from service.commands.console import CTRL_C, fail, may_be_paid, run_quietly
from service.commands.output import AsJson, credits, print_json, prints_table, say
from service.commands.request import Wishes, body_of
from service.context import Context
from service.errors import NeedsConsent
from service.logs import one_line
from service.videos import Status, Video

if TYPE_CHECKING:
    from service.operations.enqueuing import IdempotencyKey, VideoSpec
    from service.runway.catalogue import Request

cli = typer.Typer()

JSON_OR_FILE = "a JSON object, or @FILE"
OperationName = Annotated[
    str | None,
    typer.Option(
        help="Runway's operation; by default what the model and its fields say.", autocompletion=completion.operations
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        parser=ids.parse,
        metavar="VIDEO",
        help="Begin with what this video asked for; other options change it.",
    ),
]
MaxCredits = Annotated[
    float | None, typer.Option(help="The most that each video may cost; needed where the price is not known.")
]
Consent = Annotated[
    bool, typer.Option("--accept-double-charge", help="With --from: make it, although that video may be paid for.")
]
BatchFile = Annotated[
    Path | None, typer.Option("--batch", help="Requests, one a line, as JSON: all are queued, or none.")
]


@cli.command()
def enqueue(
    prompt: Annotated[str | None, typer.Option(help="What is to be seen.")] = None,
    image: Annotated[str | None, typer.Option(help="The first frame: an address, or a file.")] = None,
    model: Annotated[str | None, typer.Option(help="Runway's model.", autocompletion=completion.models)] = None,
    ratio: Annotated[str | None, typer.Option(help="Width and height, such as 1280:720.")] = None,
    duration: Annotated[int | None, typer.Option(help="Seconds of video.")] = None,
    operation: OperationName = None,
    input: Annotated[str | None, typer.Option(help=f"Runway's own request body: {JSON_OR_FILE}.")] = None,
    metadata: Annotated[str | None, typer.Option(help=f"Yours, returned as it came: {JSON_OR_FILE}.")] = None,
    user_id: Annotated[str | None, typer.Option("--user", help="Whose video it is, in your words.")] = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100; higher is sent first.")] = None,
    count: Annotated[int | None, typer.Option(help="So many videos of this request, at most 10.")] = None,
    max_credits: MaxCredits = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key gives the same video.")] = None,
    source: Source = None,
    batch: BatchFile = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where its file goes, or files.")] = None,
    accept_double_charge: Consent = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the video has ended.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it and say what it costs; queue nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Queue one video, and wait for it."""
    as_table = prints_table(as_json)
    wishes = Wishes(
        prompt, image, model, ratio, duration, operation, input, metadata, user_id, priority, count, max_credits
    )
    if batch is not None:
        _check_alone(*vars(wishes).values(), source, output, dry_run or None)
        run_quietly(partial(_enqueue_batch, lines=_lines_of(batch), idempotency_key=idempotency_key, as_table=as_table))
        return
    _check_options(output, source, count, wait=wait)

    async def work(ctx: Context) -> bool:
        from service.operations import enqueuing

        begun_from = None if source is None else await ids.resolve(ctx, source)
        body = await body_of(ctx, wishes, begun_from)
        key, spec = enqueuing.IdempotencyKey.of(idempotency_key, body), _spec(body)
        if dry_run:
            _print_price(enqueuing.price(ctx, spec), spec.count, as_table=as_table)
            return True
        videos, is_new = await _queued(ctx, spec, key, begun_from, consent=accept_double_charge)
        for one in videos:
            _say_queued(one, is_new, with_price=as_table and wait)
        return all([await _follow(ctx, one, output, wait=wait, as_table=as_table) for one in videos])

    if not run_quietly(work):
        raise typer.Exit(1)


def _check_alone(*others: object) -> None:
    if any(one is not None for one in others):
        raise typer.BadParameter("goes with --idempotency-key and --json alone", param_hint="--batch")


def _lines_of(path: Path) -> list[bytes]:
    try:
        return [line for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as exc:
        raise typer.BadParameter(f"it cannot be read: {exc}", param_hint="--batch") from None


async def _enqueue_batch(ctx: Context, *, lines: list[bytes], idempotency_key: str | None, as_table: bool) -> None:
    """Queue the requests, one a line, all or none, and print the videos."""
    from service.operations import batch
    from service.operations.enqueuing import IdempotencyKey
    from service.web import bodies
    from service.web.batch_routes import item_of
    from service.web.schemas_batch import BatchRequest
    from service.web.views import views

    body = {"requests": [bodies.parse(line) for line in lines]}
    asked = bodies.validated(BatchRequest, body)
    key = IdempotencyKey.of(idempotency_key, body)
    done = await batch.enqueue(ctx, [item_of(one) for one in asked.requests], key, atomic=True)
    videos = [one for one in done.results if isinstance(one, Video)]
    if done.is_repeat:
        say("this Idempotency-Key was used before: these are the videos of then")
    if not as_table:
        print_json([one.model_dump(mode="json") for one in await views(ctx, videos)])
        return
    for one in videos:
        print(one.id)
    say(f"{len(videos)} videos are queued")


def _check_options(output: Path | None, source: str | None, count: int | None, *, wait: bool) -> None:
    if output is not None and not wait:
        raise typer.BadParameter("it is there only after waiting: leave out --no-wait", param_hint="--output")
    if output is not None and not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.absolute().parent}", param_hint="--output")
    if (count or 1) > 1 and (output is not None or source is not None):
        raise typer.BadParameter("goes with neither --output nor --from, which are of one video", param_hint="--count")


async def _queued(
    ctx: Context, spec: VideoSpec, key: IdempotencyKey | None, source: UUID | None, *, consent: bool
) -> tuple[list[Video], bool]:
    from service.operations import enqueuing, groups

    if spec.count > 1:
        group, is_new = await groups.enqueue(ctx, spec, key)
        return group.videos, is_new
    try:
        queued = await enqueuing.enqueue(ctx, spec, key, source=source, consent=consent)
    except NeedsConsent:
        fail(may_be_paid(source))
    return [queued.video], queued.is_new


def _spec(body: dict[str, Any]) -> VideoSpec:
    """The body, validated as `POST /videos` does. Raises InvalidRequest."""
    from service.web import bodies
    from service.web.schemas import VideoRequest

    return bodies.validated(VideoRequest, body).spec()


def _print_price(request: Request, count: int, *, as_table: bool) -> None:
    from service.operations.video_view import shortened

    most = float(request.quoted_credits * count)
    if as_table:
        print(f"{request.operation} with {request.model}: at most {credits(most)} credits")
    else:
        quote = {"operation": request.operation, "model": request.model, "input": shortened(request.input)}
        print_json([quote | {"quoted_credits": most}])


def _say_queued(video: Video, is_new: bool, *, with_price: bool) -> None:
    if not is_new:
        say(f"this Idempotency-Key was used before: it is video {video.id}")
    elif with_price and video.quoted_credits is not None:
        say(f"queued as {video.id}, for at most {credits(float(video.quoted_credits))} credits")
    for warning in video.warnings or ():
        say(f"warning: {warning['message']}")


async def _follow(ctx: Context, video: Video, output: Path | None, *, wait: bool, as_table: bool) -> bool:
    """With `wait`, wait until the video has ended and its file is there; print how it stands. Whether all went well."""
    sizes: dict[Path, int] = {}
    if wait:
        try:
            with follow.bar() as show:
                video = await follow.until_it_ends(ctx, video, show)
                if output is not None and video.status is Status.COMPLETED:
                    sizes = await follow.download(ctx, video, output, show)
        except asyncio.CancelledError:  # Ctrl-C
            say(f"the video goes on without you: `taxiway show {video.id}`")
            raise typer.Exit(CTRL_C) from None
    await _print_end(ctx, video, sizes, as_table=as_table)
    return not wait or video.status is Status.COMPLETED


async def _print_end(ctx: Context, video: Video, sizes: dict[Path, int], *, as_table: bool) -> None:
    from service.web.views import view

    shown = await view(ctx, video)
    if not as_table:
        saved = [{"path": str(path), "bytes": size} for path, size in sizes.items()]
        print_json([shown.model_dump(mode="json") | ({"saved": saved} if saved else {})])
        return
    words = f"{video.id} is {video.status}"
    if video.status is Status.COMPLETED:
        cost = "" if video.cost_credits is None else f" for {credits(float(video.cost_credits))} credits"
        words += f"{cost}: {', '.join(map(str, sizes)) or video.video_url}"
    elif video.status is Status.FAILED:
        words += f": {video.error_code}: {video.error_message}"
    elif shown.waiting is not None:
        words += f": {shown.waiting.detail}"
    print(one_line(words))
