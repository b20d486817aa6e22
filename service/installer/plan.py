"""The plan of a link: what is read and written, what each row becomes and costs, and what only the operator decides."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from service.errors import NotConfigured
from service.installer import columns as mapped
from service.installer import facts, proposal
from service.installer.check import Fit, fit
from service.installer.inspect import Connection, LinkRefused, Table, inspect
from service.installer.plan_answers import Answers, Question
from service.installer.survey import Survey, survey
from service.link_mapping import WRITTEN_KEYS, Column, Link, Mapping
from service.settings import Settings

SURVEY_SECONDS = 300  # for counting in a table of any size
ADDED = {"runway_video_id": "text", "error_message": "text", "video_url": "text"}

IS_MIGRATED = "SELECT to_regclass('taxiway.links') IS NOT NULL"
# The link of a table ($1, $2: its name; $3: its oid, if it was renamed). The name counts first.
LINK = """
    SELECT id, schema_name, table_name, table_oid::bigint AS table_oid, mapping, columns, state, reason
      FROM taxiway.links
     WHERE (schema_name, table_name) = ($1, $2)
        OR table_oid = $3::bigint::oid
           AND to_regclass(quote_ident(schema_name) || '.' || quote_ident(table_name)) IS NULL
     ORDER BY (schema_name, table_name) = ($1, $2) DESC LIMIT 1
"""


@dataclass(frozen=True)
class Wishes:
    """What the operator consents to beside the mapping."""

    stuck: Literal["leave", "fail", "requeue"] = "leave"
    add_columns: bool = False
    index: bool = False


@dataclass(frozen=True)
class Addition:
    """A column or an index that is added with consent, and the line by which the app's own schema keeps it."""

    kind: Literal["column", "index"]
    key: str | None  # of the mapping, for a column
    name: str
    sql_name: str  # quoted
    sql: str
    drizzle: str
    prisma: str


@dataclass(frozen=True)
class Plan:
    """All that linking a table means. Without a mapping or with questions, it cannot be applied yet."""

    table: Table
    link: Link | None  # that is there already
    mapping: Mapping | None
    questions: tuple[Question, ...]
    notes: tuple[str, ...]
    guards: tuple[str, ...]
    survey: Survey | None
    additions: tuple[Addition, ...]
    wishes: Wishes
    asks_existing: bool  # rows that say queued are not Taxiway's without consent

    @property
    def reads(self) -> list[str]:
        """The columns that intake reads."""
        return (
            []
            if self.mapping is None
            else [name for key, name in self.mapping.columns.items() if key not in WRITTEN_KEYS]
        )

    @property
    def writes(self) -> list[str]:
        """The columns that the mirror writes."""
        return (
            [] if self.mapping is None else [name for key, name in self.mapping.columns.items() if key in WRITTEN_KEYS]
        )

    @property
    def takes_existing(self) -> bool:
        """Whether rows that say queued now are taken by the next tick."""
        return self.mapping is not None and (not self.asks_existing or self.mapping.existing == "take")


async def make_plan(
    connection: Connection, wanted: str, answers: Answers, settings: Settings, wishes: Wishes = Wishes()
) -> Plan:
    """Inspect, propose and count; nothing is changed. Raises LinkRefused, NotConfigured, and what asyncpg raises."""
    async with connection.transaction(readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{SURVEY_SECONDS}s'")
        if not await connection.fetchval(IS_MIGRATED):
            raise NotConfigured("this database has no schema taxiway yet: run `taxiway migrate`")
        table = await inspect(connection, wanted)
        link = await _link(connection, table)
        is_open = link is not None and link.state in ("open", "paused")
        if link is not None:
            _refuse_misfit(await fit(connection, link), answers)
            answers = answers.over(Answers.of(link.mapping, existing=False))
        columns = mapped.propose(table, answers.columns, hints_of(settings))
        known = await facts.read(connection, table, columns.names) if "status" in columns.names else facts.Facts()
        found = proposal.propose(table, columns, known, answers) if "status" in columns.names else None
        mapping = None if found is None else found.mapping
        counted = (
            None if mapping is None else await survey(connection, table, mapping, link.id if link else None, settings)
        )
    asks = not is_open or link is None or mapping is None or _asks_again(link.mapping, mapping)
    questions = list(found.questions if found else columns.questions)
    if counted is not None and asks and counted.queued.rows and answers.existing is None:
        questions.append(_existing(counted))
    additions = _additions(table, mapping, answers, questions, wishes)
    return Plan(
        table=table, link=link, mapping=_extended(mapping, additions), questions=tuple(questions),
        notes=tuple(found.notes if found else columns.notes), guards=found.guards if found else (),
        survey=counted, additions=additions, wishes=wishes, asks_existing=asks,
    )  # fmt: skip


def _refuse_misfit(known: Fit, answers: Answers) -> None:
    """Refuse what no longer fits of a link, unless an answer replaces it: each with the command that fixes it."""
    misfits = [reason for reason in known.reasons if reason.key is not None and reason.key not in answers.columns
               and not (reason.kind == "words" and answers.words) and reason.kind != "rights"]  # fmt: skip
    if misfits:
        raise LinkRefused("; ".join(map(str, misfits)))


def hints_of(settings: Settings) -> dict[str, str]:
    """Columns by key that PROMPT_COLUMN and IMAGE_COLUMN still name."""
    named = {"prompt": getattr(settings, "prompt_column", None), "image": getattr(settings, "image_column", None)}
    given = settings.model_fields_set
    return {key: name for key, name in named.items() if name and f"{key}_column" in given}


async def _link(connection: Connection, table: Table) -> Link | None:
    row = await connection.fetchrow(LINK, table.schema_name, table.table_name, table.oid)
    return None if row is None else link_of(dict(row))


def link_of(row: dict[str, Any]) -> Link:
    """A link from its row."""
    columns = {key: Column(**column) for key, column in json.loads(row.pop("columns")).items()}
    return Link(**row | {"mapping": Mapping.model_validate_json(row["mapping"]), "columns": columns})


def _asks_again(before: Mapping, after: Mapping) -> bool:
    """Whether rows may say queued now that did not for the link as it was."""
    return before.filter != after.filter or not set(after.words.queued) <= set(before.words.queued)


def _existing(counted: Survey) -> Question:
    queued = counted.queued
    since = "" if queued.since is None else f", the oldest since {queued.since:%Y-%m-%d %H:%M}"
    price = f"at most {queued.credits:g} credits (${queued.credits / 100:.2f})"
    sentence = (
        f"{queued.rows} rows say queued already{since}: make their videos for {price} (take), or leave them (ignore)?"
    )
    return Question("existing", sentence, "ignore", "--existing take or --existing ignore")


def _extended(mapping: Mapping | None, additions: tuple[Addition, ...]) -> Mapping | None:
    added = {each.key: each.name for each in additions if each.key}
    return mapping and mapping.model_copy(update={"columns": mapping.columns | added})


def _additions(
    table: Table, mapping: Mapping | None, answers: Answers, questions: list[Question], wishes: Wishes
) -> tuple[Addition, ...]:
    """Columns and an index, where the operator consents. Raises LinkRefused where they cannot be."""
    if mapping is None:
        return ()
    if table.kind == "v" and (wishes.add_columns or wishes.index):
        raise LinkRefused(f"{table.name} is a view: add columns and indexes to the table underneath, then link it")
    asked = {question.key for question in questions}
    found = []
    if wishes.add_columns:
        missing = [key for key in ADDED if key not in mapping.columns and f"column.{key}" not in asked]
        found += [_column(table, key) for key in missing if answers.columns.get(key) != ""]
    if wishes.index:
        if table.kind == "p":
            raise LinkRefused(
                f"{table.name} is partitioned: create the index on each partition, CONCURRENTLY, without --index"
            )
        index = _index(table, mapping)
        if not any(each.name.rpartition(".")[2].strip('"') == index.name for each in table.indexes):
            found.append(index)
    return tuple(found)


def _column(table: Table, key: str) -> Addition:
    name = camel(key) if any(column != column.lower() for column in table.columns) else key
    if name in table.columns:
        raise LinkRefused(
            f"{table.name} has a column {name} already that cannot show results: name another with --column {key}=NAME"
        )
    sql_name = f'"{name}"'
    return Addition(
        "column", key, name, sql_name, f"ALTER TABLE {table.sql_name} ADD COLUMN {sql_name} {ADDED[key]}",
        f'{camel(key)}: text("{name}")',
        f'{camel(key)} String? @map("{name}")' if camel(key) != name else f"{name} String?",
    )  # fmt: skip


def _index(table: Table, mapping: Mapping) -> Addition:
    keys = [mapping.columns[key] for key in ("status", "created_at") if key in mapping.columns]
    name = re.sub(r"\W", "_", f"{table.table_name[:40]}_taxiway_look")
    sql_name = f'"{name}"'
    listed = ", ".join(table.columns[key].sql_name for key in keys)
    fields = [camel(key) for key in keys]
    return Addition(
        "index", None, name, sql_name, f"CREATE INDEX CONCURRENTLY {sql_name} ON {table.sql_name} ({listed})",
        f'index("{name}").on({", ".join(f"table.{each}" for each in fields)})',
        f'@@index([{", ".join(fields)}], map: "{name}")',
    )  # fmt: skip


def camel(name: str) -> str:
    """`video_url` as `videoUrl`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def first_tick_credits(plan: Plan, settings: Settings) -> Decimal:
    """The most that the first tick may cost: rows that say queued and are taken, within the day's budget."""
    if plan.survey is None:
        return Decimal(0)
    credits = plan.survey.queued.credits if plan.takes_existing else Decimal(0)
    limit = settings.max_credits_per_day
    return credits if limit is None else min(credits, limit)
