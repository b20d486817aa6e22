"""What there is, waits, is stuck or unknown: for /health, /metrics and doctor, in milliseconds however many rows."""

from __future__ import annotations

import json
from typing import Any

from service.store.batches import PARKED
from service.store.database import Database
from service.store.maintenance import BY_STATUS, LARGE_TABLE_BYTES
from service.store.predicates import FOR_INTAKE, READY, UNSETTLED

# More rows than there are models. A table so small is never analyzed, and is taken for hundreds of rows: without a
# limit the statement seems so dear that PostgreSQL compiles it every time (JIT), for 100 ms.
MOST_MODELS = 50
CANDIDATES = 100  # of each model, and of all by age: the oldest that is due is one of these, or as good as
MOST_COUNTED = 100_000  # queued videos that are counted one by one; more are taken from the snapshot

# That Runway's moderation refused the input of a video, or withheld its result: by the beginning of its failureCode.
MODERATED = "(error_code LIKE 'SAFETY.%' OR error_code LIKE 'INPUT_PREPROCESSING.SAFETY%')"

# A table that is small is counted. Of one that is large, what moves (queued, processing) is counted in the partial
# indexes that hold nothing else; what has ended comes from the snapshot.
# The oldest: among the next of each model, what was enqueued first, and what waits for intake; with priorities, it need
# not be the next. `stuck` counts videos that the promises exclude: a submission that is open long past its deadline, an
# answer that does not reach its video, a task long past its time to be polled, a row that PostgreSQL refuses.
_REPORT = f"""
WITH ready AS (
    SELECT next.run_after FROM (SELECT model FROM taxiway.models LIMIT {MOST_MODELS}) AS l
    CROSS JOIN LATERAL (
        SELECT v.run_after FROM taxiway.videos v
        WHERE {READY} AND v.model = l.model
          AND v.run_after <= taxiway.now()
        ORDER BY v.claim_order, v.run_after, v.id LIMIT {CANDIDATES}
    ) AS next
    UNION ALL
    (SELECT run_after FROM taxiway.videos WHERE status = 'queued' ORDER BY created_at, id LIMIT {CANDIDATES})
), large AS (
    SELECT taken_at, facts, pg_relation_size(to_regclass('taxiway.videos')) > {LARGE_TABLE_BYTES} AS yes
    FROM taxiway.maintenance WHERE name = 'counts'
)
SELECT large.taken_at AS counted_at, CASE WHEN large.yes THEN large.facts || jsonb_build_object(
        'queued', (SELECT CASE WHEN n > {MOST_COUNTED}
                               THEN GREATEST(n, COALESCE((large.facts ->> 'queued')::bigint, 0)) ELSE n END
                   FROM (SELECT count(*) AS n FROM (
                       SELECT FROM taxiway.videos WHERE status = 'queued' LIMIT {MOST_COUNTED} + 1) AS those
                   ) AS counted),
        'processing', (SELECT count(*) FROM taxiway.videos WHERE status = 'processing'))
    ELSE (SELECT jsonb_object_agg(status, n) FROM ({BY_STATUS}) AS s)
    END AS counts, large.yes AS from_snapshot,
    (SELECT extract(epoch FROM taxiway.now() - min(run_after))::float8 FROM (
        SELECT run_after FROM ready
        UNION ALL
        (SELECT v.run_after FROM taxiway.videos v WHERE {FOR_INTAKE}
         ORDER BY run_after LIMIT 1)
     ) AS waiting WHERE run_after <= taxiway.now()) AS oldest_queued_seconds,
    (SELECT count(*) FROM (
        SELECT video_id FROM taxiway.submissions
        WHERE outcome IS NULL AND deadline < taxiway.now() - interval '10 minutes'
        UNION
        SELECT video_id FROM taxiway.submissions
        WHERE unsaved IS NOT NULL AND closed_at < taxiway.now() - interval '10 minutes'
        UNION
        SELECT id FROM taxiway.videos
        WHERE status = 'processing' AND runway_video_id IS NOT NULL
          AND COALESCE(poll_after, '-infinity') < taxiway.now() - interval '1 hour'
        UNION
        SELECT v.id FROM taxiway.events e JOIN taxiway.videos v ON v.id = e.video_id
        WHERE e.kind = '{PARKED}'
          AND e.at BETWEEN taxiway.now() - interval '2 hours' AND taxiway.now() - interval '10 minutes'
          AND v.status IN ('queued', 'processing') AND v.updated_at <= e.at) AS those) AS stuck,
    open.unknown, open.unknown_credits,
    (SELECT count(*) FROM taxiway.videos
     WHERE finished_at > taxiway.now() - interval '1 hour' AND status = 'failed' AND {MODERATED}) AS moderated
FROM large CROSS JOIN (
    SELECT count(*) FILTER (WHERE consent IS NULL) AS unknown,
           COALESCE(sum(COALESCE(estimated_credits, quoted_credits)), 0)::float8 AS unknown_credits
    FROM taxiway.submissions s WHERE {UNSETTLED}) AS open
"""


async def report(database: Database) -> dict[str, Any]:
    """Counts by status, oldest queued age (seconds), stuck, unknown outcomes and the most they may have cost.

    `moderated`: what Runway's moderation refused within the last hour.
    `counted_at`: None where all counts are of this moment; else when those of videos that have ended were taken.
    """
    row = await database.fetchrow(_REPORT)
    assert row is not None  # noqa: S101  # the migration made the row, and no statement removes it
    counts = {status: n for status, n in json.loads(row["counts"] or "{}").items() if n}
    rest = {name: value for name, value in row.items() if name not in ("counts", "from_snapshot", "counted_at")}
    return {"counts": counts, "counted_at": row["counted_at"] if row["from_snapshot"] else None} | rest
