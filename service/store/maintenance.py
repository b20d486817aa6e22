"""Statements on `taxiway.maintenance`: the last result of queries that are too dear for every tick."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from service.store.database import Database

LARGE_TABLE_BYTES = 32 * 1024 * 1024  # of `videos`, about 40,000 rows: counting less than that takes a few milliseconds
COUNTS_SECONDS = 60.0  # counts are not older than this, plus the time between two ticks ...
COUNTS_SHARE = 100  # ... or than so many times what counting takes, if that is more: at most 1 % of the time
ACCOUNT_SECONDS = 300.0
LEASE_SECONDS = 120.0  # a process that takes its turn and dies costs this much

# Which of them are due: 'counts' only of a large table, 'alerts' (alerts.py) only with an ALERT_URL. The walks in there
# are no snapshots (retention.py).
DUE = f"""
SELECT COALESCE(string_agg(name, ','), '') FROM taxiway.maintenance
WHERE due_at <= taxiway.now() AND (
    name = 'account' OR name = 'counts' AND pg_relation_size(to_regclass('taxiway.videos')) > {LARGE_TABLE_BYTES}
    OR name = 'alerts' AND EXISTS (SELECT FROM taxiway.endpoints WHERE kind = 'alert' AND removed_at IS NULL))
"""

# One process takes it: for all others it is not due any more.
_TAKE_TURN = """
UPDATE taxiway.maintenance SET due_at = taxiway.now() + make_interval(secs => $2)
WHERE name = $1 AND due_at <= taxiway.now()
"""


async def take_turn(database: Database, name: str) -> bool:
    """Whether this caller, and no other, is to run the query again."""
    return await database.execute(_TAKE_TURN, name, LEASE_SECONDS) > 0


# Every video by its status, from the two indexes that have all of them between them.
BY_STATUS = """
    SELECT status, count(*) AS n FROM taxiway.videos WHERE status <> 'processing' GROUP BY 1
    UNION ALL
    SELECT 'processing', count(*) FROM taxiway.videos WHERE status = 'processing'
"""
# The time that it took spaces it from the next.
_COUNT = f"""
UPDATE taxiway.maintenance SET facts = s.facts, taken_at = s.began_at,
    due_at = taxiway.now() + make_interval(secs => GREATEST($1::float8, $2 * s.seconds))
FROM (
    SELECT facts, taxiway.now() AS began_at, date_part('epoch', clock_timestamp() - statement_timestamp()) AS seconds
    FROM (SELECT COALESCE(jsonb_object_agg(status, n), '{{}}') AS facts
          FROM ({BY_STATUS}) AS each
          OFFSET 0) AS whole
) AS s
WHERE name = 'counts'
"""


async def count(database: Database) -> None:
    """Count the whole table."""
    await database.execute(_COUNT, COUNTS_SECONDS, COUNTS_SHARE)


_KEEP = """
UPDATE taxiway.maintenance
SET facts = $2::jsonb, taken_at = taxiway.now(), due_at = taxiway.now() + make_interval(secs => $3)
WHERE name = $1
"""


async def keep_account(database: Database, facts: dict[str, Any]) -> None:
    """Write down what Runway says of the account."""
    await database.execute(_KEEP, "account", json.dumps(facts), ACCOUNT_SECONDS)


_ACCOUNT = "SELECT facts, taken_at FROM taxiway.maintenance WHERE name = 'account' AND taken_at IS NOT NULL"


async def account(database: Database) -> tuple[dict[str, Any], datetime] | None:
    """What Runway said last of the account, and when; None if it was never asked."""
    row = await database.fetchrow(_ACCOUNT)
    return (json.loads(row["facts"]), row["taken_at"]) if row else None
