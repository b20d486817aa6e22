"""Latency where a part of all calls hangs: when the end of a task is noticed, and how long a tick takes.

Many tasks are at Runway, and one call in twenty hangs until its deadline. Time is virtual.

`TASKS=5000 pytest -m load tests/system/test_load.py` has more of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from service.store.tasks import PATIENT_CALL_SECONDS
from tests.virtual import Virtual, five_percent, virtual

pytestmark = [pytest.mark.anyio, pytest.mark.load]

TASKS = int(os.environ.get("TASKS", "1500"))
ALL_DUE = TASKS // 5  # of those that end while the others go on
CALLS_SECONDS = {"GET": PATIENT_CALL_SECONDS, "DELETE": 20.0, "POST": 60.0}  # the longest that one may take


async def fly(w: Virtual) -> None:
    """All are due at once; most go on, and some end one after the other, for a minute and a half."""
    await w.in_flight(TASKS, lambda n: 90 * n / TASKS if n % (TASKS // ALL_DUE) == 0 else 1e9)
    await w.control.execute("UPDATE taxiway.videos SET poll_after = taxiway.now()")
    await w.queued(60)
    await w.control.execute(
        """WITH gone AS (UPDATE taxiway.videos SET status = 'cancelled', finished_at = taxiway.now()
                         WHERE id IN (SELECT id FROM taxiway.videos WHERE status = 'processing' LIMIT 300)
                         RETURNING runway_video_id)
           UPDATE taxiway.submissions SET cancel_due = taxiway.now(), cancel_reason = 'cancelled'
           WHERE task_id IN (SELECT runway_video_id FROM gone)"""
    )


def p50(seconds: list[float]) -> float:
    """The value that one in two exceeds."""
    return seconds[len(seconds) // 2]


def p99(seconds: list[float]) -> float:
    """The value that one in a hundred exceeds."""
    return seconds[int(len(seconds) * 0.99)]


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_worker_notices_the_end_of_a_task_within_two_minutes(
    database_url: str, method: str, record_property: Callable[[str, object], None]
) -> None:
    async with virtual(database_url, five_percent(method)) as w:
        await fly(w)
        await w.worker(240)
        late = await w.late()
        figures = f"{method} hangs, worker: noticed after p50 {p50(late):.1f} s, p99 {p99(late):.1f} s"
        record_property("noticed", figures)
        print(figures)  # noqa: T201  # shown with -s
        assert len(late) >= ALL_DUE * 0.9
        assert p99(late) <= 120, p99(late)
        assert await w.count("status = 'queued'") == 0


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_cron_by_the_minute_notices_it_within_five(
    database_url: str, method: str, record_property: Callable[[str, object], None]
) -> None:
    async with virtual(database_url, five_percent(method)) as w:
        await fly(w)
        took = await w.cron(420)
        late = await w.late()
        figures = f"{method} hangs, cron: noticed after p50 {p50(late):.1f} s, p99 {p99(late):.1f} s"
        figures += f"; the longest tick took {max(took):.1f} s"
        record_property("noticed", figures)
        print(figures)  # noqa: T201  # shown with -s
        assert len(late) >= ALL_DUE * 0.9
        assert p99(late) <= 300, p99(late)
        assert max(took) <= w.ctx.settings.tick_budget + CALLS_SECONDS[method] + 1, took
