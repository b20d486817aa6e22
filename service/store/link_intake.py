"""Statements that make videos of a linked table's rows: no lock on a row of the app's, and no write to it.

What was taken once is in `taxiway.rows`, so any number of intakes may read the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from service.store import link_statements
from service.store.batches import PARKED
from service.store.database import Database
from service.store.linked_table import LinkedTable
from service.store.links import TableTrouble, ask, note, trouble
from service.store.predicates import NEEDS_CONSENT
from service.store.recordset import as_records
from service.store.search import WORDS
from service.store.video_rows import BLANKED_WORDS
from service.videos import FailureCode

CHUNK_BYTES = 8_000_000  # of prompts, images and inputs at once: on their way they are in memory six times
CHUNK_ROWS = 1_000
READ_SECONDS = 20.0
PROMPT_SHOWN = 1_000  # characters that are kept of a prompt that makes no request


@dataclass(frozen=True)
class Unknown:
    """A row that says queued and is to be taken. `is_known`: it was a video before, which has ended since."""

    app_id: str
    size: int
    is_known: bool


@dataclass(frozen=True)
class Look:
    """What one look for queued rows found. `newest`: of all rows, where the table has a column that says so."""

    unknown: list[Unknown]
    newest: str | None

    @property
    def is_full(self) -> bool:
        """Whether there may be more."""
        return len(self.unknown) >= link_statements.LOOK_LIMIT


async def look(database: Database, table: LinkedTable, *, window: bool) -> Look:
    """Rows that are to be taken. Raises TableTrouble."""
    arguments = [table.since] if window else []
    rows = await ask(database, link_statements.look(table, window=window), *arguments)
    unknown = [Unknown(row["app_id"], row["size"], row["is_known"]) for row in rows if row["app_id"] is not None]
    return Look(unknown, rows[0]["newest"])


def chunks(rows: Sequence[Unknown]) -> Iterator[list[Unknown]]:
    """The rows in parts of at most CHUNK_BYTES, and at least one row."""
    part: list[Unknown] = []
    size = 0
    for row in rows:
        if part and (size + row.size > CHUNK_BYTES or len(part) == CHUNK_ROWS):
            yield part
            part, size = [], 0
        part.append(row)
        size += row.size
    if part:
        yield part


async def read(database: Database, table: LinkedTable, app_ids: Sequence[str]) -> list[asyncpg.Record]:
    """The mapped columns of those rows that still say queued. Raises TableTrouble."""
    return await ask(database, link_statements.read(table), json.dumps(list(app_ids)), seconds=READ_SECONDS)


@dataclass(frozen=True)
class Entry:
    """What intake makes of one row: a request, or (`refusal`) the reason why there is none."""

    app_id: str
    word: str
    video_id: UUID  # of a row that is taken for the first time
    user_id: str | None = None
    prompt: str | None = None
    created_at: datetime | None = None
    operation: str | None = None
    model: str | None = None
    input: dict[str, Any] | None = None
    quoted_credits: Any = None
    refusal: str | None = None


_FIELDS = """g(app_id text, word text, video_id uuid, user_id text, prompt text, created_at timestamptz,
                operation text, model text, input jsonb, quoted_credits numeric, refusal text)"""

# A model that is new gets its row first, in a statement of its own: rows of two tables, taken in one statement by two
# intakes, could be taken in different orders.
_MODELS = """
INSERT INTO taxiway.models (model) SELECT DISTINCT value FROM jsonb_array_elements_text($1::jsonb)
WHERE NOT EXISTS (SELECT FROM taxiway.models m WHERE m.model = value) ORDER BY 1 ON CONFLICT DO NOTHING
"""

# Take rows: enter each that is not known, in the order of their keys, and make its video. A video without a request
# has failed from the start, which its row will show.
_TAKE = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS {_FIELDS}
), entered AS (
    INSERT INTO taxiway.rows (link_id, app_id, video_id, app_word)
    SELECT $2, g.app_id, g.video_id, g.word FROM given g ORDER BY g.app_id
    ON CONFLICT DO NOTHING RETURNING video_id
), v AS (
    INSERT INTO taxiway.videos (id, user_id, prompt, created_at, model, origin, link_id, operation, quoted_credits,
                                expires_at, input, status, error_code, error_message, finished_at)
    SELECT g.video_id, g.user_id, g.prompt, LEAST(g.created_at, taxiway.now()), g.model, 'link', $2, g.operation,
           g.quoted_credits, taxiway.now() + make_interval(secs => $4), g.input,
           CASE WHEN g.refusal IS NULL THEN 'queued' ELSE 'failed' END,
           CASE WHEN g.refusal IS NOT NULL THEN $3 END, g.refusal,
           CASE WHEN g.refusal IS NOT NULL THEN taxiway.now() END
    FROM given g JOIN entered e ON e.video_id = g.video_id
    RETURNING id, created_at, model, user_id, input, prompt, metadata, quoted_credits, error_code, error_message
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code, credits)
    SELECT v.id, CASE WHEN v.error_code IS NULL THEN 'enqueued' ELSE 'failed' END, 'linked table', v.error_code,
           v.quoted_credits FROM v
), found AS (
    INSERT INTO taxiway.search (video_id, created_at, model, user_id, words)
    SELECT v.id, v.created_at, v.model, v.user_id, {WORDS.format(prompt="COALESCE(v.input ->> 'promptText', v.prompt)")}
    FROM v
    ON CONFLICT (video_id) DO NOTHING
)
SELECT id, error_message AS refusal FROM v
"""


async def take(
    database: Database, table: LinkedTable, entries: Sequence[Entry], patience: float
) -> list[asyncpg.Record]:
    """Make videos of rows that no intake has taken: (id, refusal) of each. Raises TableTrouble if one breaks it.

    `patience`: seconds for which a video may stay queued.
    """
    if not entries:
        return []
    async with database.connection() as connection:
        raw = connection.raw
        try:
            if models := sorted({one.model for one in entries if one.model}):
                await raw.execute(_MODELS, json.dumps(models))
            rows: list[asyncpg.Record] = await raw.fetch(
                _TAKE, as_records(entries), table.id, FailureCode.INVALID_REQUEST, patience
            )
        except asyncpg.PostgresError as exc:
            raise trouble(exc) from exc
    return rows


# Rows that are known, held against mirror, gate and other intakes, if nothing is under way for them.
_HOLD = """
SELECT app_id, app_word FROM taxiway.rows WHERE link_id = $1
  AND app_id = ANY(ARRAY(SELECT value FROM jsonb_array_elements_text($2::jsonb)))
ORDER BY app_id FOR NO KEY UPDATE SKIP LOCKED
"""

# A new round for each video that has ended, with what its row asks for now; a video that was made through the API keeps
# its request. Without consent, no round where an earlier create may have been taken: the row is put back by the mirror,
# with the reason. A video that was removed meanwhile is made again, under its own id: the ledger still knows it. A film
# that was paid for may be paid for again, since the app asks for it again: the ledger keeps that as the app's consent.
# A video of the API whose input was blanked is put back like one without consent. One that is erased, or is to be,
# stays that: its row's word is noted, so that it is not seen as new, and nothing else.
_AGAIN = f"""
WITH given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS {_FIELDS}
), row AS MATERIALIZED (
    SELECT r.app_id, COALESCE(r.video_id, g.video_id) AS video_id
    FROM taxiway.rows r JOIN given g ON g.app_id = r.app_id
    WHERE r.link_id = $2 AND r.app_id = ANY(ARRAY(SELECT app_id FROM given))
), ended AS MATERIALIZED (
    SELECT v.id, v.origin, {NEEDS_CONSENT} AS needs_consent,
           v.origin = 'api' AND v.input_blanked_at IS NOT NULL AS is_blanked
    FROM taxiway.videos v
    WHERE v.id = ANY(ARRAY(SELECT video_id FROM row)) AND v.status IN ('completed', 'failed', 'cancelled')
      AND v.erase_requested_at IS NULL
    ORDER BY v.id FOR UPDATE OF v SKIP LOCKED
), again AS (
    UPDATE taxiway.videos v SET
        operation = CASE WHEN e.origin = 'api' THEN v.operation ELSE g.operation END,
        model = CASE WHEN e.origin = 'api' THEN v.model ELSE COALESCE(g.model, v.model) END,
        input = CASE WHEN e.origin = 'api' THEN v.input ELSE g.input END,
        quoted_credits = CASE WHEN e.origin = 'api' THEN v.quoted_credits ELSE g.quoted_credits END,
        status = CASE WHEN e.origin = 'api' OR g.refusal IS NULL THEN 'queued' ELSE 'failed' END,
        error_code = CASE WHEN e.origin <> 'api' AND g.refusal IS NOT NULL THEN $3 END,
        error_message = CASE WHEN e.origin <> 'api' THEN g.refusal END,
        finished_at = CASE WHEN e.origin <> 'api' AND g.refusal IS NOT NULL THEN taxiway.now() END,
        round = v.round + 1, run_after = taxiway.now(), queued_at = taxiway.now(),
        expires_at = taxiway.now() + make_interval(secs => $4),
        retries = 0, task_retries = 0, resubmissions = 0, runway_video_id = NULL, task_status = NULL, progress = NULL,
        output = NULL, video_url = NULL, video_url_expires_at = NULL, cost_credits = NULL, updated_at = taxiway.now(),
        input_blanked_at = NULL
    FROM ended e JOIN row r ON r.video_id = e.id JOIN given g ON g.app_id = r.app_id
    WHERE v.id = e.id AND NOT e.needs_consent AND NOT e.is_blanked
    RETURNING v.id, CASE WHEN e.origin <> 'api' THEN g.refusal END AS refusal
), refused AS (
    UPDATE taxiway.videos v SET error_message = CASE WHEN e.needs_consent THEN $5::text ELSE $7::text END,
        updated_at = taxiway.now()
    FROM ended e WHERE v.id = e.id AND (e.needs_consent OR e.is_blanked) RETURNING v.id, v.error_message AS refusal
), lost AS (
    INSERT INTO taxiway.videos (id, user_id, prompt, model, origin, link_id, operation, quoted_credits, expires_at,
                                input, status, error_code, error_message, finished_at, round)
    SELECT r.video_id, g.user_id, g.prompt, g.model, 'link', $2, g.operation, g.quoted_credits,
           taxiway.now() + make_interval(secs => $4), g.input,
           CASE WHEN COALESCE(n.refusal, g.refusal) IS NULL THEN 'queued' ELSE 'failed' END,
           CASE WHEN n.refusal IS NOT NULL THEN $6 WHEN g.refusal IS NOT NULL THEN $3 END,
           COALESCE(n.refusal, g.refusal),
           CASE WHEN COALESCE(n.refusal, g.refusal) IS NOT NULL THEN taxiway.now() END, 2
    FROM row r JOIN given g ON g.app_id = r.app_id CROSS JOIN LATERAL (
        SELECT CASE WHEN {NEEDS_CONSENT.replace("v.id", "r.video_id")} THEN $5 END AS refusal) AS n
    WHERE NOT EXISTS (SELECT FROM taxiway.videos v WHERE v.id = r.video_id)
    RETURNING id, error_message AS refusal
), done AS (
    SELECT * FROM again UNION ALL SELECT * FROM refused UNION ALL SELECT * FROM lost
), said AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code, credits)
    SELECT d.id, CASE WHEN d.refusal IS NULL THEN 'retried' ELSE 'put_back' END, 'linked table',
           CASE WHEN d.refusal = $5 THEN $6 WHEN d.refusal IS NOT NULL THEN $3 END,
           CASE WHEN d.refusal IS NULL THEN g.quoted_credits END
    FROM done d JOIN row o ON o.video_id = d.id JOIN given g ON g.app_id = o.app_id
), wanted AS MATERIALIZED (
    SELECT s.video_id, s.id FROM taxiway.submissions s JOIN done d ON d.id = s.video_id
    WHERE d.refusal IS NULL AND s.outcome = 'accepted' AND s.consent IS NULL
    FOR NO KEY UPDATE OF s SKIP LOCKED
), consented AS (
    UPDATE taxiway.submissions s SET consent = 'app', consented_at = taxiway.now(), consented_by = 'linked table'
    FROM wanted w WHERE s.video_id = w.video_id AND s.id = w.id
    RETURNING s.video_id, s.id
), noted_consent AS (
    INSERT INTO taxiway.events (video_id, submission_id, kind, actor)
    SELECT video_id, id, 'consented', 'linked table' FROM consented
), marked AS (
    UPDATE taxiway.rows r SET app_word = g.word, video_id = d.id, missing_since = NULL,
        mirrored_version = CASE WHEN d.refusal IS NULL THEN r.mirrored_version ELSE 0 END
    FROM done d JOIN row o ON o.video_id = d.id JOIN given g ON g.app_id = o.app_id
    WHERE r.link_id = $2 AND r.app_id = o.app_id
), left_erased AS (
    UPDATE taxiway.rows r SET app_word = g.word
    FROM row o JOIN given g ON g.app_id = o.app_id JOIN taxiway.videos v ON v.id = o.video_id
    WHERE r.link_id = $2 AND r.app_id = o.app_id AND (v.status = 'erased' OR v.erase_requested_at IS NOT NULL)
), noted AS (
    INSERT INTO taxiway.mirror_queue (link_id, video_id) SELECT $2, id FROM refused
)
SELECT id, refusal FROM done
"""

DRAGGED = (
    "This video was put back in the queue, but an earlier attempt may have been taken and charged by Runway. "
    "Retry it with accept_double_charge, or attach the task."
)


async def take_again(
    database: Database, table: LinkedTable, entries: Sequence[Entry], patience: float
) -> list[asyncpg.Record]:
    """Begin a new round for rows that say queued again: (id, refusal) of each. Raises TableTrouble.

    The rows are held first. What they say is then read once more: a word that was read before may be one to which a
    round has come and gone meanwhile.
    """
    if not entries:
        return []
    async with database.connection() as connection:
        raw = connection.raw
        try:
            async with raw.transaction(isolation="read_committed"):
                if models := sorted({one.model for one in entries if one.model}):
                    await raw.execute(_MODELS, json.dumps(models))
                held = await raw.fetch(_HOLD, table.id, json.dumps([one.app_id for one in entries]))
                known = {row["app_id"]: row["app_word"] for row in held}
                now = await raw.fetch(
                    link_statements.still_queued(table), json.dumps(list(known)), timeout=READ_SECONDS
                )
                again = {row["app_id"] for row in now if row["word"] != known[row["app_id"]]}
                wanted = [one for one in entries if one.app_id in again]
                rows: list[asyncpg.Record] = await raw.fetch(
                    _AGAIN, as_records(wanted), table.id, FailureCode.INVALID_REQUEST, patience, DRAGGED,
                    FailureCode.SUBMISSION_UNKNOWN, f"This video cannot be queued again: {BLANKED_WORDS}",
                )  # fmt: skip
        except (TimeoutError, asyncpg.PostgresError) as exc:
            raise trouble(exc) from exc
    return rows


# How far intake has come, and when it looks again.
_SEEN = """
UPDATE taxiway.links SET seen_until = COALESCE($2, seen_until),
    sweep_seconds = CASE WHEN $3 THEN $6 ELSE sweep_seconds END,
    sweep_due = CASE WHEN $3 THEN taxiway.now() + make_interval(secs => GREATEST(60, 50 * $4)) ELSE sweep_due END,
    look_due = taxiway.now() + make_interval(secs => $5)
WHERE id = $1
"""


async def seen(
    database: Database, table: LinkedTable, *, newest: str | None, swept: bool, seconds: float, kept: float,
    rest: float,
) -> None:  # fmt: skip
    """Note a look that took so long: the newest row, whether it was a sweep, and for how long to rest.

    `kept`: what LinkedTable.remembered makes of the seconds.
    """
    seen_until = None if newest is None else f"{table.window_key} {newest}"
    await database.execute(_SEEN, table.id, seen_until, swept, seconds, rest, kept)


_TURN = """
UPDATE taxiway.links SET look_due = taxiway.now() + interval '10 seconds'
WHERE id = $1 AND look_due <= taxiway.now() RETURNING id
"""


async def take_turn(database: Database, table: LinkedTable) -> bool:
    """Whether this process may read the whole table now: one of them at a time is enough."""
    return await database.fetchval(_TURN, table.id) is not None


async def refused(
    database: Database, table: LinkedTable, app_id: str, video_ids: Sequence[UUID], exc: TableTrouble
) -> None:
    """Note that PostgreSQL refused to read or store a row."""
    detail = {"link": table.link.name, "statement": "take_row", "key": app_id, "sqlstate": exc.sqlstate}
    await note(database, "intake", [{"video_id": one, "kind": PARKED, "detail": detail} for one in video_ids])
