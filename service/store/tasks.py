"""Statements on videos that are with Runway: which to poll, and what was seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg

from service.store import batches
from service.store.batches import ONLY, RAISE, Choosing, Parking
from service.store.database import Database
from service.store.deliveries import NOTE_UNDER_WAY
from service.store.recordset import as_records
from service.store.video_rows import COLUMNS
from service.videos import Video

# Runway: "consumers should not expect updates more frequent than once every five seconds for a given task".
LEAST_GAP_SECONDS = 5
KEPT_POLLS = 50  # of one task, the newest; older ones are only counted
# A GET touches no asset, so an answer is there at once or not at all; where two came to nothing, the third has longer.
CALL_SECONDS, PATIENT_CALL_SECONDS, PATIENT_AT = 5.0, 20.0, 3
# A claimed poll that came to nothing is due again so long after its call has ended.
SAVING_SECONDS = 10.0
# So many of the longest due are looked through for a claim, so that tasks of one model do not hold every slot.
LOOKED_THROUGH = 500


def call_seconds(tries: int) -> float:
    """How long a poll may take that is the `tries`-th in a row without an answer."""
    return CALL_SECONDS if tries < PATIENT_AT else PATIENT_CALL_SECONDS


_CLAIMED = f"""
UPDATE taxiway.videos v SET polled_at = taxiway.now(), poll_tries = LEAST(v.poll_tries + 1, 100),
    poll_after = taxiway.now() + make_interval(secs => {SAVING_SECONDS} + CASE
        WHEN v.poll_tries + 1 < {PATIENT_AT} THEN {CALL_SECONDS} ELSE {PATIENT_CALL_SECONDS} END),
    submitted_at = COALESCE(v.submitted_at, taxiway.now())
FROM due LEFT JOIN LATERAL (
    SELECT s.missing, s.missing_since FROM taxiway.submissions s
    WHERE s.video_id = due.id AND s.task_id = due.runway_video_id) AS task ON true
WHERE v.id = due.id
RETURNING {COLUMNS}, extract(epoch FROM taxiway.now() - v.submitted_at)::float8 AS age_seconds,
    extract(epoch FROM taxiway.now() - due.polled_at)::float8 AS seconds_before, v.poll_tries AS tries,
    COALESCE(task.missing, 0) AS missing,
    COALESCE(extract(epoch FROM taxiway.now() - task.missing_since), 0)::float8 AS missing_seconds
"""

_DUE_IDS = f"""
    SELECT id, polled_at, runway_video_id FROM taxiway.videos
    WHERE id = ANY(ARRAY(
        SELECT id FROM (
            SELECT id, due_at, row_number() OVER (PARTITION BY model ORDER BY due_at) AS place FROM (
                SELECT one.id, model, COALESCE(poll_after, '-infinity') AS due_at FROM taxiway.videos one
                WHERE status = 'processing' AND runway_video_id IS NOT NULL
                  AND COALESCE(poll_after, '-infinity') <= taxiway.now() {ONLY}
                ORDER BY COALESCE(poll_after, '-infinity') LIMIT {LOOKED_THROUGH} + $1) AS longest) AS placed
        ORDER BY place, due_at LIMIT $1))
      AND status = 'processing' AND runway_video_id IS NOT NULL AND COALESCE(poll_after, '-infinity') <= taxiway.now()
    FOR UPDATE SKIP LOCKED"""
# Claim tasks to poll, of each model the longest due first; put off while this caller polls.
_DUE = Choosing(
    "claim_due",
    f"""
WITH due AS MATERIALIZED ({_DUE_IDS})
{_CLAIMED}
""",
    f"WITH due AS MATERIALIZED ({_DUE_IDS}) SELECT id, id FROM due",
    "one.id",
    takes=1,
)

# One video, for a caller that waits for it, if it is due.
_DUE_ONE = f"""
WITH due AS MATERIALIZED (
    SELECT id, polled_at, runway_video_id FROM taxiway.videos
    WHERE id = $1 AND status = 'processing' AND runway_video_id IS NOT NULL
      AND COALESCE(poll_after, '-infinity') <= taxiway.now()
      AND (polled_at IS NULL OR polled_at <= taxiway.now() - interval '{LEAST_GAP_SECONDS} seconds')
    FOR UPDATE SKIP LOCKED)
{_CLAIMED}
"""


@dataclass(frozen=True)
class PreviousPoll:
    """What was seen at the poll before: so many seconds ago."""

    seconds: float
    status: str | None
    progress: float | None


@dataclass(frozen=True)
class DuePoll:
    """A video whose task is to be polled. `age_seconds`: since it was sent; `previous`: the poll before, if any.

    `tries`: the polls in a row without an answer, with this one; `missing`: how often in a row Runway did not know the
    task, and first how many seconds ago.
    """

    video: Video
    age_seconds: float
    previous: PreviousPoll | None = None
    tries: int = 1
    missing: int = 0
    missing_seconds: float = 0.0

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> DuePoll:
        """Build one from a row of the statements above."""
        video, seconds = Video.from_row(row), row["seconds_before"]
        previous = None if seconds is None else PreviousPoll(seconds, video.task_status, video.progress)
        return cls(video, row["age_seconds"], previous, row["tries"], row["missing"], row["missing_seconds"])


async def claim_due(database: Database, limit: int, parking: Parking = RAISE) -> list[DuePoll]:
    """Tasks that are due for a poll."""
    rows = await batches.fetch(database, _DUE, limit, parking=parking)
    return [DuePoll.from_row(row) for row in rows]


async def claim_one(database: Database, video_id: UUID) -> DuePoll | None:
    """The task of one video if it may be polled now."""
    row = await database.fetchrow(_DUE_ONE, video_id)
    return DuePoll.from_row(row) if row else None


@dataclass(frozen=True)
class PollResult:
    """What one poll of a task came to, as the statement takes it. `next_status` 'processing': nothing has ended.

    `missing`: how often in a row Runway did not know the task; `vanished`: so often that it is given up.
    """

    video_id: UUID
    task_id: str
    next_status: str
    task_status: str | None
    progress: float | None
    error_code: str | None
    error_message: str | None
    delay_seconds: float
    task_retry: bool
    output: list[str] | None
    video_url: str | None
    video_url_expires_at: datetime | None
    cost_credits: Decimal | None
    settled: bool
    cancel_reason: str | None
    missing: int = 0
    vanished: bool = False


_UNDER_WAY = NOTE_UNDER_WAY.format(
    event="video.progress",
    source="""
        SELECT m.id, m.round, m.runway_video_id AS task_id, m.task_status, m.progress, m.submitted_at
        FROM moved m JOIN seen s ON s.video_id = m.id
        WHERE s.next_status = 'processing' AND m.updated_at = taxiway.now()""",
)

# Finalize: the only statement that ends a video because of what Runway says. Fenced by the task's id, so it can come
# from the callback, the poller and a late answer, in any order and any number of times. A video that another
# transaction holds, or whose entry in the ledger is held, is passed over; its turn comes again. The ledger follows in
# the same transaction, and remembers the poll. A poll that ends nothing is no event.
_FINALIZE = f"""
WITH seen AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS s(video_id uuid, task_id text, next_status text, task_status text, progress float8, error_code text,
             error_message text, delay_seconds float8, task_retry boolean, output jsonb, video_url text,
             video_url_expires_at timestamptz, cost_credits numeric, settled boolean, cancel_reason text,
             missing integer, vanished boolean)
), held AS MATERIALIZED (
    SELECT v.id FROM taxiway.videos v JOIN seen s ON s.video_id = v.id AND s.task_id = v.runway_video_id
    WHERE v.status = 'processing' ORDER BY v.id FOR UPDATE OF v SKIP LOCKED
), free AS MATERIALIZED (
    SELECT b.video_id FROM taxiway.submissions b
    WHERE b.video_id = ANY(ARRAY(SELECT id FROM held)) AND b.task_id = ANY(ARRAY(SELECT task_id FROM seen))
    FOR NO KEY UPDATE SKIP LOCKED
), moved AS (
    UPDATE taxiway.videos v SET
        status = s.next_status, task_status = COALESCE(s.task_status, v.task_status),
        progress = CASE WHEN s.next_status = 'completed' THEN 1 ELSE COALESCE(s.progress, v.progress) END,
        error_code = s.error_code, error_message = s.error_message,
        poll_after = CASE WHEN s.next_status = 'processing' THEN taxiway.now() + make_interval(secs => s.delay_seconds)
                          END,
        run_after = CASE WHEN s.next_status = 'queued' THEN taxiway.now() + make_interval(secs => s.delay_seconds)
                         ELSE v.run_after END,
        runway_video_id = CASE WHEN s.next_status = 'queued' THEN NULL ELSE v.runway_video_id END,
        task_retries = v.task_retries + s.task_retry::integer,
        output = s.output, video_url = s.video_url, video_url_expires_at = s.video_url_expires_at,
        cost_credits = s.cost_credits, poll_tries = 0,
        finished_at = CASE WHEN s.next_status IN ('completed', 'failed') THEN taxiway.now() END,
        updated_at = CASE WHEN s.next_status = 'processing' AND v.task_status IS NOT DISTINCT FROM s.task_status
                           AND v.progress IS NOT DISTINCT FROM s.progress::real THEN v.updated_at ELSE taxiway.now() END
    FROM seen s
    WHERE v.id = s.video_id AND v.runway_video_id = s.task_id AND v.id = ANY(ARRAY(SELECT id FROM held))
      AND (v.id = ANY(ARRAY(SELECT video_id FROM free)) OR NOT EXISTS (
          SELECT FROM taxiway.submissions b WHERE b.video_id = v.id AND b.task_id = v.runway_video_id OFFSET 0))
    RETURNING v.id, v.task_retries, v.round, v.runway_video_id, v.task_status, v.progress, v.submitted_at, v.updated_at
), webhooks AS ({_UNDER_WAY}
), booked AS (
    UPDATE taxiway.submissions b SET
        task_status = COALESCE(s.task_status, b.task_status), cost_credits = COALESCE(s.cost_credits, b.cost_credits),
        settled_at = CASE WHEN s.settled THEN taxiway.now() ELSE b.settled_at END,
        cancel_due = CASE WHEN s.cancel_reason IS NOT NULL THEN taxiway.now() ELSE b.cancel_due END,
        cancel_reason = COALESCE(s.cancel_reason, b.cancel_reason),
        missing = s.missing,
        missing_since = CASE WHEN s.missing > 0 THEN COALESCE(b.missing_since, taxiway.now()) END,
        -- A task that vanished may have been charged: nothing says what became of it, so another create needs consent.
        outcome = CASE WHEN s.vanished THEN 'unknown' ELSE b.outcome END,
        look_due = CASE WHEN s.vanished THEN taxiway.now() + interval '1 hour' END,
        -- The task ended without a file, and why.
        error = COALESCE(s.error_code || COALESCE(': ' || s.error_message, ''), b.error),
        polls = COALESCE(b.polls, 0) + 1,
        recent_polls = CASE WHEN jsonb_array_length(b.recent_polls) >= {KEPT_POLLS} THEN b.recent_polls - 0
                            ELSE COALESCE(b.recent_polls, '[]') END
                || jsonb_build_array(
                       jsonb_build_array(
                           trunc(extract(epoch FROM taxiway.now())::numeric, 3), s.task_status, s.progress))
    FROM seen s, moved m
    WHERE m.id = s.video_id AND b.task_id = s.task_id AND b.video_id = s.video_id
    RETURNING b.video_id, b.id
), noted AS (
    INSERT INTO taxiway.events (video_id, submission_id, kind, actor, code, credits)
    SELECT m.id, b.id, CASE s.next_status WHEN 'queued' THEN 'retried' ELSE s.next_status END, 'poll', s.error_code,
           s.cost_credits
    FROM moved m JOIN seen s ON s.video_id = m.id LEFT JOIN booked b ON b.video_id = m.id
    WHERE s.next_status <> 'processing'
)
SELECT id FROM moved
"""


async def finalize(database: Database, results: Sequence[PollResult], parking: Parking = RAISE) -> set[UUID]:
    """Apply what was seen. The videos that it changed; the others had ended, are held, or were refused."""

    async def apply(part: Sequence[PollResult]) -> list[asyncpg.Record]:
        return await database.fetch(_FINALIZE, as_records(part))

    parts = await batches.write("finalize", results, apply, lambda one: (one.video_id, one.video_id), parking)
    return {row["id"] for part in parts for row in part}


# A succeeded task was asked again for fresh URLs.
_RENEW = """
UPDATE taxiway.videos v SET output = $3::jsonb, video_url = $4, video_url_expires_at = $5
WHERE v.id = $1 AND v.runway_video_id = $2 AND v.status = 'completed'
"""


async def renew_urls(database: Database, video: Video, output: Sequence[str], expires_at: datetime) -> None:
    """Store fresh output URLs of a completed video."""
    await database.execute(_RENEW, video.id, video.runway_video_id, json.dumps(list(output)), output[0], expires_at)
