"""What linked tables refuse, lack or leave behind. Pure, but for `run`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime

from service.context import Context
from service.doctor.checks import Check, CheckStatus, unchecked
from service.operations.rhythm import span
from service.store import link_queries
from service.store.link_queries import LeftAtProcessing, RefusedAtGate, Troubled, Vanished, WithoutRole
from service.store.links import TableTrouble

AREA = "linked tables"
LEFT_SECONDS = 3_600.0  # rows of the app's own code at processing: so long without LINK_RESCUE_AFTER
AGAIN = "it is tried again by itself"
# What a refusal of the mirror asks for, by its SQLSTATE.
FIXES = {
    "42501": "grant Taxiway's role UPDATE on the columns that it shows",
    "23502": "let the column be NULL, or let a trigger fill it",
    "23514": "change the constraint, or write into the row what it asks for",
    "22P02": "change the column's type, or link another column",
    "22001": "let the column be longer, or link another column",
}


def troubles(found: Sequence[Troubled], now: float) -> list[Check]:
    """Links that are paused, and rows that refuse to show how their videos stand. `now`: seconds since 1970."""
    return [check for one in found for check in (*_paused(one), *_refusing(one, now))]


def _paused(one: Troubled) -> Iterator[Check]:
    if one.paused is None:
        return
    command = f"`taxiway link {shlex.quote(one.table)}`"
    fix = f"decide, then {command}" if one.is_asking else f"do what it says; {AGAIN}, and {command} shows more"
    yield Check(AREA, f"{one.link}, paused", CheckStatus.ERROR, one.paused, fix)


def _refusing(one: Troubled, now: float) -> Iterator[Check]:
    if not one.rows:
        return
    since = f", the first {span(now - one.since.timestamp())} ago" if one.since else ""
    state = f" (SQLSTATE {one.sqlstate})" if one.sqlstate else ""
    words = (
        f"rows that refuse to show their videos: {one.rows}{since}; the newest is {one.app_id} of the video "
        f"{one.video_id}: {one.words}{state}"
    )
    fix = FIXES.get(one.sqlstate or "", "change the trigger, constraint or rights of the table that refuse it")
    yield Check(AREA, f"{one.link}, refused", CheckStatus.WARNING, words, f"{fix}; {AGAIN}")


def gates(found: Sequence[RefusedAtGate]) -> list[Check]:
    """Videos that were not sent, because their table refused `processing`."""
    return [
        Check(
            AREA, f"{one.link}, gate", CheckStatus.WARNING,
            f"not sent and not paid within a day: {one.videos}; the last, {one.video_id}: {one.words}",
            f"if the table should have taken it, change its trigger or constraint, then `taxiway retry {one.video_id}`",
        )
        for one in found
    ]  # fmt: skip


def roles(found: Sequence[WithoutRole]) -> list[Check]:
    """Tables whose triggers may do whatever Taxiway's own role may."""
    return [
        Check(
            AREA, f"{one.link}, role", CheckStatus.WARNING,
            f"no role {one.role}: the table's triggers run with the rights of Taxiway's own role",
            f"{one.sql}; and what the table's triggers need, to {one.role}",
        )
        for one in found
    ]  # fmt: skip


def additions(found: Sequence[Vanished]) -> list[Check]:
    """Columns and indexes that were added with consent, and dropped since."""
    return [
        Check(
            AREA, f"{one.link}, {one.kind} {one.name}", CheckStatus.WARNING,
            "Taxiway added it with your consent, and it was dropped since: a schema that is pushed from your code "
            "(drizzle-kit push, prisma db push) drops what it does not name",
            f"name it in that schema, and add it again with `taxiway link {shlex.quote(one.table)} "
            f"{'--index' if one.kind == 'index' else '--add-columns'}`",
        )
        for one in found
    ]  # fmt: skip


def left(one: LeftAtProcessing, now: float, after: float | None) -> Check:
    """Rows that the app's own code set to processing and left."""
    age = span(now - one.since.timestamp()) if isinstance(one.since, datetime) else "long"
    words = (
        f"function ends with the response: {one.rows} rows that Taxiway does not know say processing, the oldest "
        f"for {age}"
    )
    fix = (
        "with the next sweep they become videos with an unknown outcome" if after is not None else
        "set LINK_RESCUE_AFTER to take such rows over after so long, or set them to their right word yourself"
    )  # fmt: skip
    return Check(AREA, f"{one.link}, left at processing", CheckStatus.WARNING, words, fix)


async def run(ctx: Context) -> list[Check]:
    """Everything about the linked tables."""
    database, now = ctx.database, ctx.now()
    found = [
        *troubles(await link_queries.troubled(database), now),
        *gates(await link_queries.refused_at_gate(database)),
        *roles(await link_queries.without_role(database)),
        *additions(await link_queries.vanished(database)),
    ]
    after = ctx.settings.link_rescue_after
    tables = await link_queries.tables(database)
    for table in tables:
        try:
            one = await link_queries.left_at_processing(database, table, after or LEFT_SECONDS)
        except TableTrouble as exc:
            found.append(unchecked(AREA, f"{table.link.name}, left at processing", exc.message))
            continue
        if one is not None:
            found.append(left(one, now, after))
    names = [table.link.name for table in tables]
    return [Check(AREA, "linked", CheckStatus.OK, ", ".join(names) or "none"), *found]
