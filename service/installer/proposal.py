"""The mapping that is proposed for a table: columns, words, filter, zone and gate, and what stays open. Pure."""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import dataclass

from service.installer import words
from service.installer.columns import Columns
from service.installer.facts import Facts, mark_of
from service.installer.inspect import LinkRefused, Table
from service.installer.plan_answers import Answers, Question, question
from service.link_mapping import Mapping

UTC = frozenset({"UTC", "Etc/UTC", "UCT", "Etc/UCT", "Zulu", "GMT", "Etc/GMT", "Universal", "Etc/Universal"})
RUNWAY = "runway"


@dataclass(frozen=True)
class Proposal:
    """What would be linked. `mapping` is None while a word or a column that it needs is unknown."""

    mapping: Mapping | None
    questions: tuple[Question, ...]
    notes: tuple[str, ...]
    guards: tuple[str, ...]  # why the gate is on


def propose(table: Table, columns: Columns, facts: Facts, answers: Answers) -> Proposal:
    """Put a mapping together. Raises LinkRefused for answers that cannot be."""
    questions, notes = list(columns.questions), list(columns.notes)
    status = table.columns[columns.names["status"]]
    proposed = words.propose(table, status, list(facts.words), answers.words)
    questions += proposed.questions
    notes += proposed.notes
    where = answers.where if answers.where is not None else _filter(table, facts, questions)
    zone = answers.zone or _zone(table, columns.names, facts, questions, notes)
    guards = guards_of(table, status.name)
    gate = bool(guards) if answers.gate is None else answers.gate
    if gate and proposed.words is not None and proposed.words.processing is None:
        if answers.gate:
            raise LinkRefused(
                "--gate writes the word for processing, and there is none: name it with --word processing=WORD"
            )
        gate = False
        notes.append("the gate is off, because there is no word for processing")
    if proposed.words is None or not {"id", "prompt", "status"} <= columns.names.keys():
        return Proposal(None, tuple(questions), tuple(notes), guards)
    mapping = Mapping(
        table=table.sql_name, id=columns.names["id"],
        columns={key: name for key, name in columns.names.items() if key != "id"},
        words=proposed.words, filter=where or None, zone=zone or None,
        search_path=answers.search_path or _search_path(table), gate=gate, existing=answers.existing or "ignore",
    )  # fmt: skip
    return Proposal(mapping, tuple(questions), tuple(notes), guards)


def guards_of(table: Table, status: str) -> tuple[str, ...]:
    """What of the app's decides when the status changes: each in a few words."""
    found = [f"the trigger {each.name} ({each.function})" for each in table.triggers
             if not each.columns or status in each.columns]  # fmt: skip
    # A CHECK of the status alone only lists its words.
    found += [
        f"the constraint {each.name} {each.definition}"
        for each in table.checks
        if status in each.columns and each.columns != {status}
    ]
    return tuple(
        found + [f"the unique index {each.name}" for each in table.indexes if each.is_unique and status in each.uses]
    )


def _filter(table: Table, facts: Facts, questions: list[Question]) -> str | None:
    """Which rows are Taxiway's, where a provider or a mark of deletion says that some are not."""
    conditions, said = [], []
    for name, counts in facts.providers.items():
        ours = next((word for word in counts if word is not None and RUNWAY in word.lower()), None)
        if ours is None and any(counts.values()):
            listed = ", ".join(map(str, counts))
            said.append(f"{name} has none with Runway's name ({listed})")
            continue
        conditions.append(f"{table.columns[name].sql_name} = {literal(ours or RUNWAY)}")
        others = sum(rows for word, rows in counts.items() if word != ours)
        said.append(
            f"{name} says {ours or RUNWAY} in {counts.get(ours, 0) if ours else 0} rows, and something else in {others}"
        )
    for name, rows in facts.marks.items():
        conditions.append(mark_of(table, name))
        said.append(f"{name} marks {rows} as deleted")
    if not said:
        return None
    proposal = " AND ".join(conditions) or None
    sentence = f'Which rows are for Runway? {"; ".join(said)} (all: --where "").'
    questions.append(question("where", sentence, proposal, example="CONDITION"))
    return proposal


def _zone(table: Table, names: Map[str, str], facts: Facts, questions: list[Question], notes: list[str]) -> str | None:
    """The zone of times without one. A time ahead of now proves which of two zones it is not."""
    naive = [
        names[key]
        for key in ("created_at", "updated_at")
        if key in names and table.columns[names[key]].base == "timestamp"
    ]
    if not naive:
        return None
    which = f"{' and '.join(naive)} of {table.name} {'has' if len(naive) == 1 else 'have'} no time zone"
    if table.zone in UTC:
        if not facts.ahead_as_utc:
            return "UTC"
        questions.append(
            question("zone", f"{which}, and the newest time is ahead as UTC. Which zone is it?", None, example="ZONE")
        )
        return None
    if facts.ahead_as_utc and not facts.ahead_as_local:
        notes.append(f"{which}; the newest is ahead as UTC, so {table.zone} is meant")
        return table.zone
    if facts.ahead_as_local and not facts.ahead_as_utc:
        notes.append(f"{which}; the newest is ahead in {table.zone}, so UTC is meant")
        return "UTC"
    sentence = f"{which}. Which one is meant: {table.zone}, as the database has it, or UTC, as Prisma writes it?"
    questions.append(question("zone", sentence, table.zone))
    return table.zone


def _search_path(table: Table) -> str:
    """The schemas under which the app's triggers run: its own first."""
    return ", ".join(dict.fromkeys((table.schema_sql, *table.search_path)))


def literal(word: str) -> str:
    """`word` as an SQL string: never bound, so that an enum stays an enum and its index is used."""
    quoted = "'" + word.replace("'", "''") + "'"
    return f"E{quoted}".replace("\\", "\\\\") if "\\" in word else quoted
