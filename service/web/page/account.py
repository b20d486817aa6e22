"""What Runway says of the account: credits left, and each model's limits. It is asked inside the request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from service.doctor import checks
from service.doctor.checks import Finding, State
from service.errors import RunwayAway
from service.house import House

PATIENCE_SECONDS = 8.0


@dataclass(frozen=True)
class Limit:
    """What the tier allows for one model; None is no limit. `made`: how many were made today."""

    at_once: int | None
    daily: int | None
    made: int


@dataclass(frozen=True)
class Account:
    """`credits` is None, with the reason among `findings`, if Runway could not be asked."""

    credits: Decimal | None
    limits: dict[str, Limit] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


async def ask(house: House) -> Account:
    """The account, and what is not well with it. Raises nothing."""
    if not house.settings.runway_key:
        _, means, mend = checks.WANTED["runway_key"]
        return Account(None, findings=[Finding("Runway", "RUNWAYML_API_SECRET", State.BROKEN, means, mend)])
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), house.runway() as runway:
            seen = await runway.organization()
    except TimeoutError:
        words = f"Runway did not answer within {PATIENCE_SECONDS:g} s"
        return Account(None, findings=[Finding("Runway", "endpoint", State.WARNING, words)])
    except RunwayAway as exc:
        return Account(None, findings=_not_well(checks.no_account(house.settings, exc)))
    limits = {
        model: Limit(_whole(one.at_once), _whole(one.a_day), _whole(one.made_today) or 0)
        for model, one in seen.models.items()
    }
    return Account(seen.credits, limits, _not_well(checks.account(house.settings, seen)))


def _not_well(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.state is not State.OK and not one.found.startswith("not checked")]


def _whole(value: Decimal | None) -> int | None:
    return None if value is None else int(value)
