"""Finalize: what a poll of a task means for its video. Callback, poller and a waiting reader all end here.

Also when to poll a task again, if it has not ended. Runway says how far a running task is. From that its end is
foreseen, and the next poll is put there: one video needs a few polls, however long it takes, and is seen sooner after
its end than with a fixed rhythm. Whatever Runway says, two polls of one task are never closer than its own gap, and
never further apart than a minute.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID

from service.context import Context
from service.logs import VIDEO, event
from service.operations import missing
from service.operations.parking import ParkingLot
from service.runway.task import Task, Verdict, judge
from service.settings import Settings
from service.store import tasks
from service.store.tasks import LEAST_GAP_SECONDS, DuePoll, PollResult, PreviousPoll
from service.videos import TRANSITIONS, Event, FailureCode, Status

log = logging.getLogger(__name__)

LONGEST_GAP_SECONDS = 60.0
# Without a word about progress: the share of the time that a task has taken so far.
AGE_SHARE = 0.15
# A task that waits for a place at Runway may start, and end, at any time: the share of its age, and the longest gap.
WAITING_SHARE, WAITING_GAP_SECONDS = 0.1, 15.0
WAITING = ("THROTTLED", "PENDING")
# Progress comes in hundredths. What is further away than this is approached in two steps, for progress may not be even.
HUNDREDTH = 0.01
FAR_SECONDS, FAR_SHARE = 8.0, 0.8
# Nor is what is foreseen believed for longer than this share of the time that the task has taken.
TRUST_SHARE = 0.35
# Just past the end that is foreseen: a poll right before it would be one too many.
PAST_SECONDS = 0.5
# A task that seems to end any moment, and does not, is polled less and less often.
LATE_SHARE = 0.01


def evaluate(due: DuePoll, task: Task | None, settings: Settings, now: datetime, random: float) -> PollResult:
    """Judge one poll of a task; pure."""
    video = due.video
    times = due.missing + 1 if task is None else 0
    if task is None and not missing.is_proof(times, due.missing_seconds):
        return _poll_result(due, None, Verdict(None), delay_seconds=missing.GAP_SECONDS, times_missing=times)
    verdict = judge(
        task,
        overdue=due.age_seconds > settings.task_timeout,
        retries_left=settings.task_retries - video.task_retries,
        task_retries=video.task_retries,
        now=now,
    )
    delay = verdict.delay_seconds or poll_delay(
        due.age_seconds, random, status=task.status if task else "", progress=task.progress if task else None,
        previous=due.previous,
    )  # fmt: skip
    return _poll_result(due, task, verdict, delay_seconds=delay, times_missing=times)


def _poll_result(
    due: DuePoll, task: Task | None, verdict: Verdict, *, delay_seconds: float, times_missing: int = 0
) -> PollResult:
    video, ended = due.video, verdict.event is not None
    timed_out = verdict.error_code == FailureCode.TASK_TIMEOUT
    vanished = verdict.error_code == FailureCode.TASK_VANISHED
    return PollResult(
        video_id=video.id,
        task_id=video.runway_video_id or "",
        next_status=TRANSITIONS[Status.PROCESSING, verdict.event] if verdict.event else Status.PROCESSING,
        task_status=task.status if task else None if timed_out else "GONE",
        progress=task.progress if task else None,
        error_code=verdict.error_code,
        error_message=_with_code(verdict, task),
        delay_seconds=delay_seconds,
        task_retry=verdict.task_retry,
        output=list(verdict.output) or None,
        video_url=verdict.output[0] if verdict.output else None,
        video_url_expires_at=verdict.url_expires_at,
        cost_credits=task.cost.credits if task and task.cost and ended else None,
        settled=ended and not timed_out and not vanished,
        cancel_reason="timeout" if timed_out else None,
        missing=times_missing,
        vanished=vanished,
    )


def _with_code(verdict: Verdict, task: Task | None) -> str | None:
    """The message for people, with the failureCode.

    Runway's own `failure` text is not meant for end users, nor is the third part of SAFETY.INPUT.*.
    """
    if not verdict.error_message or not task or not task.failure_code:
        return verdict.error_message
    code = "SAFETY.INPUT" if task.failure_code.startswith("SAFETY.INPUT.") else task.failure_code
    return f"{verdict.error_message} [{code}]"


def out_of_reach(due: DuePoll, settings: Settings) -> PollResult | None:
    """What a poll means for which Runway could not be asked: nothing yet, until twice TASK_TIMEOUT is over."""
    if due.age_seconds <= 2 * settings.task_timeout:
        return None
    words = "Runway could not be asked about this task for longer than twice TASK_TIMEOUT."
    return _poll_result(due, None, Verdict(Event.FAIL, FailureCode.TASK_TIMEOUT, words), delay_seconds=0.0)


def poll_delay(
    age_seconds: float,
    random: float,
    *,
    status: str = "",
    progress: float | None = None,
    previous: PreviousPoll | None = None,
) -> float:
    """Seconds to the next poll of a task that is under way.

    `age_seconds`: since it was sent; `status` and `progress` (0 to 1): what it says now; `previous`: what it said at
    the poll before. `random`, in [0, 1), spreads polls of tasks that began together.
    """
    if status in WAITING:
        wanted = min(age_seconds * WAITING_SHARE, WAITING_GAP_SECONDS) * (1 + random / 5)
    elif progress is None or progress < HUNDREDTH:
        wanted = age_seconds * AGE_SHARE * (1 + random / 5)
    else:
        left = _left_seconds(age_seconds, progress, previous)
        wanted = left * FAR_SHARE if left > FAR_SECONDS else max(left + PAST_SECONDS, age_seconds * LATE_SHARE)
        wanted = min(wanted, age_seconds * TRUST_SHARE) + random / 2
    return min(max(LEAST_GAP_SECONDS * (1 + random / 10), wanted), LONGEST_GAP_SECONDS)


def _left_seconds(age_seconds: float, progress: float, previous: PreviousPoll | None) -> float:
    """The least time that is left, by what is known: it may have begun when it was made, or long after that."""
    left = (1 - progress) * age_seconds / progress
    if previous is None:
        return left
    if previous.status in WAITING:  # it began since then, at an unknown time: the next poll will show
        return 0.0
    if previous.progress is not None and progress > previous.progress:
        gained = progress - previous.progress + HUNDREDTH
        return min(left, (1 - progress) * previous.seconds / gained)
    return left


async def finalize(ctx: Context, results: list[PollResult]) -> set[UUID]:
    """Apply these results, each at most once, and log what ended. The ids of the videos that changed."""
    changed = await tasks.finalize(ctx.database, results, ParkingLot(ctx, "poll")) if results else set()
    for result in results:
        if result.video_id in changed and result.next_status != Status.PROCESSING:
            words = f"Finished: status {result.next_status}" + (
                f", {result.error_message}" if result.error_message else ""
            )
            ctx.outbox.note()
            event(log, VIDEO, "finished", words, video=result.video_id, task=result.task_id)
    return changed


def now(ctx: Context) -> datetime:
    """The wall clock of this context, in UTC."""
    return datetime.fromtimestamp(ctx.now(), UTC)
