"""Is it well? What is not, how bad it is, and what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from service.doctor import at_work
from service.doctor.at_work import Facts
from service.doctor.checks import Check, CheckStatus
from service.settings import Settings
from service.videos import FailureCode

KINDS = {CheckStatus.OK: "ok", CheckStatus.WARNING: "warn", CheckStatus.ERROR: "bad"}
TITLES = {"ok": "All is well", "warn": "Worth a look", "bad": "This needs you"}
# The screens that show what a check is about, by its area or its name.
SCREENS = {
    "cron": "/ui/ticks",
    "models": "/ui/models",
    "webhooks": "/ui/webhooks",
    "oldest queued": "/ui/videos?status=queued",
    "stuck": "/ui/videos?status=processing",
    "unknown": f"/ui/videos?status=failed&error_code={FailureCode.SUBMISSION_UNKNOWN}",
}


@dataclass(frozen=True)
class Summary:
    """The checks that are not ok, the worst first, under the title and in the colour (`kind`) of the worst."""

    kind: str
    title: str
    checks: list[Check]


def summary(settings: Settings, seen: Facts, now: datetime) -> Summary:
    """The same checks as /health, doctor and `taxiway status`."""
    found = at_work.problems(at_work.checks(settings, seen, now.timestamp()))
    kind = KINDS[found[0].status if found else CheckStatus.OK]
    return Summary(kind, TITLES[kind], found)


def screen_of(check: Check) -> str:
    """The path of the screen that shows what this check is about; empty if none does."""
    return SCREENS.get(check.area) or SCREENS.get(check.name, "")
