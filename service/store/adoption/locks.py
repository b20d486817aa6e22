"""Who stands in the way of a migration by holding the table."""

from __future__ import annotations

from service.store.adoption.table import Connection, Obstacle

# Who holds a lock on the table.
HOLDERS = """
    SELECT DISTINCT a.pid, COALESCE(NULLIF(a.application_name, ''), a.usename::text, 'unknown') AS who,
           COALESCE(a.state, 'busy') AS state, date_trunc('second', now() - a.xact_start)::text AS age
      FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE l.relation = to_regclass('videos') AND l.granted AND a.pid <> pg_backend_pid()
     ORDER BY a.pid
"""


async def lock_obstacles(connection: Connection) -> list[Obstacle]:
    """Whoever holds `videos` at the moment, and how to end it."""
    holders = await connection.fetch(HOLDERS)
    if not holders:
        return [("somebody held a lock that the migration needs for too long: try again", "")]
    return [
        (
            f"videos has been locked for {row['age']} by process {row['pid']} ({row['who']}, "
            f"{row['state']}): wait until it is done, or end it",
            f"SELECT pg_terminate_backend({row['pid']});",
        )
        for row in holders
    ]
