"""What `GET /v1/organization` says of the account behind the key, in whatever shape it comes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def summary(organization: Mapping[str, Any]) -> dict[str, Any]:
    """Credits left, and for each model of the tier: `at_once`, `a_day`, `made_today`. None: no limit, or unreadable."""
    limits, usage = part(organization, "tier", "models"), part(organization, "usage", "models")
    return {
        "credits": _number(organization.get("creditBalance")),
        "models": {
            model: {
                "at_once": _number(part(limits, model).get("maxConcurrentGenerations")),
                "a_day": _number(part(limits, model).get("maxDailyGenerations")),
                "made_today": _number(part(usage, model).get("dailyGenerations", Decimal(0))),
            }
            for model in sorted(limits)
        },
    }


def part(facts: Any, *path: str) -> dict[str, Any]:
    """A part of an answer that may have any shape; empty if it is not there."""
    for key in path:
        facts = facts.get(key) if isinstance(facts, Mapping) else None
    return dict(facts) if isinstance(facts, Mapping) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, Decimal) and value.is_finite() else None
