"""Submitting: claim, send, save. The commit of a claim permits one POST; every POST that was sent is seen to its end.

What the submit step does for all that is due, and a request for the one video that it is about.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from service.context import Context
from service.deadline import Deadline, Grace, Wake
from service.errors import DatabaseUnavailable, RunwayUnavailable
from service.logs import RUNWAY, VIDEO, event
from service.operations import budget, saving
from service.operations.admission import Admission
from service.operations.parking import ParkingLot
from service.operations.saver import Answer, Saver
from service.operations.saving import SAVE_AGAIN_FIRST_SECONDS, as_outcome_row
from service.runway import outcomes
from service.runway.client import Runway
from service.runway.outcomes import Decision, Kind, Outcome
from service.settings import LEASE_MARGIN_SECONDS
from service.store import circuit_state, models, submissions
from service.store import claim as claims
from service.store.claim import Aim, OpenSubmission
from service.store.front import Front
from service.store.link_recall import Stand
from service.videos import Status

log = logging.getLogger(__name__)

TAKE_BACK_ATTEMPTS = 5

# Paused for these, it is not known whether Runway is there at all.
PROVEN_FIRST = (circuit_state.REASON,)


@asynccontextmanager
async def submitting(ctx: Context, deadline: Deadline, wake: Wake | None = None) -> AsyncIterator[Submitter]:
    """What claims and sends inside this. In the end, what is in flight is waited for and saved, whatever was raised."""
    async with ctx.runway() as runway:
        run = Submitter(ctx, runway, deadline, wake or Wake())
        saving_all = asyncio.create_task(run.saver.run())
        try:
            await saving.save_what_was_left(ctx)
            yield run
        finally:
            # Also when the database goes away between two claims: what was sent is waited for and saved.
            if run.calls:
                await asyncio.wait(run.calls)
            await run.front.settle()
            run.saver.close()
            await saving_all


class Submitter:
    """Claims, and sends what it got. `calls`: the videos on their way, each on its slot; `claimed`: how many so far."""

    def __init__(self, ctx: Context, runway: Runway, deadline: Deadline, wake: Wake) -> None:
        self.ctx, self.runway, self.deadline, self.wake = ctx, runway, deadline, wake
        self.grace = Grace(ctx.monotonic, deadline.stopping)
        self.saver = Saver(ctx, wake, self.grace)
        self.admission = Admission(ctx)
        self.calls: set[asyncio.Task[None]] = set()
        self.claimed = 0
        self.front = Front(ctx.monotonic)

    async def probe(self) -> None:
        """One create for a paused model whose time is over; where Runway may be away, only if a free call succeeds."""
        timeout = self.ctx.settings.post_timeout
        if not self.deadline.can_claim(None, timeout):
            return
        found = await models.take_probe(self.ctx.database, timeout + LEASE_MARGIN_SECONDS)
        if found is None:
            return
        model, reason = found
        if reason in PROVEN_FIRST:
            try:
                await self.runway.organization()
            except RunwayUnavailable as exc:
                words = f"Not probed ({model}): Runway does not answer a call that costs nothing: {exc.detail}"
                event(log, RUNWAY, "not_probed", words, level=logging.WARNING, model=model)
                return
        await self.claim(1, Aim(probed=model))

    async def claim_due(self, limit: int) -> bool:
        """Claim at most so many of all that is due, and begin their calls; whether there may be more."""
        behind, before = self.front.behind(), self.claimed
        self.front.look(self.ctx.database)
        taken = await self.claim(limit, Aim(behind=behind))
        self.front.note(taken, limit)
        # A first claim that is not filled has seen all that is due; later ones go on until nothing is left, for
        # other processes may have held what this one passed over.
        return len(taken) == limit or bool(taken and before) or behind is not None

    async def claim(self, limit: int, aim: Aim) -> Sequence[OpenSubmission]:
        """Claim at most so many and begin their calls. None, once a call has no time any more."""
        ctx, seconds = self.ctx, self.deadline.call_seconds(self.ctx.settings.post_timeout)
        if not self.deadline.can_claim(None, ctx.settings.post_timeout):
            return []
        # Read before the claim: the database's deadline is never earlier. On both clocks: a machine may be suspended.
        give_up_at = ctx.monotonic() + seconds, ctx.now() + seconds
        claim_id = secrets.randbits(63)
        try:
            permitted = await budget.claim(ctx, limit, seconds, aim, claim_id, ParkingLot(ctx, "submit"))
        except DatabaseUnavailable:
            await _take_back(ctx, claim_id, self.grace)
            raise
        self.saver.circuit.note_claim(permitted)
        check = self.admission.check(permitted)
        for submission in permitted:
            _narrate_claim(ctx, submission)
            if aim.probed is not None:
                self.saver.probes[submission.submission_id] = aim.probed
            task = asyncio.create_task(self._call(submission, check, give_up_at))
            self.calls.add(task)
            task.add_done_callback(self._called)
        self.claimed += len(permitted)
        return permitted

    async def settle(self) -> None:
        """Until every call came back and its answer is saved."""
        while self.calls or self.saver.is_busy:
            await self.wake.wait()

    async def _call(
        self,
        submission: OpenSubmission,
        check: asyncio.Task[dict[UUID, Stand]] | None,
        give_up_at: tuple[float, float],
    ) -> None:
        """Send it, unless the row that shows it in a linked table is against that; the answer is to be saved."""
        held = await self.admission.admit(submission, check)
        if held is not None:
            self.saver.put(Answer(submission, held.outcome, held.decision))
        else:
            self.saver.put(Answer(submission, await _send(self.runway, submission, give_up_at)))

    def _called(self, call: asyncio.Task[None]) -> None:
        self.calls.discard(call)
        self.wake.set()


async def _send(runway: Runway, submission: OpenSubmission, give_up_at: tuple[float, float]) -> Outcome:
    """One create, and what it came to: whatever goes wrong, an outcome."""
    ids: dict[str, Any] = {"video": submission.video_id, "submission": submission.submission_id}
    try:
        result = await runway.create(
            submission.operation, submission.body,
            give_up_at=give_up_at[0], wall_give_up_at=give_up_at[1], video=submission.video_id,
        )  # fmt: skip
        outcome = outcomes.classify(result)
    except Exception as exc:
        words = "A create failed in an unforeseen way"
        event(log, RUNWAY, "create_broke", words, level=logging.ERROR, trace=True, **ids)
        outcome = Outcome(Kind.UNKNOWN, f"{type(exc).__name__} in the client")
    if outcome.kind is Kind.ACCEPTED:
        # Logged before it is written: the one line that can still save a paid task if everything else fails.
        event(log, RUNWAY, "accepted", f"Success response: task id {outcome.task_id}", **ids, task=outcome.task_id)
    else:
        words = f"{outcome.kind.value.replace('_', ' ').capitalize()}: {outcome.detail}"
        event(log, RUNWAY, outcome.kind.value, words, level=logging.WARNING, **ids)
    return outcome


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


def _narrate_claim(ctx: Context, submission: OpenSubmission) -> None:
    """The first lines of a video's story, in the words and the order of the log that this service replaces."""
    if not log.isEnabledFor(logging.INFO):  # asked once for all four
        return
    ids: dict[str, Any] = {"video": submission.video_id, "submission": submission.submission_id}
    key = "present" if ctx.settings.runway_key else "MISSING"
    event(log, VIDEO, "starting", "Starting video generation", **ids)
    event(log, VIDEO, "environment", f"Environment check: Runway API key {key}", **ids)
    event(log, VIDEO, "claimed", f"Claimed for {submission.operation} with {submission.model}", **ids)
    event(log, VIDEO, "processing", "Status now processing", **ids)
