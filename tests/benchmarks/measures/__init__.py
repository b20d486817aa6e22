"""The measures, by the names that --only takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.benchmarks.figures import Measured
from tests.benchmarks.lab import Lab
from tests.benchmarks.measures import drain, latency

MEASURES: dict[str, Callable[[Lab], Awaitable[Measured]]] = {
    "drain": drain.fast,
    "drain-200": drain.slow,
    "latency": latency.run,
}
