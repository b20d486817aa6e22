"""Recall: what the app did to the row of a video that has not ended. It asked to cancel, or removed the row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg

from service.actors import LINKED_TABLE
from service.store import link_statements
from service.store.database import Database
from service.store.linked_table import LinkedTable
from service.store.links import ask
from service.store.video_rows import CANCEL

# So many rows, and more than a fifth of those under way, gone at once: rather a restore or a TRUNCATE than a wish.
MANY_ROWS, MANY_SHARE = 50, 0.2
AFTER_CLAIM_SECONDS = 1.0  # for the look between claim and POST: nothing waits longer for an app's table


class Stand(StrEnum):
    """What the app's row says of its video."""

    HERE = "here"
    CANCELLED = "cancelled"
    GONE = "gone"


@dataclass(frozen=True)
class Row:
    """A row that needs a decision. `missing_since`: when an earlier look did not find it either."""

    video_id: UUID
    stand: Stand
    missing_since: datetime | None
    looked_at: int  # rows of this look


async def changed(database: Database, table: LinkedTable) -> list[Row]:
    """Rows of videos under way, or next to be claimed, that ask to cancel, are gone, or back. Raises TableTrouble."""
    return [_row(row) for row in await ask(database, link_statements.recall(table))]


async def stands(database: Database, table: LinkedTable, video_ids: Sequence[UUID]) -> dict[UUID, Stand]:
    """How the rows of these videos stand, right before they are sent. Raises TableTrouble."""
    given = json.dumps([str(one) for one in video_ids])
    rows = await ask(database, link_statements.states(table), given, seconds=AFTER_CLAIM_SECONDS)
    found = [_row(row) for row in rows]
    return {one.video_id: one.stand for one in found if one.stand is not Stand.GONE or table.absence_counts}


def _row(row: asyncpg.Record) -> Row:
    stand = Stand.CANCELLED if row["is_cancelled"] else Stand.HERE if row["is_found"] else Stand.GONE
    return Row(row["video_id"], stand, row["missing_since"], row["looked_at"])


def are_too_many(rows: Sequence[Row]) -> bool:
    """Whether so many rows are gone at once that the operator is asked, instead of cancelling their videos."""
    gone = [one for one in rows if one.stand is Stand.GONE]
    return len(gone) > MANY_ROWS and len(gone) > gone[0].looked_at * MANY_SHARE


# First seen to be gone, or back again. A row that another transaction holds comes with the next look.
_MISSING = """
UPDATE taxiway.rows SET missing_since = CASE WHEN $2 THEN taxiway.now() END
WHERE video_id = ANY(ARRAY(
    SELECT video_id FROM taxiway.rows
    WHERE video_id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb)))
      AND (missing_since IS NULL) = $2
    ORDER BY app_id FOR NO KEY UPDATE SKIP LOCKED))
"""
# $1: what the row of each says, cancelled or gone: the reason.
_CANCEL = CANCEL.format(
    asked="""
    SELECT v.id, v.runway_video_id, v.status FROM taxiway.videos v
    WHERE v.id = ANY(ARRAY(SELECT key::uuid FROM jsonb_each_text($1::jsonb)))
      AND v.status IN ('queued', 'processing')
    ORDER BY v.id FOR UPDATE OF v SKIP LOCKED""",
    columns="v.id, v.link_id",
    actor=f"'{LINKED_TABLE}'",
    code="'row ' || ($1::jsonb ->> v.id::text)",
    more="",
)


async def apply(database: Database, table: LinkedTable, rows: Sequence[Row]) -> list[UUID]:
    """Cancel what the app cancelled, or removed: the second time that its row is not found. The ids of these videos."""
    gone = [one for one in rows if one.stand is Stand.GONE and table.absence_counts]
    first = [one.video_id for one in gone if one.missing_since is None]
    back = [one.video_id for one in rows if one.stand is not Stand.GONE and one.missing_since is not None]
    for ids, is_missing in ((first, True), (back, False)):
        if ids:
            await database.execute(_MISSING, _json(ids), is_missing)
    ended: dict[UUID, Stand] = {one.video_id: one.stand for one in rows if one.stand is Stand.CANCELLED}
    ended |= {one.video_id: one.stand for one in gone if one.missing_since is not None}
    if not ended:
        return []
    rows_said = json.dumps({str(one): stand.value for one, stand in ended.items()})
    return [row["id"] for row in await database.fetch(_CANCEL, rows_said)]


def _json(ids: Sequence[UUID]) -> str:
    return json.dumps([str(one) for one in ids])
