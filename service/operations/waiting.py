"""Why a video waits: for every queued one, and for one that Runway has accepted and not started.

The API, the page and the command line show the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg

from service.context import Context
from service.operations import rhythm
from service.operations.budget import REASON as DAILY_BUDGET
from service.operations.budget import per_user
from service.store import waiting_facts
from service.videos import Status, Video

MEANWHILE = "Until then, a GET of the video through the API sends it in its turn."
NOT_STARTED = ("PENDING", "THROTTLED")  # Runway's words for a task that it has accepted and not begun


class Reason(StrEnum):
    """What a video waits for."""

    ALL_PAUSED = "all_paused"
    MODEL_PAUSED = "model_paused"
    BUDGET = "budget"  # the day's credits are used up
    RUN_AFTER = "run_after"  # its own time: asked for, or the pause after an attempt
    NO_TICK = "no_tick"  # nothing calls: a cron has stopped, or no worker runs
    EARLIER_SUBMISSION = "earlier_submission"  # which may still turn out to have made its task
    USER_SLOTS = "user_slots"  # its user has as many at Runway as he may have
    USER_BUDGET = "user_budget"  # its user's credits of the day are used up
    SLOTS = "slots"
    NEXT_TICK = "next_tick"
    RUNWAY_SLOT = "runway_slot"  # it is at Runway, which works on so many at once


@dataclass(frozen=True)
class Waiting:
    """What a video waits for, in a word and in a sentence.

    `until`: when it goes on, if that is known. `ahead`: how many videos of its model are sent before it, at most
    `waiting_facts.MOST_AHEAD`; None for what is not due, or at Runway. `starts_in`, `ends_in`: seconds until it
    probably begins and is done, as the last hour of its model went; None while that is not known.
    """

    reason: Reason
    detail: str
    until: datetime | None = None
    ahead: int | None = None
    starts_in: float | None = None
    ends_in: float | None = None


def waits(video: Video) -> bool:
    """Whether a video waits for anything but its own task's end."""
    if video.status is Status.QUEUED:
        return True
    return video.status is Status.PROCESSING and video.task_status in NOT_STARTED and bool(video.runway_video_id)


async def waiting(ctx: Context, videos: Sequence[Video]) -> dict[UUID, Waiting]:
    """Why each of these waits, by its id; what does not wait is left out. One statement, or none.

    Callers that ask about one video at the same moment share it.
    """
    those = {video.id: video for video in videos if waits(video)}
    if not those:
        return {}

    async def ask(ids: Sequence[UUID]) -> list[asyncpg.Record | None]:
        found = {row["id"]: row for row in await waiting_facts.facts(ctx.database, ids, per_user(ctx))}
        return [found.get(id) for id in ids]

    rows = await ask(list(those)) if len(those) > 1 else [await ctx.asked_why.ask(next(iter(those)), ask)]
    return {row["id"]: why(those[row["id"]], row) for row in rows if row is not None}


def why(video: Video, facts: asyncpg.Record) -> Waiting:
    """What stands in the way first. `facts`: a row of `waiting_facts.waiting.facts`."""
    if video.status is Status.PROCESSING:
        at_once = f" ({facts['at_once']:.0f} at once)" if facts["at_once"] is not None else ""
        return Waiting(Reason.RUNWAY_SLOT, f"Accepted by Runway, waiting for a free slot{at_once}.")
    stands = _paused(video, facts) or _own_time(video, facts) or _no_tick(facts) or _user(facts) or _turn(video, facts)
    return _estimated(stands, facts)


def _estimated(stands: Waiting, facts: asyncpg.Record) -> Waiting:
    """With the seconds until it begins and is done, if its place and the pace of its model say so."""
    seconds, gap, at_once, ahead = facts["seconds"], facts["gap"], facts["at_once"], stands.ahead
    if stands.reason not in (Reason.SLOTS, Reason.NEXT_TICK) or seconds is None or ahead is None:
        return stands
    if at_once:
        before, gap = max(0, ahead + facts["running"] + 1 - int(at_once)), seconds / float(at_once)
    else:
        before = ahead
    if gap is None or ahead >= waiting_facts.MOST_AHEAD:
        return stands
    starts_in = float(before * gap)
    return replace(stands, starts_in=round(starts_in, 1), ends_in=round(starts_in + seconds, 1))


def _paused(video: Video, facts: asyncpg.Record) -> Waiting | None:
    """A pause that lasts longer than the video's own time; one that is over waits for a tick, as the rest does."""
    which, prefix, reason = "All models are", "all_", Reason.ALL_PAUSED
    if facts["all_reason"] is None:
        which, prefix, reason = f"{video.model} is", "", Reason.MODEL_PAUSED
    if facts[f"{prefix}reason"] is None:
        return None
    until: datetime | None = facts[f"{prefix}paused_until"]
    if until is not None and until <= max(facts["at"], video.run_after):
        if video.run_after > facts["at"] or _no_tick(facts):
            return None
        until = None
        then = "; one video is tried with the next tick"
    else:
        then = "" if until is not None else "; it goes on when you resume it"
    word, words = facts[f"{prefix}reason"], (facts[f"{prefix}detail"] or "").rstrip(".")
    if word == DAILY_BUDGET:
        return Waiting(Reason.BUDGET, f"The day's budget is used up: {words}{then}.", until, facts["ahead"])
    return Waiting(reason, f"{which} paused ({word}): {words}{then}.", until, facts["ahead"])


def _own_time(video: Video, facts: asyncpg.Record) -> Waiting | None:
    if video.run_after <= facts["at"]:
        return None
    words = "It was asked to be sent later."
    if video.error_message:
        words = f"It is tried again after a pause: {video.error_message.rstrip('.')}."
    return Waiting(Reason.RUN_AFTER, words, video.run_after)


def _no_tick(facts: asyncpg.Record) -> Waiting | None:
    age, interval = facts["tick_age"], facts["tick_rhythm"]
    if age is None:
        words = f"No tick has run yet: start `taxiway worker`, or let a cron service call /process-queued. {MEANWHILE}"
    elif age > rhythm.late_after(interval):
        usually = f" (usually every {rhythm.span(interval)})" if interval else ""
        words = f"No tick for {rhythm.span(age)}{usually}: start the cron service or the worker again. {MEANWHILE}"
    else:
        return None
    return Waiting(Reason.NO_TICK, words, ahead=facts["ahead"])


def _user(facts: asyncpg.Record) -> Waiting | None:
    """What its user lacks; others' videos go before it until then."""
    if facts["user_has_no_credits"]:
        words = "Its user's credits of today are used up (MAX_CREDITS_PER_DAY_PER_USER): it is sent tomorrow (UTC)."
        return Waiting(Reason.USER_BUDGET, words, facts["day_ends_at"])
    if facts["user_has_no_slot"]:
        words = (
            f"Its user has {facts['user_in_flight']} videos at Runway (MAX_IN_FLIGHT_PER_USER): it is sent after them."
        )
        return Waiting(Reason.USER_SLOTS, words)
    return None


def _turn(video: Video, facts: asyncpg.Record) -> Waiting:
    ahead, allowed, busy = facts["ahead"], facts["allowed"], facts["busy"]
    if facts["is_blocked"]:
        return Waiting(Reason.EARLIER_SUBMISSION, "An earlier submission of this video is not settled yet.")
    if ahead is not None and allowed is not None and ahead >= allowed - busy:
        many = f"{ahead:,} or more videos" if ahead >= waiting_facts.MOST_AHEAD else videos_ahead(ahead)
        words = f"{busy} of {allowed} {video.model} slots are busy, {many} ahead."
        return Waiting(Reason.SLOTS, words, ahead=ahead)
    return Waiting(Reason.NEXT_TICK, "The next tick, or the next GET of it through the API, sends it.", ahead=ahead)


def videos_ahead(count: int) -> str:
    """`no video`, `1 video`, `12 videos`."""
    return "no video" if not count else f"{count:,} video{'s' if count != 1 else ''}"
