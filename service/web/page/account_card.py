"""What Runway says of the account: credits left, and each model's limits. It is asked inside the request."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from service.context import Context
from service.doctor import checks
from service.doctor.checks import Check, CheckStatus
from service.errors import RunwayUnavailable
from service.operations import accounting


@dataclass(frozen=True)
class Limit:
    """What the tier allows for one model; None is no limit. `made`: how many were made today."""

    at_once: int | None
    daily: int | None
    made: int


@dataclass(frozen=True)
class Account:
    """`credits` is None, with the reason among `checks`, if Runway could not be asked."""

    credits: Decimal | None
    limits: dict[str, Limit] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)


async def ask(ctx: Context) -> Account:
    """The account, and what is not well with it. Raises nothing."""
    if not ctx.settings.runway_key:
        _, means, fix = checks.WANTED["runway_key"]
        return Account(None, checks=[Check("Runway", "RUNWAYML_API_SECRET", CheckStatus.ERROR, means, fix)])
    try:
        seen = await accounting.ask(ctx)
    except RunwayUnavailable as exc:
        return Account(None, checks=_not_well(checks.no_account(ctx.settings, exc)))
    limits = {
        model: Limit(_whole(one.at_once), _whole(one.a_day), _whole(one.made_today) or 0)
        for model, one in seen.models.items()
    }
    return Account(seen.credits, limits, _not_well(checks.account(ctx.settings, seen)))


def _not_well(checks: list[Check]) -> list[Check]:
    return [one for one in checks if one.status is not CheckStatus.OK and not one.message.startswith("not checked")]


def _whole(value: Decimal | None) -> int | None:
    return None if value is None else int(value)
