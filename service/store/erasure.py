"""Statements that erase a video: what a user wrote goes, and what says who that was.

Where a user's words can stand, and what becomes of them:

* `videos`: the columns ERASED become NULL. What is left are ids, hashes (of the Idempotency-Key, of the request),
  times, numbers, the model, and the name of the key that made it. A constraint keeps it so.
* `search`: the row is deleted.
* `submissions`: `error`, which may quote the prompt, becomes ERASED_WORDS: that a task ended without a file is a fact
  of the ledger. `user_id` becomes NULL. `unsaved`, an answer that waits for its video, is waited for.
* `deliveries`: what was noted of the video, and what receivers answered, goes; so does an address that came with it.
  What is still due is not sent any more; the end of its group is reported with those that are left.
* `rows`: `error`, the words of an app's trigger, becomes NULL. The app's own row is not touched.

No other table has any: `events` holds ids, codes and numbers, `inbox` a hash of each body, `calls` one of each call,
`models`, `ticks` and `links` what was said of an account, a step or a table.

An erasure waits for as long as a create of the video may be on its way, and until its tasks are deleted at Runway: the
wish stands in `erase_requested_at`, and each tick tries again. Lock order: the video first, then the others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from service.errors import Conflict
from service.store.database import Database, Raw
from service.store.video_rows import CANCEL, LOCK_MILLISECONDS

ERASED = (
    "user_id", "prompt", "image_url", "metadata", "warnings", "input", "error_code", "error_message", "output",
    "video_url", "video_url_expires_at", "webhook_url",
)  # fmt: skip
ERASED_WORDS = "erased"
# A linked table is shown the end of a video before that is erased. A row that refuses for longer keeps what it says.
ROW_WAITS = "1 day"

# What the erasure of the video `v` waits for: a create that may be on its way, a task at Runway, its row; or NULL.
WAITS_FOR = f"""CASE
    WHEN EXISTS (SELECT FROM taxiway.submissions s
                 WHERE s.video_id = v.id AND (s.outcome IS NULL OR s.unsaved IS NOT NULL)) THEN 'create'
    WHEN EXISTS (SELECT FROM taxiway.submissions s
                 WHERE s.video_id = v.id
                   AND (s.cancel_due IS NOT NULL OR s.outcome = 'accepted' AND s.settled_at IS NULL)) THEN 'task'
    WHEN v.erase_requested_at > taxiway.now() - interval '{ROW_WAITS}'
         AND EXISTS (SELECT FROM taxiway.rows r WHERE r.video_id = v.id AND r.mirrored_version < v.version)
    THEN 'row' END"""

_GIVEN = "v.id = ANY(ARRAY(SELECT CAST(value AS uuid) FROM jsonb_array_elements_text($1::jsonb)))"
_PENDING = "v.erase_requested_at IS NOT NULL"

# What has not ended is cancelled, as anyone may cancel it. $2: who does it; of the pending ones, $1: how many at most.
_CANCEL = CANCEL.format(
    asked="""
    SELECT v.id, v.runway_video_id, v.status FROM taxiway.videos v
    WHERE {which} AND v.status IN ('queued', 'processing') ORDER BY v.id {limit} FOR UPDATE OF v {locked}""",
    columns="v.id", actor="$2::text", code="NULL", more="",
)  # fmt: skip
_CANCEL_PENDING = _CANCEL.format(which=_PENDING, limit="LIMIT $1", locked="SKIP LOCKED")

# The wish. Each task that was not deleted before is to be deleted, also one that has succeeded: its file is Runway's.
_REQUEST = f"""
WITH asked AS MATERIALIZED (
    SELECT v.id, v.erase_requested_at FROM taxiway.videos v
    WHERE {_GIVEN} AND v.status <> 'erased' ORDER BY v.id FOR UPDATE OF v {{locked}}
), due AS (
    UPDATE taxiway.submissions s SET cancel_due = taxiway.now(), cancel_reason = 'erased' FROM asked a
    WHERE s.video_id = a.id AND s.task_id IS NOT NULL AND s.cancel_reason IS NULL
), v AS (
    UPDATE taxiway.videos v SET erase_requested_at = taxiway.now(), updated_at = taxiway.now() FROM asked a
    WHERE v.id = a.id AND a.erase_requested_at IS NULL RETURNING v.id
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor) SELECT v.id, 'erase_requested', $2::text FROM v
)
SELECT id FROM asked
"""

# Erase what waits for nothing any more. The version that its row is said to show is the last: no mirror writes to that
# row again. Rows that a mirror holds at the moment come with the next tick.
_ERASE = f"""
WITH quiet AS MATERIALIZED (
    SELECT v.id, v.version FROM taxiway.videos v
    WHERE {{which}} AND {_PENDING} AND v.status IN ('completed', 'failed', 'cancelled') AND {WAITS_FOR} IS NULL
    ORDER BY v.id {{limit}} FOR UPDATE OF v SKIP LOCKED
), held AS MATERIALIZED (
    SELECT r.video_id FROM taxiway.rows r WHERE r.video_id = ANY(ARRAY(SELECT id FROM quiet))
    FOR NO KEY UPDATE SKIP LOCKED
), free AS MATERIALIZED (
    SELECT q.id, q.version FROM quiet q
    WHERE q.id IN (SELECT video_id FROM held)
       OR NOT EXISTS (SELECT FROM taxiway.rows r WHERE r.video_id = q.id)
), found AS (
    DELETE FROM taxiway.search WHERE video_id = ANY(ARRAY(SELECT id FROM free))
), ledger AS (
    UPDATE taxiway.submissions SET user_id = NULL, error = CASE WHEN error IS NOT NULL THEN '{ERASED_WORDS}' END
    WHERE video_id = ANY(ARRAY(SELECT id FROM free)) AND num_nonnulls(error, user_id) > 0
), row AS (
    UPDATE taxiway.rows r SET mirrored_version = f.version, due_at = NULL, tries = 0, sqlstate = NULL, error = NULL,
        refused_at = NULL
    FROM free f WHERE r.video_id = f.id
), webhooks AS (
    UPDATE taxiway.deliveries d SET snapshot = NULL, attempts = '[]', leased_until = NULL,
        url = CASE WHEN d.endpoint_id IS NULL THEN '' ELSE d.url END,
        state = CASE WHEN d.state = 'due' THEN 'dropped' ELSE d.state END,
        ended_at = COALESCE(d.ended_at, taxiway.now())
    WHERE d.video_id = ANY(ARRAY(SELECT id FROM free))
       OR d.group_id = ANY(ARRAY(SELECT g.group_id FROM taxiway.videos g WHERE g.id IN (SELECT id FROM free)))
), of_others AS (  -- what was due of a group, as it was before that
    INSERT INTO taxiway.deliveries (group_id, event, webhook_id, endpoint_id, url, created_at, due_at, tries, for_ticks)
    SELECT d.group_id, d.event, d.webhook_id, d.endpoint_id, d.url, d.created_at, d.due_at, d.tries, d.for_ticks
    FROM taxiway.deliveries d
    WHERE d.state = 'due'
      AND d.group_id = ANY(ARRAY(SELECT g.group_id FROM taxiway.videos g WHERE g.id IN (SELECT id FROM free)))
      AND EXISTS (SELECT FROM taxiway.videos o WHERE o.group_id = d.group_id AND o.status <> 'erased'
                  AND o.id NOT IN (SELECT id FROM free))
), v AS (
    UPDATE taxiway.videos v SET status = 'erased', erase_requested_at = NULL, link_id = NULL,
        updated_at = taxiway.now(),
        {", ".join(f"{column} = NULL" for column in ERASED)}
    WHERE v.id = ANY(ARRAY(SELECT id FROM free)) RETURNING v.id
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor) SELECT v.id, 'erased', $2::text FROM v
)
SELECT id FROM v
"""
_ERASE_PENDING = _ERASE.format(which="true", limit="LIMIT $1")
_ERASE_THESE = _ERASE.format(which=_GIVEN, limit="")


async def request(
    database: Database, ids: Sequence[UUID], actor: str, *, pass_over: bool = False
) -> tuple[list[UUID], list[UUID]]:
    """Ask for the erasure of these videos, and erase those that wait for nothing: (all of them, those erased now).

    Left out is what is not there, or is erased already, and with `pass_over` what another transaction holds. Without,
    that is waited for a little; raises Conflict.
    """
    given, locked = json.dumps([str(one) for one in ids]), "SKIP LOCKED" if pass_over else ""
    async with database.transaction() as tx:
        raw = tx.raw
        await _wait_a_little(raw)
        try:
            # The wish first: what a retry has put back by then is seen by the second, and none can come between.
            asked = await raw.fetch(_REQUEST.format(locked=locked), given, actor)
            await raw.execute(_CANCEL.format(which=_GIVEN, limit="", locked=locked), given, actor)
            erased = await raw.fetch(_ERASE_THESE, given, actor)
        except asyncpg.LockNotAvailableError as exc:
            raise Conflict("another transaction holds this video at the moment: try again") from exc
    return [row["id"] for row in asked], [row["id"] for row in erased]


async def finish(database: Database, limit: int, actor: str) -> list[UUID]:
    """Erase at most `limit` of what was asked for and waits for nothing any more.

    What was put back in the queue meanwhile, or got its task, is cancelled once more. Where another transaction holds
    what belongs to one of them, nothing is done: the next tick comes again.
    """
    async with database.transaction() as tx:
        raw = tx.raw
        await _wait_a_little(raw)
        try:
            await raw.execute(_CANCEL_PENDING, limit, actor)
            erased = await raw.fetch(_ERASE_PENDING, limit, actor)
        except asyncpg.LockNotAvailableError:
            erased = []
    return [row["id"] for row in erased]


async def _wait_a_little(raw: Raw) -> None:
    await raw.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")


_STANDS = f"SELECT v.status = 'erased' AS is_erased, {WAITS_FOR} AS waits_for FROM taxiway.videos v WHERE v.id = $1"


async def stands(database: Database, video_id: UUID) -> tuple[bool, str | None] | None:
    """(whether it is erased, what its erasure waits for), or None if there is no such video."""
    row = await database.fetchrow(_STANDS, video_id)
    return None if row is None else (row["is_erased"], row["waits_for"])


WALK_ROWS = 20_000
# The videos of one user, and how far this went: there is no index by user, so the table is walked by its key.
_OF_USER = f"""
WITH part AS MATERIALIZED (
    SELECT v.id, v.user_id FROM taxiway.videos v WHERE $2::uuid IS NULL OR v.id > $2 ORDER BY v.id LIMIT {WALK_ROWS}
)
SELECT (SELECT id FROM part ORDER BY id DESC LIMIT 1) AS last, ARRAY(SELECT id FROM part WHERE user_id = $1) AS ids
"""


async def of_user(database: Database, user_id: str) -> list[UUID]:
    """Every video of a user that is not erased."""
    found: list[UUID] = []
    after: UUID | None = None
    while True:
        row = await database.fetchrow(_OF_USER, user_id, after)
        assert row is not None  # noqa: S101  # a SELECT without FROM has one row
        found += row["ids"]
        if row["last"] is None:
            return found
        after = row["last"]
