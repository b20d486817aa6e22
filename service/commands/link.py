"""`taxiway link`, `links` and `unlink`: tables of the app whose rows are videos. Shown first, asked, then done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.commands.console import confirm, fail, run_quietly
from service.commands.output import AsJson, print_json, prints_table, say
from service.context import Context
from service.settings import Settings

if TYPE_CHECKING:
    from service.installer.linking import Linked, LinkState, Unlinked
    from service.installer.plan import Plan, Wishes
    from service.installer.plan_answers import Answers, Question
    from service.link_mapping import Mapping
    from service.operations.table_links import Links

cli = typer.Typer()

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Pairs = list[str] | None


@cli.command()
def link(
    table: Annotated[str | None, typer.Argument(help="The table or view: videos, app.videos, '\"Video\"'.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Take every proposal that is safe alone; exit 1 if questions are open.")
    ] = False,
    dry_run: DryRun = False,
    file: Annotated[Path | None, typer.Option(help="A mapping in JSON, as --print writes it.")] = None,
    print_it: Annotated[bool, typer.Option("--print", help="Print the mapping as JSON, and do nothing.")] = False,
    column: Annotated[Pairs, typer.Option(help="key=name, such as image=photo_url; key= for none.")] = None,
    word: Annotated[Pairs, typer.Option(help="status=word, such as queued=pending; status= for none.")] = None,
    where: Annotated[str | None, typer.Option(help="Which rows are Taxiway's, as SQL; '' for all.")] = None,
    zone: Annotated[str | None, typer.Option(help="Of times without a time zone, such as Asia/Tokyo.")] = None,
    gate: Annotated[
        bool | None, typer.Option("--gate/--no-gate", help="Let a row accept processing before its video is sent.")
    ] = None,
    existing: Annotated[
        Literal["take", "ignore"] | None, typer.Option(help="Rows that say queued already: make and pay them, or not.")
    ] = None,
    requeue_stuck: Annotated[
        bool, typer.Option("--requeue-stuck", help="Queue stuck rows without a task again. They may be paid twice.")
    ] = False,
    fail_stuck: Annotated[
        bool, typer.Option("--fail-stuck", help="Fail stuck rows without a task as SUBMISSION_UNKNOWN.")
    ] = False,
    add_columns: Annotated[
        bool, typer.Option("--add-columns", help="Add columns that are missing to show results in.")
    ] = False,
    index: Annotated[bool, typer.Option("--index", help="Add an index by which new rows are found.")] = False,
    as_json: AsJson = False,
) -> None:
    """Link a table of the app: its queued rows become videos, and show how those end."""
    from service.installer.plan import Wishes

    if requeue_stuck and fail_stuck:
        raise typer.BadParameter("either --requeue-stuck or --fail-stuck", param_hint="--requeue-stuck")
    answers = _answers(file, column or [], word or [], where, zone, gate, existing)
    wanted = table or (_mapping_of(file).table if file else None)
    stuck: Literal["leave", "fail", "requeue"] = "requeue" if requeue_stuck else "fail" if fail_stuck else "leave"
    wishes = Wishes(stuck, add_columns, index)
    as_table = prints_table(as_json)

    async def work(ctx: Context) -> None:
        from service.operations.table_links import links

        async with links(ctx) as known:
            name = wanted or await known.only_table()
            asks = as_table and not (yes or dry_run or print_it)
            plan = await _planned(known, name, answers, wishes, asks=asks)
            if print_it:
                _print_mapping(plan)
                return
            _show(plan, ctx.settings, as_table=as_table)
            if dry_run:
                return
            _refuse_open(plan.questions)
            confirm(f"Link {plan.table.name}?", yes=yes)
            _print_linked(await known.link(plan), as_table=as_table)

    run_quietly(work)


def _answers(
    file: Path | None, column: list[str], word: list[str], where: str | None, zone: str | None, gate: bool | None,
    existing: Literal["take", "ignore"] | None,
) -> Answers:  # fmt: skip
    from service.installer.inspect import LinkRefused
    from service.installer.plan_answers import Answers, column_answers, word_answers

    try:
        given = Answers(column_answers(column), word_answers(word), where, zone, gate, existing)
    except LinkRefused as exc:
        raise typer.BadParameter(exc.detail, param_hint="--column" if "--column" in exc.detail else "--word") from None
    return given if file is None else given.over(Answers.of(_mapping_of(file)))


def _mapping_of(file: Path) -> Mapping:
    """The mapping in this file. Raises BadParameter."""
    from pydantic import ValidationError

    from service.link_mapping import Mapping

    try:
        return Mapping.model_validate_json(file.expanduser().read_bytes())
    except OSError as exc:
        raise typer.BadParameter(f"{file} cannot be read: {exc.strerror}", param_hint="--file") from None
    except ValidationError as exc:
        problems = "; ".join(f"{'/'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in exc.errors())
        raise typer.BadParameter(f"{file} is no mapping: {problems}", param_hint="--file") from None


async def _planned(known: Links, name: str, answers: Answers, wishes: Wishes, *, asks: bool) -> Plan:
    """The plan; at a terminal with the answers to what is open, each asked once."""
    asked: set[str] = set()
    while True:
        plan = await known.plan(name, answers, wishes)
        new = [question for question in plan.questions if question.key not in asked]
        if not asks or not new:
            return plan
        for question in new:
            asked.add(question.key)
            answers = answers.answered(question.key, _ask(question))


def _ask(question: Question) -> str:
    """The answer of a person; Enter takes the proposal."""
    proposal = "" if question.proposal is None else f" [{question.proposal}]"
    print(f"{question.sentence}{proposal} ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        fail(f"\ntaxiway: there was no answer, and nothing was done; answer with {question.flags}")
    return line.strip() or question.proposal or ""


def _refuse_open(questions: tuple[Question, ...]) -> None:
    """End with exit code 1 and what only the operator can decide, one line each."""
    if questions:
        fail("\n".join(f"taxiway: {question.shown}" for question in questions))


def _print_mapping(plan: Plan) -> None:
    if plan.mapping is not None:
        print(plan.mapping.model_dump_json(indent=2))
    _refuse_open(plan.questions)


def _show(plan: Plan, settings: Settings, *, as_table: bool) -> None:
    from service.commands.link_show import plan_json, show_plan

    if as_table:
        show_plan(plan, settings)
    else:
        print_json([plan_json(plan, settings)])


def _print_linked(done: Linked, *, as_table: bool) -> None:
    if not as_table:
        print_json([_linked_json(done)])
    say(_linked_words(done))
    if done.index_error:
        fail(f"taxiway: {done.name} is linked, but the index was not made: {done.index_error}")


def _linked_json(done: Linked) -> dict[str, object]:
    shown = {"link": done.name, "left_alone": done.left_alone} | vars(done.stuck)
    return shown | {"added": [each.name for each in done.added], "index_error": done.index_error}


def _linked_words(done: Linked) -> str:
    counts = {
        "{} queued rows are left alone": done.left_alone, "{} stuck rows failed": done.stuck.failed,
        "{} are queued again": done.stuck.requeued, "{} tasks are followed": done.stuck.followed,
    }  # fmt: skip
    more = "".join(f"; {words.format(count)}" for words, count in counts.items() if count)
    return f"{done.name} is linked{more}; `taxiway unlink {done.name}` undoes it"


@cli.command("links")
def show_all(as_json: AsJson = False) -> None:
    """List the linked tables: how each stands, what is queued, behind or refused."""
    as_table = prints_table(as_json)

    async def work(ctx: Context) -> list[LinkState]:
        from service.operations.table_links import links

        async with links(ctx) as known:
            return await known.every()

    from service.commands.link_show import links_json, show_links

    states = run_quietly(work)
    if as_table:
        show_links(states)
    else:
        print_json(links_json(states))


@cli.command()
def unlink(
    table: Annotated[str, typer.Argument(help="The linked table, as `taxiway links` shows it.")],
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel what is queued or under way.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Undo a link: new rows stay the app's; what is under way is finished, or cancelled."""
    as_table = prints_table(as_json)

    async def work(ctx: Context) -> None:
        from service.operations.table_links import links

        async with links(ctx) as known:
            state = await known.find(table)
            _show_state(state, cancel=cancel, as_table=as_table)
            if dry_run:
                return
            cancels = cancel or (as_table and not yes and _asks_to_cancel(state))
            confirm(f"Unlink {state.link.name}?", yes=yes)
            done = await known.unlink(state.link.name, cancel=cancels)
            if not as_table:
                print_json([_unlinked_json(done)])
            say(_unlinked_words(done))

    run_quietly(work)


def _show_state(state: LinkState, *, cancel: bool, as_table: bool) -> None:
    from service.commands.link_show import links_json
    from service.commands.output import console, pairs

    if not as_table:
        print_json(links_json([state]))
        return
    under_way = f"{state.queued} queued, {state.processing} processing: {'cancelled' if cancel else 'finished'}"
    rows = [
        ("takes no new rows of", state.link.name),
        ("videos under way", under_way if state.queued + state.processing else "none"),
        ("rows that are behind", f"{state.behind}, of which {state.refused} refused" if state.behind else "none"),
        ("drops the index", ", ".join(state.made_indexes)),
        ("leaves the columns", ", ".join(state.made_columns)),
        ("remembers", "its rows, so that none is paid for twice if the table is linked again"),
    ]
    console().print(pairs(rows))


def _asks_to_cancel(state: LinkState) -> bool:
    under_way = state.queued + state.processing
    if not under_way:
        return False
    print(f"Finish the {under_way} videos under way, or cancel them? [finish] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip().lower()
    if answer not in ("", "finish", "cancel"):
        fail("taxiway: the answer is finish or cancel; nothing was done")
    return answer == "cancel"


def _unlinked_json(done: Unlinked) -> dict[str, object]:
    left = {"queued": done.left.queued, "processing": done.left.processing, "behind": done.left.behind}
    return {"link": done.name, "state": done.state, "cancelled": done.cancelled, "dropped": list(done.dropped),
            "columns": list(done.columns)} | left  # fmt: skip


def _unlinked_words(done: Unlinked) -> str:
    left = done.left
    if done.state == "closed":
        text = f"{done.name} is unlinked"
    else:
        text = (
            f"{done.name} takes no new rows; {left.queued} videos queued, {left.processing} processing and "
            f"{left.behind} rows behind are finished by the next ticks, then it is closed"
        )
    cancelled = f"; {done.cancelled} videos cancelled" if done.cancelled else ""
    columns = f"; the columns {', '.join(done.columns)} stay, drop them yourself" if done.columns else ""
    return f"{text}{cancelled}{columns}"
