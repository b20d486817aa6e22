"""The report of a tick: what its steps did, what failed, and how long it took. Its JSON is what every caller gets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.context import Counts
from service.errors import DatabaseUnavailable, TaxiwayError
from service.logs import VIDEO, event

log = logging.getLogger(__name__)


@dataclass
class TickReport:
    """`ref`: the short id that its log lines bear; `counts` and `errors`: by step; `seconds`: how long it took.

    `unavailable`: a step that found no database; if no step did anything, the tick as a whole could not run.
    """

    ref: str | None
    counts: dict[str, Counts] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    unavailable: DatabaseUnavailable | None = None

    async def step(self, name: str, work: Awaitable[Counts]) -> None:
        """Do the work of one step. What it raises is kept under its name, and costs the other steps nothing."""
        try:
            self.counts[name] = await work
        except DatabaseUnavailable as exc:
            self.errors[name], self.unavailable = exc.detail, self.unavailable or exc
        except Exception as exc:
            event(log, VIDEO, "step_failed", f"Step {name} failed", level=logging.ERROR, trace=True, step=name)
            self.failed(name, exc)

    def failed(self, name: str, exc: Exception) -> None:
        """Keep that something failed, in words that may be shown."""
        self.errors[name] = exc.detail if isinstance(exc, TaxiwayError) else type(exc).__name__

    def fill(self, idle: Mapping[str, Counts]) -> None:
        """Name every step in that order, also those that had nothing to do; but none that failed."""
        self.counts = {name: self.counts.get(name) or idle[name] for name in idle if name not in self.errors}

    @property
    def has_done(self) -> bool:
        """Whether any count is not zero."""
        return any(value for done in self.counts.values() for value in done.values())

    def as_json(self) -> dict[str, Any]:
        """The counts by step, `seconds`, `ref`, and `errors` by step if there are any."""
        rest: dict[str, Any] = {"seconds": round(self.seconds, 3), "ref": self.ref}
        return {**self.counts, **rest, **({"errors": self.errors} if self.errors else {})}


def summary(counts: Mapping[str, Counts]) -> str:
    """The counts that are not zero, as `name=n`."""
    pairs = [(name, value) for step in counts.values() for name, value in step.items() if value]
    return " ".join(f"{name}={value}" for name, value in pairs) or "nothing to do"
