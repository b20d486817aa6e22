"""Statements on `videos`: enqueue, intake, read, retry, cancel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import asyncpg

from service import videos
from service.errors import Conflict, InvalidRequest, NotFound, Problem
from service.store.database import Database
from service.store.listener import SOMEBODY_LISTENS
from service.store.search import KNOWN_STATUSES, WORDS, in_states, of_task
from service.videos import COLUMN_NAMES, Event, Video, sources

# An adopted table may have an enum for its status: as text, it needs no look-up of the type.
COLUMNS = ", ".join("v.status::text AS status" if name == "status" else f"v.{name}" for name in COLUMN_NAMES)


@dataclass(frozen=True)
class NewVideo:
    """What is stored of a request.

    `columns`: the caller's values for the app's own columns; `mirrored`: prompt and image, where the app looks.
    """

    id: UUID
    operation: str
    model: str
    input: dict[str, Any]
    quoted_credits: Any
    metadata: Any
    priority: int
    run_after: datetime | None
    expires_at: datetime | None
    timeout_seconds: float
    idempotency_key: str | None
    request_hash: str | None  # with a key alone
    mirrored: dict[str, Any]
    columns: dict[str, Any]


# Columns of Taxiway's own: nobody else writes them through the API.
_PROTECTED = frozenset(COLUMN_NAMES) | {"origin", "idempotency_key", "request_hash"}

_APP_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass('videos') AND attnum > 0 AND NOT attisdropped
"""

# Enqueue: the video, its words and, for a new model, its model; nothing if the idempotency key is taken. A worker that
# listens is woken.
_INSERT = """
WITH model AS (INSERT INTO models (model) VALUES ($3) ON CONFLICT DO NOTHING),
v AS (
    INSERT INTO videos AS v (id, operation, model, input, quoted_credits, priority, run_after, expires_at,
                             idempotency_key, request_hash, status, origin, created_at, updated_at{names})
    SELECT $1, $2, $3, $4::jsonb, $5, $6, COALESCE($7, now()),
           COALESCE($8, GREATEST(COALESCE($7, now()), now()) + make_interval(secs => $9)),
           $10, $11, 'queued', 'api', now(), now(){values}
    FROM jsonb_populate_record(NULL::videos, $12::jsonb) AS app
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING {columns}
), found AS (
    INSERT INTO taxiway_search (video_id, created_at, model, words) SELECT v.id, v.created_at, v.model, {words} FROM v
)
SELECT v.*, CASE WHEN {listens} THEN pg_notify('taxiway', '') END FROM v
"""
_WORDS = WORDS.format(prompt="v.input ->> 'promptText'")

_BY_KEY = f"SELECT {COLUMNS}, v.request_hash FROM videos v WHERE v.idempotency_key = $1"


@lru_cache(maxsize=64)
def _insert(names: tuple[str, ...]) -> str:
    written = "".join(f', "{name}"' for name in names)
    values = "".join(f', app."{name}"' for name in names)
    return _INSERT.format(names=written, values=values, columns=COLUMNS, words=_WORDS, listens=SOMEBODY_LISTENS)


async def enqueue(database: Database, new: NewVideo) -> tuple[Video, bool]:
    """Store a request; (the video, whether it is new). An Idempotency-Key that is taken returns the first video.

    Raises InvalidRequest for columns that do not exist, are missing or do not fit, and for a key that was used
    with another body.
    """
    if new.columns:
        await _check_columns(database, list(new.columns))
    # The table may be the app's own, with a `metadata` that is NOT NULL and has a default: it is written if given.
    others = new.mirrored | new.columns | ({} if new.metadata is None else {"metadata": new.metadata})
    try:
        row = await database.fetchrow(
            _insert(tuple(others)), new.id, new.operation, new.model, json.dumps(new.input), new.quoted_credits,
            new.priority, new.run_after,
            new.expires_at, new.timeout_seconds, new.idempotency_key, new.request_hash, json.dumps(others),
        )  # fmt: skip
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as exc:
        raise _refused_by_table(exc) from exc
    if row is not None:
        return Video.from_row(row), True
    # A second statement: in the first one, the row of a request that ran at the same time cannot be seen.
    row = await database.fetchrow(_BY_KEY, new.idempotency_key)
    if row is None:
        raise Conflict("the first request with this Idempotency-Key has just been removed; send it again")
    if row["request_hash"] != new.request_hash:
        detail = "was used before with another body: use a new key for a new request"
        raise InvalidRequest([Problem("Idempotency-Key", detail)])
    return Video.from_row(row), False


async def _check_columns(database: Database, names: Sequence[str]) -> None:
    known = {row["attname"] for row in await database.fetch(_APP_COLUMNS)}
    own = known - _PROTECTED | {"prompt", "image_url"}
    problems = [
        Problem(
            f"/columns/{name}",
            f"is not a column of the app's own in videos (there is: {', '.join(sorted(own))})",
        )
        for name in names
        if name not in own
    ]
    if problems:
        raise InvalidRequest(problems)


def _refused_by_table(exc: asyncpg.PostgresError) -> InvalidRequest:
    column = exc.column_name
    if isinstance(exc, asyncpg.NotNullViolationError):
        detail = 'is required by the table videos: send it in "columns"'
    else:
        detail = f"the table videos refuses this value: {exc.message or exc}"
    return InvalidRequest([Problem(f"/columns/{column}" if column else "/columns", detail)])


# Rows of an adopted table may have a status of the app's own ('draft'): those are not videos yet, or no longer.
_KNOWN = in_states(KNOWN_STATUSES)

_GET = f"SELECT {COLUMNS} FROM videos v WHERE v.id = $1 AND {_KNOWN}"


async def get(database: Database, video_id: UUID) -> Video:
    """One video. Raises NotFound."""
    row = await database.fetchrow(_GET, video_id)
    if row is None:
        raise NotFound(f"no video has the id {video_id}")
    return Video.from_row(row)


async def by_task(database: Database, task_id: str) -> Video | None:
    """The video that holds this task, if any."""
    ids = await of_task(database, "$1")
    sql = f"SELECT {COLUMNS} FROM videos v WHERE v.id = ANY(ARRAY({ids})) AND v.runway_video_id = $1 AND {_KNOWN}"
    row = await database.fetchrow(f"{sql} LIMIT 1", task_id)
    return Video.from_row(row) if row else None


# Whoever waits for a row that somebody holds has one of few connections; an app's transaction may sleep for hours.
LOCK_MILLISECONDS = 2_000


async def _change(database: Database, sql: str, *arguments: object) -> asyncpg.Record | None:
    """Run a statement on one row that others may hold, and wait for them a little. Raises Conflict."""
    async with database.transaction() as raw:
        await raw.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
        try:
            row: asyncpg.Record | None = await raw.fetchrow(sql, *arguments)
        except asyncpg.LockNotAvailableError as exc:
            raise Conflict("another transaction holds this video at the moment: try again") from exc
    return row


# That Runway may have taken an earlier create of the video `v`, and nobody has consented to another yet.
NEEDS_CONSENT = """EXISTS (
        SELECT FROM submissions s
        WHERE s.video_id = v.id AND s.settled_at IS NULL AND s.consent IS NULL AND s.outcome = 'unknown')"""
# What a retry manually makes of a failed video.
QUEUED_AGAIN = """status = 'queued', run_after = now(), expires_at = now() + make_interval(secs => {timeout}),
    error_code = NULL, error_message = NULL, finished_at = NULL, retries = 0, task_retries = 0, updated_at = now()"""

# A retry manually. With consent, every submission that may have cost something is marked with it; without, the
# existence of one forbids the retry.
_RETRY = f"""
WITH asked AS MATERIALIZED (
    SELECT v.id, {NEEDS_CONSENT} AS needs_consent
    FROM videos v WHERE v.id = $1 AND $2::jsonb ? v.status::text FOR UPDATE
), consented AS (
    UPDATE submissions s SET consent = 'operator', consented_at = now() FROM asked a
    WHERE s.video_id = a.id AND $3 AND s.settled_at IS NULL AND s.consent IS NULL AND s.outcome = 'unknown'
)
UPDATE videos v SET {QUEUED_AGAIN.format(timeout="$4")}
FROM asked a WHERE v.id = a.id AND (NOT a.needs_consent OR $3)
RETURNING {COLUMNS}
"""


async def retry(database: Database, video_id: UUID, *, consent: bool, timeout_seconds: float) -> Video:
    """Queue a failed video again. Raises NotFound, or Conflict with what stands in the way."""
    row = await _change(database, _RETRY, video_id, json.dumps(sources(Event.RETRY)), consent, timeout_seconds)
    if row is not None:
        return Video.from_row(row)
    video = await get(database, video_id)
    if video.status is not videos.Status.FAILED:
        raise Conflict(f"only a failed video can be retried; this one is {video.status}", video_status=video.status)
    raise Conflict(
        "Runway may have taken and charged this video already. To pay for it a second time if need be, send "
        '{"accept_double_charge": true}; if you find its task in Runway\'s Request History, attach that instead',
        error_code=video.error_code,
    )


# Cancel: the video at once; its task, if it has one, is left to the cancel step. An open submission stays open: what
# its answer brings is then a surplus. `asked` yields the videos, locked.
CANCEL = """
WITH asked AS MATERIALIZED ({asked}
), due AS (
    UPDATE submissions s SET cancel_due = now(), cancel_reason = 'cancelled' FROM asked a
    WHERE a.status = 'processing' AND s.video_id = a.id AND s.task_id = a.runway_video_id AND s.settled_at IS NULL
)
UPDATE videos v SET status = 'cancelled', open_submission_id = NULL, finished_at = now(), updated_at = now(),
    error_code = NULL, error_message = NULL
FROM asked a WHERE v.id = a.id
"""
_CANCEL = (
    CANCEL.format(
        asked="""
    SELECT v.id, v.runway_video_id, v.status::text AS status FROM videos v
    WHERE v.id = $1 AND $2::jsonb ? v.status::text FOR UPDATE"""
    )
    + f"RETURNING {COLUMNS}"
)


async def cancel(database: Database, video_id: UUID) -> Video:
    """Cancel a queued or processing video. Raises NotFound, or Conflict if it has ended."""
    row = await _change(database, _CANCEL, video_id, json.dumps(sources(Event.CANCEL)))
    if row is not None:
        return Video.from_row(row)
    video = await get(database, video_id)
    raise Conflict(f"this video has ended: it is {video.status}", video_status=video.status)
