"""`taxiway show`: one video, whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import typer

from service.commands import ids, output
from service.commands.console import run_quietly
from service.commands.list_videos import VideoId
from service.commands.output import (
    AsJson,
    Every,
    Watch,
    ago,
    console,
    cost,
    credits,
    pairs,
    print_json,
    prints_table,
    span,
    table,
    until,
)
from service.context import Context
from service.deadline import Deadline
from service.operations.waiting import videos_ahead
from service.videos import Status

if TYPE_CHECKING:
    from rich.console import RenderableType

cli = typer.Typer()


@cli.command()
def show(video: VideoId, watch: Watch = False, every: Every = 2.0, as_json: AsJson = False) -> None:
    """One video: what was asked for, how far it is, its cost, each submission, and all that happened."""
    as_table = prints_table(as_json)

    async def work(ctx: Context) -> None:
        video_id = await ids.resolve(ctx, video)
        if watch:
            await watch_until(ctx, video_id, every, as_table=as_table)
        elif as_table:
            console().print(_drawn(await _whole(ctx, video_id)))
        else:
            print_json([await _whole(ctx, video_id)])

    run_quietly(work)


async def watch_until(
    ctx: Context, video_id: UUID, every: float, deadline: Deadline | None = None, *, as_table: bool
) -> Status:
    """Show it again and again, until it has ended: then the last of it stays. Its status then.

    `deadline`: until when, and it is submitted in its turn meanwhile.
    """
    whole: dict[str, Any] = {}

    async def fetch() -> list[dict[str, Any]]:
        nonlocal whole
        whole = await _whole(ctx, video_id, deadline)
        return [whole | {"id": whole["video"]["id"]}]

    def has_ended() -> bool:
        is_over = deadline is not None and not deadline.is_open
        return is_over or Status(whole["video"]["status"]).terminal

    await output.watch(
        fetch, "id", lambda rows: _drawn(rows[0]), lambda: ctx.sleep(every), as_table=as_table, has_ended=has_ended
    )
    if as_table:
        console().print(_drawn(whole))
    return Status(whole["video"]["status"])


async def _whole(ctx: Context, video_id: UUID, deadline: Deadline | None = None) -> dict[str, Any]:
    """A video, its account, its submissions and its story, as the API shows each. Its task is polled if that is due."""
    from service.operations.reporting import video_report
    from service.operations.video_view import VideoView
    from service.web.schemas import SubmissionList
    from service.web.schemas_bulk import EventList

    report = await video_report(ctx, video_id, deadline)
    cost = SubmissionList.of(report.cost).model_dump(mode="json")
    events = EventList.of(report.events).model_dump(mode="json")
    return {"video": VideoView.of(report.video, report.waiting).model_dump(mode="json")} | cost | events


def _drawn(whole: dict[str, Any]) -> RenderableType:
    from rich.console import Group

    view = whole["video"]
    error, waiting = view["error"] or {}, view["waiting"] or {}
    ahead = waiting.get("ahead")
    return Group(
        pairs(
            [
                ("video", view["id"]),
                ("status", view["status"]),
                ("why", error.get("code")),
                ("", error.get("message")),
                ("waiting", waiting.get("detail")),
                ("", f"goes on in {until(waiting['until'])}" if waiting.get("until") else None),
                ("ahead", None if ahead is None else videos_ahead(ahead)),
                ("done in", waiting["ends_in"] and f"{span(waiting['ends_in'])}, probably" if waiting else None),
                ("progress", None if view["progress"] is None else f"{view['progress']:.0%}"),
                ("task", " ".join(filter(None, (view["runway_video_id"], view["task_status"])))),
                *(("output", output["url"]) for output in view["outputs"]),
                ("until", view["video_url_expires_at"]),
                ("operation", view["operation"]),
                ("input", json.dumps(view["input"], ensure_ascii=False) if view["input"] else None),
                ("metadata", json.dumps(view["metadata"], ensure_ascii=False) if view["metadata"] else None),
                *(("warning", warning["message"]) for warning in view["warnings"]),
                ("group", view["group"]),
                ("priority", view["priority"]),
                ("created", f"{view['created_at']} ({ago(view['created_at'])} ago)"),
                ("run after", view["run_after"] if view["status"] == "queued" else None),
                ("finished", view["finished_at"]),
                ("quoted", credits(view["quoted_credits"]) and f"{credits(view['quoted_credits'])} credits"),
                ("cost", whole["verdict"]),
            ]
        ),
        *([_submissions(whole["submissions"])] if whole["submissions"] else []),
        _story(whole["events"]),
    )


def _submissions(entries: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            entry["id"], entry["opened_at"][:19].replace("T", " "), entry["outcome"] or "open", entry["http_status"],
            entry["task_status"],
            cost(entry),
            entry["consent"], entry["error"] or entry["task_id"],
        )
        for entry in entries
    ]  # fmt: skip
    headings = ("submission", "opened (UTC)", "outcome", "http", "task", "credits", "consent", "task or error")
    return table(headings, rows, wide=["task or error"])


def _story(entries: list[dict[str, Any]]) -> RenderableType:
    rows = [
        (
            entry["at"][:19].replace("T", " "),
            "" if entry["seconds"] is None else f"+{span(entry['seconds'])}",
            entry["actor"],
            ": ".join(filter(None, (entry["words"], entry["error"]))),
        )
        for entry in entries
    ]
    return table(("when (UTC)", "after", "by", "activity"), rows, folded=["activity"])
