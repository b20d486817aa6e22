"""Is it well? In words: what to look at, how bad it is, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.doctor import checks, queue
from service.doctor.checks import Finding, State
from service.settings import ENV_NAMES, Settings
from service.videos import SUBMISSION_UNKNOWN
from service.web.page.words import duration, lane

KINDS = {State.OK: "ok", State.WARNING: "warn", State.BROKEN: "bad"}
TITLES = {"ok": "All is well", "warn": "Worth a look", "bad": "This needs you"}
LANES, CRON = "/ui/lanes", "/ui/cron"
# Where the findings on the queue can be looked at.
WHERE = {
    "oldest queued": "/ui/videos?status=queued",
    "stuck": "/ui/videos?status=processing",
    "unknown": f"/ui/videos?status=failed&error_code={SUBMISSION_UNKNOWN}",
}


@dataclass(frozen=True)
class Concern:
    """One thing to look at: `kind` is warn or bad; `href` is the screen where it can be looked at, or mended."""

    kind: str
    what: str
    found: str
    mend: str
    href: str = ""


@dataclass(frozen=True)
class Wellness:
    """The worst of all concerns, and each of them, the worst first."""

    kind: str
    title: str
    concerns: list[Concern]


def judge(
    settings: Settings,
    report: Mapping[str, Any],
    paused: Sequence[Mapping[str, Any]],
    recent: Sequence[Mapping[str, Any]],
    now: datetime,
) -> Wellness:
    """Of the settings, the report of `store.ticks`, the paused lanes, and the last ticks of `store.checks`."""
    found = [
        *_missing(settings),
        *(_concern(one, CRON) for one in cron(report, recent)),
        *(_concern(one, WHERE.get(one.name, "")) for one in queue.queue(report)),
        *(_paused(row, now) for row in paused),
    ]
    concerns = sorted((one for one in found if one.kind != "ok"), key=lambda one: one.kind != "bad")
    kind = concerns[0].kind if concerns else "ok"
    return Wellness(kind, TITLES[kind], concerns)


def cron(report: Mapping[str, Any], recent: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What the rhythm of the last ticks tells."""
    return queue.cron(recent, sum(report["counts"].get(status, 0) for status in ("queued", "processing")))


def until(paused_until: datetime, now: datetime) -> str:
    """When a paused lane goes on."""
    seconds = (paused_until - now).total_seconds()
    return f"tries again in {duration(seconds)}" if seconds > 0 else "tries again with the next video"


def _missing(settings: Settings) -> Iterator[Concern]:
    for name, (state, means, mend) in checks.WANTED.items():
        if not getattr(settings, name):
            yield Concern(KINDS[state], ENV_NAMES[name], means, mend)


def _concern(finding: Finding, href: str) -> Concern:
    name = finding.name[:1].upper() + finding.name[1:]
    return Concern(KINDS[finding.state], name, finding.found, finding.mend, href)


def _paused(row: Mapping[str, Any], now: datetime) -> Concern:
    state, mend = queue.LANE_MENDS.get(row["reason"], (State.WARNING, ""))
    found = f"{row['reason']}: {row['detail']}; it {until(row['paused_until'], now)}"
    return Concern(KINDS[state], f"Paused, {lane(row['model'])}", found, mend, LANES)
