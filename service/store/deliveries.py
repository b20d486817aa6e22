"""Statements on `deliveries`: what is due to whom, and what attempts came to. The schema's triggers insert the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from service.errors import Conflict, StatementRefused
from service.store.database import Connection, Database
from service.store.driver_errors import LOCK_NOT_AVAILABLE, sqlstate
from service.store.recordset import as_records
from service.store.video_rows import COLUMNS, LOCK_MILLISECONDS
from service.videos import Video

LEASE_SECONDS = 60  # an attempt has ended by then; otherwise its process is gone
AT_ONCE = 10  # attempts under way for one receiver, over all processes
FAILING_AT = 5  # failures in a row: from then on one attempt at a time, a probe
# How long after a failure the next probe may be made: this part of the time for which the endpoint has failed.
PROBE_SHARE, PROBE_FIRST_SECONDS, PROBE_CAP_SECONDS = 0.25, 5, 300
KEPT_ATTEMPTS = 12  # of one delivery, the newest

# The opt-in events, as a part of the statements that save an id and what a poll saw: for the endpoints that want them,
# which are none as a rule. `source` yields the videos: id, round, task_id, task_status, progress, submitted_at.
UNDER_WAY = "video.processing"
NOTE_UNDER_WAY = """
    INSERT INTO taxiway.deliveries (video_id, round, event, webhook_id, endpoint_id, url, snapshot)
    SELECT u.id, u.round, '{event}', taxiway.event_id(u.id, u.round, '{event}', 0), e.id, e.url, jsonb_build_object(
               'status', 'processing', 'error_code', NULL, 'error_message', NULL, 'runway_video_id', u.task_id,
               'task_status', u.task_status, 'progress', u.progress, 'output', NULL, 'video_url', NULL,
               'video_url_expires_at', NULL, 'cost_credits', NULL, 'submitted_at', u.submitted_at,
               'finished_at', NULL, 'updated_at', taxiway.now())
    FROM taxiway.wanting('{event}') e CROSS JOIN ({source}) AS u"""

# OFFSET 0: looked up by its video, and not among all that is due to its receiver.
# An event waits for the one before it, of the same video or group and for the same address; and that of a group until
# none of its videos is under way.
WAITS = """(
    EXISTS (SELECT FROM (SELECT b.state, b.receiver, b.url FROM taxiway.deliveries b
                         WHERE b.video_id = d.video_id AND b.id < d.id OFFSET 0) AS b
            WHERE b.state = 'due' AND b.receiver = d.receiver AND b.url = d.url)
    OR d.group_id IS NOT NULL AND (
        EXISTS (SELECT FROM (SELECT b.state, b.receiver, b.url FROM taxiway.deliveries b
                             WHERE b.group_id = d.group_id AND b.id < d.id OFFSET 0) AS b
                WHERE b.state = 'due' AND b.receiver = d.receiver AND b.url = d.url)
        OR EXISTS (SELECT FROM taxiway.videos g WHERE g.group_id = d.group_id AND g.status IN ('queued', 'processing')
                   OFFSET 0)))"""

# Claim what is due, from one receiver to the next, and lease it: of each as much as it has slots, of one that fails a
# probe. $1: at most so many in all; $2: also what takes longer than a request may wait; $3: of this endpoint alone,
# which is how a laptop listens.
_CLAIM = f"""
WITH RECURSIVE receiver AS (
    (SELECT receiver, endpoint_id FROM taxiway.deliveries WHERE state = 'due' ORDER BY receiver LIMIT 1)
    UNION ALL
    SELECT n.receiver, n.endpoint_id FROM receiver r CROSS JOIN LATERAL (
        SELECT d.receiver, d.endpoint_id FROM taxiway.deliveries d
        WHERE d.state = 'due' AND d.receiver > r.receiver ORDER BY d.receiver LIMIT 1) AS n
), free AS MATERIALIZED (
    SELECT r.receiver, CASE
        WHEN r.endpoint_id IS NULL THEN {AT_ONCE} - under_way.count
        WHEN e.failures >= {FAILING_AT} THEN CASE WHEN under_way.count = 0 THEN 1 ELSE 0 END
        ELSE {AT_ONCE} - under_way.count END AS slots
    FROM receiver r LEFT JOIN taxiway.endpoints e ON e.id = r.endpoint_id CROSS JOIN LATERAL (
        SELECT count(*) FROM taxiway.deliveries l
        WHERE l.receiver = r.receiver AND l.leased_until > taxiway.now()) AS under_way
    WHERE CASE WHEN $3::integer IS NOT NULL THEN e.id = $3
               WHEN r.endpoint_id IS NULL THEN r.receiver <> ''
               ELSE e.kind <> 'listen' AND e.removed_at IS NULL AND e.disabled_at IS NULL
                    AND (e.failures < {FAILING_AT} OR e.probe_after <= taxiway.now()) END
), chosen AS MATERIALIZED (
    SELECT c.id FROM free CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT d.id, d.due_at FROM taxiway.deliveries d
            WHERE d.state = 'due' AND d.receiver = free.receiver AND d.due_at <= taxiway.now()
              AND ($2::boolean OR NOT d.for_ticks) AND NOT {WAITS}
            ORDER BY d.due_at, d.id LIMIT {AT_ONCE} FOR UPDATE OF d SKIP LOCKED) AS first LIMIT GREATEST(free.slots, 0)
    ) AS c WHERE free.slots > 0 ORDER BY c.due_at, c.id LIMIT $1
)
UPDATE taxiway.deliveries d SET leased_until = taxiway.now() + interval '{LEASE_SECONDS} seconds',
    due_at = taxiway.now() + interval '{LEASE_SECONDS} seconds'
WHERE d.id = ANY(ARRAY(SELECT id FROM chosen))
RETURNING d.id, d.video_id, d.group_id, d.endpoint_id, d.event, d.webhook_id, d.url, d.created_at, d.tries, d.payload
"""


@dataclass(frozen=True)
class Due:
    """A delivery that this process is to attempt. `tries`: the attempts before; `payload`: all of its data, as JSON."""

    id: int
    video_id: UUID | None
    group_id: UUID | None
    endpoint_id: int | None
    event: str
    webhook_id: str
    url: str
    created_at: datetime
    tries: int
    payload: str | None


async def claim(database: Database, limit: int, *, for_ticks: bool = True, endpoint_id: int | None = None) -> list[Due]:
    """At most so many deliveries, in the order in which they are due, leased to this caller for LEASE_SECONDS.

    `for_ticks`: also those that take longer than a request may wait; `endpoint_id`: of this endpoint alone.
    """
    rows = await database.fetch(_CLAIM, limit, for_ticks, endpoint_id)
    return sorted((Due(**row) for row in rows), key=lambda due: due.id)


# The videos that deliveries report, as they were when the event happened; those of a group as they are. What a user
# wrote is read now, so that nothing of it is sent once it is erased.
_VIDEOS = f"""
SELECT d.id AS delivery_id, {COLUMNS} FROM taxiway.deliveries d JOIN taxiway.videos w ON w.id = d.video_id
    CROSS JOIN LATERAL jsonb_populate_record(w, d.snapshot) AS v
WHERE d.id = ANY(ARRAY(SELECT CAST(value AS bigint) FROM jsonb_array_elements_text($1::jsonb)))
  AND (d.state = 'due' OR $2::boolean) AND w.status <> 'erased'
UNION ALL
SELECT d.id, {COLUMNS} FROM taxiway.deliveries d JOIN taxiway.videos v ON v.group_id = d.group_id
WHERE d.id = ANY(ARRAY(SELECT CAST(value AS bigint) FROM jsonb_array_elements_text($1::jsonb)))
  AND (d.state = 'due' OR $2::boolean) AND v.status <> 'erased'
"""


async def videos_of(database: Database, ids: Sequence[int], *, ended: bool = False) -> dict[int, list[Video]]:
    """By delivery, the videos that it reports; none where they are gone or erased. `ended`: also of what is not due."""
    found: dict[int, list[Video]] = {}
    for row in await database.fetch(_VIDEOS, json.dumps(list(ids)), ended):
        found.setdefault(row["delivery_id"], []).append(Video.from_row(row))
    return {id: sorted(videos, key=lambda video: (video.created_at, video.id)) for id, videos in found.items()}


@dataclass(frozen=True)
class AttemptRow:
    """What one attempt came to, as the statement takes it.

    `result`: 'delivered', 'retry', 'failed', 'disabled' (and so is its endpoint), 'dropped' (there is nothing to say),
    'cut': the time of a request was over, so that it is no try, and left to the ticks; 'unsent': there was no time to
    begin. `attempt`: what is kept.
    """

    id: int
    endpoint_id: int | None
    result: str
    delay_seconds: float
    attempt: Mapping[str, Any]


# Record attempts, of what has not ended otherwise meanwhile. What need not be sent any more is not tried again; of a
# group, neither are other rows of the same event.
_RECORD = f"""
WITH r AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS r(id bigint, endpoint_id integer, result text, delay_seconds float8, attempt jsonb)
), held AS MATERIALIZED (
    SELECT e.id FROM taxiway.endpoints e WHERE e.id IN (SELECT endpoint_id FROM r) ORDER BY e.id FOR NO KEY UPDATE
), done AS (
    UPDATE taxiway.deliveries d SET
        state = x.state, leased_until = NULL, due_at = taxiway.now() + make_interval(secs => r.delay_seconds),
        ended_at = CASE WHEN x.state <> 'due' THEN taxiway.now() END,
        tries = d.tries + (r.result NOT IN ('cut', 'unsent'))::integer,
        for_ticks = r.result = 'cut' OR r.result = 'unsent' AND d.for_ticks,
        attempts = CASE WHEN jsonb_array_length(d.attempts) >= {KEPT_ATTEMPTS} THEN d.attempts - 0
                        ELSE d.attempts END || jsonb_build_array(r.attempt)
    FROM r CROSS JOIN LATERAL (
        SELECT CASE WHEN r.result NOT IN ('retry', 'cut', 'unsent') THEN r.result
                    WHEN o.event IN ('video.processing', 'video.progress') AND EXISTS (
                        SELECT FROM taxiway.deliveries n WHERE n.video_id = o.video_id AND n.id > o.id
                        AND n.receiver = o.receiver AND n.url = o.url) THEN 'superseded'
                    ELSE 'due' END AS state
        FROM taxiway.deliveries o WHERE o.id = r.id) AS x
    WHERE d.id = r.id AND d.state = 'due'
    RETURNING d.id, d.group_id, d.webhook_id, d.receiver, d.url, d.state
), repeated AS (
    UPDATE taxiway.deliveries d SET state = 'superseded', ended_at = taxiway.now()
    FROM done WHERE done.state = 'delivered' AND d.group_id = done.group_id AND d.webhook_id = done.webhook_id
      AND d.receiver = done.receiver AND d.url = done.url AND d.state = 'due' AND d.id <> done.id
)
UPDATE taxiway.endpoints e SET
    failures = CASE WHEN n.good > 0 THEN 0 ELSE e.failures + n.bad END,
    failing_since = CASE WHEN n.good = 0 THEN COALESCE(e.failing_since, taxiway.now()) END,
    probe_after = CASE WHEN n.good = 0 THEN taxiway.now() + make_interval(secs => LEAST({PROBE_CAP_SECONDS}, GREATEST(
        {PROBE_FIRST_SECONDS},
        {PROBE_SHARE} * extract(epoch FROM taxiway.now() - COALESCE(e.failing_since, taxiway.now()))))) END,
    last_error = CASE WHEN n.good > 0 THEN e.last_error ELSE n.error END,
    last_ok_at = CASE WHEN n.good > 0 THEN taxiway.now() ELSE e.last_ok_at END
FROM (
    SELECT endpoint_id, count(*) FILTER (WHERE result = 'delivered') AS good,
           count(*) FILTER (WHERE result IN ('retry', 'failed', 'disabled')) AS bad,
           max(COALESCE(attempt ->> 'error', 'HTTP ' || (attempt ->> 'http_status'))) AS error
    FROM r GROUP BY endpoint_id) AS n
WHERE e.id = n.endpoint_id AND e.id IN (SELECT id FROM held)
  AND (n.bad > 0 AND n.good = 0
       OR n.good > 0 AND (e.failures > 0 OR COALESCE(e.last_ok_at, '-infinity') < taxiway.now() - interval '1 minute'))
"""

# The endpoint is gone, it says: what is due to it ends.
_DISABLE = """
WITH e AS (
    UPDATE taxiway.endpoints SET disabled_at = taxiway.now(), disabled_reason = $2
    WHERE id = $1 AND disabled_at IS NULL RETURNING id
)
UPDATE taxiway.deliveries d SET state = 'disabled', ended_at = taxiway.now(), leased_until = NULL
FROM e WHERE d.endpoint_id = e.id AND d.state = 'due'
"""


async def record(database: Database, attempts: Sequence[AttemptRow]) -> None:
    """Write down what attempts came to."""
    gone = sorted({one.endpoint_id for one in attempts if one.result == "disabled" and one.endpoint_id is not None})
    if not gone:
        await database.execute(_RECORD, as_records(attempts))
        return
    async with database.transaction() as connection:
        await connection.execute(_RECORD, as_records(attempts))
        for endpoint_id in gone:
            await disable(connection, endpoint_id, "it answered 410 Gone")


async def disable(connection: Connection, endpoint_id: int, reason: str) -> None:
    """Send nothing to an endpoint any more, until it is enabled again."""
    await connection.execute(_DISABLE, endpoint_id, reason)


# Another address for the end of a video, or of its group. What is due to the one before ends.
_REDIRECT = """
WITH given AS MATERIALIZED (
    SELECT v.id, v.group_id FROM taxiway.videos v
    WHERE v.id = $1 AND v.webhook_url IS DISTINCT FROM $2 AND v.status <> 'erased' FOR UPDATE
), old AS (
    UPDATE taxiway.deliveries d SET state = 'superseded', ended_at = taxiway.now(), leased_until = NULL FROM given g
    WHERE (d.video_id = g.id OR d.group_id = g.group_id) AND d.endpoint_id IS NULL AND d.state = 'due'
)
UPDATE taxiway.videos v SET webhook_url = $2 FROM given g WHERE v.id = g.id OR v.group_id = g.group_id
"""
# If it has ended, that is reported to the new one, under the same id.
_NOTE_AGAIN = """
SELECT CASE WHEN v.group_id IS NULL THEN taxiway.note_event(v, 'video.' || v.status, v.webhook_url)
            ELSE taxiway.note_group(v, v.webhook_url) END
FROM taxiway.videos v WHERE v.id = $1 AND v.status IN ('completed', 'failed', 'cancelled')
"""


async def redirect(database: Database, video_id: UUID, url: str) -> bool:
    """Report the end of this video, and of its group, to another address; False if it is the same. Raises Conflict."""
    async with database.transaction() as connection:
        await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
        try:
            changed = await connection.execute(_REDIRECT, video_id, url)
        except StatementRefused as exc:
            if sqlstate(exc) != LOCK_NOT_AVAILABLE:
                raise
            raise Conflict("another transaction holds this video at the moment: try again") from exc
        if changed:
            await connection.execute(_NOTE_AGAIN, video_id)
    return changed > 0
