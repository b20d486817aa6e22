"""Take over rows that the app's own code left at processing: videos whose submission has no known outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from service.store import link_statements
from service.store.database import Database
from service.store.link_intake import READ_SECONDS
from service.store.linked_table import LinkedTable
from service.store.links import ask, trouble
from service.store.recordset import as_records
from service.videos import FailureCode

_DIED = """
WITH given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS g(app_id text, word text, video_id uuid, user_id text, prompt text, created_at timestamptz,
             since timestamptz, operation text, model text, input jsonb, quoted_credits numeric)
), entered AS (
    INSERT INTO taxiway.rows (link_id, app_id, video_id, app_word)
    SELECT $2, g.app_id, g.video_id, g.word FROM given g ORDER BY g.app_id
    ON CONFLICT DO NOTHING RETURNING video_id
), taken AS (
    SELECT g.*, LEAST(g.since, taxiway.now() - interval '1 second') AS sent_at
    FROM given g JOIN entered e ON e.video_id = g.video_id
), entry AS (
    INSERT INTO taxiway.submissions (video_id, opened_at, call_deadline, deadline, model, user_id, quoted_credits,
                                     closed_at, outcome, error)
    SELECT video_id, sent_at, sent_at + interval '60 seconds', sent_at + interval '90 seconds',
           COALESCE(model, 'unknown'), user_id, quoted_credits, taxiway.now(), 'unknown', $4 FROM taken
), v AS (
    INSERT INTO taxiway.videos (id, user_id, prompt, created_at, model, origin, link_id, operation, quoted_credits,
                                input, status, error_code, error_message, submitted_at, finished_at)
    SELECT video_id, user_id, prompt, LEAST(created_at, taxiway.now()), model, 'link', $2, operation, quoted_credits,
           input, 'failed', $3, $4, sent_at, taxiway.now() FROM taken
    RETURNING id, quoted_credits
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code, credits)
    SELECT v.id, k.kind, k.actor, k.code, k.credits FROM v CROSS JOIN LATERAL (VALUES
        (1, 'enqueued', 'linked table', NULL, v.quoted_credits), (2, 'failed', 'intake', $3, NULL)
    ) AS k(n, kind, actor, code, credits) ORDER BY v.id, k.n
)
SELECT id FROM v
"""


@dataclass(frozen=True)
class Died:
    """A row that the app's own code left at processing. `since`: when it last wrote the row."""

    app_id: str
    word: str
    video_id: UUID
    since: datetime
    user_id: str | None = None
    prompt: str | None = None
    created_at: datetime | None = None
    operation: str | None = None
    model: str | None = None
    input: dict[str, Any] | None = None
    quoted_credits: Any = None


async def read_died(database: Database, table: LinkedTable, seconds: float, limit: int) -> list[asyncpg.Record]:
    """Rows at processing for longer than so many seconds that Taxiway does not know. Raises TableTrouble."""
    sql = link_statements.died(table)
    return [] if sql is None else await ask(database, sql, seconds, limit, seconds=READ_SECONDS)


async def take_died(database: Database, table: LinkedTable, rows: Sequence[Died], words: str) -> list[UUID]:
    """Take them over as videos whose submission has no known outcome. Raises TableTrouble."""
    if not rows:
        return []
    async with database.connection() as connection:
        raw = connection.raw
        try:
            found = await raw.fetch(_DIED, as_records(rows), table.id, FailureCode.SUBMISSION_UNKNOWN, words)
        except asyncpg.PostgresError as exc:
            raise trouble(exc) from exc
    return [row["id"] for row in found]
