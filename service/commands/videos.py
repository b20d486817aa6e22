"""Commands that find videos: `videos`, `show`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from service.commands import completion
from service.commands.console import run_quietly
from service.commands.output import AsJson, ago, console, credits, for_people, pairs, print_json, table
from service.house import House
from service.videos import Status

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.videos import Video

cli = typer.Typer()

Statuses = Annotated[list[Status] | None, typer.Option("--status", help="Only these; may be given several times.")]
Model = Annotated[
    str | None, typer.Option(help="Only videos of this model of Runway's.", autocompletion=completion.models)
]
ErrorCode = Annotated[
    str | None, typer.Option(help="Only videos that failed for this reason.", autocompletion=completion.reasons)
]
VideoId = Annotated[UUID, typer.Argument(metavar="VIDEO", help="The id of the video.")]

PAGE = 200


@dataclass(frozen=True)
class Filter:
    """Which videos are meant."""

    statuses: tuple[Status, ...] = ()
    model: str | None = None
    error_code: str | None = None


@cli.command()
def videos(
    status: Statuses = None,
    model: Model = None,
    error_code: ErrorCode = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many at most, the newest first.")] = 50,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and show what changes, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks of --watch.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """List videos, newest first."""
    wanted = Filter(tuple(status or ()), model, error_code)
    people = for_people(as_json)

    async def work(house: House) -> None:
        if watch:
            await _watch(house, wanted, limit, every, people=people)
        elif people:
            console().print(_table([view async for view in views(house, wanted, limit)]))
        else:
            async for view in views(house, wanted, limit):
                print_json([view])

    run_quietly(work)


async def views(house: House, wanted: Filter, limit: int) -> AsyncIterator[dict[str, Any]]:
    """The videos that are meant as the API shows them, newest first, read page by page."""
    from service.store import listing
    from service.store.search import Wanted
    from service.web.models import VideoView

    asked = Wanted([status.value for status in wanted.statuses] or None, wanted.model, wanted.error_code)
    before = None
    while limit > 0:
        page = await listing.page(house.database, asked, before=before, limit=min(limit, PAGE))
        for video in page.videos:
            yield VideoView.of(video).model_dump(mode="json")
        limit -= len(page.videos)
        before = page.next
        if before is None:
            return


async def _watch(house: House, wanted: Filter, limit: int, every: float, *, people: bool) -> None:
    """A table that is kept up to date; for programs, every video that is new or has changed."""
    if not people:
        seen: dict[str, dict[str, Any]] = {}
        while True:
            latest = {view["id"]: view async for view in views(house, wanted, limit)}
            print_json(view for key, view in reversed(latest.items()) if seen.get(key) != view)
            seen = latest
            await house.sleep(every)
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(_table([view async for view in views(house, wanted, limit)]), refresh=True)
            await house.sleep(every)


def _table(found: list[dict[str, Any]]) -> RenderableType:
    headings = ("video", "status", "made", "model", "credits", "what")
    rows = [
        (
            view["id"], view["status"], ago(view["created_at"]), view["model"],
            credits(view["quoted_credits"] if view["cost_credits"] is None else view["cost_credits"]), _what(view),
        )
        for view in found
    ]  # fmt: skip
    return table(headings, rows, wide=["what"]) if rows else "no videos"


def _what(view: dict[str, Any]) -> str:
    """What matters most of a video: why it failed or waits, how far it is, or what was asked for."""
    if error := view["error"]:
        return ": ".join(filter(None, (error["code"], error["message"])))
    if view["status"] == "processing" and view["progress"] is not None:
        return f"{view['progress']:.0%}"
    return str((view["input"] or {}).get("promptText", ""))


@cli.command()
def show(video: VideoId, as_json: AsJson = False) -> None:
    """One video: what was asked for, how far it is, each submission, and the money."""

    async def work(house: House) -> None:
        from service.steps import poll

        whole = await _whole(house, await poll.look_now(house, video))
        if for_people(as_json):
            _print(whole)
        else:
            print_json([whole])

    run_quietly(work)


async def _whole(house: House, video: Video) -> dict[str, Any]:
    """A video, its account and its submissions, as the API shows each."""
    from service.store import audit, ledger
    from service.web.models import SubmissionView, VideoView

    accounts = [one async for one in audit.audits(house.database, video.id)]
    account = accounts[0] if accounts else audit.nothing(video.id)
    rows = await ledger.of_video(house.database, video.id)
    return {
        "video": VideoView.of(video).model_dump(mode="json"),
        "verdict": account.verdict,
        "paid_credits": float(account.paid),
        "most_credits": float(account.most),
        "submissions": [SubmissionView.model_validate(row).model_dump(mode="json") for row in rows],
    }


def _print(whole: dict[str, Any]) -> None:
    view = whole["video"]
    error = view["error"] or {}
    out = console()
    out.print(
        pairs(
            [
                ("video", view["id"]),
                ("status", view["status"]),
                ("why", error.get("code")),
                ("", error.get("message")),
                ("progress", None if view["progress"] is None else f"{view['progress']:.0%}"),
                ("task", " ".join(filter(None, (view["runway_video_id"], view["task_status"])))),
                ("file", view["video_url"]),
                ("until", view["video_url_expires_at"]),
                ("operation", view["operation"]),
                ("input", json.dumps(view["input"], ensure_ascii=False) if view["input"] else None),
                ("metadata", json.dumps(view["metadata"], ensure_ascii=False) if view["metadata"] else None),
                ("priority", view["priority"]),
                ("made", f"{view['created_at']} ({ago(view['created_at'])} ago)"),
                ("run after", view["run_after"] if view["status"] == "queued" else None),
                ("finished", view["finished_at"]),
                ("quoted", credits(view["quoted_credits"]) and f"{credits(view['quoted_credits'])} credits"),
                ("money", whole["verdict"]),
            ]
        )
    )
    if whole["submissions"]:
        out.print(_submissions(whole["submissions"]))


def _submissions(entries: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            entry["id"], entry["opened_at"][:19].replace("T", " "), entry["outcome"] or "open", entry["http_status"],
            entry["task_status"],
            credits(entry["quoted_credits"] if entry["cost_credits"] is None else entry["cost_credits"]),
            entry["consent"], entry["error"] or entry["task_id"],
        )
        for entry in entries
    ]  # fmt: skip
    headings = ("submission", "opened (UTC)", "outcome", "http", "task", "credits", "consent", "task or error")
    return table(headings, rows, wide=["task or error"])
