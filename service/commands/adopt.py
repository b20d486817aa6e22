"""`taxiway adopt`: takes over an app's table `videos`, shows first what that means, and gives it back on request."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.console import confirm, fail, run_quietly
from service.commands.output import AsJson, console, for_people, pairs, print_json, say, table
from service.context import Context
from service.settings import need

if TYPE_CHECKING:
    from service.store.adoption import Plan
    from service.store.adoption.undo import Undo

cli = typer.Typer()

SHOWN_ROWS = 20

Url = str


@cli.command()
def adopt(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    requeue_stuck: Annotated[
        bool,
        typer.Option("--requeue-stuck", help="Queue stuck rows without a Runway id again. They may be paid twice."),
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="The way back: remove what Taxiway added.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --undo: although requests are open or tasks under way.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take over a table `videos` that exists, after showing what that does; or give it back with --undo."""
    people = for_people(as_json)

    async def work(ctx: Context) -> None:
        need(ctx.settings, "database_url")
        url = ctx.settings.database_url or ""
        if undo:
            await _undo(url, yes=yes, dry_run=dry_run, force=force, people=people)
        else:
            await _adopt(url, yes=yes, dry_run=dry_run, requeue_stuck=requeue_stuck, people=people)

    run_quietly(work)


async def _adopt(url: Url, *, yes: bool, dry_run: bool, requeue_stuck: bool, people: bool) -> None:
    from service.errors import MigrationBlocked
    from service.installer import migrate

    if await migrate.applied(url):
        say("this database is Taxiway's already: `taxiway migrate` keeps it up to date, `adopt --undo` gives it back")
        return
    plan = await migrate.plan(url, requeue_stuck=requeue_stuck)
    if plan.table is None and not plan.obstacles:
        fail("taxiway: there is no table videos to take over: `taxiway migrate` makes one")
    if people:
        _show_plan(plan, requeue_stuck=requeue_stuck)
    else:
        print_json([_plain(plan)])
    if plan.obstacles:
        raise MigrationBlocked(list(plan.obstacles))
    if dry_run:
        return
    confirm(f"Take over {plan.table}?", yes=yes)
    await migrate.migrate(url, requeue_stuck=requeue_stuck)
    say(f"{plan.table} is taken over; `taxiway adopt --undo` gives it back")


def _plain(plan: Plan | Undo) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(plan), default=str))
    if "obstacles" in told:
        told["obstacles"] = [{"why": why, "sql": sql} for why, sql in told["obstacles"]]
    return told


def _show_plan(plan: Plan, *, requeue_stuck: bool) -> None:
    out = console()
    out.print(f"What taking over {plan.table} does, in one transaction:")
    out.print(
        pairs(
            [
                ("adds columns", ", ".join(plan.adds)),
                ("uses columns of yours", ", ".join(plan.shares)),
                ("adds constraints", ", ".join(plan.constraints)),
                ("adds indexes", ", ".join(plan.indexes)),
                ("adds tables", ", ".join(plan.tables)),
                ("drops or renames", "nothing"),
            ]
        )
    )
    words = {
        "queued": "sent to Runway by the next tick, and paid for",
        "processing": "with a Runway id: looked at by the next tick; without: see below",
    }
    out.print(table(("rows at", "how many", "become"), _fates(plan.rows, words), wide=["become"]))
    if plan.stuck:
        fate = "queued again, and may be paid twice" if requeue_stuck else "failed as SUBMISSION_UNKNOWN"
        out.print(f"{plan.stuck} of them stand at processing without a Runway id. They become {fate}:")
        shown = plan.stuck_rows[:SHOWN_ROWS]
        out.print(table(("video", "since", "becomes"), [(row.id, row.since, row.becomes) for row in shown]))
        if plan.stuck > len(shown):
            out.print(f"... and {plan.stuck - len(shown)} more")


def _fates(rows: dict[str, int], words: dict[str, str]) -> list[tuple[object, ...]]:
    return [(status or "(none)", count, words.get(status, "left as they are")) for status, count in rows.items()]


async def _undo(url: Url, *, yes: bool, dry_run: bool, force: bool, people: bool) -> None:
    from service.errors import MigrationBlocked
    from service.installer import migrate

    plan = await migrate.undo_plan(url)
    if people:
        _show_undo(plan)
    else:
        print_json([_plain(plan)])
    if plan.obstacles and not force:
        raise MigrationBlocked(plan.obstacles)
    if dry_run:
        return
    confirm(f"Remove Taxiway from {plan.table}?", yes=yes)
    done = await migrate.undo(url, force=force)
    say(f"{done.table} is as it was before {done.adopted_at:%Y-%m-%d %H:%M} UTC, but for what became of its videos")


def _show_undo(plan: Undo) -> None:
    out = console()
    out.print(f"What the way back does to {plan.table}, in one transaction:")
    columns = [f"{name} ({rows} rows have a value)" if rows else name for name, rows in plan.columns.items()]
    restored = f"{plan.restored} rows that the takeover changed" if plan.restored else None
    moved = f"{plan.moved_on} rows that have gone on since" if plan.moved_on else None
    out.print(
        pairs(
            [
                ("drops columns", ", ".join(columns)),
                ("drops constraints", ", ".join(plan.constraints)),
                ("drops indexes", ", ".join(plan.indexes)),
                ("drops tables", ", ".join([*plan.tables, *([plan.table] if plan.drops_table else [])])),
                ("drops the cast", plan.cast and f"from text to {plan.cast}"),
                ("puts back", restored),
                ("leaves as they are", moved),
                ("stays queued", f"{plan.queued} rows: nobody sends them any more" if plan.queued else None),
                ("forgets", f"the ledger of {plan.submissions} submissions: `taxiway audit --json` keeps a copy"),
            ]
        )
    )
