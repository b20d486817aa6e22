"""Plots as geometry, for the templates to draw as SVG. Pure: buckets in, shapes in units of the view box out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from service.store.throughput import Bucket, Span
from service.web.page.formats import duration, number

WIDTH, HEIGHT = 480, 210
LEFT, RIGHT, TOP, BOTTOM = 66, 6, 10, 26  # margins: room for the marks of both axes
MARKS_ACROSS = 4
CLOCKS = {Span.HOUR: "%H:%M", Span.DAY: "%H:%M", Span.WEEK: "%b %d"}
SECONDS_MARKS = (0.1, 1, 10, 60, 600, 3_600, 36_000, 86_400, 864_000)


class Mark(NamedTuple):
    """A mark of an axis: where, and what it says."""

    at: float
    text: str


class Bar(NamedTuple):
    """A rectangle of one series."""

    series: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Curve:
    """A line of one series, as the `d` of a path; it has gaps where there is nothing. Lone points are dots."""

    series: str
    name: str
    path: str
    dots: list[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """Everything that is drawn, and one sentence that says what it shows."""

    words: str
    empty: bool
    across: list[Mark]
    up: list[Mark]
    bars: list[Bar]
    curves: list[Curve]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    foot: int = HEIGHT - BOTTOM


def enqueued(buckets: Sequence[Bucket], window: Span) -> Plot:
    """How many were enqueued, as bars."""
    return _piled(buckets, window, ("enqueued",))


def ended(buckets: Sequence[Bucket], window: Span) -> Plot:
    """Completed and failed, one on the other, as bars. Of more than two colours, not all differ enough."""
    return _piled(buckets, window, ("completed", "failed"))


def _piled(buckets: Sequence[Bucket], window: Span, names: Sequence[str]) -> Plot:
    most = max((sum(getattr(bucket, name) for name in names) for bucket in buckets), default=0)
    step = _step(most)
    top = max(step * math.ceil(most / step), step)

    def y(value: float) -> float:
        return round(_foot() - value / top * (_foot() - TOP), 1)

    bars = []
    for index, bucket in enumerate(buckets):
        x, width = _bar(index, len(buckets))
        piled = 0
        for series, value in zip("ab", (getattr(bucket, name) for name in names), strict=False):
            if value:
                bars.append(Bar(series, x, y(piled + value), width, round(y(piled) - y(piled + value), 1)))
                piled += value
    totals = {name: sum(getattr(bucket, name) for bucket in buckets) for name in names}
    words = f"In the last {window}: {', '.join(f'{total:,} {name}' for name, total in totals.items())}."
    marks = [Mark(y(value), number(value)) for value in range(0, top + 1, step)]
    return Plot(words, not any(totals.values()), _across(buckets, window), marks, bars, [])


def times(buckets: Sequence[Bucket], window: Span) -> Plot:
    """Seconds until it was sent to Runway and until it was completed, on a logarithmic scale."""
    lines: list[tuple[str, str, list[float | None]]] = [
        ("a", "time to submit, p50", [b.submit_p50 for b in buckets]),
        ("a", "time to submit, p95", [b.submit_p95 for b in buckets]),
        ("b", "time to complete, p50", [b.done_p50 for b in buckets]),
        ("b", "time to complete, p95", [b.done_p95 for b in buckets]),
    ]
    known = [max(value, SECONDS_MARKS[0]) for _, _, line in lines for value in line if value is not None]
    low, high = min(known, default=1.0), max(known, default=60.0)
    first = max((mark for mark in SECONDS_MARKS if mark <= low), default=SECONDS_MARKS[0])
    last = min((mark for mark in SECONDS_MARKS if mark >= high and mark > first), default=max(high, first * 10))
    scale = math.log(last / first)

    def y(value: float) -> float:
        share = math.log(max(value, first) / first) / scale
        return round(_foot() - share * (_foot() - TOP), 1)

    curves = [_curve(series, name, line, y, dashed=name.endswith("p95")) for series, name, line in lines]
    marks = [Mark(y(mark), duration(mark)) for mark in SECONDS_MARKS if first <= mark <= last]
    return Plot(_times_in_words(known, lines, window), not known, _across(buckets, window), marks, [], curves)


def _times_in_words(known: list[float], lines: list[tuple[str, str, list[float | None]]], window: Span) -> str:
    if not known:
        return f"Nothing ended in the last {window}."
    worst = [(name, max(values)) for _, name, line in lines if (values := [v for v in line if v is not None])]
    most = "; ".join(f"{name} at most {duration(value)}" for name, value in worst)
    return f"In the last {window}, by stretch of time: {most}."


def _foot() -> float:
    return HEIGHT - BOTTOM


def _bar(index: int, count: int) -> tuple[float, float]:
    """Where a bucket's bar begins, and how wide it is; a fifth of the room is left between two."""
    room = (WIDTH - LEFT - RIGHT) / count
    return round(LEFT + index * room + room * 0.1, 2), round(room * 0.8, 2)


def _step(most: int) -> int:
    """A round number that divides the axis into at most five."""
    if most <= 5:
        return 1
    size = 10 ** int(math.log10(most / 5))
    return int(next(size * factor for factor in (1, 2, 5, 10) if most / (size * factor) <= 5))


def _curve(
    series: str, name: str, values: Sequence[float | None], y: Callable[[float], float], *, dashed: bool = False
) -> Curve:
    pieces: list[list[tuple[float, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            pieces.append([])
            continue
        x, width = _bar(index, len(values))
        pieces[-1].append((round(x + width / 2, 1), y(value)))
    path = " ".join("M" + "L".join(f"{x} {y}" for x, y in piece) for piece in pieces if len(piece) > 1)
    return Curve(series, name, path, [piece[0] for piece in pieces if len(piece) == 1], dashed)


def _across(buckets: Sequence[Bucket], window: Span) -> list[Mark]:
    every = max(len(buckets) // MARKS_ACROSS, 1)
    marked = [(index, bucket.at) for index, bucket in enumerate(buckets) if index % every == every // 2]
    return [Mark(sum(_bar(index, len(buckets))), _clock(at, window)) for index, at in marked]


def _clock(at: datetime, window: Span) -> str:
    return at.astimezone(UTC).strftime(CLOCKS[window])
