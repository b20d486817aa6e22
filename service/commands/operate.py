"""Commands for operators: what is wrong, what was paid, what is unknown."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service import event_loop
from service.commands import ids
from service.commands.console import find_context, one_line_errors, run, run_quietly
from service.commands.output import console, prints_table
from service.context import Context

if TYPE_CHECKING:
    from service.store.audit import Audit

cli = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON for each, for programs.")]


@cli.command()
def audit(
    video: Annotated[str | None, typer.Argument(parser=ids.parse, help=f"{ids.HELP} Without it, all of them.")] = None,
    as_json: AsJson = False,
    actions: Annotated[bool, typer.Option("--actions", help="Show who did what instead, newest first.")] = False,
    actor: Annotated[str | None, typer.Option(help="With --actions: of one key, token or user only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="With --actions: lines at most.")] = 100,
) -> None:
    """What the ledger says was paid: each video with its verdict, and the most that can have been paid twice."""
    if actions:
        if video is not None:
            raise typer.BadParameter(
                "is for all videos; `taxiway show VIDEO` has the history of one", param_hint="VIDEO"
            )
        _actions(actor, limit, as_json)
        return
    if actor is not None:
        raise typer.BadParameter("needs --actions", param_hint="--actor")
    if video is None:
        run(lambda ctx: _audit_all(ctx, as_json=as_json))
    else:
        one = video
        run(lambda ctx: _audit_one(ctx, one, as_json=as_json))


async def _audit_one(ctx: Context, video: str, *, as_json: bool) -> None:
    from service.operations.reporting import cost_report

    cost = await cost_report(ctx, await ids.resolve(ctx, video))
    _print_account(cost.account, as_json=as_json)
    for entry in cost.submissions:
        print(json.dumps(entry, default=str) if as_json else _line(entry))


async def _audit_all(ctx: Context, *, as_json: bool) -> None:
    from service.store.audit import Totals, audits

    totals = Totals()
    async for one in audits(ctx.database):
        totals.add(one)
        if as_json or one.twice or one.unknown:
            _print_account(one, as_json=as_json)
    if not as_json:
        print(
            f"{totals.videos} videos, {totals.submissions} submissions: {totals.paid.normalize():f} credits paid, "
            f"at most {totals.most.normalize():f}; {totals.unknown} with an unknown outcome; "
            f"at most {totals.twice.normalize():f} credits paid twice, "
            f"{totals.twice_without_consent} videos of that without consent"
        )


def _print_account(one: Audit, *, as_json: bool) -> None:
    if as_json:
        plain = json.loads(json.dumps(dataclasses.asdict(one), default=str))
        print(json.dumps(plain | {"verdict": one.verdict}))
    else:
        print(f"{one.video_id}  {one.status or 'deleted':<10}  {one.submissions} submissions  {one.verdict}")


def _actions(actor: str | None, limit: int, as_json: bool) -> None:
    """Who did what, newest first."""
    from service.commands.output import print_json, table
    from service.store import event_log

    found = run_quietly(lambda ctx: event_log.actions(ctx.database, actor=actor, limit=limit))
    if not prints_table(as_json):
        print_json(json.loads(json.dumps(dataclasses.asdict(one), default=str)) for one in found)
        return
    rows = [(f"{one.at:%Y-%m-%d %H:%M:%S}", one.actor, one.words, one.video_id) for one in found]
    console().print(table(("when (UTC)", "by", "did", "video"), rows, folded=["did"]))


def _line(entry: dict[str, Any]) -> str:
    """One submission: when, what it came to, its task, and its cost, or the most that it may cost."""
    bound = entry["estimated_credits"] if entry["estimated_credits"] is not None else entry["quoted_credits"]
    if entry["outcome"] in ("not_sent", "rejected"):
        cost = "0 credits"
    elif entry["cost_credits"] is not None:
        cost = f"{entry['cost_credits'].normalize():f} credits"
    else:
        cost = "unknown" if bound is None else f"at most {bound.normalize():f} credits"
    what = " ".join(filter(None, [entry["outcome"] or "open", entry["task_id"], entry["task_status"]]))
    consent = f", consent: {entry['consent']}" if entry["consent"] else ""
    return f"  {entry['id']}  {entry['opened_at']:%Y-%m-%d %H:%M:%S}  {what}: {cost}{consent}"


@cli.command("attach")
def attach(
    video: Annotated[str, typer.Argument(parser=ids.parse, help=ids.HELP)],
    task: Annotated[str, typer.Argument(help="The id of its task, from Runway's Request History.")],
) -> None:
    """Attach the task that an unknown submission made to its video. Taxiway checks it with Runway first."""
    from service.operations.attaching import attach
    from service.web.bodies import validated
    from service.web.schemas_operations import AttachRequest

    async def work(ctx: Context) -> str:
        asked = validated(AttachRequest, {"task_id": task})
        return await attach(ctx, await ids.resolve(ctx, video), asked.task_id)

    print(ATTACHED[run(work)])


ATTACHED = {
    "moved": "attached: the video is processing again",
    "elsewhere": "booked as a surplus: the video has moved on, and the next tick deletes this task",
    "locked": "booked: another transaction holds the row, and the next tick completes it",
    "held": "nothing changed: this task is in the ledger already",
}


@cli.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One list of checks in JSON, for programs.")] = False,
    url: Annotated[str | None, typer.Option(help="The public address: also check it from outside.")] = None,
) -> None:
    """Run read-only checks and print, for each problem, the fix. Exit code 1 if a check is an error."""
    from service.doctor.checks import CheckStatus, as_table
    from service.doctor.checks import as_json as to_json
    from service.doctor.public import reachable
    from service.doctor.report import installation

    logging.disable(logging.WARNING)  # what would be logged on the way is in a check
    try:
        with one_line_errors():
            outside = event_loop.run(reachable(url)) if url else []
            checks = [*event_loop.run(installation(os.environ, find_context)), *outside]
    finally:
        logging.disable(logging.NOTSET)
    if prints_table(as_json):
        from service.commands.check_table import drawn

        console().print(drawn(checks))
    else:
        print(to_json(checks) if as_json else as_table(checks))
    if any(check.status is CheckStatus.ERROR for check in checks):
        raise typer.Exit(1)
