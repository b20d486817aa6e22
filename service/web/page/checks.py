"""Is it well? What is not, how bad it is, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.doctor import checks, queue
from service.doctor.checks import Check, CheckStatus
from service.settings import ENV_NAMES, Settings
from service.videos import SUBMISSION_UNKNOWN
from service.web.page.formats import duration, model_name

KINDS = {CheckStatus.OK: "ok", CheckStatus.WARNING: "warn", CheckStatus.ERROR: "bad"}
TITLES = {"ok": "All is well", "warn": "Worth a look", "bad": "This needs you"}
MODELS, TICKS = "/ui/models", "/ui/ticks"
# The screens that show what a check of the queue is about.
WHERE = {
    "oldest queued": "/ui/videos?status=queued",
    "stuck": "/ui/videos?status=processing",
    "unknown": f"/ui/videos?status=failed&error_code={SUBMISSION_UNKNOWN}",
}


@dataclass(frozen=True)
class CheckView:
    """A check that is not ok: `kind` is warn or bad; `href` is the screen that shows it."""

    kind: str
    name: str
    message: str
    fix: str
    href: str = ""


@dataclass(frozen=True)
class CheckSummary:
    """The worst of all checks that are not ok, and each of them, the worst first."""

    kind: str
    title: str
    checks: list[CheckView]


def summary(
    settings: Settings,
    report: Mapping[str, Any],
    paused: Sequence[Mapping[str, Any]],
    recent: Sequence[Mapping[str, Any]],
    now: datetime,
) -> CheckSummary:
    """Of the settings, the report of `store.ticks`, the paused models, and the last ticks of `store.doctor_queries`."""
    found = [
        *_missing(settings),
        *(_view(one, TICKS) for one in cron(report, recent)),
        *(_view(one, WHERE.get(one.name, "")) for one in queue.queue(report)),
        *(_paused(row, now) for row in paused),
    ]
    ranked = sorted((one for one in found if one.kind != "ok"), key=lambda one: one.kind != "bad")
    kind = ranked[0].kind if ranked else "ok"
    return CheckSummary(kind, TITLES[kind], ranked)


def cron(report: Mapping[str, Any], recent: Sequence[Mapping[str, Any]]) -> list[Check]:
    """The checks of the last ticks and their rhythm."""
    return queue.cron(recent, sum(report["counts"].get(status, 0) for status in ("queued", "processing")))


def until(paused_until: datetime | None, now: datetime) -> str:
    """When a paused model goes on; None: when an operator says so."""
    if paused_until is None:
        return "goes on when you resume it"
    seconds = (paused_until - now).total_seconds()
    return f"tries again in {duration(seconds)}" if seconds > 0 else "tries again with the next video"


def _missing(settings: Settings) -> Iterator[CheckView]:
    for name, (status, means, fix) in checks.WANTED.items():
        if not getattr(settings, name):
            yield CheckView(KINDS[status], ENV_NAMES[name], means, fix)


def _view(check: Check, href: str) -> CheckView:
    name = check.name[:1].upper() + check.name[1:]
    return CheckView(KINDS[check.status], name, check.message, check.fix, href)


def _paused(row: Mapping[str, Any], now: datetime) -> CheckView:
    status, fix = queue.MODEL_FIXES.get(row["reason"], (CheckStatus.WARNING, ""))
    found = f"{row['reason']}: {row['detail']}; it {until(row['paused_until'], now)}"
    return CheckView(KINDS[status], f"Paused, {model_name(row['model'])}", found, fix, MODELS)
