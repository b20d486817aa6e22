"""Statements on `videos`: enqueue, intake, read, retry, cancel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from service import videos
from service.actors import TAXIWAY
from service.errors import Conflict, Gone, InvalidRequest, NeedsConsent, NotFound, Problem
from service.store.database import Database, Queries
from service.store.durable import ASK
from service.store.listener import HAS_LISTENER
from service.store.predicates import IS_WHOLE, NEEDS_CONSENT, UNCONSENTED
from service.store.search import WORDS
from service.videos import COLUMN_NAMES, Event, Status, Video, sources

COLUMNS = ", ".join(f"v.{name}" for name in COLUMN_NAMES)


@dataclass(frozen=True)
class NewVideo:
    """What is stored of a request. `prompt` and `image_url`: as the view `public.videos` shows them."""

    id: UUID
    operation: str
    model: str
    input: dict[str, Any]
    quoted_credits: Any
    user_id: str | None
    prompt: str | None
    image_url: str | None
    metadata: Any
    priority: int
    run_after: datetime | None
    expires_at: datetime | None
    timeout_seconds: float
    idempotency_key: str | None
    request_hash: str | None  # with a key alone
    link_id: int | None = None  # of the linked table that has a row for it
    actor: str = TAXIWAY  # the name of the key, token or user that makes it
    warnings: Sequence[Mapping[str, str]] = ()
    group_id: UUID | None = None  # of the videos that one request asked for
    group_size: int | None = None
    webhook_url: str | None = None  # where its end is reported


# Enqueue: the video, its words, its history and, for a new model, its row; nothing if the idempotency key is taken. A
# worker that listens is woken.
_INSERT = f"""
WITH model AS (INSERT INTO taxiway.models (model) VALUES ($3) ON CONFLICT DO NOTHING),
v AS (
    INSERT INTO taxiway.videos AS v (
        id, operation, model, input, quoted_credits, priority, run_after, queued_at, expires_at, idempotency_key,
        request_hash, user_id, prompt, image_url, metadata, link_id, version, origin, created_by, warnings, group_id,
        group_size, webhook_url)
    SELECT $1, $2, $3, $4::jsonb, $5, $6, COALESCE($7, taxiway.now()), GREATEST($7, taxiway.now()),
           COALESCE($8, GREATEST($7, taxiway.now()) + make_interval(secs => $9)), $10, $11,
           $12, $13, $14, $15::jsonb, $16, CASE WHEN $16::integer IS NULL THEN 0 ELSE 1 END, 'api', $17,
           $18::jsonb, $19, $20, $21
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING {COLUMNS}
), found AS (
    INSERT INTO taxiway.search (video_id, created_at, model, user_id, words)
    SELECT v.id, v.created_at, v.model, $12, {WORDS.format(prompt="v.input ->> 'promptText'")} FROM v
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, credits) SELECT v.id, 'enqueued', $17, v.quoted_credits FROM v
)
SELECT v.*, CASE WHEN {HAS_LISTENER} THEN pg_notify('taxiway', '') END, {ASK} FROM v
"""

# The video of an Idempotency-Key. Where the first request was not confirmed, its row may be on this server alone: the
# lock makes this a transaction that commits, and so waits for the standby.
_BY_KEY = f"""
SELECT {COLUMNS}, v.request_hash, {ASK} FROM taxiway.videos v WHERE v.idempotency_key = $1 FOR KEY SHARE OF v
"""


def key_hash(key: str | None) -> str | None:
    """An Idempotency-Key as it is stored, for it may say what a user wrote: 128 bits of SHA-256 keep any two apart."""
    return None if key is None else hashlib.sha256(key.encode()).hexdigest()[:32]


async def enqueue(database: Queries, new: NewVideo) -> tuple[Video, bool]:
    """Store a request; (the video, whether it is new). An Idempotency-Key that is taken returns the first video.

    Raises InvalidRequest for a key that was used with another body, Gone if its video was erased, and
    DatabaseUnavailable while no synchronous standby confirms the first video.
    """
    row = await database.fetchrow(
        _INSERT, new.id, new.operation, new.model, json.dumps(new.input), new.quoted_credits, new.priority,
        new.run_after, new.expires_at, new.timeout_seconds, key_hash(new.idempotency_key), new.request_hash,
        new.user_id, new.prompt, new.image_url, None if new.metadata is None else json.dumps(new.metadata),
        new.link_id, new.actor, json.dumps(list(new.warnings)) if new.warnings else None, new.group_id, new.group_size,
        new.webhook_url,
    )  # fmt: skip
    return (Video.from_row(row), True) if row is not None else (await first(database, new), False)


async def first(database: Queries, new: NewVideo) -> Video:
    """The video of the first request with this Idempotency-Key, which is taken. Raises as `known`, and Conflict.

    A second statement: in the one that found it taken, the row of a request that ran at the same time cannot be seen.
    """
    video = await known(database, new)
    if video is None:
        raise Conflict("the first request with this Idempotency-Key has just been removed; send it again")
    return video


async def known(database: Queries, new: NewVideo) -> Video | None:
    """The video that was made with this Idempotency-Key, if any.

    Raises InvalidRequest if that had another body, and Gone if it was erased.
    """
    key = key_hash(new.idempotency_key)
    row = None if key is None else await database.fetchrow(_BY_KEY, key)
    if row is None:
        return None
    if row["request_hash"] != new.request_hash:
        detail = "was used before with another body: use a new key for a new request"
        raise InvalidRequest([Problem("Idempotency-Key", detail)])
    return _there(Video.from_row(row))


def _there(video: Video) -> Video:
    """The video. Raises Gone if it was erased."""
    if video.status is Status.ERASED:
        raise Gone(f"the video {video.id} was erased: its ledger and its history are left", id=str(video.id))
    return video


_CREATED_BY = "SELECT created_by FROM taxiway.videos WHERE id = $1"


async def created_by(database: Database, video_id: UUID) -> str | None:
    """The name of the key, token or user that made it; None if it was made with SQL, or is not there."""
    name: str | None = await database.fetchval(_CREATED_BY, video_id)
    return name


_GET = f"SELECT {COLUMNS} FROM taxiway.videos v WHERE v.id = $1"


async def get(database: Database, video_id: UUID) -> Video:
    """One video. Raises NotFound, and Gone if it was erased."""
    row = await database.fetchrow(_GET, video_id)
    if row is None:
        raise NotFound(f"no video has the id {video_id}")
    return _there(Video.from_row(row))


_STATE = "SELECT status, model FROM taxiway.videos WHERE id = $1"


async def state_of(database: Database, video_id: UUID) -> tuple[Status, str | None]:
    """The status and the model of a video, also of one that was erased. Raises NotFound."""
    row = await database.fetchrow(_STATE, video_id)
    if row is None:
        raise NotFound(f"no video has the id {video_id}")
    return Status(row["status"]), row["model"]


# A request that waits for a locked row holds one of few connections; an app's transaction may sleep for hours.
LOCK_MILLISECONDS = 2_000


async def _change(database: Database, sql: str, *arguments: object) -> asyncpg.Record | None:
    """Run a statement on one row that others may hold, and wait for them a little. Raises Conflict."""
    async with database.transaction() as tx:
        await tx.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
        try:
            row: asyncpg.Record | None = await tx.raw.fetchrow(sql, *arguments)
        except asyncpg.LockNotAvailableError as exc:
            raise Conflict("another transaction holds this video at the moment: try again") from exc
    return row


BLANKED_WORDS = "its input was blanked (INPUT_RETENTION): submit it again, with its input, as a new video"
ERASING_WORDS = "it is being erased"
# What a retry makes of a failed video.
QUEUED_AGAIN = """status = 'queued', run_after = taxiway.now(), queued_at = taxiway.now(), round = v.round + 1,
    expires_at = taxiway.now() + make_interval(secs => {timeout}), error_code = NULL, error_message = NULL,
    finished_at = NULL, retries = 0, task_retries = 0, refusals = 0, refused_at = NULL, updated_at = taxiway.now()"""

# A retry by a user or an operator. With consent, every submission that may have cost something is marked with it;
# without, the existence of one forbids the retry.
_RETRY = f"""
WITH asked AS MATERIALIZED (
    SELECT v.id, {NEEDS_CONSENT} AS needs_consent
    FROM taxiway.videos v WHERE v.id = $1 AND $2::jsonb ? v.status AND {IS_WHOLE} FOR UPDATE
), consented AS (
    UPDATE taxiway.submissions s SET consent = 'operator', consented_at = taxiway.now(), consented_by = $5 FROM asked a
    WHERE s.video_id = a.id AND $3 AND {UNCONSENTED}
    RETURNING s.video_id, s.id, GREATEST(s.quoted_credits, s.estimated_credits) AS credits
), v AS (
    UPDATE taxiway.videos v SET {QUEUED_AGAIN.format(timeout="$4")}
    FROM asked a WHERE v.id = a.id AND (NOT a.needs_consent OR $3)
    RETURNING {COLUMNS}
), noted AS (
    INSERT INTO taxiway.events (video_id, submission_id, kind, actor, credits)
    SELECT c.video_id, c.id, 'consented', $5, c.credits FROM consented c
    UNION ALL SELECT v.id, NULL, 'retried', $5, v.quoted_credits FROM v
)
SELECT v.*, {ASK} FROM v
"""


async def retry(
    database: Database, video_id: UUID, *, consent: bool, timeout_seconds: float, actor: str = TAXIWAY
) -> Video:
    """Queue a failed video again. Raises NotFound, or Conflict (NeedsConsent) with what stands in the way."""
    row = await _change(database, _RETRY, video_id, json.dumps(sources(Event.RETRY)), consent, timeout_seconds, actor)
    if row is not None:
        return Video.from_row(row)
    video = await get(database, video_id)
    if video.status is not videos.Status.FAILED:
        raise Conflict(f"only a failed video can be retried; this one is {video.status}", video_status=video.status)
    if why := await _why_not_whole(database, video_id):
        raise Conflict(f"this video cannot be retried: {why}", video_status=video.status)
    raise NeedsConsent(
        "Runway may have taken and charged this video already. To pay for it a second time if need be, send "
        '{"accept_double_charge": true}; if you find its task in Runway\'s Request History, attach that instead',
        error_code=video.error_code,
    )


_NOT_WHOLE = f"""
SELECT CASE WHEN v.erase_requested_at IS NOT NULL THEN '{ERASING_WORDS}' ELSE '{BLANKED_WORDS}' END
FROM taxiway.videos v WHERE v.id = $1 AND NOT ({IS_WHOLE})
"""


async def _why_not_whole(database: Database, video_id: UUID) -> str | None:
    """Why the video cannot be sent again, in words; None if it can."""
    why: str | None = await database.fetchval(_NOT_WHOLE, video_id)
    return why


# Cancel: the video at once; its task, if it has one, is left to the cancel step. An open submission stays open: what
# its answer brings is then a surplus. `asked` yields the videos, locked; `actor` and `code` are expressions, `more`:
# other events.
CANCEL = """
WITH asked AS MATERIALIZED ({asked}
), due AS (
    UPDATE taxiway.submissions s SET cancel_due = taxiway.now(), cancel_reason = 'cancelled' FROM asked a
    WHERE a.status = 'processing' AND s.video_id = a.id AND s.task_id = a.runway_video_id AND s.settled_at IS NULL
), v AS (
    UPDATE taxiway.videos v SET status = 'cancelled', open_submission_id = NULL, finished_at = taxiway.now(),
        updated_at = taxiway.now(), error_code = NULL, error_message = NULL
    FROM asked a WHERE v.id = a.id
    RETURNING {columns}
), noted AS (
    INSERT INTO taxiway.events (video_id, kind, actor, code, detail)
    SELECT v.id, 'cancelled', {actor}, {code}, NULL::jsonb FROM v {more}
)
SELECT v.* FROM v
"""
_CANCEL = CANCEL.format(
    asked="""
    SELECT v.id, v.runway_video_id, v.status FROM taxiway.videos v
    WHERE v.id = $1 AND $2::jsonb ? v.status FOR UPDATE""",
    columns=COLUMNS,
    actor="$3",
    code="NULL",
    more="",
)


async def cancel(database: Database, video_id: UUID, actor: str = TAXIWAY) -> Video:
    """Cancel a queued or processing video. Raises NotFound, or Conflict if it has ended."""
    row = await _change(database, _CANCEL, video_id, json.dumps(sources(Event.CANCEL)), actor)
    if row is not None:
        return Video.from_row(row)
    video = await get(database, video_id)
    raise Conflict(f"this video has ended: it is {video.status}", video_status=video.status)
