"""Statements on `calls`: which call of an SDK made a video, and what its caller knows of it.

An SDK sends a call up to three times and says only which attempt it is. Every attempt of a call holds the lock of its
digest until it has committed, so that each sees what the others made.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from service.errors import TaxiwayError
from service.events import Kind
from service.store import video_rows
from service.store.database import Database
from service.store.durable import ASK
from service.store.video_rows import COLUMNS, NewVideo
from service.videos import Video

LOCK_WAIT = "10s"  # another attempt's commit may wait for a standby; a connection is not held for longer


@dataclass(frozen=True)
class Call:
    """One attempt of a call. `digest`: 16 bytes that all its attempts have in common; `attempt`: counted from 0.

    `window_seconds`: after its last attempt, the next one comes within this time or never.
    """

    digest: bytes
    attempt: int
    window_seconds: float


# The attempts of one call, and of calls like it, one after the other; the commit releases it.
_LOCK = f"SELECT set_config('lock_timeout', '{LOCK_WAIT}', true), pg_advisory_xact_lock($1)"

# Join the oldest video of such a call that this attempt may belong to: it has not seen this attempt, its caller cannot
# have its id yet, and it was seen within the window. An attempt 0 so joins what only later attempts were seen of.
_JOIN = f"""
WITH mine AS (
    SELECT c.video_id FROM taxiway.calls c
    WHERE c.digest = $1 AND c.read_at IS NULL AND NOT $2::smallint = ANY(c.attempts)
      AND c.seen_at > taxiway.now() - make_interval(secs => $3)
    ORDER BY c.video_id LIMIT 1
), joined AS (
    UPDATE taxiway.calls c SET attempts = c.attempts || $2::smallint, seen_at = taxiway.now()
    FROM mine WHERE c.video_id = mine.video_id RETURNING c.video_id
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code)
    SELECT j.video_id, '{Kind.CALL_REPEATED}', $4, $2::text FROM joined j
)
SELECT {COLUMNS}, {ASK} FROM joined j JOIN taxiway.videos v ON v.id = j.video_id
"""
_NOTE = "INSERT INTO taxiway.calls (video_id, digest, attempts) VALUES ($1, $2, ARRAY[$3::smallint])"


async def enqueue(database: Database, new: NewVideo, call: Call, refusal: TaxiwayError | None) -> tuple[Video, bool]:
    """Store what the call asks for, once for all its attempts; (the video, whether it is new).

    Raises `refusal` instead of storing a new video, and DatabaseUnavailable, also while another attempt of the call is
    still being stored: the next attempt then finds what there is.
    """
    async with database.transaction() as tx:
        await tx.execute(_LOCK, int.from_bytes(call.digest[:8], signed=True))
        row = await tx.fetchrow(_JOIN, call.digest, call.attempt, call.window_seconds, new.actor)
        if row is not None:
            return Video.from_row(row), False
        if refusal is not None:
            raise refusal
        video, is_new = await video_rows.enqueue(tx, new)
        await tx.execute(_NOTE, video.id, call.digest, call.attempt)
    return video, is_new


# What the door knows of a video. `is_unread`: its caller has its id from now on, which is not written down yet.
_STATE = """
SELECT c.hidden_at IS NOT NULL AS is_hidden, c.digest IS NOT NULL AND c.read_at IS NULL AS is_unread
FROM taxiway.videos v LEFT JOIN taxiway.calls c ON c.video_id = v.id WHERE v.id = $1
"""
_READ = "UPDATE taxiway.calls SET read_at = taxiway.now() WHERE video_id = $1 AND read_at IS NULL"


async def state(database: Database, video_id: UUID) -> asyncpg.Record | None:
    """`is_hidden` and `is_unread` of a video; None if there is none."""
    return await database.fetchrow(_STATE, video_id)


async def note_read(database: Database, video_id: UUID) -> None:
    """Its caller knows its id: no further attempt of its call will come."""
    await database.execute(_READ, video_id)


_HIDE = f"""
WITH hidden AS (
    INSERT INTO taxiway.calls AS c (video_id, read_at, hidden_at) VALUES ($1, taxiway.now(), taxiway.now())
    ON CONFLICT (video_id) DO UPDATE SET hidden_at = taxiway.now() WHERE c.hidden_at IS NULL
    RETURNING video_id
)
INSERT INTO taxiway.events (video_id, kind, actor) SELECT video_id, '{Kind.HIDDEN}', $2 FROM hidden
"""


async def hide(database: Database, video_id: UUID, actor: str) -> None:
    """Show a video that has ended through this door no more."""
    await database.execute(_HIDE, video_id, actor)


_HAS_TASK = "SELECT EXISTS (SELECT FROM taxiway.submissions WHERE task_id = $1)"


async def has_task(database: Database, task_id: str) -> bool:
    """Whether a submission made this task."""
    return bool(await database.fetchval(_HAS_TASK, task_id))
