"""`taxiway listen`: every webhook, sent to an app that runs here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.console import run_quietly
from service.commands.output import AsJson, on_terminal, print_json, say
from service.context import Context
from service.env_parsing import EVENTS

if TYPE_CHECKING:
    from service.store.deliveries import AttemptRow, Due

cli = typer.Typer()


def _known(value: list[str] | None) -> list[str] | None:
    if unknown := [one for one in value or () if one not in EVENTS]:
        raise typer.BadParameter(f"{unknown[0]!r} is no event; there are {', '.join(EVENTS)}")
    return value


@cli.command()
def listen(
    url: Annotated[str, typer.Argument(help="Where your app takes webhooks, such as http://localhost:3000/hook.")],
    event: Annotated[
        list[str] | None, typer.Option(callback=_known, help="Only this event; may be given several times.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send every webhook to an app on this machine as well, until Ctrl-C, and print what it answers."""
    from service import webhooks

    as_lines = on_terminal() and not as_json

    async def work(ctx: Context) -> None:
        from service.operations import listening
        from service.worker import Stop, signals

        given = ctx.settings.webhook_secrets
        secret = given[0] if given else webhooks.new_secret()
        stop = Stop()
        async with listening.listening(ctx, url, event or EVENTS, secret) as laptop:
            by = "the first of WEBHOOK_SECRETS" if given else secret
            say(f"sending webhooks to {url}, signed with {by}; Ctrl-C ends")
            task = asyncio.create_task(laptop.forward(_print_line if as_lines else _print_json))

            def end() -> None:
                task.cancel()

            stop.then(end)
            with signals(stop), contextlib.suppress(asyncio.CancelledError):
                await task

    run_quietly(work)


def _print_line(due: Due, row: AttemptRow) -> None:
    at = datetime.fromisoformat(row.attempt["at"]).astimezone()
    about = due.video_id or due.group_id or ""
    print(f"{at:%H:%M:%S}  {due.event:<16}  {about}  {came_to(row.attempt)}", flush=True)


def _print_json(due: Due, row: AttemptRow) -> None:
    sent: dict[str, Any] = {"delivery_id": due.id, "event": due.event, "video_id": due.video_id}
    print_json([sent | {"webhook_id": due.webhook_id, "result": row.result} | dict(row.attempt)])


def came_to(attempt: Mapping[str, Any]) -> str:
    """What an attempt came to: `200 in 12 ms`, or why there was no answer."""
    if attempt.get("http_status") is None:
        return str(attempt.get("error") or "")
    return f"{attempt['http_status']} in {attempt['ms']} ms"
