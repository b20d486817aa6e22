"""When a tick is late: by the rhythm of the ticks before it, for every place that says so. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

LATE_INTERVALS = 5.0  # a cron service may miss a few calls ...
LEAST_LATE_SECONDS = 60.0  # ... and a tick of a busy worker takes its time
UNKNOWN_LATE_SECONDS = 600.0  # after the very first tick: some cron services call only every few minutes


def usual(ages: Sequence[float]) -> float | None:
    """The usual seconds between two ticks, of the seconds since each began, newest first; None with fewer than two."""
    gaps = [older - newer for newer, older in pairwise(ages)]
    return median(gaps) if gaps else None


def late_after(interval: float | None) -> float:
    """How many seconds after the last tick began the next one is late. `interval`: the usual one, None if unknown."""
    if interval is None:
        return UNKNOWN_LATE_SECONDS
    return max(LEAST_LATE_SECONDS, LATE_INTERVALS * interval)


def span(seconds: float) -> str:
    """A time in words: days, h, min or s."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
