"""What the ledger says about money: for one video or for all, what was paid, and what may have been paid twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import asyncpg

from service.store.database import Database
from service.store.recordset import as_records

PAGE = 1000

# For each video: how many creates were permitted, and what they cost or may cost. `most` bounds one submission:
# its cost once Runway has reported it, else Runway's estimate, else our own quote; nothing where no task was made.
# A task that ended without a file was paid for nothing, not twice; so `twice` leaves it out, and is what remains when
# the dearest of the others is taken as the one that was wanted.
_AUDIT = """
WITH entry AS (
    SELECT s.*, {key} AS key, CASE WHEN s.outcome IN ('not_sent', 'rejected') THEN 0
                     ELSE COALESCE(s.cost_credits, s.estimated_credits, s.quoted_credits, 0) END AS most,
           s.outcome = 'accepted' AND s.error IS NOT NULL AS failed
    FROM {ledger}
)
SELECT e.key, e.video_id, min(v.status) AS status, count(*) AS submissions,
       count(*) FILTER (WHERE e.outcome = 'accepted') AS tasks,
       COALESCE(sum(e.cost_credits), 0) AS paid, sum(e.most) AS most,
       COALESCE(sum(e.most) FILTER (WHERE e.failed), 0) AS wasted,
       COALESCE(sum(most) FILTER (WHERE NOT failed) - max(most) FILTER (WHERE NOT failed), 0) AS twice,
       bool_or(e.outcome IS NULL OR e.outcome = 'accepted' AND e.settled_at IS NULL) AS under_way,
       bool_or(e.outcome = 'unknown') AS unknown,
       bool_or(e.consent IS NOT NULL) AS consented
FROM entry e LEFT JOIN taxiway.videos v ON v.id = e.video_id
GROUP BY e.key, e.video_id ORDER BY e.video_id
"""
_OF_THESE = "taxiway.submissions s WHERE s.video_id = ANY(ARRAY({videos}))"
_AUDIT_PAGE = _AUDIT.format(
    key="NULL",
    ledger=_OF_THESE.format(
        videos="""
        SELECT DISTINCT video_id FROM taxiway.submissions
        WHERE ($1::uuid IS NULL OR video_id > $1) AND ($2::uuid IS NULL OR video_id = $2)
        ORDER BY video_id LIMIT $3"""
    ),
)
_AUDIT_THESE = _AUDIT.format(
    key="NULL",
    ledger=_OF_THESE.format(videos="SELECT CAST(value AS uuid) FROM jsonb_array_elements_text($1::jsonb)"),
)
# Of creates that were permitted until some time each: a delivery of then says nothing of what came after it.
_AUDIT_UNTIL = _AUDIT.format(
    key="w.key",
    ledger="""jsonb_to_recordset($1::jsonb) AS w(key bigint, video_id uuid, until timestamptz)
        JOIN taxiway.submissions s ON s.video_id = w.video_id AND s.opened_at <= w.until""",
)


@dataclass(frozen=True)
class Audit:
    """One video's account, in credits.

    `most`: the most that it may have cost; of that, `wasted` on tasks that gave no file, and `twice` paid again.
    """

    video_id: UUID
    status: str | None
    submissions: int
    tasks: int
    paid: Decimal
    most: Decimal
    wasted: Decimal
    twice: Decimal
    under_way: bool
    unknown: bool
    consented: bool

    @property
    def charge(self) -> str:
        """The account in a word: 'paid', 'nothing', or 'unknown' while that may still change."""
        if self.under_way or self.unknown:
            return "unknown"
        return "paid" if self.most else "nothing"

    @property
    def verdict(self) -> str:
        """The account in words."""
        if self.under_way:
            return f"under way (at most {_plain(self.most)} credits)"
        if self.unknown:
            return f"unknown (at most {_plain(self.most)} credits)"
        if self.twice:
            return f"paid more than once (at most {_plain(self.twice)} credits too many)"
        good = self.most - self.wasted
        words = f"paid once ({_plain(good)} credits)" if good else "paid nothing"
        return f"{words}, but {_plain(self.wasted)} credits for tasks that gave no file" if self.wasted else words


def nothing(video_id: UUID) -> Audit:
    """The account of a video for which no create was permitted yet."""
    zero = Decimal(0)
    return Audit(video_id, None, 0, 0, zero, zero, zero, zero, under_way=False, unknown=False, consented=False)


@dataclass
class Totals:
    """The sum of many audits. `twice`: the largest sum that can have been paid a second time."""

    videos: int = 0
    submissions: int = 0
    paid: Decimal = Decimal(0)
    most: Decimal = Decimal(0)
    twice: Decimal = Decimal(0)
    unknown: int = 0
    twice_without_consent: int = 0

    def add(self, audit: Audit) -> None:
        """Count one more video."""
        self.videos += 1
        self.submissions += audit.submissions
        self.paid += audit.paid
        self.most += audit.most
        self.twice += audit.twice
        self.unknown += audit.unknown
        self.twice_without_consent += bool(audit.twice and not audit.consented)


async def audits(database: Database, video_id: UUID | None = None) -> AsyncIterator[Audit]:
    """The account of one video, or of every video in the ledger, page by page."""
    after: UUID | None = None
    while True:
        rows = await database.fetch(_AUDIT_PAGE, after, video_id, PAGE)
        for row in rows:
            yield _audit(row)
        if len(rows) < PAGE:
            return
        after = rows[-1]["video_id"]


async def of_videos(database: Database, ids: Sequence[UUID]) -> dict[UUID, Audit]:
    """The accounts of these videos, those without a submission left out."""
    rows = await database.fetch(_AUDIT_THESE, json.dumps([str(one) for one in ids]))
    return {row["video_id"]: _audit(row) for row in rows}


@dataclass(frozen=True)
class Until:
    """A video, and until when creates of it count; `key`: of the caller's."""

    key: int
    video_id: UUID
    until: datetime


async def until(database: Database, wanted: Sequence[Until]) -> dict[tuple[int, UUID], Audit]:
    """By key and video, what the creates until then came to, as it is known now."""
    rows = await database.fetch(_AUDIT_UNTIL, as_records(wanted))
    known = {(row["key"], row["video_id"]): _audit(row) for row in rows}
    return {(one.key, one.video_id): known.get((one.key, one.video_id)) or nothing(one.video_id) for one in wanted}


def _audit(row: asyncpg.Record) -> Audit:
    return Audit(**{name: value for name, value in row.items() if name != "key"})


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
