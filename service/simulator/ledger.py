"""The books: every create that arrived, accepted or not, and what became of the money."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any


def iso(timestamp: float) -> str:
    """A time as Runway writes it: UTC, milliseconds, Z."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Entry:
    """One POST to an endpoint that makes tasks. `status` is None while, or if, nothing was answered."""

    time: str
    path: str
    model: str | None
    prompt: str | None
    fault: str
    task_id: str | None = None
    status: int | None = None
    charged: int = 0
    refunded: int = 0
    deleted: bool = False

    @property
    def cost(self) -> int:
        """Credits that stay charged."""
        return self.charged - self.refunded


@dataclass
class Ledger:
    """All entries, oldest first."""

    entries: list[Entry] = field(default_factory=list)

    def open(self, now: float, path: str, body: object, fault: str) -> Entry:
        """Book the arrival of a create. `now` in Unix seconds."""
        fields = body if isinstance(body, dict) else {}
        model, prompt = (_text(fields.get(name)) for name in ("model", "promptText"))
        entry = Entry(iso(now), path, model, prompt, fault)
        self.entries.append(entry)
        return entry

    def totals(self) -> dict[str, int]:
        """Sums over all entries."""
        return {
            "creates": len(self.entries),
            "accepted": sum(entry.task_id is not None for entry in self.entries),
            "charged": sum(entry.charged for entry in self.entries),
            "refunded": sum(entry.refunded for entry in self.entries),
            "cost": sum(entry.cost for entry in self.entries),
            "deleted": sum(entry.deleted for entry in self.entries),
        }

    def usage(self, start: date, before: date) -> dict[str, Any]:
        """`POST /v1/organization/usage`: net credits by day (UTC) and model, on the days from `start` to `before`."""
        spent: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for entry in self.entries:
            day = entry.time.partition("T")[0]
            if entry.task_id and start.isoformat() <= day < before.isoformat():
                spent[day][str(entry.model)] += entry.cost
        results = [
            {"date": day, "usedCredits": [{"model": model, "amount": amount} for model, amount in by_model.items()]}
            for day, by_model in sorted(spent.items())
        ]
        return {"models": sorted({model for by_model in spent.values() for model in by_model}), "results": results}

    def as_json(self) -> dict[str, Any]:
        """Totals and entries, ready for JSON."""
        return {"totals": self.totals(), "entries": [asdict(entry) for entry in self.entries]}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
