"""The checks of the queue, the models and the ticks, out of what the database reports. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from service.doctor.checks import Check, CheckStatus
from service.operations.budget import REASON as DAILY_BUDGET
from service.operations.rhythm import late_after, span, usual
from service.runway.outcomes import Reason
from service.store.circuit_state import IN_A_ROW
from service.store.circuit_state import REASON as CIRCUIT
from service.store.driver_errors import condition
from service.store.identity import REASON as RESTORED

LATE_SECONDS = 600.0  # a video that is due for longer waits too long
MANY_MODERATED = 3  # in an hour
MISSED_INTERVALS = 2.5  # a tick is missed when the gap is longer than so many usual ones ...
MISSED_SECONDS = 120.0  # ... and than this: a worker is woken whenever there is work

CALL_IT = (
    "let a cron service call /process-queued every minute with `Authorization: Bearer` and CRON_SECRET, "
    "or run `taxiway worker`"
)
MODEL_FIXES = {
    Reason.KEY_REFUSED.value: (CheckStatus.ERROR, "set RUNWAYML_API_SECRET to a key that Runway takes"),
    Reason.WRONG_HEADERS.value: (CheckStatus.ERROR, "correct RUNWAYML_CUSTOM_HEADERS"),
    Reason.WRONG_ENDPOINT.value: (CheckStatus.ERROR, "correct RUNWAYML_BASE_URL"),
    Reason.NOT_RUNWAY.value: (
        CheckStatus.ERROR,
        "let the gateway or firewall between this service and RUNWAYML_BASE_URL pass its requests",
    ),
    Reason.NO_CREDITS.value: (CheckStatus.ERROR, "buy credits at https://dev.runwayml.com"),
    Reason.DAILY_LIMIT.value: (CheckStatus.WARNING, "wait, or raise the tier at https://dev.runwayml.com"),
    CIRCUIT: (CheckStatus.WARNING, "nothing to do, unless Runway's status page says otherwise"),
    RESTORED: (CheckStatus.ERROR, "find out what was sent since, and whether the original still runs"),
    DAILY_BUDGET: (CheckStatus.WARNING, "wait for the day to turn (UTC), or raise what that setting allows"),
}


def queue(report: Mapping[str, Any]) -> list[Check]:
    """The report of `store.ticks`: what there is, how long the oldest waits, what is stuck or unknown."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(report["counts"].items())) or "none yet"
    return [
        Check("queue", "videos", CheckStatus.OK, counts),
        _oldest(report["oldest_queued_seconds"]),
        _stuck(report["stuck"]),
        _unknown(report["unknown"], report["unknown_credits"]),
        _moderated(report["moderated"]),
    ]


def _oldest(seconds: float | None) -> Check:
    if seconds is None:
        return Check("queue", "oldest queued", CheckStatus.OK, "nothing is due")
    words = f"due for {span(seconds)}"
    if seconds <= LATE_SECONDS:
        return Check("queue", "oldest queued", CheckStatus.OK, words)
    fix = "see the cron and the models; with both well, more calls, or a longer TICK_BUDGET"
    return Check("queue", "oldest queued", CheckStatus.WARNING, words, fix)


def _stuck(count: int) -> Check:
    if not count:
        return Check("queue", "stuck", CheckStatus.OK, "none")
    words = f"function ends with the response: {count} under way that no tick came back to"
    return Check("queue", "stuck", CheckStatus.ERROR, words, CALL_IT)


def refused_rows(newest: Mapping[str, Any] | None) -> Check:
    """Rows that PostgreSQL refused to write within a day: the newest of them, and `rows`, how many."""
    if newest is None:
        return Check("queue", "refused rows", CheckStatus.OK, "none within a day")
    detail = newest["detail"]
    whose = f"video {newest['video_id']}" if newest["video_id"] else f"row {detail['key']}"
    words = (
        f"{newest['rows']} within a day; the last: {whose}, in {newest['actor']} ({detail['statement']}), "
        f"{detail['sqlstate']}: {condition(detail['sqlstate'])}; the log has its words"
    )
    fix = "remove the trigger or constraint on the schema taxiway that refuses it; it is tried again, for a day"
    if "link" in detail:
        words += f" ({detail['link']})"
        fix = "correct that row of the linked table, and set it to queued again: its video has failed, unpaid"
    return Check("queue", "refused rows", CheckStatus.WARNING, words, fix)


def _unknown(count: int, credits: float) -> Check:
    if not count:
        return Check("queue", "unknown", CheckStatus.OK, "none")
    videos, them = ("1 video", "it") if count == 1 else (f"{count} videos", "them")
    most = f"up to {credits:g} credits, ${credits / 100:,.2f}"
    words = (
        f"{videos} may have been charged ({most}): Runway's answer was lost, as by a crash between call and save, or "
        f"its task vanished, so we don't know whether it started {them}"
    )
    fix = (
        "run `taxiway audit`, and look for each video in Runway's Request History: if it is there, run "
        "`taxiway attach VIDEO TASK`; else `taxiway retry VIDEO --accept-double-charge`"
    )
    return Check("queue", "unknown", CheckStatus.WARNING, words, fix)


def lost_answers(which: str, detail: str, then: str) -> str:
    """Why the circuit paused a model, and what follows. `then`: until when, in words."""
    cause = detail.partition("the last: ")[2]
    return (
        f"Runway's answers to creates were lost {IN_A_ROW} times in a row ({cause}), so {which} is paused {then}; "
        "one video is tried then"
    )


def _moderated(count: int) -> Check:
    words = f"{count} in the last hour" if count else "none in the last hour"
    if count < MANY_MODERATED:
        return Check("queue", "moderated", CheckStatus.OK, words)
    words = f"Runway's moderation refused {count} videos in the last hour, and suspends accounts for repeated ones"
    fix = "find out whose they are with `taxiway videos --status failed`, and check prompts before they are queued"
    return Check("queue", "moderated", CheckStatus.WARNING, words, fix)


def goes_on(paused_until: datetime | None, now: float) -> str:
    """When a paused model goes on; None: when an operator says so. `now`: seconds since 1970."""
    if paused_until is None:
        return "goes on when you resume it"
    seconds = paused_until.timestamp() - now
    return f"tries again in {span(seconds)}" if seconds > 0 else "tries again with the next video"


def paused_model(row: Mapping[str, Any], now: float) -> Check:
    """A paused model: model, reason, detail, paused_until. `now`: seconds since 1970."""
    which = "all models" if row["model"] == "all" else row["model"]
    status, fix = MODEL_FIXES.get(row["reason"], (CheckStatus.WARNING, ""))
    if row["reason"] == CIRCUIT:
        until = f"until {row['paused_until']:%H:%M:%S} UTC"
        return Check("models", f"paused, {which}", status, lost_answers(which, row["detail"] or "", until), fix)
    words = f"{row['reason']}: {row['detail']}; it {goes_on(row['paused_until'], now)}"
    resume = f"`taxiway resume {row['model']}`"
    return Check("models", f"paused, {which}", status, words, f"{fix}, then {resume}" if fix else resume)


def cron(recent: Sequence[Mapping[str, Any]], under_way: int) -> list[Check]:
    """The rhythm of the last ticks, newest first; `under_way`: how many videos wait for the next."""
    if not recent:
        words = f"no tick ever ran: {under_way} videos wait"
        if under_way:
            words = f"function ends with the response, and {words}"
        status = CheckStatus.ERROR if under_way else CheckStatus.WARNING
        return [Check("cron", "last tick", status, words, CALL_IT)]
    ages = [tick["began_seconds_ago"] for tick in recent]
    interval = usual(ages)
    return [_last(recent[0], interval), *_rhythm([before - after for after, before in pairwise(ages)], interval)]


def _last(tick: Mapping[str, Any], interval: float | None) -> Check:
    age = tick["began_seconds_ago"]
    words = f"{span(age)} ago ({tick['kind']})"
    if age > late_after(interval):
        return Check("cron", "last tick", CheckStatus.ERROR, f"the cron has stopped: {words}", CALL_IT)
    if tick["error"]:
        words = f"{words}, and a step failed: {tick['error']}"
        return Check("cron", "last tick", CheckStatus.WARNING, words, "see the log of that tick")
    return Check("cron", "last tick", CheckStatus.OK, words)


def _rhythm(gaps: Sequence[float], interval: float | None) -> list[Check]:
    if interval is None:
        return []
    slow = interval > LATE_SECONDS
    words, fix = f"every {span(interval)}", "let it call every minute: a video waits that long" if slow else ""
    found = [Check("cron", "interval", CheckStatus.WARNING if slow else CheckStatus.OK, words, fix)]
    longest = max(MISSED_SECONDS, MISSED_INTERVALS * interval)
    missed = sum(round(gap / max(interval, MISSED_SECONDS / MISSED_INTERVALS)) - 1 for gap in gaps if gap > longest)
    if not missed:
        return [*found, Check("cron", "missed", CheckStatus.OK, f"none of the last {len(gaps) + 1}")]
    words, fix = f"about {missed}, among the last {len(gaps) + 1}", "look into the cron service's own log"
    return [*found, Check("cron", "missed", CheckStatus.WARNING, words, fix)]
