"""Is it well? What is not, how bad it is, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.doctor import checks, links, queue
from service.doctor.checks import Check, CheckStatus
from service.settings import ENV_NAMES, Settings
from service.store.circuit import REASON as CIRCUIT
from service.store.link_queries import Troubled
from service.videos import SUBMISSION_UNKNOWN
from service.web.page.formats import duration, model_name

KINDS = {CheckStatus.OK: "ok", CheckStatus.WARNING: "warn", CheckStatus.ERROR: "bad"}
TITLES = {"ok": "All is well", "warn": "Worth a look", "bad": "This needs you"}
# The screens that show what a check is about, by its area or its name.
SCREENS = {
    "cron": "/ui/ticks",
    "models": "/ui/models",
    "oldest queued": "/ui/videos?status=queued",
    "stuck": "/ui/videos?status=processing",
    "unknown": f"/ui/videos?status=failed&error_code={SUBMISSION_UNKNOWN}",
}


@dataclass(frozen=True)
class Summary:
    """The checks that are not ok, the worst first, under the title and in the colour (`kind`) of the worst."""

    kind: str
    title: str
    checks: list[Check]


def summary(
    settings: Settings,
    report: Mapping[str, Any],
    paused: Sequence[Mapping[str, Any]],
    recent: Sequence[Mapping[str, Any]],
    linked: Sequence[Troubled],
    now: datetime,
) -> Summary:
    """Of the settings, the report of `store.ticks`, the paused models, the last ticks and the linked tables."""
    found = [
        *_missing(settings),
        *cron(report, recent),
        *queue.queue(report),
        *(_paused(row, now) for row in paused),
        *links.troubles(linked, now.timestamp()),
    ]
    problems = [check for check in found if check.status is not CheckStatus.OK]
    ranked = sorted(problems, key=lambda check: check.status is not CheckStatus.ERROR)
    kind = KINDS[ranked[0].status if ranked else CheckStatus.OK]
    return Summary(kind, TITLES[kind], ranked)


def screen_of(check: Check) -> str:
    """The path of the screen that shows what this check is about; empty if none does."""
    return SCREENS.get(check.area) or SCREENS.get(check.name, "")


def cron(report: Mapping[str, Any], recent: Sequence[Mapping[str, Any]]) -> list[Check]:
    """The checks of the last ticks and their rhythm."""
    return queue.cron(recent, sum(report["counts"].get(status, 0) for status in ("queued", "processing")))


def until(paused_until: datetime | None, now: datetime) -> str:
    """When a paused model goes on; None: when an operator says so."""
    if paused_until is None:
        return "goes on when you resume it"
    seconds = (paused_until - now).total_seconds()
    return f"tries again in {duration(seconds)}" if seconds > 0 else "tries again with the next video"


def _missing(settings: Settings) -> Iterator[Check]:
    for name, (status, means, fix) in checks.WANTED.items():
        if not getattr(settings, name):
            yield Check("settings", ENV_NAMES[name], status, means, fix)


def _paused(row: Mapping[str, Any], now: datetime) -> Check:
    status, fix = queue.MODEL_FIXES.get(row["reason"], (CheckStatus.WARNING, ""))
    found = f"{row['reason']}: {row['detail']}; it {until(row['paused_until'], now)}"
    if row["reason"] == CIRCUIT:
        then = f"until {row['paused_until']:%H:%M:%S} UTC"
        found = queue.lost_answers(model_name(row["model"]), row["detail"] or "", then)
    return Check("models", f"paused, {model_name(row['model'])}", status, found, fix)
