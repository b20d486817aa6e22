"""Rows at processing that Taxiway did not put there: with consent they fail, are queued again, or followed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from random import getrandbits
from typing import Any
from uuid import UUID

from service import videos
from service.actors import cli_user
from service.errors import InvalidRequest
from service.installer.inspect import Connection, Table
from service.installer.survey import parts_of
from service.link_mapping import Mapping
from service.link_requests import request_of
from service.settings import Settings
from service.store.recordset import as_records
from service.store.search import WORDS
from service.videos import FailureCode

CHUNK = 20  # rows whose images are in memory at once
NOTE = "found at processing without a task id when its table was linked"
EXPLANATION = (
    "This row said processing, without a Runway id, when its table was linked to Taxiway. Nothing records whether the "
    "request was sent, so Runway may have made the video and charged it. To have it made again, retry it with "
    "accept_double_charge, which accepts that it may be paid for twice."
)

# The keys of such rows, in the order of their keys.
KEYS = "SELECT a.{id}::text AS id FROM {table} a WHERE {processing} AND NOT {is_video} ORDER BY 1"
# What they ask for.
READ = """
    SELECT a.{id}::text AS id, {moment} AS since, {created} AS created_at, {task} AS task_id, {user_id} AS user_id,
           {columns}
      FROM {table} a
     WHERE {processing} AND a.{id} = ANY(ARRAY(SELECT x::{id_type} FROM jsonb_array_elements_text($1::jsonb) AS x))
"""
# Models that are new.
MODELS = """
    INSERT INTO taxiway.models (model) SELECT DISTINCT value FROM jsonb_array_elements_text($1::jsonb)
    ON CONFLICT DO NOTHING
"""
FIELDS = """g(app_id text, video_id uuid, since timestamptz, created_at timestamptz, task_id text, user_id text,
              prompt text, operation text, model text, input jsonb, quoted_credits numeric)"""
# Each row, its video and the ledger's entry. One with a task is under way: its task is polled like any other. One
# without may have cost: it fails, and the entry forbids another create without consent. A task that the ledger has
# already is another video's: its row is left alone.
TAKE = f"""
    WITH given AS MATERIALIZED (
        SELECT DISTINCT ON (COALESCE(g.task_id, g.app_id), g.task_id IS NULL) g.*,
               LEAST(COALESCE(g.since, g.created_at), taxiway.now() - interval '1 second') AS opened_at
          FROM jsonb_to_recordset($1::jsonb) AS {FIELDS}
         WHERE NOT EXISTS (SELECT FROM taxiway.submissions s WHERE s.task_id = g.task_id)
    ), entered AS (
        INSERT INTO taxiway.rows (link_id, app_id, video_id, app_word)
        SELECT $2, g.app_id, g.video_id, $3 FROM given g ORDER BY g.app_id
        ON CONFLICT (link_id, app_id) DO UPDATE SET video_id = EXCLUDED.video_id, app_word = EXCLUDED.app_word
            WHERE rows.video_id IS NULL
        RETURNING video_id
    ), v AS (
        INSERT INTO taxiway.videos
               (id, user_id, prompt, created_at, model, origin, link_id, operation, quoted_credits, expires_at, input,
                status, submitted_at, poll_after, runway_video_id, task_status, error_code, error_message, finished_at)
        SELECT g.video_id, g.user_id, g.prompt, COALESCE(LEAST(g.created_at, taxiway.now()), taxiway.now()), g.model,
               'link', $2,
               g.operation, g.quoted_credits, taxiway.now() + make_interval(secs => $4), g.input,
               CASE WHEN g.task_id IS NULL THEN 'failed' ELSE 'processing' END,
               CASE WHEN g.task_id IS NULL THEN g.opened_at ELSE taxiway.now() END,
               CASE WHEN g.task_id IS NOT NULL THEN taxiway.now() END,
               g.task_id, CASE WHEN g.task_id IS NOT NULL THEN 'PENDING' END,
               CASE WHEN g.task_id IS NULL THEN $5 END, CASE WHEN g.task_id IS NULL THEN $6 END,
               CASE WHEN g.task_id IS NULL THEN taxiway.now() END
          FROM given g JOIN entered e ON e.video_id = g.video_id
        RETURNING id, created_at, model, user_id, input, prompt, metadata, runway_video_id, quoted_credits
    ), ledger AS (
        INSERT INTO taxiway.submissions
               (video_id, model, user_id, quoted_credits, opened_at, call_deadline, deadline, outcome, closed_at,
                task_id, error)
        SELECT g.video_id, g.model, g.user_id, g.quoted_credits, g.opened_at,
               taxiway.now(), taxiway.now() + interval '5 seconds',
               CASE WHEN g.task_id IS NULL THEN 'unknown' ELSE 'accepted' END,
               taxiway.now(), g.task_id, CASE WHEN g.task_id IS NULL THEN $7 END
          FROM given g JOIN entered e ON e.video_id = g.video_id
    ), searched AS (
        INSERT INTO taxiway.search (video_id, created_at, model, user_id, words)
        SELECT v.id, v.created_at, v.model, v.user_id,
               {WORDS.format(prompt="COALESCE(v.input ->> 'promptText', v.prompt)")}
          FROM v ON CONFLICT (video_id) DO NOTHING
    ), noted AS (
        INSERT INTO taxiway.events (video_id, kind, actor, code, credits)
        SELECT v.id, k.kind, k.actor, k.code, k.credits FROM v CROSS JOIN LATERAL (VALUES
            (1, 'enqueued', 'linked table', NULL, v.quoted_credits),
            (2, CASE WHEN v.runway_video_id IS NULL THEN 'failed' END, 'link', $5, NULL)
        ) AS k(n, kind, actor, code, credits) WHERE k.kind IS NOT NULL ORDER BY v.id, k.n
    )
    SELECT v.id, v.runway_video_id IS NOT NULL AS is_followed, v.input IS NOT NULL AS has_request FROM v
"""
# The operator's consent, for these videos ($1), and a new round of each. The mirror writes it to the row.
REQUEUE = """
    WITH consented AS (
        UPDATE taxiway.submissions SET consent = 'operator', consented_at = taxiway.now(), consented_by = $2
         WHERE video_id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb)))
        RETURNING video_id, id, quoted_credits
    ), again AS (
        UPDATE taxiway.videos
           SET status = 'queued', round = round + 1, run_after = taxiway.now(), queued_at = taxiway.now(),
               error_code = NULL, error_message = NULL, finished_at = NULL, updated_at = taxiway.now()
         WHERE id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb)))
        RETURNING id, quoted_credits
    )
    INSERT INTO taxiway.events (video_id, submission_id, kind, actor, credits)
    SELECT video_id, id, 'consented', $2, quoted_credits FROM consented
    UNION ALL SELECT id, NULL, 'retried', $2, quoted_credits FROM again
"""


@dataclass(frozen=True)
class Entry:
    """One such row, as the statement takes it."""

    app_id: str
    video_id: UUID
    since: datetime | None
    created_at: datetime | None
    task_id: str | None
    user_id: str | None
    prompt: str | None
    operation: str | None
    model: str
    input: dict[str, Any] | None
    quoted_credits: Decimal | None


@dataclass
class Taken:
    """How many rows became what."""

    failed: int = 0
    requeued: int = 0
    followed: int = 0


async def take(
    connection: Connection, table: Table, mapping: Mapping, link_id: int, settings: Settings, *, requeue: bool
) -> Taken:
    """Make videos of them, inside the caller's transaction. With `requeue` the operator accepts to pay twice.

    A row that makes no valid request fails, whatever was asked for.
    """
    parts = parts_of(table, mapping) | _columns(table, mapping)
    keys = [row["id"] for row in await connection.fetch(KEYS.format(**parts), link_id)]
    taken = Taken()
    for chunk in _chunks(keys):
        rows = await connection.fetch(READ.format(**parts), json.dumps(chunk))
        entries = [_entry(dict(row), settings) for row in rows]
        await connection.execute(MODELS, json.dumps(sorted({entry.model for entry in entries})))
        made = await connection.fetch(
            TAKE, as_records(entries), link_id, mapping.words.processing, settings.queue_timeout,
            FailureCode.SUBMISSION_UNKNOWN, EXPLANATION, NOTE,
        )  # fmt: skip
        again = [str(row["id"]) for row in made if requeue and row["has_request"] and not row["is_followed"]]
        if again:
            await connection.execute(REQUEUE, json.dumps(again), cli_user())
        followed = sum(row["is_followed"] for row in made)
        taken.followed += followed
        taken.requeued += len(again)
        taken.failed += len(made) - followed - len(again)
    return taken


def _columns(table: Table, mapping: Mapping) -> dict[str, str]:
    name = {key: f"a.{table.columns[column].sql_name}" for key, column in mapping.columns.items()}
    keys = [key for key in ("prompt", "image", "model", "ratio", "duration", "max_credits", "input") if key in name]
    return {
        "columns": ", ".join(f"{name[key]}::text AS {key}" for key in keys),
        "user_id": f"{name['user_id']}::text" if "user_id" in name else "NULL::text",
        "id_type": table.columns[mapping.id].type,
    }


def _entry(row: dict[str, Any], settings: Settings) -> Entry:
    request = None
    try:
        request = request_of(row, settings)
    except InvalidRequest:
        # It was the app's own request: what became of it is asked of Runway, not what it said.
        model = row.get("model") or (settings.image_model if row.get("image") else settings.text_model)
    return Entry(
        app_id=row["id"],
        video_id=videos.new_id(time.time(), getrandbits(74)),
        since=row["since"],
        created_at=row["created_at"],
        task_id=row["task_id"],
        user_id=row["user_id"],
        prompt=row.get("prompt"),
        operation=request.operation if request else None,
        model=request.model if request else model,
        input=request.input if request else None,
        quoted_credits=request.quoted_credits if request else None,
    )


def _chunks(keys: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), CHUNK):
        yield keys[start : start + CHUNK]
