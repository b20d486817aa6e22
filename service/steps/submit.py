"""Submit: claim, send, save. The commit of a claim permits one POST; every POST that was sent is seen to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from service import outcomes
from service.errors import DatabaseAway, TaxiwayError
from service.house import Counts, House
from service.logs import RUNWAY, VIDEO, event
from service.outcomes import ALL_LANES, Decision, Kind, Outcome, Pause
from service.runway.client import Runway
from service.settings import LEASE_MARGIN_SECONDS
from service.steps import budget
from service.steps.answers import FIRST_POLL_SECONDS, as_answer
from service.steps.window import Window
from service.store import lanes, permits, submissions
from service.store.permits import Permit
from service.store.submissions import Answer
from service.videos import Status

log = logging.getLogger(__name__)

SAVE_AGAIN_FIRST_SECONDS = 0.2
SAVE_AGAIN_CAP_SECONDS = 10.0
TAKE_BACK_ATTEMPTS = 5


@dataclass
class _Sent:
    permit: Permit
    outcome: Outcome


@dataclass
class _Round:
    """One run of the step: what is in flight, what came back, and the counts."""

    counts: Counts = field(
        default_factory=lambda: dict.fromkeys(("claimed", "accepted", "not_sent", "rejected", "unknown"), 0)
    )
    in_flight: set[asyncio.Task[_Sent]] = field(default_factory=set)
    probes: dict[int, str] = field(default_factory=dict)  # submission -> the lane that it probes


async def run_once(house: House, window: Window) -> Counts:
    """Claim and submit until nothing is due or the window closes; then wait for what is in flight."""
    this = _Round()
    async with house.runway() as runway:
        try:
            await _probe(house, runway, window, this)
            await _drain(house, runway, window, this)
        except DatabaseAway as exc:
            if not this.counts["claimed"]:
                raise
            event(log, VIDEO, "claims_end", f"No more claims in this tick: {exc.detail}", level=logging.ERROR)
        finally:
            # Also when the database goes away between two claims: what was sent is waited for and saved.
            while this.in_flight:
                await _save_finished(house, this)
    return this.counts


async def _drain(house: House, runway: Runway, window: Window, this: _Round) -> None:
    usual: float | None = None  # the first claim asks for no time, so that a small budget makes progress
    more = True
    while more or this.in_flight:
        free = house.settings.submit_slots - len(this.in_flight)
        if more and free and window.may_claim(usual, house.settings.post_timeout):
            claimed = await _claim(house, runway, window, this, free)
            more = bool(claimed)
            if claimed and usual is None:
                usual = await permits.usual_seconds(house.database) or 0.0
        else:
            more = more and bool(this.in_flight)
        if this.in_flight:
            await _save_finished(house, this)


async def _probe(house: House, runway: Runway, window: Window, this: _Round) -> None:
    """One create for a paused lane whose time is over."""
    if not window.may_claim(None, house.settings.post_timeout):
        return
    lane = await lanes.take_probe(house.database, house.settings.post_timeout + LEASE_MARGIN_SECONDS)
    if lane is not None:
        await _claim(house, runway, window, this, 1, lane)


async def _claim(
    house: House, runway: Runway, window: Window, this: _Round, limit: int, lane: str | None = None
) -> int:
    seconds = window.call_seconds(house.settings.post_timeout)
    give_up_at = house.clock() + seconds  # read before the claim: the database's deadline is never earlier
    claim_id = uuid4()
    try:
        permitted = await budget.claim(house, limit, seconds, lane, claim_id)
    except DatabaseAway:
        await _take_back(house, claim_id)
        raise
    for permit in permitted:
        narrate_claim(house, permit)
        if lane is not None:
            this.probes[permit.submission_id] = lane
        this.in_flight.add(asyncio.create_task(_send(runway, permit, give_up_at)))
    this.counts["claimed"] += len(permitted)
    return len(permitted)


async def _take_back(house: House, claim_id: UUID) -> None:
    """A claim without an answer may have been committed. Nothing was sent for it: its videos go back to the queue.

    Only whoever claimed knows that. If the database stays away, they are given up as unknown at their deadline.
    """
    outcome = Outcome(Kind.NOT_SENT, "the claim's answer was lost")
    for attempt in range(TAKE_BACK_ATTEMPTS):
        await house.sleep(SAVE_AGAIN_FIRST_SECONDS * 2**attempt)
        with suppress(DatabaseAway):
            lost = await permits.of_claim(house.database, claim_id)
            answers = [as_answer(*one, outcome, Decision(Status.QUEUED)) for one in lost]
            if answers:
                await submissions.save_each(house.database, answers, first_poll_seconds=FIRST_POLL_SECONDS)
            return


def narrate_claim(house: House, permit: Permit) -> None:
    """The first lines of a video's story, in the words and the order of the log that this service replaces."""
    ids: dict[str, Any] = {"video": permit.video_id, "submission": permit.submission_id}
    key = "present" if house.settings.runway_key else "MISSING"
    event(log, VIDEO, "starting", "Starting video generation", **ids)
    event(log, VIDEO, "environment", f"Environment check: Runway API key {key}", **ids)
    event(log, VIDEO, "claimed", f"Claimed for {permit.operation} with {permit.model}", **ids)
    event(log, VIDEO, "processing", "Status now processing", **ids)


async def _send(runway: Runway, permit: Permit, give_up_at: float) -> _Sent:
    result = await runway.create(permit.operation, permit.input, give_up_at=give_up_at, video=permit.video_id)
    outcome = outcomes.classify(result)
    if outcome.kind is Kind.ACCEPTED:
        # Logged before it is written: the one line that can still save a paid task if everything else fails.
        event(
            log, RUNWAY, "accepted", f"Success response: task id {outcome.task_id}",
            video=permit.video_id, submission=permit.submission_id, task=outcome.task_id,
        )  # fmt: skip
    else:
        event(
            log, RUNWAY, outcome.kind.value, f"{outcome.kind.value.replace('_', ' ').capitalize()}: {outcome.detail}",
            level=logging.WARNING, video=permit.video_id, submission=permit.submission_id,
        )  # fmt: skip
    return _Sent(permit, outcome)


async def _save_finished(house: House, this: _Round) -> None:
    """Wait until something has come back, and save all of it at once: under load, batches form by themselves."""
    done, this.in_flight = await asyncio.wait(this.in_flight, return_when=asyncio.FIRST_COMPLETED)
    answers = []
    for sent in [task.result() for task in done]:
        permit, outcome = sent.permit, sent.outcome
        decision = outcomes.decide(
            outcome, model=permit.model, setbacks=permit.setbacks, resubmits=permit.resubmits,
            bound=permit.quoted_credits, settings=house.settings, chance=house.chance(),
        )  # fmt: skip
        this.counts[outcome.kind.value] += 1
        answers.append(as_answer(permit.submission_id, permit.video_id, outcome, decision))
        words = f"Runway response for video: {outcome.task_id or outcome.detail}"
        event(log, VIDEO, "response", words, video=permit.video_id)
        if decision.pause is not None:
            await _insist(house, partial(_pause, house, decision.pause))
        elif outcome.kind is Kind.ACCEPTED and permit.submission_id in this.probes:
            await _insist(house, partial(_resume, house, this.probes[permit.submission_id]))
    await save_insistently(house, answers)


async def _insist(house: House, write: Callable[[], Awaitable[None]]) -> None:
    """Do one write until it succeeds. Only the database can be in the way, and it may come back."""
    wait = SAVE_AGAIN_FIRST_SECONDS
    while True:
        try:
            return await write()
        except (TaxiwayError, asyncpg.PostgresError) as exc:
            event(log, VIDEO, "save_again", f"Not saved yet, trying again: {exc}", level=logging.ERROR)
        await house.sleep(wait)
        wait = min(wait * 2, SAVE_AGAIN_CAP_SECONDS)


async def _pause(house: House, pause: Pause) -> None:
    if await lanes.pause(house.database, pause.lane, pause.seconds, pause.reason, pause.detail):
        which = "all models" if pause.lane == ALL_LANES else pause.lane
        words = f"Lane paused ({which}) for {pause.seconds:g} s, {pause.reason}: {pause.detail}"
        event(log, VIDEO, "lane_paused", words, level=logging.WARNING, lane=pause.lane)


async def _resume(house: House, lane: str) -> None:
    await lanes.resume(house.database, lane)
    event(log, VIDEO, "lane_resumed", "Lane resumed: Runway takes videos again", lane=lane)


async def save_insistently(house: House, answers: list[Answer]) -> None:
    """Save, again and again, for as long as this process lives: an id that is lost here was paid for nothing."""
    results: dict[int, str] = {}

    async def save() -> None:
        results.update(await submissions.save_each(house.database, answers, first_poll_seconds=FIRST_POLL_SECONDS))

    await _insist(house, save)
    for answer in answers:
        result = results.get(answer.submission_id, "kept")
        event(
            log, VIDEO, "row_updated", _ROW_WORDS[result].format(status=answer.next_status),
            video=answer.video_id, submission=answer.submission_id, task=answer.task_id,
        )  # fmt: skip


_ROW_WORDS = {
    "kept": "Outcome was known already",
    "moved": "Row updated: status {status}",
    "locked": "Row is held by another transaction: saved to the ledger, the row follows",
    "waits": "Saved to the ledger; the video waits for something else",
    "elsewhere": "Saved to the ledger; the video has moved on, and this task is a surplus to be deleted",
}
