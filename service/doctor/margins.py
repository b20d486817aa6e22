"""The checks of what may run out, credits and the day's budget, and of how many videos fail. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from service.doctor import checks
from service.doctor.checks import Check, CheckStatus
from service.settings import Settings
from service.store.alerts import Margins

LEAST_FAILED, FAILED_SHARE = 5, 0.5  # in an hour, of what ended: less is bad luck
BUDGET_SHARE = Decimal("0.8")


def failures(seen: Margins) -> list[Check]:
    """Whether most of what ended within an hour has failed; what moderation refused is apart."""
    words = f"{seen.failed} of {seen.ended} that ended in the last hour"
    if seen.failed < LEAST_FAILED or seen.failed < FAILED_SHARE * seen.ended:
        return [Check("queue", "failure rate", CheckStatus.OK, words)]
    fix = "see why with `taxiway videos --status failed`; then `taxiway retry --status failed`"
    return [Check("queue", "failure rate", CheckStatus.WARNING, f"videos fail: {words}", fix)]


def credits(settings: Settings, seen: Margins) -> list[Check]:
    """Whether Runway's credits are fewer than ALERT_CREDITS_UNDER, by what it said last."""
    if settings.alert_credits_under is None or seen.credits is None:
        return []
    return [checks.credits(seen.credits, settings.alert_credits_under)]


def budgets(settings: Settings, spent: Mapping[str, Decimal]) -> Iterator[Check]:
    """Each of the day's budgets: whether most of it is used. `spent`: today's credits by model."""
    if (most := settings.max_credits_per_day) is not None:
        yield _budget("MAX_CREDITS_PER_DAY", sum(spent.values(), Decimal(0)), most)
    for model, most in settings.max_credits_per_day_by_model.items():
        yield _budget(f"MAX_CREDITS_PER_DAY_BY_MODEL, {model}", spent.get(model, Decimal(0)), most)


def _budget(name: str, used: Decimal, most: Decimal) -> Check:
    words = f"{used / most:.0%} used: {used.normalize():f} of {most.normalize():f} credits (${most / 100:,.2f})"
    if used < BUDGET_SHARE * most:
        return Check("budget", name, CheckStatus.OK, words)
    fix = "raise it, if today needs more: what has no room waits for the day to turn (UTC)"
    return Check("budget", name, CheckStatus.WARNING, words, fix)
