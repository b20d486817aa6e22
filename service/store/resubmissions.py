"""A new video in place of one that may have been charged: it needs a consent, which is recorded with it."""

from __future__ import annotations

import json
from uuid import UUID

import asyncpg

from service.errors import Conflict, NeedsConsent
from service.events import Kind
from service.store import video_rows
from service.store.database import Database
from service.store.predicates import NEEDS_CONSENT
from service.store.video_rows import LOCK_MILLISECONDS, NewVideo
from service.videos import Video

_NEEDS_CONSENT = f"SELECT {NEEDS_CONSENT} FROM taxiway.videos v WHERE v.id = $1"
_CONSENT = f"""
INSERT INTO taxiway.events (video_id, kind, actor, detail) VALUES ($1, '{Kind.MADE_AGAIN}', $2, $3::jsonb)
"""


async def needs_consent(database: Database, video_id: UUID) -> bool:
    """Whether this video may have been charged, so that making it again may pay a second time."""
    return bool(await database.fetchval(_NEEDS_CONSENT, video_id))


async def resubmit(database: Database, source: UUID, new: NewVideo, *, consent: bool, actor: str) -> tuple[Video, bool]:
    """Queue `new`, made from the video `source`; (the video, whether it is new).

    Raises NeedsConsent if that takes a consent which is not given.
    """
    if (known := await video_rows.known(database, new)) is not None:
        return known, False  # a repeat pays nothing, and needs no second consent
    async with database.transaction() as tx:
        await tx.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
        try:
            needed = await tx.raw.fetchval(f"{_NEEDS_CONSENT} FOR UPDATE", source)
        except asyncpg.LockNotAvailableError as exc:
            raise Conflict("another transaction holds the video that this began from: try again") from exc
        if needed and not consent:
            raise NeedsConsent(
                "Runway may have taken and charged the video that this began from, so a new one may be paid a second "
                "time: accept that beside the price, or attach its task first if Runway's Request History has it"
            )
        if needed:
            await tx.execute(_CONSENT, source, actor, json.dumps({"video": str(new.id)}))
        return await video_rows.enqueue(tx, new)
