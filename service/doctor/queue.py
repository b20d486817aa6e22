"""What the queue, the lanes and the ticks tell of an installation's health. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from service.doctor.checks import Finding, State
from service.operations.budget import REASON as DAILY_BUDGET
from service.runway.outcomes import Reason

LATE_SECONDS = 600.0  # a cron by the minute may miss a few; as in /health
MISSED_INTERVALS = 2.5  # a tick is missed when the gap is longer than so many usual ones ...
MISSED_SECONDS = 120.0  # ... and than this: a worker is woken whenever there is work

CALL_IT = (
    "let a cron service call /process-queued every minute with `Authorization: Bearer` and CRON_SECRET, "
    "or run `taxiway worker`"
)
LANE_MENDS = {
    Reason.KEY_REFUSED.value: (State.BROKEN, "set RUNWAYML_API_SECRET to a key that Runway takes"),
    Reason.WRONG_HEADERS.value: (State.BROKEN, "correct RUNWAYML_CUSTOM_HEADERS"),
    Reason.WRONG_ENDPOINT.value: (State.BROKEN, "correct RUNWAYML_BASE_URL"),
    Reason.NO_CREDITS.value: (State.BROKEN, "buy credits at https://dev.runwayml.com"),
    Reason.DAILY_LIMIT.value: (State.WARNING, "wait, or raise the tier at https://dev.runwayml.com"),
    DAILY_BUDGET: (State.WARNING, "wait for the day to turn (UTC), or raise what that setting allows"),
}


def queue(report: Mapping[str, Any]) -> list[Finding]:
    """The report of `store.ticks`: what there is, how long the oldest waits, what is stuck or unknown."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(report["counts"].items())) or "none yet"
    return [
        Finding("queue", "videos", State.OK, counts),
        _oldest(report["oldest_queued_seconds"]),
        _stuck(report["stuck"]),
        _unknown(report["unknown"], report["unknown_credits"]),
    ]


def _oldest(seconds: float | None) -> Finding:
    if seconds is None:
        return Finding("queue", "oldest queued", State.OK, "nothing is due")
    words = f"due for {span(seconds)}"
    if seconds <= LATE_SECONDS:
        return Finding("queue", "oldest queued", State.OK, words)
    mend = "see the cron and the lanes; with both well, more calls, or a longer TICK_BUDGET"
    return Finding("queue", "oldest queued", State.WARNING, words, mend)


def _stuck(count: int) -> Finding:
    if not count:
        return Finding("queue", "stuck", State.OK, "none")
    words = f"function ends with the response: {count} under way that no tick came back to"
    return Finding("queue", "stuck", State.BROKEN, words, CALL_IT)


def _unknown(count: int, credits: float) -> Finding:
    if not count:
        return Finding("queue", "unknown", State.OK, "none")
    words = f"crash between call and save, or an answer that was lost: {count} submissions, at most {credits:g} credits"
    mend = (
        "look for them in Runway's Request History: `taxiway adopt-task VIDEO TASK` if there, "
        "else retry with accept_double_charge; `taxiway audit` lists them"
    )
    return Finding("queue", "unknown", State.WARNING, words, mend)


def lane(row: Mapping[str, Any]) -> Finding:
    """A paused lane: model, reason, detail, paused_until."""
    which = "all lanes" if row["model"] == "*" else row["model"]
    words = f"paused until {row['paused_until'].isoformat(' ', 'seconds')}, {row['reason']}: {row['detail']}"
    state, mend = LANE_MENDS.get(row["reason"], (State.WARNING, ""))
    resume = f"`taxiway resume '{row['model']}'`"
    return Finding("queue", which, state, words, f"{mend}, then {resume}" if mend else resume)


def cron(recent: Sequence[Mapping[str, Any]], under_way: int) -> list[Finding]:
    """The rhythm of the last ticks, newest first; `under_way`: how many videos wait for the next."""
    if not recent:
        words = f"no tick ever ran: {under_way} videos wait"
        if under_way:
            words = f"function ends with the response, and {words}"
        state = State.BROKEN if under_way else State.WARNING
        return [Finding("cron", "last tick", state, words, CALL_IT)]
    gaps = [before["began_seconds_ago"] - after["began_seconds_ago"] for after, before in pairwise(recent)]
    usual = median(gaps) if gaps else None
    return [_last(recent[0], usual), *_rhythm(gaps, usual)]


def _last(tick: Mapping[str, Any], usual: float | None) -> Finding:
    age = tick["began_seconds_ago"]
    words = f"{span(age)} ago ({tick['kind']})"
    if age > max(LATE_SECONDS, MISSED_INTERVALS * (usual or 0)):
        return Finding("cron", "last tick", State.BROKEN, f"the cron has stopped: {words}", CALL_IT)
    if tick["error"]:
        words = f"{words}, and a step failed: {tick['error']}"
        return Finding("cron", "last tick", State.WARNING, words, "see the log of that tick")
    return Finding("cron", "last tick", State.OK, words)


def _rhythm(gaps: Sequence[float], usual: float | None) -> list[Finding]:
    if usual is None:
        return []
    slow = usual > LATE_SECONDS
    words, mend = f"every {span(usual)}", "let it call every minute: a video waits that long" if slow else ""
    found = [Finding("cron", "interval", State.WARNING if slow else State.OK, words, mend)]
    longest = max(MISSED_SECONDS, MISSED_INTERVALS * usual)
    missed = sum(round(gap / max(usual, MISSED_SECONDS / MISSED_INTERVALS)) - 1 for gap in gaps if gap > longest)
    if not missed:
        return [*found, Finding("cron", "missed", State.OK, f"none of the last {len(gaps) + 1}")]
    words, mend = f"about {missed}, among the last {len(gaps) + 1}", "look into the cron service's own log"
    return [*found, Finding("cron", "missed", State.WARNING, words, mend)]


def span(seconds: float) -> str:
    """A time as people say it."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
