"""Statements on groups: the videos of one request. The first of them, by id, has its Idempotency-Key."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from service.store import video_rows
from service.store.database import Database
from service.store.video_rows import COLUMNS, NewVideo
from service.videos import Video

# The videos of a group, as they were asked for, but those that were erased.
_OF = f"SELECT {COLUMNS} FROM taxiway.videos v WHERE v.group_id = $1 AND v.status <> 'erased' ORDER BY v.id"


async def of(database: Database, group_id: UUID | None) -> list[Video]:
    """The videos of a group that are there, in their order."""
    return [Video.from_row(row) for row in await database.fetch(_OF, group_id)]


async def enqueue(database: Database, new: Sequence[NewVideo]) -> tuple[list[Video], bool]:
    """Store the videos of a group, all or none; (the videos, whether they are new). The first has the key.

    A key that is taken returns the first group. Raises as `video_rows.enqueue` does.
    """
    async with database.transaction() as tx:
        first, is_new = await video_rows.enqueue(tx, new[0])
        if is_new:
            return [first, *[(await video_rows.enqueue(tx, one))[0] for one in new[1:]]], True
    return await of(database, first.group_id), False
