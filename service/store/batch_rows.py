"""Statements on a batch: up to a thousand requests, stored with one statement. Each may have an Idempotency-Key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import asyncpg

from service.store import waiting_facts
from service.store.claim import PerUser
from service.store.database import Database
from service.store.durable import ASK
from service.store.listener import HAS_LISTENER
from service.store.recordset import as_records
from service.store.search import WORDS
from service.store.video_rows import COLUMNS, NewVideo, key_hash
from service.videos import Video

# Enqueue many: as `video_rows` enqueues one. What has a key that is taken is left out. In their order, and models in
# that of their names: of two batches that are the same, one waits for the other, and never each for the other.
_PARTS = f"""given AS MATERIALIZED (
    SELECT * FROM ROWS FROM (jsonb_to_recordset($1::jsonb) AS (
        id uuid, operation text, model text, input jsonb, quoted_credits numeric, priority smallint,
        run_after timestamptz, expires_at timestamptz, timeout_seconds float8, idempotency_key text, request_hash text,
        user_id text, prompt text, image_url text, metadata jsonb, warnings jsonb, actor text, webhook_url text)
    ) WITH ORDINALITY
), model AS (
    INSERT INTO taxiway.models (model) SELECT DISTINCT model FROM given ORDER BY 1 ON CONFLICT DO NOTHING
), v AS (
    INSERT INTO taxiway.videos AS v (
        id, operation, model, input, quoted_credits, priority, run_after, queued_at, expires_at, idempotency_key,
        request_hash, user_id, prompt, image_url, metadata, origin, created_by, warnings, webhook_url)
    SELECT g.id, g.operation, g.model, g.input, g.quoted_credits, g.priority, COALESCE(g.run_after, taxiway.now()),
           GREATEST(g.run_after, taxiway.now()),
           COALESCE(g.expires_at, GREATEST(g.run_after, taxiway.now()) + make_interval(secs => g.timeout_seconds)),
           g.idempotency_key, g.request_hash, g.user_id, g.prompt, g.image_url, NULLIF(g.metadata, 'null'), 'api',
           g.actor, NULLIF(g.warnings, '[]'), g.webhook_url
    FROM given g ORDER BY g.ordinality
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING v.user_id, v.created_by, v.claim_order, {COLUMNS}
), found AS (
    INSERT INTO taxiway.search (video_id, created_at, model, user_id, words)
    SELECT v.id, v.created_at, v.model, v.user_id, {WORDS.format(prompt="v.input ->> 'promptText'")} FROM v
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, credits)
    SELECT v.id, 'enqueued', v.created_by, v.quoted_credits FROM v
), woken AS MATERIALIZED (
    SELECT CASE WHEN {HAS_LISTENER} THEN pg_notify('taxiway', '') END AS woken, {ASK} AS durable
)"""
_INSERT = f"WITH {_PARTS}\nSELECT v.*, woken.* FROM v CROSS JOIN woken"
# The same, and what they wait for. One statement: where that cannot be found out, nothing is stored.
_INSERT_AND_ASK = f"""
WITH {_PARTS}, {waiting_facts.OF_NEW}
SELECT v.*, woken.*, {waiting_facts.COLUMNS}
{waiting_facts.FROM}JOIN v ON v.id = a.id CROSS JOIN woken
"""

Stored = tuple[Video, asyncpg.Record]  # a new video, and its row of `waiting_facts.facts`


async def enqueue(database: Database, new: Sequence[NewVideo]) -> dict[UUID, Video]:
    """Store these requests; the new videos, by their ids. Those whose Idempotency-Key is taken are left out."""
    rows = await database.fetch(_INSERT, _records(new))
    return {row["id"]: Video.from_row(row) for row in rows}


async def enqueue_and_ask(database: Database, new: Sequence[NewVideo], per_user: PerUser) -> dict[UUID, Stored]:
    """The same, with what each video waits for. `per_user`: what each user may have."""
    rows = await database.fetch(_INSERT_AND_ASK, _records(new), per_user.in_flight, per_user.credits)
    return {row["id"]: (Video.from_row(row), row) for row in rows}


def _records(new: Sequence[NewVideo]) -> str:
    return as_records(
        [replace(one, idempotency_key=key_hash(one.idempotency_key)) if one.idempotency_key else one for one in new]
    )


# The videos of Idempotency-Keys, by key. As in `video_rows`, the lock makes this wait for the standby.
_KNOWN = f"""
SELECT v.idempotency_key, v.request_hash, {COLUMNS}, {ASK} FROM taxiway.videos v
WHERE v.idempotency_key = ANY(ARRAY(SELECT value FROM jsonb_array_elements_text($1::jsonb))) FOR KEY SHARE OF v
"""


async def known(database: Database, keys: Sequence[str]) -> dict[str, tuple[Video, str]]:
    """By Idempotency-Key, the video that was made with it, and the hash of its request; those not used are left out."""
    if not keys:
        return {}
    by_hash = {key_hash(key): key for key in keys}
    rows = await database.fetch(_KNOWN, json.dumps(list(by_hash)))
    return {by_hash[row["idempotency_key"]]: (Video.from_row(row), row["request_hash"]) for row in rows}
