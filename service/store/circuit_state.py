"""Statements on a model's circuit: how many of its creates may be in flight, and what unknown outcomes do to it.

As TCP finds out what a path carries, so this finds out what Runway takes. It begins at 2; grows by one with each
accepted create, up to the last size that held, and from there by one per window; halves at an unknown outcome. Three
unknown outcomes in a row, of three videos, pause the model: 30 s, doubling to 15 minutes while probes end unknown as
well. So an outage costs a handful of unknown outcomes, not the backlog. The claim holds all processes to it
(`taxiway.room`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from service.store.database import Database

REASON = "circuit"
IN_A_ROW = 3
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 30, 900

# One batch of outcomes. A model's row that is held is passed over: then nothing is returned. What it grows by: at first
# one per accepted create, up to `held`, and with the rest one per window.
_CHANGE = f"""
WITH held AS MATERIALIZED (
    SELECT m.model, m.reason, m.pauses, m.held, m.grown, taxiway.allowed(m) AS size,
           ARRAY(SELECT DISTINCT id FROM unnest(CASE WHEN $4 THEN '{{}}' ELSE m.unknown_videos END
                 || ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($3::jsonb))) AS id) AS unknown_videos
    FROM taxiway.models m WHERE m.model = $1 FOR NO KEY UPDATE SKIP LOCKED
), grown AS (
    SELECT h.*, LEAST($2, GREATEST(h.held - h.size, 0)) AS fast FROM held h
), next AS (
    SELECT g.*, g.size + g.fast AS risen, g.grown + $2 - g.fast AS rest,
           $5 OR g.reason IS NULL AND cardinality(g.unknown_videos) >= {IN_A_ROW} AS pausing,
           LEAST({FIRST_PAUSE_SECONDS} * 2 ^ LEAST(g.pauses, 20), {LONGEST_PAUSE_SECONDS}) AS seconds
    FROM grown g
), changed AS (
    UPDATE taxiway.models m SET
        max_in_flight = CASE WHEN $6 THEN GREATEST(n.size / 2, 1) ELSE n.risen + n.rest / n.risen END,
        held = CASE WHEN $6 THEN GREATEST(n.size / 2, 2) WHEN $2 > 0 THEN GREATEST(n.held, n.size) ELSE n.held END,
        grown = CASE WHEN $6 THEN 0 ELSE n.rest % n.risen END,
        used_at = taxiway.now(), unknown_videos = n.unknown_videos[1:{IN_A_ROW}],
        pauses = n.pauses + n.pausing::integer,
        -- A probe had put it off for longer than that.
        paused_until = CASE WHEN n.pausing THEN taxiway.now() + make_interval(secs => n.seconds)
                            ELSE m.paused_until END,
        reason = CASE WHEN n.pausing THEN '{REASON}' ELSE m.reason END,
        detail = CASE WHEN n.pausing THEN $7 ELSE m.detail END,
        paused_at = CASE WHEN n.pausing THEN COALESCE(m.paused_at, taxiway.now()) ELSE m.paused_at END,
        last_video = CASE WHEN n.pausing THEN COALESCE($8, m.last_video) ELSE m.last_video END
    FROM next n WHERE m.model = n.model
    RETURNING n.pausing, n.seconds::float8 AS seconds
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code, detail)
    SELECT $8, 'paused', 'submit', '{REASON}', jsonb_build_object('model', $1::text, 'seconds', c.seconds)
    FROM changed c WHERE c.pausing
)
SELECT pausing, seconds FROM changed
"""


@dataclass(frozen=True)
class Change:
    """What one batch of outcomes means for a model.

    `accepted`: creates that were accepted while as many were in flight as may be; others say nothing about the size.
    `unknown`: the videos whose outcomes were unknown, after the last that was known. `is_known`: some outcome was.
    `has_unknown`: some was not. `is_probe`: one of these was the probe of a paused model, and ended unknown.
    """

    model: str
    accepted: int = 0
    unknown: Sequence[UUID] = ()
    is_known: bool = False
    has_unknown: bool = False
    is_probe: bool = False
    detail: str = ""


async def change(database: Database, one: Change) -> float | None:
    """Apply it; for how many seconds that paused the model (0: not at all). None: another transaction holds its row."""
    row = await database.fetchrow(
        _CHANGE, one.model, one.accepted, json.dumps([str(id) for id in one.unknown]), one.is_known, one.is_probe,
        one.has_unknown, one.detail, one.unknown[-1] if one.unknown else None,
    )  # fmt: skip
    if row is None:
        return None
    return float(row["seconds"]) if row["pausing"] else 0.0


# What a new process, or a test, may want to know.
_SIZE = "SELECT taxiway.allowed(m) FROM taxiway.models m WHERE m.model = $1"


async def size(database: Database, model: str) -> int | None:
    """How many creates of the model may be in flight now; None if it was never used."""
    found: int | None = await database.fetchval(_SIZE, model)
    return found
