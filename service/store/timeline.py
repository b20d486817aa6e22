"""The history of one video: its events, which are never rewritten, and what the ledger adds to them.

An event says what happened, when, and who did it. The ledger has what would be said twice otherwise: when each create
was permitted, that Runway took it at once, how often its task was polled, and the words of an error, which an event
does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Any
from uuid import UUID

import asyncpg

from service.actors import TAXIWAY
from service.events import ORDER, Kind, words_of
from service.store import video_rows
from service.store.database import Database
from service.store.driver_errors import condition
from service.store.outcome_row import OK, SUBMIT

SUBMISSION_OPENED, POLLED = "submission_opened", "polled"  # what the ledger adds


@dataclass(frozen=True)
class Entry:
    """One line of a history. `event`: its kind; `actor`: who did it; `code`: of an error, or the reason.

    `seconds`: since the line before; `until` and `polls`: of polls of one task that said the same, folded into a line;
    `error`: as Runway or the transport said it; credits are Runway's.
    """

    at: datetime
    event: str
    words: str
    actor: str = TAXIWAY
    seconds: float | None = None
    until: datetime | None = None
    polls: int | None = None
    code: str | None = None
    submission_id: int | None = None
    task_id: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    task_status: str | None = None
    progress: float | None = None
    error: str | None = None
    credits: Decimal | None = None


_EVENTS = """
SELECT at, submission_id, kind, actor, code, credits, detail FROM taxiway.events WHERE video_id = $1 ORDER BY at
"""

_SUBMISSIONS = """
SELECT id, model, opened_at, closed_at, quoted_credits, estimated_credits, outcome, http_status, request_id, error,
       task_id, polls, recent_polls
FROM taxiway.submissions WHERE video_id = $1 ORDER BY id
"""


async def timeline(database: Database, video_id: UUID) -> list[Entry]:
    """Everything that happened to this video, in order, with the seconds between. Raises NotFound."""
    _, model = await video_rows.state_of(database, video_id)
    submissions = {row["id"]: row for row in await database.fetch(_SUBMISSIONS, video_id)}
    events = await database.fetch(_EVENTS, video_id)
    entries = [_of_event(row, submissions.get(row["submission_id"]), model) for row in events]
    with_outcome = {row["submission_id"] for row in events if row["kind"] in _CLOSING}
    for attempt, row in enumerate(submissions.values(), start=1):
        entries += _of_submission(row, attempt)
        if row["id"] not in with_outcome and row["task_id"] and row["http_status"] == OK:
            entries.append(_taken(row))
    return _with_seconds(sorted(entries, key=lambda entry: (entry.at, ORDER[entry.event])))


def _with_seconds(entries: Sequence[Entry]) -> list[Entry]:
    """Each with the time that passed since the one before."""
    timed = list(entries[:1])
    for before, entry in pairwise(entries):
        timed.append(replace(entry, seconds=max(0.0, (entry.at - (before.until or before.at)).total_seconds())))
    return timed


def _of_event(row: asyncpg.Record, submission: asyncpg.Record | None, model: str | None) -> Entry:
    kind, detail = row["kind"], json.loads(row["detail"] or "{}")
    about: dict[str, Any] = {}
    if submission is not None:
        about = {"task_id": submission["task_id"] if kind in _WITH_TASK else None, "error": _error(kind, submission)}
        if kind in _OUTCOMES:
            about["request_id"] = submission["request_id"]
    if sqlstate := detail.get("sqlstate"):
        about["error"] = f"{sqlstate}: {condition(sqlstate)}"
    status = detail.get("http_status") or (OK if kind == Kind.ACCEPTED else None)
    return Entry(
        row["at"], kind, words_of(kind, row["code"], detail, model), row["actor"], code=row["code"],
        submission_id=row["submission_id"], http_status=status, credits=row["credits"], **about,
    )  # fmt: skip


_OUTCOMES = (Kind.ACCEPTED, Kind.NOT_SENT, Kind.REJECTED, Kind.UNKNOWN)
_CLOSING = (*_OUTCOMES, Kind.SETTLED, Kind.ATTACHED)
_WITH_TASK = (Kind.ACCEPTED, Kind.SETTLED, Kind.ATTACHED, Kind.COMPLETED, Kind.DELETE_DUE, Kind.DELETED)
_WITH_ERROR = (Kind.NOT_SENT, Kind.REJECTED, Kind.UNKNOWN, Kind.FAILED, Kind.RETRIED)


def _error(kind: str, submission: asyncpg.Record) -> str | None:
    """The words that the ledger has for it."""
    error: str | None = submission["error"] if kind in _WITH_ERROR else None
    return error


def _of_submission(row: asyncpg.Record, attempt: int) -> Iterator[Entry]:
    words = f"Attempt {attempt}: sending to Runway ({row['model']})"
    yield Entry(
        row["opened_at"], SUBMISSION_OPENED, words, SUBMIT, submission_id=row["id"], credits=row["quoted_credits"]
    )
    yield from _polls(row)


def _taken(row: asyncpg.Record) -> Entry:
    """What was accepted with its first answer has no event: the ledger says as much (submissions.py)."""
    estimate = row["estimated_credits"]
    return Entry(
        row["closed_at"], Kind.ACCEPTED, words_of(Kind.ACCEPTED, None, {}, row["model"]), SUBMIT,
        submission_id=row["id"], task_id=row["task_id"], http_status=OK, request_id=row["request_id"],
        credits=None if estimate == row["quoted_credits"] else estimate,
    )  # fmt: skip


def _polls(row: asyncpg.Record) -> Iterator[Entry]:
    """Its polls, those in a row that said the same as one line: `16 polls, 00:57–00:59, RUNNING`."""  # noqa: RUF002
    polls = json.loads(row["recent_polls"] or "[]")
    earlier = (row["polls"] or 0) - len(polls)
    about: dict[str, Any] = {"submission_id": row["id"], "task_id": row["task_id"]}
    if earlier > 0:
        at = datetime.fromtimestamp(polls[0][0], UTC) if polls else row["closed_at"]
        words = f"{_count(earlier)} before that are counted, but not kept" if polls else _count(earlier)
        yield Entry(at, POLLED, words, "poll", polls=earlier, **about)
    for status, group in groupby(polls, key=lambda poll: poll[1]):
        same = list(group)
        first, last = (datetime.fromtimestamp(poll[0], UTC) for poll in (same[0], same[-1]))
        words = f"{_count(len(same))}, {_span(first, last)}, {status or 'still under way'}"
        yield Entry(
            first, POLLED, words, "poll", until=last, polls=len(same), task_status=status, progress=same[-1][2], **about
        )


def _count(polls: int) -> str:
    return "1 poll" if polls == 1 else f"{polls} polls"


def _span(first: datetime, last: datetime) -> str:
    """`00:57–00:59`, to the second where that is needed to see a difference; UTC."""  # noqa: RUF002
    minutes = f"{first:%H:%M}", f"{last:%H:%M}"
    if minutes[0] != minutes[1]:
        return "–".join(minutes)  # noqa: RUF001  # from, to
    seconds = f"{first:%H:%M:%S}", f"{last:%H:%M:%S}"
    return seconds[0] if seconds[0] == seconds[1] else "–".join(seconds)  # noqa: RUF001
