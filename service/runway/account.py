"""What `GET /v1/organization` says of the account behind the key, in whatever shape it comes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from service.response_parsing import storable

LARGEST_NUMBER = 10**9  # what is beyond it is garbage
LONGEST_NAME = 200  # characters of a model's name

Number = Annotated[Decimal, PlainSerializer(float, when_used="json")]


class Limits(BaseModel):
    """What the account's tier allows for one model, and how many were made today.

    None: there is no limit, or it cannot be read; `unreadable` names the fields of the latter kind.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    at_once: Number | None = None
    a_day: Number | None = None
    made_today: Number | None = None
    unreadable: frozenset[str] = Field(frozenset(), exclude=True)

    @classmethod
    def of(cls, limits: Mapping[str, Any], used: Mapping[str, Any]) -> Limits:
        """From one model's part of `tier`, and of `usage`."""
        given = {
            "at_once": limits.get("maxConcurrentGenerations"),
            "a_day": limits.get("maxDailyGenerations"),
            "made_today": used.get("dailyGenerations", Decimal(0)),
        }
        read = {name: _number(value) for name, value in given.items()}
        unreadable = frozenset(name for name, value in given.items() if value is not None and read[name] is None)
        return cls(**read, unreadable=unreadable)


class Account(BaseModel):
    """Credits left, None if Runway's number cannot be read; and the limits of each model that the tier names."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    credits: Number | None = None
    models: dict[str, Limits] = Field(default_factory=dict)

    @classmethod
    def of(cls, organization: Mapping[str, Any]) -> Account:
        """From Runway's answer, its numbers as Decimal."""
        limits, usage = _part(organization, "tier", "models"), _part(organization, "usage", "models")
        models = {
            storable(model, LONGEST_NAME): Limits.of(named, _part(usage, model))
            for model in sorted(limits)
            if (named := _part(limits, model))
        }
        left = organization.get("creditBalance")
        return cls(credits=left if isinstance(left, Decimal) and abs(left) < LARGEST_NUMBER else None, models=models)


def _part(facts: Any, *path: str) -> dict[str, Any]:
    """A part of an answer that may have any shape; empty if it is not there."""
    for key in path:
        facts = facts.get(key) if isinstance(facts, Mapping) else None
    return dict(facts) if isinstance(facts, Mapping) else {}


def _number(value: object) -> Decimal | None:
    return value if isinstance(value, Decimal) and 0 <= value < LARGEST_NUMBER else None
