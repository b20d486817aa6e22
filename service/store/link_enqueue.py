"""A video of the API that a row of a linked table shows too: one video for a row that has not ended."""

from __future__ import annotations

from dataclasses import replace

import asyncpg

from service.errors import Conflict, InvalidRequest, Problem
from service.store import link_statements, video_rows
from service.store.database import Database, Raw
from service.store.linked_table import LinkedTable
from service.store.links import TableTrouble, ask, open_links
from service.store.video_rows import NewVideo
from service.videos import Video

LOCK_MILLISECONDS = 2_000

_NAMES = """
SELECT schema_name || '.' || table_name AS name, state, reason FROM taxiway.links WHERE state <> 'closed' ORDER BY 1
"""
# The row's entry, if it has none yet. It waits for a transaction that takes the same row at this moment.
_ENTER = """
INSERT INTO taxiway.rows (link_id, app_id, video_id, app_word) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING app_id
"""
_HELD = """
SELECT r.video_id, v.status IN ('queued', 'processing') AS is_under_way, v.idempotency_key
FROM taxiway.rows r LEFT JOIN taxiway.videos v ON v.id = r.video_id
WHERE r.link_id = $1 AND r.app_id = $2 FOR NO KEY UPDATE OF r
"""
# The row shows another video from now on, and the one before has no row any more.
_TURN = """
WITH before AS (
    UPDATE taxiway.videos SET link_id = NULL WHERE id = $5
)
UPDATE taxiway.rows SET video_id = $3, app_word = $4, gated_round = 0, mirrored_version = 0, missing_since = NULL,
    due_at = NULL, tries = 0, sqlstate = NULL, error = NULL, refused_at = NULL
WHERE link_id = $1 AND app_id = $2
"""
_NOTE = "INSERT INTO taxiway.mirror_queue (link_id, video_id) VALUES ($1, $2)"


class _Known(Exception):
    """The Idempotency-Key was used before: nothing is changed."""


async def enqueue(database: Database, new: NewVideo, link: str, app_id: str) -> tuple[Video, bool]:
    """Store a request that the row `app_id` of a linked table shows; (the video, whether it is new).

    Raises InvalidRequest for a link or a row that is not there, and Conflict if the row has a video that has not ended
    (`video_id`), or its link is paused.
    """
    table = await _table(database, link)
    app_id, word = await _row(database, table, app_id)
    linked = replace(new, link_id=table.id)
    try:
        async with database.transaction() as tx:
            await tx.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            try:
                await _take(tx.raw, table, linked, app_id, word)
            except asyncpg.LockNotAvailableError as exc:
                raise Conflict("another transaction holds this row's video at the moment: try again") from exc
            video, is_new = await video_rows.enqueue(tx, linked)
            if not is_new:
                raise _Known
            await tx.execute(_NOTE, table.id, new.id)
    except _Known:
        return await video_rows.enqueue(database, linked)
    return video, True


async def _take(raw: Raw, table: LinkedTable, new: NewVideo, app_id: str, word: str) -> None:
    if await raw.fetchval(_ENTER, table.id, app_id, new.id, word) is not None:
        return
    held = await raw.fetchrow(_HELD, table.id, app_id)
    key = video_rows.key_hash(new.idempotency_key)
    if held["is_under_way"] and key is not None and held["idempotency_key"] == key:
        raise _Known
    if held["is_under_way"]:
        raise Conflict(
            f"row {app_id} of {table.link.name} has a video that has not ended: {held['video_id']}",
            video_id=str(held["video_id"]),
        )
    await raw.execute(_TURN, table.id, app_id, new.id, word, held["video_id"])


async def _table(database: Database, name: str) -> LinkedTable:
    for table in await open_links(database):
        if name in (table.link.name, table.link.mapping.table) and table.link.state == "open":
            return table
    names = await database.fetch(_NAMES)  # after that: a table that does not fit has been paused, with the reason
    found = [row for row in names if name in (row["name"], row["name"].partition(".")[2])]
    if len(found) == 1 and found[0]["state"] == "open" and name != found[0]["name"]:
        return await _table(database, found[0]["name"])
    if len(found) == 1:
        raise Conflict(
            f"the linked table {found[0]['name']} is {found[0]['state']}: {found[0]['reason'] or 'unlinked'}"
        )
    known = ", ".join(row["name"] for row in names) or "none"
    raise InvalidRequest([Problem("/row/link", f"must be the name of one linked table (there is: {known})")])


async def _row(database: Database, table: LinkedTable, app_id: str) -> tuple[str, str]:
    """The key as PostgreSQL writes it, and the word that stands in the row."""
    try:
        rows = await ask(database, link_statements.one(table), app_id)
    except TableTrouble as exc:
        if exc.is_of_a_row:
            raise InvalidRequest([Problem("/row/id", f"is no key of {table.link.name}: {exc.message}")]) from exc
        raise Conflict(f"the linked table {table.link.name} cannot be read: {exc.message}") from exc
    if not rows:
        raise InvalidRequest([Problem("/row/id", f"is not the key of a row of {table.link.name}")])
    return rows[0]["app_id"], rows[0]["word"]
