"""How the plan of a link and the list of links are shown: for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from service.commands.output import ago, console, pairs, say, table
from service.installer.linking import LinkState
from service.installer.plan import Plan, first_tick_credits
from service.installer.survey import Example, Look, Survey
from service.settings import Settings

PROMPT_SHOWN = 60  # characters


def money(credits: Decimal) -> str:
    """`25 credits ($0.25)`."""
    return f"{credits.normalize():f} credits (${credits / 100:.2f})"


def plan_json(plan: Plan, settings: Settings) -> dict[str, Any]:
    """The plan for programs: one object."""
    shown: dict[str, Any] = {
        "table": plan.table.name,
        "kind": plan.table.kind_name,
        "linked": None if plan.link is None else plan.link.state,
        "mapping": None if plan.mapping is None else plan.mapping.model_dump(mode="json"),
        "questions": [vars(question) for question in plan.questions],
        "notes": [*plan.notes, *remarks(plan)],
        "guards": list(plan.guards),
        "reads": plan.reads,
        "writes": plan.writes,
        "additions": [vars(addition) for addition in plan.additions],
    }
    if plan.survey is None:
        return shown
    survey, queued, stuck = plan.survey, plan.survey.queued, plan.survey.stuck
    return shown | {
        "rows": survey.rows,
        "others": survey.others,
        "words": [
            {"word": word, "rows": ours, "others": others, "becomes": fate(plan, word)}
            for word, ours, others in survey.words
        ],
        "queued": {
            "rows": queued.rows, "since": queued.since, "credits": float(queued.credits), "refused": queued.refused,
            "refusals": list(queued.refusals), "taken": plan.takes_existing,
        },
        "stuck": {"rows": stuck.rows, "with_task": stuck.with_task, "become": plan.wishes.stuck,
                  "oldest": [vars(row) for row in stuck.oldest]},
        "examples": [_example_json(example) for example in survey.examples],
        "look": vars(survey.look) | {"how": look_words(survey.look)},
        "first_tick_credits": float(first_tick_credits(plan, settings)),
    }  # fmt: skip


def _example_json(example: Example) -> dict[str, Any]:
    request = example.request
    made = {} if request is None else {
        "operation": request.operation, "model": request.model, "quoted_credits": float(request.quoted_credits),
        "input": {key: _short(value) for key, value in request.input.items()},
    }  # fmt: skip
    return {"id": example.id, "word": example.word, "refusal": example.refusal} | made


def _short(value: Any) -> Any:
    """A text as far as it is shown; an address without its query, which may be a signature."""
    if isinstance(value, str) and value.startswith(("https://", "http://")) and "?" in value:
        value = value.partition("?")[0] + "?…"
    return f"{value[:PROMPT_SHOWN]}…" if isinstance(value, str) and len(value) > PROMPT_SHOWN else value


def fate(plan: Plan, word: str | None) -> str:
    """What becomes of rows that say this word."""
    if plan.mapping is None:
        return ""
    words = plan.mapping.words
    if word in words.queued:
        return "a video each" if plan.takes_existing else "left alone: only rows that are queued from now on are taken"
    if word == words.processing:
        return {"leave": "left alone", "fail": "failed as SUBMISSION_UNKNOWN; with a task: followed",
                "requeue": "queued again, and may be paid twice; with a task: followed"}[plan.wishes.stuck]  # fmt: skip
    if word in words.known:
        role = next((r for r in ("completed", "failed", "cancelled") if getattr(words, r) == word), "cancelled")
        return f"{role}: left as they are"
    return "unknown to Taxiway: left alone"


def look_words(look: Look) -> str:
    """How new rows are found, and what that costs."""
    cost = f"{look.seconds * 1000:.1f} ms"
    if look.wait_seconds is None:
        return f"with each tick, by {look.index} (now {cost})"
    if look.offers_index:
        return (
            f"no index helps: a look takes {cost}, so there is one every {look.wait_seconds:.0f} s at most, and a new "
            "row may wait that long; --index adds an index"
        )
    return f"by reading the table ({cost}): a new row may wait {look.wait_seconds:.0f} s once the table is large"


def remarks(plan: Plan) -> Iterator[str]:
    """What the table's own rules mean for its videos."""
    of = plan.table
    if of.is_secured:
        yield (
            f"row-level security binds {of.role}: rows that it hides are none to Taxiway "
            f"(CREATE POLICY taxiway ON {of.sql_name} TO {of.role} USING (true))"
        )
    if of.lacks_identity:
        yield (
            f"{of.name} is published without a replica identity, so PostgreSQL refuses every UPDATE: results are not "
            f"shown until it has one (ALTER TABLE {of.sql_name} REPLICA IDENTITY FULL)"
        )
    if plan.mapping is not None and not of.is_guaranteed(plan.mapping.id):
        yield f"nothing guarantees that {plan.mapping.id} stays unique: no row shares it now"
    if plan.mapping is not None and "image" not in plan.mapping.columns:
        yield "no column holds an image: each row becomes a text_to_video"
    missing = [key for key in ("runway_video_id", "error_message", "video_url")
               if plan.mapping is not None and key not in plan.mapping.columns]  # fmt: skip
    if missing:
        yield f"no column shows {', '.join(missing)}: --add-columns adds them, the API has them in any case"
    for addition in plan.additions:
        yield (
            f"drizzle-kit push and prisma db push drop what their schema does not name: keep {addition.name} in "
            f"schema.ts ({addition.drizzle}) or schema.prisma ({addition.prisma})"
        )


def show_plan(plan: Plan, settings: Settings) -> None:
    """The plan, on stdout."""
    out = console()
    verb = "changes" if plan.link is not None and plan.link.state in ("open", "paused") else "does"
    out.print(f"What linking {plan.table.name} ({plan.table.kind_name}) {verb}:")
    out.print(
        pairs([*_mapping_rows(plan), *([] if plan.survey is None else _survey_rows(plan, plan.survey, settings))])
    )
    if plan.survey is not None:
        rows = [
            ("(none)" if word is None else word, ours, others, fate(plan, word))
            for word, ours, others in plan.survey.words
        ]
        out.print(table(("rows that say", "how many", "left alone", "become"), rows, wide=["become"]))
        if plan.survey.examples:
            shown = [_example_row(example) for example in plan.survey.examples]
            out.print(table(("row", "says", "as a request", "credits"), shown, folded=["as a request"]))
        if plan.survey.stuck.rows:
            _show_stuck(plan, plan.survey)
    for note in (*plan.notes, *remarks(plan)):
        out.print(f"Note: {note}")
    for question in plan.questions:
        out.print(f"Open: {question.shown}")


def _mapping_rows(plan: Plan) -> Iterator[tuple[str, object]]:
    added = [addition.sql for addition in plan.additions]
    if plan.mapping is not None:
        mapping, words = plan.mapping, plan.mapping.words
        yield "rows are", mapping.filter or "all of the table"
        yield "identifies rows", mapping.id
        yield "reads", _named(mapping.columns, plan.reads)
        yield "writes", _named(mapping.columns, plan.writes)
        yield "queued", ", ".join(words.queued)
        for role in ("processing", "completed", "failed", "cancelled"):
            yield role, getattr(words, role) or "never written"
        yield "asks to cancel", ", ".join(words.cancel)
        yield "time zone", mapping.zone
        yield "gate", _gate_words(plan)
    yield "adds to your table", "; ".join(added) or "nothing is added to your table"


def _named(columns: Mapping[str, str], names: list[str]) -> str:
    """Columns, each with what it holds unless its name says so."""
    return ", ".join(
        name if name == key else f"{name} ({key})" for key, name in columns.items() if name in names
    )  # fmt: skip


def _gate_words(plan: Plan) -> str:
    if plan.mapping is not None and plan.mapping.gate:
        why = f", because of {'; '.join(plan.guards)}" if plan.guards else ""
        return f"on{why}: a row has to accept processing before its video is sent (--no-gate)"
    guards = f", although there is {'; '.join(plan.guards)}" if plan.guards else ": nothing of yours guards the status"
    return f"off{guards}"


def _survey_rows(plan: Plan, survey: Survey, settings: Settings) -> Iterator[tuple[str, object]]:
    queued = survey.queued
    if queued.rows:
        since = "" if queued.since is None else f", the oldest {ago(_zoned(queued.since))} ago"
        refused = (
            f"; {queued.refused} make no valid request ({'; '.join(queued.refusals[:3])})" if queued.refused else ""
        )
        taken = "taken" if plan.takes_existing else "left alone"
        yield "queued already", f"{queued.rows} rows{since}: at most {money(queued.credits)}{refused}; {taken}"
    if survey.others:
        yield "of others", f"{survey.others} rows are left alone by the condition"
    yield "new rows are found", look_words(survey.look)
    yield "first tick costs", f"at most {money(first_tick_credits(plan, settings))}"


def _zoned(moment: datetime) -> datetime:
    from datetime import UTC

    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _example_row(example: Example) -> tuple[object, ...]:
    if example.request is None:
        return example.id, example.word, f"none: {example.refusal}", ""
    request = example.request
    body = ", ".join(f"{key} {_short(value)}" for key, value in request.input.items() if key != "model")
    return example.id, example.word, f"{request.operation} with {request.model}: {body}", f"{request.quoted_credits:f}"


def _show_stuck(plan: Plan, survey: Survey) -> None:
    out, stuck = console(), survey.stuck
    out.print(
        f"{stuck.rows} rows say processing, and Taxiway did not send them ({stuck.with_task} with a task). They are "
        f"{fate(plan, plan.mapping.words.processing if plan.mapping else None)}:"
    )
    rows = [(row.id, "" if row.since is None else ago(_zoned(row.since)), row.task_id or "") for row in stuck.oldest]
    out.print(table(("row", "since", "task"), rows, folded=["row"]))
    if stuck.rows > len(stuck.oldest):
        out.print(f"... and {stuck.rows - len(stuck.oldest)} more")
    if plan.wishes.stuck == "leave":
        out.print("--fail-stuck fails them as SUBMISSION_UNKNOWN; --requeue-stuck makes them again, and may pay twice")


def links_json(states: list[LinkState]) -> list[dict[str, Any]]:
    """Links for programs: one object each."""
    counts = ("queued", "processing", "behind", "refused", "left_alone")
    return [
        {"link": state.link.name, "state": state.link.state, "reason": state.link.reason}
        | {key: getattr(state, key) for key in counts}
        | {"made": state.made, "mapping": state.link.mapping.model_dump(mode="json")}
        for state in states
    ]


def show_links(states: list[LinkState]) -> None:
    """Links as a table, on stdout."""
    if not states:
        say("no table is linked: `taxiway link TABLE` shows what that would mean")
        return
    headings = ("link", "state", "queued", "processing", "behind", "refused", "left alone", "reason")
    rows = [
        (s.link.name, s.link.state, s.queued, s.processing, s.behind, s.refused, s.left_alone, s.link.reason)
        for s in states
    ]
    console().print(table(headings, rows, folded=["reason"]))
