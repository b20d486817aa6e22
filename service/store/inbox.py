"""Statements on `inbox`: every callback that was verified, once."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from service.errors import Conflict
from service.store import batches
from service.store.batches import ONLY, RAISE, Choosing, Parking
from service.store.database import Database
from service.store.search import OF_TASK

_RECEIVE = """
INSERT INTO taxiway.inbox (id, body_hash, task_id, video_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO NOTHING RETURNING id
"""
_KNOWN = "SELECT body_hash, handled_at FROM taxiway.inbox WHERE id = $1"


async def receive(database: Database, message_id: str, body_hash: bytes, task_id: str, video_id: UUID | None) -> bool:
    """Keep a callback; whether there is anything to do for it (it is new, or was never handled).

    Raises Conflict if the same id came before with another body.
    """
    if await database.fetchval(_RECEIVE, message_id, body_hash, task_id, video_id) is not None:
        return True
    # A second statement: what ran at the same time as the first cannot be seen in it.
    known = await database.fetchrow(_KNOWN, message_id)
    if known is None:
        return True  # pruned between the two: as good as new
    if known["body_hash"] != body_hash:
        raise Conflict("this webhook-id was used before with another body")
    return known["handled_at"] is None


_HANDLED = "UPDATE taxiway.inbox SET handled_at = now(), result = $2 WHERE id = $1 AND handled_at IS NULL"


async def handled(database: Database, message_id: str, result: str) -> None:
    """Nothing is left to do for this callback."""
    await database.execute(_HANDLED, message_id, result)


# Callbacks that came before their task was known here, or that were interrupted. Saving an id and receiving a callback
# can miss each other, so every tick matches again: the task becomes due, unless it was polled since.
_MATCHING = f"""
    SELECT i.id, v.id AS video_id FROM taxiway.inbox i JOIN taxiway.videos v
        ON v.id = ANY(ARRAY({OF_TASK.format(task="i.task_id")})) AND v.runway_video_id = i.task_id
    WHERE i.handled_at IS NULL {ONLY} ORDER BY i.received_at LIMIT $1"""
_MATCH = Choosing(
    "match",
    f"""
WITH match AS MATERIALIZED ({_MATCHING}
), hastened AS (
    UPDATE taxiway.videos v SET poll_after = now()
    WHERE v.id = ANY(ARRAY(
        SELECT id FROM taxiway.videos WHERE id IN (SELECT video_id FROM match) AND status = 'processing'
        FOR UPDATE SKIP LOCKED))
    RETURNING v.id
)
UPDATE taxiway.inbox i SET handled_at = now(), result = 'matched' FROM match m
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
_EVIDENCE = """
SELECT i.id, i.task_id, i.video_id FROM taxiway.inbox i JOIN taxiway.videos v ON v.id = i.video_id
WHERE i.handled_at IS NULL AND EXISTS (
    SELECT FROM taxiway.submissions s WHERE s.video_id = i.video_id AND s.outcome = 'unknown' AND s.settled_at IS NULL)
ORDER BY i.received_at LIMIT $1
"""


async def evidence(database: Database, limit: int) -> list[asyncpg.Record]:
    """Waiting callbacks that may resolve an unknown submission: id, task_id, video_id."""
    return await database.fetch(_EVIDENCE, limit)
