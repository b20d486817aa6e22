"""Polls of a task: how many, and how late its end is seen, against a fixed 6 s, on simulated lengths of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from service.operations.finalize import poll_delay
from service.store.outcome_row import FIRST_POLL_SECONDS
from service.store.tasks import PreviousPoll
from tests.benchmarks.figures import Figure, Measured, Values, percentile
from tests.benchmarks.lab import Lab

FIGURES = (
    Figure("polls", "polls per video", 1),
    Figure("p50", "p50 s from ready to seen", 1),
    Figure("p95", "p95 s", 1),
    Figure("least", "least gap, s", 2),
)
# Seconds that a model's tasks run: the median, and the spread of the logarithm.
MODELS = {"fast": (12, 0.25), "turbo": (35, 0.3), "standard": (75, 0.3), "slow": (160, 0.35), "longest": (380, 0.3)}
SHORTEST, LONGEST = 5.0, 600.0
# The share that waits for a place at Runway first, and the longest that this takes.
THROTTLED_SHARE, LONGEST_WAIT = 0.25, 300.0
# Progress is not even: it is the share of the time that has passed, to a power with this spread of the logarithm.
UNEVEN = 0.2
SDK_SECONDS, SDK_JITTER = 6.0, 1.5


@dataclass(frozen=True)
class Simulated:
    """A task that waits, then runs, with progress in hundredths as Runway tells it."""

    wait: float
    run: float
    power: float

    @property
    def length(self) -> float:
        """Seconds from its creation to its end."""
        return self.wait + self.run

    def seen(self, age: float) -> tuple[str, float | None]:
        """Status and progress at that age, before its end."""
        if age < self.wait:
            return "THROTTLED", None
        return "RUNNING", int(100 * ((age - self.wait) / self.run) ** self.power) / 100


Ages = Iterator[float]  # the ages at which a task is polled


def sdk(_task: Simulated, random: Random) -> Ages:
    """What Runway's own SDK does."""
    age = 0.0
    while True:
        age += SDK_SECONDS + random.uniform(-SDK_JITTER, SDK_JITTER)
        yield age


def taxiway(task: Simulated, random: Random) -> Ages:
    """What the product's own schedule does."""
    age, before = FIRST_POLL_SECONDS, None
    while True:
        yield age
        status, progress = task.seen(age)
        gap = poll_delay(age, random.random(), status=status, progress=progress, previous=before)
        before = PreviousPoll(gap, status, progress)
        age += gap


async def run(lab: Lab) -> Measured:
    """Both schedules on the same tasks; a round is another seed."""
    count = lab.size(4_000, 50)
    rounds = []
    for number in range(lab.rounds):
        made = list(tasks(Random(number), count))
        rounds.append({name: simulated(made, Random(number), ages) for name, ages in SCHEDULES.items()})
    title = f"Polls of {count * len(MODELS):,} simulated tasks of {SHORTEST:g} to {LONGEST + LONGEST_WAIT:g} s"
    result = Measured("polls", title, FIGURES, rounds)
    result.bar("polls against the SDK's", result.ratio("polls", "Taxiway", "SDK"), most=0.5)
    result.bar("p95 from ready to seen against the SDK's", result.ratio("p95", "Taxiway", "SDK"), most=1.0)
    result.bar("least seconds between two polls", min(result.values("Taxiway", "least")), least=5.0)
    return result


SCHEDULES: dict[str, Callable[[Simulated, Random], Ages]] = {"Taxiway": taxiway, "SDK": sdk}


def tasks(random: Random, count: int) -> Iterator[Simulated]:
    """So many tasks of each model."""
    for median, spread in MODELS.values():
        for _ in range(count):
            seconds = min(LONGEST, max(SHORTEST, median * random.lognormvariate(0, spread)))
            wait = random.uniform(0, LONGEST_WAIT) if random.random() < THROTTLED_SHARE else 0.0
            yield Simulated(wait, seconds, random.lognormvariate(0, UNEVEN))


def simulated(made: list[Simulated], random: Random, ages: Callable[[Simulated, Random], Ages]) -> Values:
    """Look until it is seen that each has ended."""
    polls, late, least = 0, [], LONGEST
    for task in made:
        before = None
        for age in ages(task, random):
            polls += 1
            least = min(least, age - before) if before is not None else least
            before = age
            if age >= task.length:
                late.append(age - task.length)
                break
    return {
        "polls": polls / len(made),
        "p50": percentile(late, 0.5),
        "p95": percentile(late, 0.95),
        "least": round(least, 6),
    }
