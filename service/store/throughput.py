"""Statements that sum up the last hour, day or week, and what is at Runway now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.store.database import Database
from service.store.search import in_states
from service.videos import Status


class Span(StrEnum):
    """How far back a series goes."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"


# Seconds of one bucket, and how many there are.
BUCKETS = {Span.HOUR: (60, 60), Span.DAY: (900, 96), Span.WEEK: (3600, 168)}

# Of what ended: how much, and how long it had taken.
_ENDED = """count(*) FILTER (WHERE status = 'completed') AS completed,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           percentile_cont('{0.5,0.95}'::float8[])
               WITHIN GROUP (ORDER BY date_part('epoch', submitted_at - created_at)) AS submit,
           percentile_cont('{0.5,0.95}'::float8[])
               WITHIN GROUP (ORDER BY date_part('epoch', finished_at - created_at))
               FILTER (WHERE status = 'completed') AS done"""
_TIMES = """ended.submit[1] AS submit_p50, ended.submit[2] AS submit_p95,
       ended.done[1] AS done_p50, ended.done[2] AS done_p95"""

# What entered in each bucket, and what ended in it: counts, and of what ended in it how long it had taken. Bucket by
# bucket, from indexes alone: nothing is sorted but the rows of one bucket, in memory. What is processing is little, and
# is read once. Buckets begin at multiples of their length, so that they are the same for all who ask.
_SERIES = """
WITH bucket AS (
    SELECT to_timestamp((number - n) * $1::float8) AS at, to_timestamp((number - n + 1) * $1::float8) AS ends_at
    FROM floor(date_part('epoch', taxiway.now()) / $1::float8) AS number, generate_series($2::int - 1, 0, -1) AS n
), under_way AS MATERIALIZED (
    SELECT created_at FROM taxiway.videos WHERE status = 'processing'
)
SELECT b.at, entered.enqueued + (
           SELECT count(*) FROM under_way u WHERE u.created_at >= b.at AND u.created_at < b.ends_at) AS enqueued,
       ended.completed, ended.failed, {times}
FROM bucket b
CROSS JOIN LATERAL (
    SELECT count(*) AS enqueued FROM taxiway.videos v
    WHERE {states} AND v.created_at >= b.at AND v.created_at < b.ends_at
) AS entered
CROSS JOIN LATERAL (
    SELECT {ended} FROM taxiway.videos WHERE finished_at >= b.at AND finished_at < b.ends_at
) AS ended
ORDER BY b.at
""".replace("{states}", in_states([status.value for status in Status if status is not Status.PROCESSING]))
_SERIES = _SERIES.replace("{ended}", _ENDED).replace("{times}", _TIMES)

# The same for one user: all that is his is read once, by the index of what is searched.
_SERIES_OF_USER = """
WITH bucket AS (
    SELECT number - n AS number, to_timestamp((number - n) * $1::float8) AS at
    FROM floor(date_part('epoch', taxiway.now()) / $1::float8) AS number, generate_series($2::int - 1, 0, -1) AS n
), own AS MATERIALIZED (
    SELECT v.status, v.created_at, v.submitted_at, v.finished_at
    FROM taxiway.search s JOIN taxiway.videos v ON v.id = s.video_id WHERE s.user_id = $3
), entered AS (
    SELECT floor(date_part('epoch', created_at) / $1::float8) AS number, count(*) AS n FROM own GROUP BY 1
), ended AS (
    SELECT floor(date_part('epoch', finished_at) / $1::float8) AS number, {ended} FROM own GROUP BY 1
)
SELECT b.at, COALESCE(entered.n, 0) AS enqueued, COALESCE(ended.completed, 0) AS completed,
       COALESCE(ended.failed, 0) AS failed, {times}
FROM bucket b LEFT JOIN entered ON entered.number = b.number LEFT JOIN ended ON ended.number = b.number
ORDER BY b.at
""".replace("{ended}", _ENDED).replace("{times}", _TIMES)


@dataclass(frozen=True)
class Bucket:
    """One stretch of time, from `at` on: what entered and what ended in it.

    Of what ended in it, in seconds since it was created, at the median and the 95th percentile: until it was sent to
    Runway (`submit`), and until it was completed (`done`). None if there was nothing.
    """

    at: datetime
    enqueued: int
    completed: int
    failed: int
    submit_p50: float | None
    submit_p95: float | None
    done_p50: float | None
    done_p95: float | None


async def series(database: Database, window: str, user_id: str | None = None) -> list[Bucket]:
    """The last 'hour', 'day' or 'week', oldest bucket first; the last one is still filling. `user_id`: of his alone."""
    seconds, count = BUCKETS[Span(window)]
    if user_id is None:
        rows = await database.fetch(_SERIES, seconds, count)
    else:
        rows = await database.fetch(_SERIES_OF_USER, seconds, count, user_id)
    return [Bucket(**row) for row in rows]


# Tasks at Runway, and creates on their way there.
IN_FLIGHT = """
SELECT COALESCE(one.model, 'unknown') AS model, count(*) AS n FROM (
    SELECT v.model FROM taxiway.videos v WHERE v.status = 'processing' AND v.runway_video_id IS NOT NULL
    UNION ALL
    SELECT s.model FROM taxiway.submissions s WHERE s.outcome IS NULL
) AS one GROUP BY 1
"""


# The same of one user.
_IN_FLIGHT_OF_USER = """
SELECT COALESCE(v.model, 'unknown') AS model, count(*) AS n FROM taxiway.videos v
WHERE v.status = 'processing' AND v.user_id = $1 GROUP BY 1
"""


async def in_flight(database: Database, user_id: str | None = None) -> dict[str, int]:
    """How many are with Runway, or on their way there, by model. `user_id`: of his alone."""
    if user_id is None:
        rows = await database.fetch(IN_FLIGHT)
    else:
        rows = await database.fetch(_IN_FLIGHT_OF_USER, user_id)
    return {row["model"]: row["n"] for row in rows}


# What ended in the last hour, and how long it had taken.
_LAST_HOUR = """
SELECT count(*) FILTER (WHERE status = 'completed') AS completed,
       count(*) FILTER (WHERE status = 'failed') AS failed,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       percentile_cont('{0.5,0.95}'::float8[])
           WITHIN GROUP (ORDER BY date_part('epoch', submitted_at - created_at)) AS submit,
       percentile_cont('{0.5,0.95}'::float8[])
           WITHIN GROUP (ORDER BY date_part('epoch', finished_at - created_at))
           FILTER (WHERE status = 'completed') AS done
FROM taxiway.videos WHERE finished_at >= taxiway.now() - interval '1 hour'
"""
# What was permitted in the last hour, by what it came to.
_OUTCOMES = """
SELECT COALESCE(outcome, 'open') AS outcome, count(*) AS n FROM taxiway.submissions
WHERE opened_at >= taxiway.now() - interval '1 hour' GROUP BY 1
"""


@dataclass(frozen=True)
class Hour:
    """The last hour: how many ended, by status; submissions, by outcome; seconds at the median and the 95th percentile.

    `submit` and `done` as in Bucket; empty if there was nothing.
    """

    ended: dict[str, int]
    submissions: dict[str, int]
    submit: list[float]
    done: list[float]


async def last_hour(database: Database) -> Hour:
    """What happened in the last hour."""
    row = await database.fetchrow(_LAST_HOUR)
    assert row is not None  # noqa: S101  # an aggregate has one row
    outcomes = {one["outcome"]: one["n"] for one in await database.fetch(_OUTCOMES)}
    ended = {status: row[status] for status in ("completed", "failed", "cancelled")}
    return Hour(ended, outcomes, row["submit"] or [], row["done"] or [])
