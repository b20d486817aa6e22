"""Statements on `inbox`: every callback that was verified, once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from service.store import batches
from service.store.batches import ONLY, RAISE, Choosing, Parking
from service.store.database import Database
from service.store.predicates import UNSETTLED
from service.store.recordset import as_records
from service.store.search import OF_TASK
from service.store.tasks import LEAST_GAP_SECONDS


@dataclass(frozen=True)
class Callback:
    """A callback that was verified. `body_hash`: SHA-256 of its body, in hexadecimal."""

    id: str
    body_hash: str
    task_id: str
    video_id: UUID | None


# Keep callbacks, each once; of one that was there already, the hash of the body that was kept.
_RECEIVE = """
WITH came AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS c(id text, body_hash text, task_id text, video_id uuid)
), kept AS (
    INSERT INTO taxiway.inbox (id, body_hash, task_id, video_id)
    SELECT id, decode(body_hash, 'hex'), task_id, video_id FROM came ORDER BY id
    ON CONFLICT (id) DO NOTHING RETURNING id
)
SELECT i.id, encode(i.body_hash, 'hex') AS body_hash FROM taxiway.inbox i
WHERE i.id = ANY(ARRAY(SELECT id FROM came)) AND i.id <> ALL(ARRAY(SELECT id FROM kept))
"""


async def receive(database: Database, callbacks: Sequence[Callback]) -> dict[str, str]:
    """Keep these callbacks, of different ids; of those that were there already, by id: the hash that was kept."""
    rows = await database.fetch(_RECEIVE, as_records(callbacks))
    return {row["id"]: row["body_hash"] for row in rows}


_HANDLED = "UPDATE taxiway.inbox SET handled_at = taxiway.now(), result = $2 WHERE id = $1 AND handled_at IS NULL"


async def handled(database: Database, message_id: str, result: str) -> None:
    """Nothing is left to do for this callback."""
    await database.execute(_HANDLED, message_id, result)


# Callbacks that came before their task was known here, or that were interrupted. Saving an id and receiving a callback
# can miss each other, so every tick matches again: the task becomes due, unless it was polled since.
_MATCHING = f"""
    SELECT i.id, i.task_id, v.id AS video_id FROM taxiway.inbox i JOIN taxiway.videos v
        ON v.id = ANY(ARRAY({OF_TASK.format(task="i.task_id")})) AND v.runway_video_id = i.task_id
    WHERE i.handled_at IS NULL {ONLY} ORDER BY i.received_at LIMIT $1"""
_MATCH = Choosing(
    "match",
    f"""
WITH match AS MATERIALIZED ({_MATCHING}
), hastened AS (
    UPDATE taxiway.videos v SET
        poll_after = LEAST(v.poll_after, GREATEST(taxiway.now(), v.polled_at + interval '{LEAST_GAP_SECONDS} seconds'))
    WHERE v.id = ANY(ARRAY(
        SELECT id FROM taxiway.videos WHERE id IN (SELECT video_id FROM match) AND status = 'processing'
        FOR UPDATE SKIP LOCKED))
    RETURNING v.id
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor) SELECT id, 'callback', 'callback' FROM hastened
), sought AS (
    UPDATE taxiway.submissions SET look_due = taxiway.now()
    WHERE outcome = 'unknown' AND task_id = ANY(ARRAY(SELECT task_id FROM match))
)
UPDATE taxiway.inbox i SET handled_at = taxiway.now(), result = 'matched' FROM match m
WHERE i.id = m.id AND (m.video_id IN (SELECT id FROM hastened)
                       OR EXISTS (SELECT FROM taxiway.videos v WHERE v.id = m.video_id AND v.status <> 'processing'))
""",
    f"WITH match AS MATERIALIZED ({_MATCHING}) SELECT id, video_id FROM match",
    "i.id",
    key_type="text",
)


async def match(database: Database, limit: int, parking: Parking = RAISE) -> int:
    """Match waiting callbacks with tasks that are known by now; how many."""
    return await batches.execute(database, _MATCH, limit, parking=parking)


# Callbacks that name a video whose task is unknown: evidence for an unknown submission.
_EVIDENCE = f"""
SELECT i.id, i.task_id, i.video_id FROM taxiway.inbox i JOIN taxiway.videos v ON v.id = i.video_id
WHERE i.handled_at IS NULL AND EXISTS (
    SELECT FROM taxiway.submissions s
    WHERE s.video_id = i.video_id AND {UNSETTLED}
      AND (s.task_id IS NULL OR s.task_id = i.task_id))
  AND NOT $2::jsonb ? i.id
ORDER BY i.received_at LIMIT $1
"""


async def evidence(database: Database, limit: int, passed_over: Sequence[str] = ()) -> list[asyncpg.Record]:
    """Waiting callbacks that may resolve an unknown submission, but those: id, task_id, video_id."""
    return await database.fetch(_EVIDENCE, limit, json.dumps(list(passed_over)))
