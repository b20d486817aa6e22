"""Figures: values by round and contender, their medians and spreads, ratios within a round, and bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from typing import Any

Values = dict[str, float]
Rounds = list[dict[str, Values]]  # by round, then by contender, then by figure


@dataclass(frozen=True)
class Figure:
    """A column: the key in the values, its head with the unit, and its digits."""

    key: str
    head: str
    digits: int = 0


@dataclass(frozen=True)
class Bar:
    """What a figure must reach. `value` None: it could not be measured here."""

    words: str
    value: float | None
    limit: float
    at_least: bool

    @property
    def holds(self) -> bool | None:
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        verdict = {True: "holds", False: "DOES NOT HOLD", None: "not measured"}[self.holds]
        measured = "" if self.value is None else f"{self.value:.3g} "
        return f"{self.words}: {measured}({sign} {self.limit:g}) {verdict}"


@dataclass
class Measured:
    """The result of one measure."""

    name: str
    title: str
    figures: Sequence[Figure]
    rounds: Rounds
    bars: list[Bar] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    plot: str | None = None  # the figure that is worth a picture

    @property
    def names(self) -> list[str]:
        """The contenders, as the first round of them has them."""
        return sorted({name for one in self.rounds for name in one}, key=_order(self.rounds))

    def values(self, name: str, key: str) -> list[float]:
        """One figure of one contender, by round."""
        return [one[name][key] for one in self.rounds if name in one and key in one[name]]

    def ratios(self, key: str, name: str, other: str) -> list[float]:
        """One to the other, within each round."""
        pairs = [(one.get(name, {}).get(key), one.get(other, {}).get(key)) for one in self.rounds]
        return [a / b for a, b in pairs if a is not None and b]

    def ratio(self, key: str, name: str, other: str) -> float | None:
        """The median of those."""
        found = self.ratios(key, name, other)
        return median(found) if found else None

    def middle(self, name: str, key: str) -> float | None:
        """The median of a figure."""
        found = self.values(name, key)
        return median(found) if found else None

    def bar(self, words: str, value: float | None, *, least: float | None = None, most: float | None = None) -> None:
        """Add a bar: the value must be at least, or at most."""
        limit = least if least is not None else most
        assert limit is not None
        self.bars.append(Bar(words, value, limit, least is not None))

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "plot": self.plot,
            "heads": {figure.key: figure.head for figure in self.figures},
            "rounds": self.rounds,
            "medians": {n: {f.key: self.middle(n, f.key) for f in self.figures} for n in self.names},
            "bars": [vars(bar) | {"holds": bar.holds} for bar in self.bars],
            "notes": self.notes,
            "missing": self.missing,
        }

    def text(self) -> str:
        """A table for a terminal: medians, with the least and the most of all rounds."""
        lines = [self.title]
        width = max((len(name) for name in self.names), default=0)
        for name in self.names:
            cells = [f"{f.head} {self.cell(name, f)}" for f in self.figures if self.values(name, f.key)]
            lines.append(f"  {name:<{width}}  " + "   ".join(cells))
        lines += [f"  {name}: missing, {why}" for name, why in self.missing.items()]
        lines += [f"  - {bar}" for bar in self.bars] + [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def cell(self, name: str, figure: Figure) -> str:
        """`median (least to most)`."""
        values = self.values(name, figure.key)
        if not values:
            return ""
        one = f"{median(values):,.{figure.digits}f}"
        if len(values) == 1:
            return one
        return f"{one} ({min(values):,.{figure.digits}f} to {max(values):,.{figure.digits}f})"


def _order(rounds: Rounds) -> Any:
    names = list(dict.fromkeys(name for one in rounds[:1] for name in one))
    return lambda name: names.index(name) if name in names else len(names)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank: 0.99 of a hundred values is the 99th."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
