"""Submit: claim, send, save. The commit of a claim permits one POST; every POST that was sent is seen to its end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from service.deadline import Bell, Window
from service.errors import DatabaseAway
from service.house import Counts, House
from service.logs import RUNWAY, VIDEO, event
from service.operations import budget
from service.operations.saving import (
    SAVE_AGAIN_FIRST_SECONDS,
    as_answer,
    insist,
    pause_lane,
    resume_lane,
    save_insistently,
)
from service.runway import outcomes
from service.runway.client import Runway
from service.runway.outcomes import Decision, Kind, Outcome
from service.settings import LEASE_MARGIN_SECONDS
from service.store import lanes, permits, submissions
from service.store.permits import Permit
from service.videos import Status

log = logging.getLogger(__name__)

TAKE_BACK_ATTEMPTS = 5
# When most slots are taken, more calls are about to come back, and a claim for ten costs what one for one does.
GATHER_SECONDS = 0.0005

NOTHING: Counts = {"claimed": 0, "accepted": 0, "not_sent": 0, "rejected": 0, "unknown": 0}


@dataclass
class _Sent:
    permit: Permit
    outcome: Outcome


@dataclass
class _Round:
    """One run of the step. `returned`: answers that nobody saves yet; `unsaved` counts also those being saved."""

    bell: Bell
    counts: Counts = field(default_factory=lambda: dict(NOTHING))
    in_flight: set[asyncio.Task[_Sent]] = field(default_factory=set)
    returned: list[_Sent] = field(default_factory=list)
    came_back: asyncio.Event = field(default_factory=asyncio.Event)
    unsaved: int = 0
    claiming: bool = True
    probes: dict[int, str] = field(default_factory=dict)  # submission -> the lane that it probes

    def land(self, task: asyncio.Task[_Sent]) -> None:
        """A call came back: its slot is free at once, its answer waits to be saved."""
        self.in_flight.discard(task)
        if not task.cancelled():
            self.returned.append(task.result())
            self.unsaved += 1
        self.came_back.set()
        self.bell.ring()


async def run_once(house: House, window: Window, *, probe: bool = True, bell: Bell | None = None) -> Counts:
    """Claim and submit until nothing is due or the window closes; then wait for what is in flight.

    `probe`: a paused lane may be due for its probe. `bell`: whoever rings it knows of new videos.
    """
    this = _Round(bell or Bell())
    async with house.runway() as runway:
        saver = asyncio.create_task(_save_all(house, this))
        try:
            if probe:
                await _probe(house, runway, window, this)
            await _claim_all(house, runway, window, this)
        except DatabaseAway as exc:
            if not this.counts["claimed"]:
                raise
            event(log, VIDEO, "claims_end", f"No more claims in this tick: {exc.detail}", level=logging.ERROR)
        finally:
            # Also when the database goes away between two claims: what was sent is waited for and saved.
            this.claiming = False
            this.came_back.set()
            await saver
    return this.counts


async def _claim_all(house: House, runway: Runway, window: Window, this: _Round) -> None:
    """A claim for every slot that becomes free, as long as there is something due and time for it.

    A slot is free when its call came back; but no more than twice as many answers as slots may wait to be saved.
    """
    usual: float | None = None  # the first claim asks for no time, so that a small budget makes progress
    more = True
    while more or this.in_flight or this.unsaved:
        free = permits.size(house.settings.submit_slots - max(len(this.in_flight), (this.unsaved + 1) // 2))
        more = more or this.bell.news.is_set()
        if more and free > 0:
            if this.counts["claimed"] and usual is None:
                usual = await permits.usual_seconds(house.database) or 0.0
            if not window.may_claim(usual, house.settings.post_timeout):
                return
            this.bell.news.clear()
            before = this.counts["claimed"]
            claimed = await _claim(house, runway, window, this, free)
            # A first claim that is not filled has seen all that is due; later ones go on until nothing is left, for
            # other processes may have held what this one passed over.
            more = claimed == free or bool(claimed and before)
        else:
            await this.bell.wait()
            if more and len(this.in_flight) > house.settings.submit_slots // 2:
                await house.sleep(GATHER_SECONDS)


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
    claim_id = secrets.randbits(63)
    try:
        permitted = await budget.claim(house, limit, seconds, lane, claim_id)
    except DatabaseAway:
        await _take_back(house, claim_id)
        raise
    for permit in permitted:
        narrate_claim(house, permit)
        if lane is not None:
            this.probes[permit.submission_id] = lane
        task = asyncio.create_task(_send(runway, permit, give_up_at))
        this.in_flight.add(task)
        task.add_done_callback(this.land)
    this.counts["claimed"] += len(permitted)
    return len(permitted)


async def _take_back(house: House, claim_id: int) -> None:
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
                await submissions.save_each(house.database, answers)
            return


def narrate_claim(house: House, permit: Permit) -> None:
    """The first lines of a video's story, in the words and the order of the log that this service replaces."""
    if not log.isEnabledFor(logging.INFO):  # asked once for all four
        return
    ids: dict[str, Any] = {"video": permit.video_id, "submission": permit.submission_id}
    key = "present" if house.settings.runway_key else "MISSING"
    event(log, VIDEO, "starting", "Starting video generation", **ids)
    event(log, VIDEO, "environment", f"Environment check: Runway API key {key}", **ids)
    event(log, VIDEO, "claimed", f"Claimed for {permit.operation} with {permit.model}", **ids)
    event(log, VIDEO, "processing", "Status now processing", **ids)


async def _send(runway: Runway, permit: Permit, give_up_at: float) -> _Sent:
    """One create, and what it came to: whatever goes wrong, an outcome."""
    try:
        result = await runway.create(permit.operation, permit.body, give_up_at=give_up_at, video=permit.video_id)
        outcome = outcomes.classify(result)
    except Exception as exc:
        words = "A create failed in a way that nobody thought of"
        ids = {"video": permit.video_id, "submission": permit.submission_id}
        event(log, RUNWAY, "create_broke", words, level=logging.ERROR, trace=True, **ids)
        outcome = Outcome(Kind.UNKNOWN, f"{type(exc).__name__} in the client")
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


async def _save_all(house: House, this: _Round) -> None:
    """Save what has come back, all of it at once, as soon as the last save is done.

    Under load, batches form by themselves; without, nothing waits. A batch that fails must not cost the next one:
    its submissions are unknown at their deadline.
    """
    failure: Exception | None = None
    while this.claiming or this.in_flight or this.returned:
        await this.came_back.wait()
        this.came_back.clear()
        batch, this.returned = this.returned, []
        if not batch:
            continue
        try:
            await _save(house, this, batch)
        except Exception as exc:
            event(log, VIDEO, "not_saved", f"{len(batch)} answers could not be saved", level=logging.ERROR, trace=True)
            failure = exc
        this.unsaved -= len(batch)
        this.bell.ring()
    if failure is not None:
        raise failure


async def _save(house: House, this: _Round, batch: list[_Sent]) -> None:
    answers = []
    for sent in batch:
        permit, outcome = sent.permit, sent.outcome
        decision = outcomes.decide(
            outcome, model=permit.model, setbacks=permit.setbacks, resubmits=permit.resubmits,
            bound=permit.quoted_credits, settings=house.settings, chance=house.chance(),
        )  # fmt: skip
        this.counts[outcome.kind.value] += 1
        answers.append(as_answer(permit.submission_id, permit.video_id, outcome, decision))
        words = f"Runway response for video: {outcome.task_id or outcome.detail}"
        event(
            log, VIDEO, "response", words,
            video=permit.video_id, submission=permit.submission_id, task=outcome.task_id,
        )  # fmt: skip
        if decision.pause is not None:
            await insist(house, partial(pause_lane, house, decision.pause))
        elif outcome.kind is Kind.ACCEPTED and permit.submission_id in this.probes:
            await insist(house, partial(resume_lane, house, this.probes[permit.submission_id]))
    await save_insistently(house, answers)
