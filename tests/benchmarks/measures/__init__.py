"""The measures, by the names that --only takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.benchmarks.figures import Measured
from tests.benchmarks.lab import Lab
from tests.benchmarks.measures import (
    budget,
    claims,
    cold,
    drain,
    endpoint,
    held,
    idle,
    latency,
    linked,
    month,
    polls,
    profile,
    reads,
    scale,
)

MEASURES: dict[str, Callable[[Lab], Awaitable[Measured]]] = {
    "drain": drain.fast,
    "drain-200": drain.slow,
    "profile": profile.run,
    "latency": latency.run,
    "endpoint": endpoint.run,
    "history": claims.run,
    "reads": reads.run,
    "held": held.run,
    "idle": idle.run,
    "linked": linked.run,
    "cold": cold.run,
    "polls": polls.run,
    "budget": budget.run,
    "scale": scale.run,
    "month": month.run,
}
