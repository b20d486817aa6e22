"""Removing what is old: ticks and callbacks always, videos only where the operator asks for it."""

from __future__ import annotations

from service.store.database import Database

KEEP_DAYS = 7

_PRUNE_TICKS = """
DELETE FROM ticks WHERE id = ANY(ARRAY(
    SELECT id FROM ticks WHERE started_at < now() - make_interval(days => $1) ORDER BY started_at LIMIT $2))
"""
_PRUNE_INBOX = """
DELETE FROM inbox WHERE id = ANY(ARRAY(
    SELECT id FROM inbox WHERE received_at < now() - make_interval(days => $1) ORDER BY received_at LIMIT $2))
"""


async def prune(database: Database, limit: int) -> int:
    """Remove ticks and callbacks older than KEEP_DAYS, at most `limit` of each; how many."""
    ticks = await database.execute(_PRUNE_TICKS, KEEP_DAYS, limit)
    return ticks + await database.execute(_PRUNE_INBOX, KEEP_DAYS, limit)


# Videos that ended long ago, with what is searched of them. Only from a table that was made by Taxiway, which its
# comment says (migrations/0001): an adopted one is the app's. A video stays for as long as anything may still come of
# it at Runway, and its ledger stays for good.
_REMOVE = """
WITH old AS MATERIALIZED (
    SELECT v.id FROM videos v
    WHERE v.finished_at < now() - make_interval(secs => $1) AND v.status IN ('completed', 'failed', 'cancelled')
      AND obj_description(to_regclass('videos'), 'pg_class') = 'made by Taxiway'
      AND NOT EXISTS (SELECT FROM submissions s WHERE s.video_id = v.id AND s.settled_at IS NULL)
    ORDER BY v.finished_at LIMIT $2 FOR UPDATE OF v SKIP LOCKED
), searched AS (
    DELETE FROM taxiway_search w USING old WHERE w.video_id = old.id
)
DELETE FROM videos v USING old WHERE v.id = old.id
"""


async def remove_videos(database: Database, older_than_seconds: float, limit: int) -> int:
    """Remove videos that ended longer ago than that, at most `limit`; how many."""
    return await database.execute(_REMOVE, older_than_seconds, limit)
