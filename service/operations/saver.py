"""Answers: what creates came to goes into a queue, and from there into the ledger, in batches: the ids first."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

from service.context import Context
from service.deadline import Grace, Wake
from service.logs import VIDEO, event
from service.operations import saving
from service.operations.circuit import Circuit
from service.operations.saving import as_outcome_row
from service.runway import outcomes
from service.runway.outcomes import Decision, Kind, Outcome, Pause
from service.store.claim import OpenSubmission
from service.store.outcome_row import OutcomeRow

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What one permitted create came to. `decision`: where it is known before Runway was asked."""

    submission: OpenSubmission
    outcome: Outcome
    decision: Decision | None = None


@dataclass
class _Batch:
    """What a batch of answers means: rows to save, those of `last` behind the pauses; and what becomes of models."""

    rows: list[OutcomeRow] = field(default_factory=list)
    last: list[OutcomeRow] = field(default_factory=list)
    pauses: dict[str, Pause] = field(default_factory=dict)
    resumes: set[str] = field(default_factory=set)
    refused: dict[UUID, str] = field(default_factory=dict)  # by a gateway, with its words


class Saver:
    """The saver of one run of the submit step. Under load, batches form by themselves; without, nothing waits.

    `counts`: answers by outcome; `unsaved`: those in the queue, and those being saved; `pausing`: how many models are
    to be paused before anything is claimed again; `may_claim`: False if one could not be. A change sets `wake`.
    """

    def __init__(self, ctx: Context, wake: Wake, grace: Grace) -> None:
        self._ctx, self._wake, self._grace = ctx, wake, grace
        self._queue: asyncio.Queue[Answer | None] = asyncio.Queue()
        # What is tried again while others are saved: rows that are held or refused, models to pause or to resume.
        self._beside: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()
        self.circuit = Circuit()
        self.probes: dict[int, str] = {}  # submission -> the model that it probes
        self.unsaved = 0
        self.pausing = 0
        self.may_claim = True

    def put(self, answer: Answer) -> None:
        """One more to save."""
        self.unsaved += 1
        self._queue.put_nowait(answer)

    def close(self) -> None:
        """That was the last."""
        self._queue.put_nowait(None)

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be written, which may make room for a claim."""
        return self.unsaved > 0 or bool(self._beside)

    async def run(self) -> None:
        """Save what comes, all that is there at once, until it is closed. Raises the last defect that it met."""
        failure: Exception | None = None
        is_open = True
        while is_open:
            taken = [await self._queue.get()]
            while not self._queue.empty():
                taken.append(self._queue.get_nowait())
            batch = [answer for answer in taken if answer is not None]
            is_open = len(batch) == len(taken)
            try:
                if batch:
                    await self._save(batch)
            except Exception as exc:  # a defect costs this run its claims, and no answer that is still to come
                event(log, VIDEO, "not_saved", f"{len(batch)} answers: saving failed", level=logging.ERROR, trace=True)
                failure, self.may_claim = exc, False
            self.unsaved -= len(batch)
            self._wake.set()
        if self._beside:
            await asyncio.wait(self._beside)
        if failure is not None:
            raise failure

    async def _save(self, answers: Sequence[Answer]) -> None:
        """The ids first, before anything else that can be in the way; then what they mean for the models."""
        batch = _Batch()
        for answer in answers:
            self._decide(answer, batch)
        changes = self.circuit.changes([(one.submission, one.outcome) for one in answers], self.probes)
        pauses = [(pause.model, partial(saving.pause_model, self._ctx, pause, self._grace))
                  for pause in batch.pauses.values()]  # fmt: skip
        pauses += [(one.model, partial(saving.change_circuit, self._ctx, one, self._grace))
                   for one in changes if one.has_unknown]  # fmt: skip
        self.pausing += len(pauses)  # nothing is claimed until that is written
        # What makes room, or goes back to the queue, because its model is to be paused: only after that, or as much
        # would be claimed at once.
        await self._write(batch.rows)
        held = [(model, pause) for model, pause in pauses if not await pause(tries=1)]
        self.pausing -= len(pauses) - len(held)
        await self._write(batch.last)
        for change in changes:
            if not change.has_unknown:
                await saving.change_circuit(self._ctx, change, self._grace, tries=1)  # if not, it grows with the next
        if batch.refused:
            await saving.count_refusals(self._ctx, batch.refused)
        for model, pause in held:
            self._start(self._pause_beside(model, pause))
        for model in batch.resumes:
            self._start(self._resume_beside(model))
        if any(one.submission.model in self.circuit.limited for one in answers):
            self._wake.set(due=True)  # there is room again

    def _decide(self, answer: Answer, batch: _Batch) -> None:
        submission, outcome = answer.submission, answer.outcome
        decision = answer.decision or outcomes.decide(
            outcome, model=submission.model, retries=submission.retries, resubmissions=submission.resubmissions,
            bound=submission.quoted_credits, settings=self._ctx.settings, random=self._ctx.random(),
        )  # fmt: skip
        self.counts[outcome.kind.value] += 1
        if decision.next_status.terminal:
            self._ctx.outbox.note()
        row = as_outcome_row(
            submission.submission_id, submission.video_id, outcome, decision, announced=submission.announced
        )
        (batch.last if decision.pause is not None or outcome.kind is Kind.UNKNOWN else batch.rows).append(row)
        words = f"Runway response for video: {outcome.task_id or outcome.detail}"
        event(
            log, VIDEO, "response", words,
            video=submission.video_id, submission=submission.submission_id, task=outcome.task_id,
        )  # fmt: skip
        if decision.by_gateway:
            batch.refused[submission.video_id] = outcome.detail
        if decision.pause is not None:
            batch.pauses[decision.pause.model] = replace(decision.pause, video_id=submission.video_id)
        elif outcome.kind is Kind.ACCEPTED and submission.submission_id in self.probes:
            batch.resumes.add(self.probes[submission.submission_id])

    async def _write(self, rows: list[OutcomeRow]) -> None:
        if rows:
            left = await saving.save_together(self._ctx, rows, self._grace)
            if left.answers:
                self._start(saving.save_left(self._ctx, left, self._grace))

    async def _pause_beside(self, model: str, pause: Callable[[], Awaitable[bool]]) -> None:
        """Pause a model whose row was held; if it stays so, this run claims no more, or it would claim the same."""
        if not await pause():
            words = f"Not paused ({model}), although it should be: its row is held, or refuses it"
            event(log, VIDEO, "model_not_paused", words, level=logging.ERROR, model=model)
            self.may_claim = False
        self.pausing -= 1

    async def _resume_beside(self, model: str) -> None:
        if not await saving.resume_model(self._ctx, model, self._grace):
            words = f"Not resumed ({model}), although Runway took a video: its row is held, or refuses it"
            event(log, VIDEO, "model_not_resumed", words, level=logging.ERROR, model=model)
        self._wake.set(due=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._beside.discard(task)
        self._wake.set()
