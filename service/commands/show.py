"""`taxiway show`: one video, whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from service.commands.console import run_quietly
from service.commands.output import AsJson, ago, console, cost, credits, pairs, print_json, prints_table, span, table
from service.commands.videos import VideoId
from service.context import Context

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.videos import Video

cli = typer.Typer()


@cli.command()
def show(video: VideoId, as_json: AsJson = False) -> None:
    """One video: what was asked for, how far it is, its cost, each submission, and all that happened."""

    async def work(ctx: Context) -> None:
        from service.steps import poll

        whole = await _whole(ctx, await poll.poll_now(ctx, video))
        if prints_table(as_json):
            _print(whole)
        else:
            print_json([whole])

    run_quietly(work)


async def _whole(ctx: Context, video: Video) -> dict[str, Any]:
    """A video, its account, its submissions and its story, as the API shows each."""
    from service.store import audit, ledger, timeline
    from service.web.schemas import SubmissionView, VideoView
    from service.web.schemas_bulk import EventView

    accounts = [one async for one in audit.audits(ctx.database, video.id)]
    account = accounts[0] if accounts else audit.nothing(video.id)
    rows = await ledger.of_video(ctx.database, video.id)
    story = await timeline.timeline(ctx.database, video.id)
    return {
        "video": VideoView.of(video).model_dump(mode="json"),
        "verdict": account.verdict,
        "paid_credits": float(account.paid),
        "most_credits": float(account.most),
        "submissions": [SubmissionView.model_validate(row).model_dump(mode="json") for row in rows],
        "events": [EventView.model_validate(entry).model_dump(mode="json") for entry in story],
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
                ("cost", whole["verdict"]),
            ]
        )
    )
    if whole["submissions"]:
        out.print(_submissions(whole["submissions"]))
    out.print(_story(whole["events"]))


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
