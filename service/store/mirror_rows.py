"""The mirror's transaction: the app's rows show how their videos stand.

One transaction, explicitly READ COMMITTED, in separate link_statements. The transaction that holds a video's entry in
`taxiway.rows` is the only one that writes its row, and it reads the video's version after that: a row never goes
backwards. Locks of others are passed over. Whatever fails is rolled back, and each row is tried alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from service.store import link_statements
from service.store.database import Database, Raw
from service.store.gate import AS_ROLE
from service.store.linked_table import LinkedTable
from service.store.links import TableTrouble, note, trouble
from service.videos import Status

BATCH = 1_000
LOCK_MILLISECONDS = 2_000
STATEMENT_MILLISECONDS = 10_000
CLIENT_SECONDS = 15.0
FIRST_AGAIN_SECONDS, LONGEST_AGAIN_SECONDS = 5.0, 3_600.0
DAILY_AFTER_SECONDS, DAILY_SECONDS = 7 * 86_400.0, 86_400.0

SWALLOWED = "the UPDATE changed no row: a trigger, a view or row security of the table keeps it as it is"
HIDDEN = "the row is not there: it was deleted, or row security hides it"


@dataclass(frozen=True)
class Note:
    """A video whose row is behind, with its notes."""

    video_id: UUID
    notes: tuple[int, ...]


# The oldest notes of a link behind $2, one line for each video; a row that has refused is due at a time of its own.
_NOTES = """
SELECT n.video_id, array_agg(n.id) AS notes, bool_or(r.due_at IS NOT NULL OR r.video_id IS NULL) AS is_set_aside
FROM (SELECT id, video_id FROM taxiway.mirror_queue WHERE link_id = $1 AND id > $2 ORDER BY id LIMIT $3) AS n
LEFT JOIN taxiway.rows r ON r.video_id = n.video_id AND r.link_id = $1
GROUP BY n.video_id
"""
_DROP = """
DELETE FROM taxiway.mirror_queue
WHERE id = ANY(ARRAY(SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb)))
"""


async def notes(database: Database, table: LinkedTable, after: int) -> tuple[list[Note], int]:
    """Videos to show, and the last note that was read (`after` if there is none)."""
    rows = await database.fetch(_NOTES, table.id, after, BATCH)
    last = max((max(row["notes"]) for row in rows), default=after)
    if aside := [one for row in rows if row["is_set_aside"] for one in row["notes"]]:
        await database.execute(_DROP, json.dumps(aside))
    return [Note(row["video_id"], tuple(row["notes"])) for row in rows if not row["is_set_aside"]], last


_DUE = "SELECT video_id FROM taxiway.rows WHERE due_at <= taxiway.now() AND link_id = $1 ORDER BY due_at LIMIT $2"


async def due(database: Database, table: LinkedTable, limit: int) -> list[Note]:
    """Rows that have refused before, and are due again."""
    return [Note(row["video_id"], ()) for row in await database.fetch(_DUE, table.id, limit)]


_BEGIN = f"""
SELECT set_config('lock_timeout', '{LOCK_MILLISECONDS}', true),
       set_config('statement_timeout', '{STATEMENT_MILLISECONDS}', true), set_config('search_path', $1, true)
"""
# The entries of these videos, held against every other mirror, gate and intake. What they hold comes later.
_HOLD = """
SELECT video_id FROM taxiway.rows
WHERE link_id = $1 AND video_id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($2::jsonb)))
ORDER BY app_id FOR NO KEY UPDATE SKIP LOCKED
"""
# How these videos stand: read after their entries are held, so that no other transaction can have shown anything newer.
_VIDEOS = """
SELECT r.app_id, r.app_word, r.gated_round, v.id, v.version, v.round, v.status, v.runway_video_id, v.error_message,
       v.video_url, v.progress
FROM taxiway.rows r JOIN taxiway.videos v ON v.id = r.video_id
WHERE r.video_id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb)))
  AND v.version > r.mirrored_version
"""
_SHOWN = """
UPDATE taxiway.rows r SET mirrored_version = g.version, app_word = COALESCE(g.word, r.app_word),
    due_at = NULL, tries = 0, sqlstate = NULL, error = NULL, refused_at = NULL
FROM jsonb_to_recordset($1::jsonb) AS g(video_id uuid, version integer, word text) WHERE r.video_id = g.video_id
"""
# Nothing new to show, as far as a row that had refused goes: it has been shown by another.
_SETTLED = """
UPDATE taxiway.rows SET due_at = NULL, tries = 0, sqlstate = NULL, error = NULL, refused_at = NULL
WHERE due_at IS NOT NULL AND video_id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb)))
"""


@dataclass(frozen=True)
class Result:
    """What one transaction came to: rows shown; held by another transaction; not written although nothing failed."""

    shown: int
    locked: tuple[Note, ...] = ()
    swallowed: tuple[tuple[Note, str], ...] = ()


async def write(database: Database, table: LinkedTable, batch: Sequence[Note], *, alone: bool = False) -> Result:
    """Show these videos in their rows, all or none. Raises TableTrouble, and nothing was changed.

    `alone`: a row that another transaction holds is an error instead of being passed over.
    """
    async with database.connection() as connection:
        try:
            async with connection.raw.transaction(isolation="read_committed"):
                return await _write(connection.raw, table, {one.video_id: one for one in batch}, alone=alone)
        except (TimeoutError, asyncpg.PostgresError) as exc:
            raise trouble(exc) from exc


async def _write(raw: Raw, table: LinkedTable, batch: dict[UUID, Note], *, alone: bool) -> Result:
    await raw.fetch(_BEGIN, table.link.mapping.search_path, timeout=CLIENT_SECONDS)
    held = [row["video_id"] for row in await raw.fetch(_HOLD, table.id, _json(batch), timeout=CLIENT_SECONDS)]
    videos = {row["app_id"]: row for row in await raw.fetch(_VIDEOS, _json(held), timeout=CLIENT_SECONDS)}
    await _act_as(raw, table.role)
    records = [_record(row) for row in videos.values()]
    own = await raw.fetch(link_statements.hold(table, alone=alone), _json(records), timeout=CLIENT_SECONDS)
    missing = set(videos) - {row["app_id"] for row in own}
    there = await _present(raw, table, missing)
    plan = _plan(table, videos, own)
    for sql, rows in ((True, plan.with_status), (False, plan.without_status)):
        if rows:
            for row in await raw.fetch(link_statements.show(table, status=sql), _json(rows), timeout=CLIENT_SECONDS):
                plan.stands[row["app_id"]] = row["word"]
    await raw.execute("SET CONSTRAINTS ALL IMMEDIATE", timeout=CLIENT_SECONDS)
    await _act_as(raw, "none" if table.role else None)
    kept = {row["app_id"] for row in (*plan.with_status, *plan.without_status)} - set(plan.stands)
    hidden = set() if table.absence_counts else missing - there
    stands = plan.stands | dict.fromkeys(missing - there - hidden)  # what is gone has nothing to show
    shown = [{"video_id": videos[one]["id"], "version": videos[one]["version"], "word": stands[one]} for one in stands]
    settled = set(held) - {row["id"] for row in videos.values()}
    done = [*(one["video_id"] for one in shown), *settled]
    for statement, values in (
        (_SHOWN, shown), (_SETTLED, settled), (_DROP, [n for one in done for n in batch[one].notes]),
    ):  # fmt: skip
        if values:
            await raw.execute(statement, _json(values), timeout=CLIENT_SECONDS)
    refusals = [(one, SWALLOWED) for one in kept] + [(one, HIDDEN) for one in hidden]
    return Result(
        shown=len(plan.with_status) + len(plan.without_status) - len(kept),
        locked=tuple(batch[videos[one]["id"]] for one in there),
        swallowed=tuple((batch[videos[one]["id"]], text) for one, text in refusals),
    )


async def _act_as(raw: Raw, role: str | None) -> None:
    if role is not None:
        await raw.fetch(AS_ROLE, role, timeout=CLIENT_SECONDS)


async def _present(raw: Raw, table: LinkedTable, missing: set[str]) -> set[str]:
    """Of the rows that could not be held, those that are there: another transaction holds them."""
    if not missing:
        return set()
    rows = await raw.fetch(link_statements.present(table), _json(list(missing)), timeout=CLIENT_SECONDS)
    return {row["app_id"] for row in rows}


def _record(row: asyncpg.Record) -> dict[str, Any]:
    names = ("app_id", "runway_video_id", "error_message", "video_url", "progress")
    return {name: row[name] for name in names}


@dataclass(frozen=True)
class _Plan:
    """What is written into which rows, and (`stands`) the word that each row has which is then up to date."""

    with_status: list[dict[str, Any]]
    without_status: list[dict[str, Any]]
    stands: dict[str, str | None]


def _plan(table: LinkedTable, videos: dict[str, asyncpg.Record], own: Sequence[asyncpg.Record]) -> _Plan:
    plan = _Plan([], [], {})
    for row in own:
        video, current = videos[row["app_id"]], row["word"]
        if is_queued_again(table, video, current):
            # It asks for another round, which intake begins; its notes wait for that. A closing link has no intake.
            if table.link.state == "closing":
                plan.stands[row["app_id"]] = None
            continue
        word = next_word(table, video, current)
        if word is not None:
            plan.with_status.append(_record(video) | {"word": word})
        elif not row["is_same"]:
            plan.without_status.append(_record(video))
        else:
            plan.stands[row["app_id"]] = current
    return plan


def is_queued_again(table: LinkedTable, video: asyncpg.Record, current: str | None) -> bool:
    """Whether the app has put the row of a video that ended back in the queue, and intake has not seen it yet."""
    ended = Status(video["status"]).terminal
    return ended and current in table.link.mapping.words.queued and current != video["app_word"]


def next_word(table: LinkedTable, video: asyncpg.Record, current: str | None) -> str | None:
    """The word to write for a video's status; None where the row keeps its own.

    A word that is none of ours is the app's, and stays. So does a wish to cancel, until the video has ended. Once the
    gate has let a round pass, the row says processing until its end: after `queued` the app would charge again.
    """
    status, mapping = Status(video["status"]), table.link.mapping
    word = mapping.words.of(status)
    if word is None or word == current or current not in mapping.words.known:
        return None
    if not status.terminal and current in mapping.words.cancel:
        return None
    is_gated = status is Status.QUEUED and video["gated_round"] == video["round"]
    if mapping.gate and (status is Status.PROCESSING or is_gated):
        return None
    return word


# A row that refuses: its words, and when to try again. It leaves its batch until it has succeeded. The row as it was
# before is returned, so that only new words make an event.
_REFUSED = f"""
WITH before AS MATERIALIZED (
    SELECT video_id, error FROM taxiway.rows WHERE video_id = $1 FOR NO KEY UPDATE SKIP LOCKED
), dropped AS (
    DELETE FROM taxiway.mirror_queue
    WHERE EXISTS (SELECT FROM before)
      AND id = ANY(ARRAY(SELECT value::bigint FROM jsonb_array_elements_text($4::jsonb)))
)
UPDATE taxiway.rows r SET tries = LEAST(r.tries + 1, 1000), sqlstate = $2, error = $3,
    refused_at = COALESCE(r.refused_at, taxiway.now()), due_at = taxiway.now() + make_interval(secs => CASE
        WHEN r.refused_at < taxiway.now() - make_interval(secs => {DAILY_AFTER_SECONDS}) THEN {DAILY_SECONDS}
        ELSE LEAST({FIRST_AGAIN_SECONDS} * 2 ^ LEAST(r.tries, 20), {LONGEST_AGAIN_SECONDS}) END)
FROM before b WHERE r.video_id = b.video_id RETURNING b.error IS DISTINCT FROM $3 AS is_new
"""


async def refused(database: Database, table: LinkedTable, one: Note, found: TableTrouble) -> bool:
    """Note that a row refused to show its video; whether its words are new."""
    row = await database.fetchrow(_REFUSED, one.video_id, found.sqlstate, found.message, _json(list(one.notes)))
    if row is None or not row["is_new"]:
        return False
    detail = {"link": table.link.name, "sqlstate": found.sqlstate}
    await note(database, "mirror", [{"video_id": one.video_id, "kind": "mirror_refused", "detail": detail}])
    return True


_BEHIND = """
SELECT DISTINCT link_id FROM taxiway.mirror_queue
UNION SELECT link_id FROM taxiway.rows WHERE due_at <= taxiway.now()
"""


async def behind(database: Database) -> set[int]:
    """The links whose rows are to be written."""
    return {row["link_id"] for row in await database.fetch(_BEHIND)}


def _json(value: Any) -> str:
    return json.dumps(list(value), default=str)
