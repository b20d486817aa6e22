"""Submit: claim, send, save. The commit of a claim permits one POST; every POST that was sent is seen to its end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from service.context import Context, Counts
from service.deadline import Deadline, Grace, Wake
from service.errors import DatabaseUnavailable, RunwayUnavailable
from service.logs import RUNWAY, VIDEO, event
from service.operations import budget, saving
from service.operations.admission import Admission
from service.operations.circuit import Circuit
from service.operations.parking import ParkingLot
from service.operations.saving import SAVE_AGAIN_FIRST_SECONDS, as_outcome_row
from service.runway import outcomes
from service.runway.client import Runway
from service.runway.outcomes import Decision, Kind, Outcome, Pause
from service.settings import LEASE_MARGIN_SECONDS
from service.store import circuit, models, submissions
from service.store import claim as claims
from service.store.claim import OpenSubmission
from service.store.link_recall import Stand
from service.store.submissions import OutcomeRow
from service.videos import Status

log = logging.getLogger(__name__)

TAKE_BACK_ATTEMPTS = 5
# When most slots are taken, more calls are about to come back, and a claim for ten costs what one for one does.
GATHER_SECONDS = 0.0005

# Paused for these, it is not known whether Runway is there at all.
PROVEN_FIRST = (circuit.REASON,)

NOTHING: Counts = {"claimed": 0, "accepted": 0, "not_sent": 0, "rejected": 0, "unknown": 0}


@dataclass
class _Sent:
    submission: OpenSubmission
    outcome: Outcome
    decision: Decision | None = None  # where it is known before Runway was asked


@dataclass
class _Round:
    """One run of the step. `results`: answers that no save has taken yet; `unsaved` counts also those being saved.

    `beside`: what is tried again while other answers are saved: rows that are held or refused, and models to pause.
    """

    wake: Wake
    admission: Admission
    grace: Grace
    counts: Counts = field(default_factory=lambda: dict(NOTHING))
    in_flight: set[asyncio.Task[_Sent]] = field(default_factory=set)
    results: list[_Sent] = field(default_factory=list)
    returned: asyncio.Event = field(default_factory=asyncio.Event)
    unsaved: int = 0
    beside: set[asyncio.Task[None]] = field(default_factory=set)
    claiming: bool = True
    pausing: int = 0  # models that are to be paused before anything is claimed again
    may_claim: bool = True  # False: one could not be paused
    probes: dict[int, str] = field(default_factory=dict)  # submission -> the model that it probes
    circuit: Circuit = field(default_factory=Circuit)

    def on_done(self, task: asyncio.Task[_Sent]) -> None:
        """A call came back: its slot is free at once, its answer waits to be saved."""
        self.in_flight.discard(task)
        if not task.cancelled():
            self.results.append(task.result())
            self.unsaved += 1
        self.returned.set()
        self.wake.set()


async def run_once(ctx: Context, deadline: Deadline, *, probe: bool = True, wake: Wake | None = None) -> Counts:
    """Claim and submit until nothing is due or the deadline comes; then wait for what is in flight.

    `probe`: a paused model may be due for its probe. `wake`: is set when there may be new videos.
    """
    this = _Round(wake or Wake(), Admission(ctx), Grace(ctx.monotonic, deadline.stopping))
    async with ctx.runway() as runway:
        saver = asyncio.create_task(_save_all(ctx, this))
        try:
            await saving.save_what_was_left(ctx)
            if probe:
                await _probe(ctx, runway, deadline, this)
            await _claim_all(ctx, runway, deadline, this)
        except DatabaseUnavailable as exc:
            if not this.counts["claimed"]:
                raise
            event(log, VIDEO, "claims_end", f"No more claims in this tick: {exc.detail}", level=logging.ERROR)
        finally:
            # Also when the database goes away between two claims: what was sent is waited for and saved.
            this.claiming = False
            this.returned.set()
            await saver
    return this.counts


async def _claim_all(ctx: Context, runway: Runway, deadline: Deadline, this: _Round) -> None:
    """A claim for every slot that becomes free, as long as there is something due and time for it.

    A slot is free when its call came back; but no more than twice as many answers as slots may wait to be saved.
    """
    p95_seconds: float | None = None  # the first claim asks for no time, so that a small budget makes progress
    more = True
    while this.may_claim and (more or this.in_flight or this.unsaved or this.beside or this.wake.due_work.is_set()):
        free = claims.size(ctx.settings.submit_concurrency - max(len(this.in_flight), (this.unsaved + 1) // 2))
        more = more or this.wake.due_work.is_set()
        if more and free > 0 and not this.pausing:
            if this.counts["claimed"] and p95_seconds is None:
                p95_seconds = await claims.p95_seconds(ctx.database) or 0.0
            if not deadline.can_claim(p95_seconds, ctx.settings.post_timeout):
                return
            this.wake.due_work.clear()
            before = this.counts["claimed"]
            claimed = await _claim(ctx, runway, deadline, this, free)
            # A first claim that is not filled has seen all that is due; later ones go on until nothing is left, for
            # other processes may have held what this one passed over.
            more = claimed == free or bool(claimed and before)
        else:
            await this.wake.wait()
            if more and len(this.in_flight) > ctx.settings.submit_concurrency // 2:
                await ctx.sleep(GATHER_SECONDS)


async def _probe(ctx: Context, runway: Runway, deadline: Deadline, this: _Round) -> None:
    """One create for a paused model whose time is over; where Runway may be away, only if a free call succeeds."""
    if not deadline.can_claim(None, ctx.settings.post_timeout):
        return
    found = await models.take_probe(ctx.database, ctx.settings.post_timeout + LEASE_MARGIN_SECONDS)
    if found is None:
        return
    model, reason = found
    if reason in PROVEN_FIRST:
        try:
            await runway.organization()
        except RunwayUnavailable as exc:
            words = f"Not probed ({model}): Runway does not answer a call that costs nothing: {exc.detail}"
            event(log, RUNWAY, "not_probed", words, level=logging.WARNING, model=model)
            return
    await _claim(ctx, runway, deadline, this, 1, model)


async def _claim(
    ctx: Context, runway: Runway, deadline: Deadline, this: _Round, limit: int, model: str | None = None
) -> int:
    seconds = deadline.call_seconds(ctx.settings.post_timeout)
    # Read before the claim: the database's deadline is never earlier. On both clocks: a machine may be suspended.
    give_up_at = ctx.monotonic() + seconds, ctx.now() + seconds
    claim_id = secrets.randbits(63)
    try:
        permitted = await budget.claim(ctx, limit, seconds, model, claim_id, ParkingLot(ctx, "submit"))
    except DatabaseUnavailable:
        await _take_back(ctx, claim_id, this.grace)
        raise
    this.circuit.note_claim(permitted)
    check = this.admission.check(permitted)
    for submission in permitted:
        narrate_claim(ctx, submission)
        if model is not None:
            this.probes[submission.submission_id] = model
        task = asyncio.create_task(_admit(runway, this.admission, submission, check, give_up_at))
        this.in_flight.add(task)
        task.add_done_callback(this.on_done)
    this.counts["claimed"] += len(permitted)
    return len(permitted)


async def _take_back(ctx: Context, claim_id: int, grace: Grace) -> None:
    """A claim without an answer may have been committed. Nothing was sent for it: its videos go back to the queue.

    Only the process that claimed knows that. If the database stays away, they are unknown from their deadline on.
    """
    outcome = Outcome(Kind.NOT_SENT, "the claim's answer was lost")
    for attempt in range(TAKE_BACK_ATTEMPTS):
        await ctx.sleep(SAVE_AGAIN_FIRST_SECONDS * 2**attempt)
        with suppress(DatabaseUnavailable):
            lost = await claims.of_claim(ctx.database, claim_id)
            answers = [as_outcome_row(*one, outcome, Decision(Status.QUEUED)) for one in lost]
            if answers:
                await submissions.save_each(ctx.database, answers, ParkingLot(ctx, "submit"))
            return
        if grace.is_over:
            return


def narrate_claim(ctx: Context, submission: OpenSubmission) -> None:
    """The first lines of a video's story, in the words and the order of the log that this service replaces."""
    if not log.isEnabledFor(logging.INFO):  # asked once for all four
        return
    ids: dict[str, Any] = {"video": submission.video_id, "submission": submission.submission_id}
    key = "present" if ctx.settings.runway_key else "MISSING"
    event(log, VIDEO, "starting", "Starting video generation", **ids)
    event(log, VIDEO, "environment", f"Environment check: Runway API key {key}", **ids)
    event(log, VIDEO, "claimed", f"Claimed for {submission.operation} with {submission.model}", **ids)
    event(log, VIDEO, "processing", "Status now processing", **ids)


async def _admit(
    runway: Runway,
    admission: Admission,
    submission: OpenSubmission,
    check: asyncio.Task[dict[UUID, Stand]] | None,
    give_up_at: tuple[float, float],
) -> _Sent:
    """Send it, unless the row that shows it in a linked table is against that."""
    held = await admission.admit(submission, check)
    if held is not None:
        return _Sent(submission, held.outcome, held.decision)
    return await _send(runway, submission, give_up_at)


async def _send(runway: Runway, submission: OpenSubmission, give_up_at: tuple[float, float]) -> _Sent:
    """One create, and what it came to: whatever goes wrong, an outcome."""
    try:
        result = await runway.create(
            submission.operation, submission.body,
            give_up_at=give_up_at[0], wall_give_up_at=give_up_at[1], video=submission.video_id,
        )  # fmt: skip
        outcome = outcomes.classify(result)
    except Exception as exc:
        words = "A create failed in an unforeseen way"
        ids = {"video": submission.video_id, "submission": submission.submission_id}
        event(log, RUNWAY, "create_broke", words, level=logging.ERROR, trace=True, **ids)
        outcome = Outcome(Kind.UNKNOWN, f"{type(exc).__name__} in the client")
    if outcome.kind is Kind.ACCEPTED:
        # Logged before it is written: the one line that can still save a paid task if everything else fails.
        event(
            log, RUNWAY, "accepted", f"Success response: task id {outcome.task_id}",
            video=submission.video_id, submission=submission.submission_id, task=outcome.task_id,
        )  # fmt: skip
    else:
        event(
            log, RUNWAY, outcome.kind.value, f"{outcome.kind.value.replace('_', ' ').capitalize()}: {outcome.detail}",
            level=logging.WARNING, video=submission.video_id, submission=submission.submission_id,
        )  # fmt: skip
    return _Sent(submission, outcome)


async def _save_all(ctx: Context, this: _Round) -> None:
    """Save what has come back, all of it at once, as soon as the last save is done.

    Under load, batches form by themselves; without, nothing waits. What is left of a batch is tried again beside the
    next ones: its submissions are unknown at their deadline.
    """
    failure: Exception | None = None
    while this.claiming or this.in_flight or this.results:
        await this.returned.wait()
        this.returned.clear()
        batch, this.results = this.results, []
        if not batch:
            continue
        try:
            await _save(ctx, this, batch)
        except Exception as exc:  # a defect costs this tick its claims, and no answer that is still to come
            event(log, VIDEO, "not_saved", f"{len(batch)} answers: saving failed", level=logging.ERROR, trace=True)
            failure, this.may_claim = exc, False
        this.unsaved -= len(batch)
        this.wake.set()
    if this.beside:
        await asyncio.wait(this.beside)
    if failure is not None:
        raise failure


async def _save(ctx: Context, this: _Round, batch: list[_Sent]) -> None:
    """The ids first, before anything else that can be in the way; then what they mean for the models."""
    answers: list[tuple[OutcomeRow, bool]] = []
    pauses: dict[str, Pause] = {}
    resumes: set[str] = set()
    refused: dict[UUID, str] = {}
    for sent in batch:
        submission, outcome = sent.submission, sent.outcome
        decision = sent.decision or outcomes.decide(
            outcome, model=submission.model, retries=submission.retries, resubmissions=submission.resubmissions,
            bound=submission.quoted_credits, settings=ctx.settings, random=ctx.random(),
        )  # fmt: skip
        this.counts[outcome.kind.value] += 1
        answer = as_outcome_row(submission.submission_id, submission.video_id, outcome, decision)
        answers.append((answer, decision.pause is not None or outcome.kind is Kind.UNKNOWN))
        words = f"Runway response for video: {outcome.task_id or outcome.detail}"
        event(
            log, VIDEO, "response", words,
            video=submission.video_id, submission=submission.submission_id, task=outcome.task_id,
        )  # fmt: skip
        if decision.by_gateway:
            refused[submission.video_id] = outcome.detail
        if decision.pause is not None:
            pauses[decision.pause.model] = replace(decision.pause, video_id=submission.video_id)
        elif outcome.kind is Kind.ACCEPTED and submission.submission_id in this.probes:
            resumes.add(this.probes[submission.submission_id])
    changes = this.circuit.changes([(sent.submission, sent.outcome) for sent in batch], this.probes)
    doubts = [change for change in changes if change.has_unknown]
    this.pausing += len(pauses) + len(doubts)  # nothing is claimed until that is written
    # What makes room, or goes back to the queue, because its model is to be paused: only after that, or as much would
    # be claimed at once.
    await _save_part(ctx, this, [answer for answer, is_last in answers if not is_last])
    held = [pause for pause in pauses.values() if not await saving.pause_model(ctx, pause, this.grace, tries=1)]
    still = [change for change in doubts if not await saving.change_circuit(ctx, change, this.grace, tries=1)]
    this.pausing -= len(pauses) - len(held) + len(doubts) - len(still)
    await _save_part(ctx, this, [answer for answer, is_last in answers if is_last])
    for change in changes:
        if not change.has_unknown:
            await saving.change_circuit(ctx, change, this.grace, tries=1)  # if not, it grows with the next
    if refused:
        await saving.count_refusals(ctx, refused)
    for pause in held:
        _beside(this, _pause_beside(ctx, this, pause.model, saving.pause_model(ctx, pause, this.grace)))
    for change in still:
        _beside(this, _pause_beside(ctx, this, change.model, saving.change_circuit(ctx, change, this.grace)))
    for model in resumes:
        _beside(this, _resume_beside(ctx, this, model))
    if any(sent.submission.model in this.circuit.limited for sent in batch):
        this.wake.set(due_work=True)  # there is room again


async def _save_part(ctx: Context, this: _Round, answers: list[OutcomeRow]) -> None:
    if answers:
        left = await saving.save_together(ctx, answers, this.grace)
        if left.answers:
            _beside(this, saving.save_left(ctx, left, this.grace))


async def _pause_beside(ctx: Context, this: _Round, model: str, write: Awaitable[bool]) -> None:
    """Pause a model whose row was held; if it stays so, this tick claims no more, or it would claim the same again."""
    if not await write:
        words = f"Not paused ({model}), although it should be: its row is held, or refuses it"
        event(log, VIDEO, "model_not_paused", words, level=logging.ERROR, model=model)
        this.may_claim = False
    this.pausing -= 1
    this.wake.set()


async def _resume_beside(ctx: Context, this: _Round, model: str) -> None:
    if not await saving.resume_model(ctx, model, this.grace):
        words = f"Not resumed ({model}), although Runway took a video: its row is held, or refuses it"
        event(log, VIDEO, "model_not_resumed", words, level=logging.ERROR, model=model)
    this.wake.set(due_work=True)


def _beside(this: _Round, work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    this.beside.add(task)

    def done(_: asyncio.Task[None]) -> None:
        this.beside.discard(task)
        this.wake.set()

    task.add_done_callback(done)
