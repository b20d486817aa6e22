"""Everything that happened to one video, put together from its row, its submissions and its callbacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from service.store import videos
from service.store.batches import PARKED
from service.store.database import Database
from service.store.resubmissions import RESUBMITTED
from service.videos import Status, Video


@dataclass(frozen=True)
class Entry:
    """One thing that happened. `error`: in full, as Runway or the transport said it; credits are Runway's."""

    at: datetime
    event: str
    words: str
    submission_id: int | None = None
    task_id: str | None = None
    outcome: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    task_status: str | None = None
    progress: float | None = None
    error: str | None = None
    credits: Decimal | None = None


_SUBMISSIONS = """
SELECT id, model, opened_at, closed_at, quoted_credits, outcome, http_status, request_id, error, task_id,
       estimated_credits, task_status, cost_credits, settled_at, consent, consented_at, cancel_due, cancel_reason,
       polls, recent_polls
FROM taxiway.submissions WHERE video_id = $1 ORDER BY id
"""

# Callbacks that name the video, or a task that it has or had.
_CALLBACKS = """
SELECT received_at, task_id, handled_at, result FROM taxiway.inbox
WHERE video_id = $1
   OR task_id IN (SELECT task_id FROM taxiway.submissions WHERE video_id = $1 AND task_id IS NOT NULL)
ORDER BY received_at
"""


# Times at which PostgreSQL refused to write what became of the video, or an app's table to show it or let it pass.
_REFUSALS = f"""
SELECT at, kind, detail ->> 'statement' AS statement, detail ->> 'sqlstate' AS sqlstate, detail ->> 'link' AS link,
       COALESCE(detail ->> 'error', detail ->> 'words') AS error
FROM taxiway.events WHERE video_id = $1 AND kind IN ('{PARKED}', 'mirror_refused', 'gate_refused') ORDER BY id
"""

# Consents to a second payment that made another video (store/resubmissions.py).
_RESUBMISSIONS = f"""
SELECT at, actor, detail ->> 'video' AS video FROM taxiway.events
WHERE video_id = $1 AND kind = '{RESUBMITTED}' ORDER BY id
"""


async def timeline(database: Database, video_id: UUID) -> list[Entry]:
    """Everything that happened to this video, in order. Raises NotFound."""
    video = await videos.get(database, video_id)
    found = [*_beginning(video)]
    for attempt, row in enumerate(await database.fetch(_SUBMISSIONS, video_id), start=1):
        found += _of_submission(row, attempt)
    found += [_callback(row) for row in await database.fetch(_CALLBACKS, video_id)]
    found += [_refusal(row) for row in await database.fetch(_REFUSALS, video_id)]
    found += [_resubmission(row) for row in await database.fetch(_RESUBMISSIONS, video_id)]
    found += _end(video)
    return sorted(found, key=lambda entry: entry.at)  # stable: what happened at one time stays in its order


def _beginning(video: Video) -> Iterator[Entry]:
    words = f"Created for {video.model}" if video.model else "Created"
    yield Entry(video.created_at, "enqueued", words, credits=video.quoted_credits)


_ALLOWED_BY = {"policy": "UNKNOWN_POLICY", "operator": "an operator", "app": "the app, which queued its row again"}


def _of_submission(row: asyncpg.Record, attempt: int) -> Iterator[Entry]:
    about: dict[str, Any] = {"submission_id": row["id"], "task_id": row["task_id"]}
    words = f"Attempt {attempt}: sending to Runway ({row['model']})"
    yield Entry(row["opened_at"], "submission_opened", words, submission_id=row["id"], credits=row["quoted_credits"])
    if row["closed_at"] is not None:
        yield _answer(row, about)
    if row["consent"] is not None:
        by = _ALLOWED_BY[row["consent"]]
        words = f"Another create was allowed by {by}, although this one may have cost something"
        # Rows from before this was kept have no time for it: the earliest that it can have been is the answer's.
        yield Entry(row["consented_at"] or row["closed_at"], "consent", words, **about)
    yield from _polls(row, about)
    if row["outcome"] == "accepted" and row["settled_at"] is not None:
        yield _task_end(row, about)
    if row["cancel_due"] is not None:
        words = f"The task is to be deleted at Runway ({row['cancel_reason']})"
        yield Entry(row["cancel_due"], "delete_due", words, **about)


_ANSWERS = {
    "accepted": "Runway took it as a task",
    "not_sent": "Nothing was sent",
    "rejected": "Runway refused it: no task was made",
    "unknown": "It is not known whether Runway took it",
}


def _answer(row: asyncpg.Record, about: dict[str, Any]) -> Entry:
    accepted = row["task_id"] is not None  # then `error` is of the task's end; also of a task that vanished since
    outcome = "accepted" if accepted else row["outcome"]
    return Entry(
        row["closed_at"], "answered", _ANSWERS[outcome], **about, outcome=outcome,
        http_status=row["http_status"], request_id=row["request_id"], error=None if accepted else row["error"],
        credits=row["estimated_credits"],
    )  # fmt: skip


def _polls(row: asyncpg.Record, about: dict[str, Any]) -> Iterator[Entry]:
    polls = json.loads(row["recent_polls"] or "[]")
    dropped = (row["polls"] or 0) - len(polls)
    if dropped > 0:
        at = datetime.fromtimestamp(polls[0][0], UTC) if polls else row["settled_at"] or row["closed_at"]
        earlier = "earlier polls" if polls else "polls"
        yield Entry(at, "polls_dropped", f"{dropped} {earlier} of the task are counted, but not kept", **about)
    for seconds, status, progress in polls:
        at = datetime.fromtimestamp(seconds, UTC)
        words = f"Polled the task: {status or 'still under way'}"
        yield Entry(at, "polled", words, **about, task_status=status, progress=progress)


def _task_end(row: asyncpg.Record, about: dict[str, Any]) -> Entry:
    if row["cancel_reason"] is not None:
        words = f"The task was deleted at Runway ({row['cancel_reason']})"
    else:
        words = f"The task ended: {row['task_status'] or 'no video waits for it any more'}"
    return Entry(
        row["settled_at"], "task_deleted" if row["cancel_reason"] else "task_ended", words, **about,
        task_status=row["task_status"], error=row["error"], credits=row["cost_credits"],
    )  # fmt: skip


def _callback(row: asyncpg.Record) -> Entry:
    words = f"A callback came: {row['result']}" if row["handled_at"] else "A callback came, and is kept for later"
    return Entry(row["received_at"], "callback", words, task_id=row["task_id"])


def _refusal(row: asyncpg.Record) -> Entry:
    match row["kind"], row["link"]:
        case "gate_refused", link:
            words = f"{link} refused to let its row say that the video is sent: nothing was sent"
        case "mirror_refused", link:
            words = f"{link} refused to show this in its row; it is tried again"
        case _, None:
            words = f"The database refused to write this ({row['statement']}); it is tried again"
        case _, link:
            words = f"The database cannot read or store its row of {link}"
    return Entry(row["at"], row["kind"], words, error=": ".join(filter(None, (row["sqlstate"], row["error"]))))


def _resubmission(row: asyncpg.Record) -> Entry:
    words = f"{row['actor']} made it again as {row['video']}, although this one may have cost something"
    return Entry(row["at"], "consent", words[0].upper() + words[1:])


def _end(video: Video) -> Iterator[Entry]:
    about: dict[str, Any] = {"task_id": video.runway_video_id}
    error = ": ".join(filter(None, (video.error_code, video.error_message))) or None
    if video.status is Status.QUEUED and error:
        yield Entry(video.updated_at, "waiting", f"Waits until {_shown(video.run_after)}", error=error)
    if video.finished_at is not None and video.status.terminal:
        words = {
            Status.COMPLETED: "Completed: the file is there",
            Status.FAILED: "Failed",
            Status.CANCELLED: "Cancelled",
        }[video.status]
        yield Entry(video.finished_at, video.status.value, words, **about, error=error, credits=video.cost_credits)


def _shown(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
