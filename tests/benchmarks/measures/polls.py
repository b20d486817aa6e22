"""Looks at a task: how many, and how late its end is seen, against a fixed 6 s, on simulated lengths of tasks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from service.steps.answers import FIRST_POLL_SECONDS
from service.steps.finalize import poll_delay
from tests.benchmarks.figures import Figure, Measured, Values, percentile
from tests.benchmarks.lab import Lab

FIGURES = (
    Figure("polls", "looks per video", 1),
    Figure("p50", "p50 s from ready to seen", 1),
    Figure("p95", "p95 s", 1),
    Figure("least", "least gap, s", 2),
)
# Seconds of a model's tasks: the median, and the spread of the logarithm; the share that is throttled first, and the
# longest that this takes.
MODELS = {"fast": (12, 0.25), "turbo": (35, 0.3), "standard": (75, 0.3), "slow": (160, 0.35), "longest": (380, 0.3)}
SHORTEST, LONGEST = 5.0, 600.0
THROTTLED_SHARE, LONGEST_WAIT = 0.25, 300.0
SDK_SECONDS, SDK_JITTER = 6.0, 1.5

Delay = Callable[[float, Random], float]  # the task's age in seconds -> seconds to the next look


def sdk(_age: float, random: Random) -> float:
    """What Runway's own SDK waits."""
    return SDK_SECONDS + random.uniform(-SDK_JITTER, SDK_JITTER)


def taxiway(age: float, random: Random) -> float:
    """What the product's own schedule waits."""
    return poll_delay(age, random.random())


async def run(lab: Lab) -> Measured:
    """Both schedules on the same tasks; a round is another seed."""
    count = lab.size(4_000, 50)
    schedules = {"Taxiway": (FIRST_POLL_SECONDS, taxiway), "SDK": (None, sdk)}
    rounds = []
    for number in range(lab.rounds):
        lengths = list(tasks(Random(number), count))
        rounds.append({name: simulated(lengths, Random(number), *how) for name, how in schedules.items()})
    title = f"Looks at {count * len(MODELS):,} simulated tasks of {SHORTEST:g} to {LONGEST + LONGEST_WAIT:g} s"
    result = Measured("polls", title, FIGURES, rounds)
    result.bar("looks against the SDK's", result.ratio("polls", "Taxiway", "SDK"), most=0.5)
    result.bar("p95 from ready to seen against the SDK's", result.ratio("p95", "Taxiway", "SDK"), most=1.0)
    result.bar("least seconds between two looks", min(result.values("Taxiway", "least")), least=5.0)
    return result


def tasks(random: Random, count: int) -> list[float]:
    """How long each task takes from its creation."""
    made = []
    for median, spread in MODELS.values():
        for _ in range(count):
            seconds = min(LONGEST, max(SHORTEST, median * random.lognormvariate(0, spread)))
            made.append(seconds + (random.uniform(0, LONGEST_WAIT) if random.random() < THROTTLED_SHARE else 0))
    return made


def simulated(lengths: list[float], random: Random, first: float | None, delay: Delay) -> Values:
    """Look until it is seen that each has ended."""
    polls, late, least = 0, [], LONGEST
    for length in lengths:
        age = delay(0.0, random) if first is None else first
        polls += 1
        while age < length:
            gap = delay(age, random)
            least = min(least, gap)
            age += gap
            polls += 1
        late.append(age - length)
    return {
        "polls": polls / len(lengths), "p50": percentile(late, 0.5), "p95": percentile(late, 0.95), "least": least,
    }  # fmt: skip
