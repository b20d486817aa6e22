"""A database with a past: a million finished videos and their ledger, and a hundred thousand that wait."""

from __future__ import annotations

from dataclasses import dataclass

from service.installer.migrate import migrate
from tests.benchmarks.contenders.taxiway import enqueue_one, learn, multiply
from tests.database import connected, execute

FILL_SECONDS = 900

AGE = "n * interval '2.6 seconds'"
# What waits: created over the last hours.
WAITING = dict.fromkeys(("run_after", "queued_at", "created_at"), "now() - n * interval '0.25 seconds'")
# What has ended, over the month before that: nine in ten with a file.
FINISHED = {
    "created_at": f"now() - interval '1 day' - {AGE}",
    "run_after": f"now() - interval '1 day' - {AGE}",
    "queued_at": f"now() - interval '1 day' - {AGE}",
    "submitted_at": f"now() - interval '1 day' - {AGE}",
    "finished_at": f"now() - interval '23 hours' - {AGE}",
    "updated_at": f"now() - interval '23 hours' - {AGE}",
    "expires_at": f"now() + interval '6 days' - {AGE}",
    "status": "CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'completed' END",
    "error_code": "CASE WHEN n % 5000 = 0 THEN 'TASK_TIMEOUT' WHEN n % 10 = 0 THEN 'REJECTED' END",
    "error_message": "CASE WHEN n % 10 = 0 THEN 'Runway refused the request' END",
    "runway_video_id": "gen_random_uuid()::text",
    "task_status": "'SUCCEEDED'",
    "progress": "1",
    "cost_credits": "25",
    "video_url": "CASE WHEN n % 10 > 0 THEN 'https://example.com/' || n || '.mp4' END",
    "video_url_expires_at": f"now() - {AGE}",
    "prompt": "'a ' || (ARRAY['boat', 'dog', 'tower', 'river', 'train', 'cloud', 'garden'])[1 + n % 7] || ' at ' "
    "|| (ARRAY['dawn', 'noon', 'dusk', 'night', 'sea'])[1 + n % 5] || ', number ' || n",
}
LEDGER = """
INSERT INTO taxiway.submissions (video_id, model, opened_at, call_deadline, deadline, quoted_credits, outcome,
                                 closed_at, http_status, task_id, estimated_credits, task_status, cost_credits,
                                 settled_at)
SELECT id, model, submitted_at, submitted_at + interval '60 s', submitted_at + interval '70 s', quoted_credits,
       'accepted', submitted_at + interval '1 s', 200, runway_video_id, quoted_credits, 'SUCCEEDED', cost_credits,
       finished_at
FROM taxiway.videos WHERE finished_at IS NOT NULL ORDER BY submitted_at
"""
# A submission is inserted open and short, into a page that is kept half empty for it to be closed and long in. So the
# pages of a ledger that has lived are fuller than that: 60 % of each, after 12,000 videos in claims of fifty. Where all
# were inserted closed, each would have room for one more that is open, and a claim of fifty would write to fifty pages.
LIVED, YOUNG = (f"ALTER TABLE taxiway.submissions SET (fillfactor = {percent})" for percent in (60, 50))
# What has ended as nobody knows what: nothing of Runway's is in it.
LOST = {name: value for name, value in FINISHED.items() if name.endswith(("_at", "_after", "prompt"))} | {
    "status": "'failed'",
    "video_url_expires_at": "CAST(NULL AS timestamptz)",
    "error_code": "'SUBMISSION_UNKNOWN'",
}
UNRESOLVED = """
INSERT INTO taxiway.submissions (video_id, model, opened_at, call_deadline, deadline, quoted_credits, outcome,
                                 closed_at)
SELECT id, model, created_at, created_at + interval '60 s', created_at + interval '70 s', quoted_credits, 'unknown',
       created_at + interval '70 s'
FROM taxiway.videos WHERE error_code = 'SUBMISSION_UNKNOWN'
"""
# What POST /videos writes for the search.
SEARCH = """
INSERT INTO taxiway.search (video_id, created_at, model, words)
SELECT id, created_at, model, to_tsvector('simple', COALESCE(prompt, '')) FROM taxiway.videos ON CONFLICT DO NOTHING
"""
TICKS = """
INSERT INTO taxiway.ticks (kind, started_at, finished_at, counts)
SELECT 'tick', now() - n * interval '1 minute', now() - n * interval '1 minute' + interval '1 second', '{}'
FROM generate_series(1, 10000) AS n
"""
# Those that no constraint, and no ON CONFLICT of what fills the tables, needs.
INDEXES = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
WHERE i.indrelid = ANY(ARRAY['taxiway.videos', 'taxiway.submissions', 'taxiway.search']::regclass[])
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
"""


@dataclass(frozen=True)
class Sizes:
    """How many have ended, and how many wait."""

    finished: int
    queued: int


# No autovacuum makes statistics, and with them other plans, while claims are timed.
UNATTENDED = "ALTER TABLE taxiway.videos SET (autovacuum_enabled = false)"
ATTENDED = "ALTER TABLE taxiway.videos RESET (autovacuum_enabled)"
TEMPLATE = "CREATE TABLE template AS SELECT * FROM taxiway.videos"
NOT_DUE = "UPDATE taxiway.videos SET run_after = now() + interval '1 day'"


async def found(url: str) -> None:
    """A migrated database with nothing to claim, and a table of one video, which others are made like."""
    await migrate(url)
    await learn(url)
    await enqueue_one(url)
    await execute(url, UNATTENDED, TEMPLATE, NOT_DUE, "VACUUM ANALYZE")


async def enqueue_many(url: str, count: int) -> None:
    """So many that wait."""
    await multiply(url, count, WAITING, source="template")


async def fill_queue(url: str, sizes: Sizes) -> None:
    """A database with a queue, and no past, in which two trees are compared: for hours of claims it is vacuumed."""
    await found(url)
    await enqueue_many(url, sizes.queued)
    await execute(url, ATTENDED, SEARCH, "VACUUM ANALYZE")


async def fill_past(url: str, sizes: Sizes) -> None:
    """Give it the past. Indexes are built at the end, as a restored database has them."""
    async with connected(url) as connection:
        indexes = await connection.fetch(INDEXES)
        for name, _ in indexes:
            await connection.execute(f"DROP INDEX {name}")
    await multiply(url, sizes.finished, FINISHED, source="template")
    builds = [build for _, build in indexes]
    for statement in (LIVED, LEDGER, YOUNG, SEARCH, TICKS, *builds, "VACUUM ANALYZE", "CHECKPOINT"):
        await run(url, statement)


async def leave_unknown(url: str, count: int) -> None:
    """So many that ended with an unknown outcome, which nobody has resolved."""
    await multiply(url, count, LOST, source="template")
    await execute(url, UNRESOLVED, SEARCH, "VACUUM ANALYZE")


async def run(url: str, statement: str) -> None:
    """One statement that may take minutes."""
    async with connected(url) as connection:
        await connection.execute(statement, timeout=FILL_SECONDS)
