"""When to poll a task again: few looks, soon after the end, on simulated tasks of every length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from service.operations.finalize import LONGEST_GAP_SECONDS, poll_delay
from service.store.tasks import LEAST_GAP_SECONDS, PreviousPoll

# Seconds of a model's tasks: the median, and the spread of the logarithm. A quarter of them waits for a place first.
MODELS = {"fast": (12, 0.25), "turbo": (35, 0.3), "standard": (75, 0.3), "slow": (160, 0.35), "longest": (380, 0.3)}
COUNT = 400
Curve = Callable[[float], float]  # the share of the time that is over -> the progress that Runway says


def tasks(random: Random) -> Iterator[tuple[float, float]]:
    """(seconds of waiting, seconds of running) of each."""
    for median, spread in MODELS.values():
        for _ in range(COUNT):
            running = min(600.0, max(5.0, median * random.lognormvariate(0, spread)))
            yield (random.uniform(0, 300) if random.random() < 0.25 else 0.0), running


def looks(waiting: float, running: float, random: Random, curve: Curve | None) -> tuple[int, float, float]:
    """(looks, seconds from the end to its being seen, least gap). `curve` None: Runway says nothing of progress."""
    age, count, least = 5.0, 1, LONGEST_GAP_SECONDS
    before: PreviousPoll | None = None
    while age < waiting + running:
        status = "THROTTLED" if age < waiting else "RUNNING"
        progress = round(curve((age - waiting) / running), 2) if curve and status == "RUNNING" else None
        gap = poll_delay(age, random.random(), status=status, progress=progress, previous=before)
        before, least, age, count = PreviousPoll(gap, status, progress), min(least, gap), age + gap, count + 1
    return count, age - waiting - running, least


def fixed(waiting: float, running: float, random: Random) -> tuple[int, float]:
    """The same with the fixed rhythm of Runway's own SDK: 6 s, give or take 1.5."""
    age, count = 0.0, 0
    while age < waiting + running or not count:
        age, count = age + 6 + random.uniform(-1.5, 1.5), count + 1
    return count, age - waiting - running


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


@pytest.mark.parametrize(
    "curve", [lambda share: share, lambda share: share**0.7, lambda share: share**1.3], ids=["even", "first", "last"]
)
def test_half_the_looks_of_a_fixed_rhythm_and_no_later(curve: Curve) -> None:
    random = Random(1)
    lengths = list(tasks(random))
    ours = [looks(*one, random, curve) for one in lengths]
    theirs = [fixed(*one, random) for one in lengths]
    assert sum(count for count, _, _ in ours) <= 0.5 * sum(count for count, _ in theirs)
    assert percentile([late for _, late, _ in ours], 0.95) <= percentile([late for _, late in theirs], 0.95)
    assert min(least for _, _, least in ours) >= LEAST_GAP_SECONDS


def test_without_progress_the_age_decides() -> None:
    random = Random(1)
    for waiting, running in tasks(random):
        count, late, least = looks(waiting, running, random, None)
        assert least >= LEAST_GAP_SECONDS
        assert late <= max(6.0, 0.2 * (waiting + running))
        assert count <= 40


@pytest.mark.parametrize(
    ("age", "said", "delay"),
    [
        (1.0, {}, 5.0),
        (100.0, {}, 15.0),
        (86_400.0, {}, 60.0),
        (100.0, {"status": "THROTTLED"}, 10.0),
        (3600.0, {"status": "THROTTLED"}, 15.0),
        (3600.0, {"status": "PENDING", "progress": 0.5}, 15.0),
        (100.0, {"progress": 0.0}, 15.0),
        (50.0, {"progress": 0.9}, 50 / 9 + 0.5),
        (50.0, {"progress": 0.5}, 17.5),  # the end is foreseen in 50 s, and believed for 0.35 of what has passed
        (60.0, {"progress": 1.0}, 5.0),
        (3600.0, {"progress": 1.0}, 36.0),
        # It began late.
        (400.0, {"progress": 0.5, "previous": PreviousPoll(10, "RUNNING", 0.26)}, 0.5 * 10 / 0.25 * 0.8),
        (400.0, {"progress": 0.5, "previous": PreviousPoll(10, "RUNNING", 0.5)}, 60.0),
        (400.0, {"progress": 0.2, "previous": PreviousPoll(15, "THROTTLED", None)}, 5.0),
    ],
)
def test_the_next_poll(age: float, said: dict[str, object], delay: float) -> None:
    assert poll_delay(age, 0.0, **said) == pytest.approx(delay)  # type: ignore[arg-type]
    assert delay <= poll_delay(age, 0.999, **said) <= min(LONGEST_GAP_SECONDS, delay * 1.2 + 0.5)  # type: ignore[arg-type]
