"""From an outcome and a decision to what the ledger stores."""

from __future__ import annotations

from uuid import UUID

from service.outcomes import Decision, Outcome
from service.store.submissions import Answer


def as_answer(submission_id: int, video_id: UUID, outcome: Outcome, decision: Decision) -> Answer:
    """The row to save for one submission."""
    return Answer(
        submission_id=submission_id,
        video_id=video_id,
        outcome=outcome.kind.value,
        task_id=outcome.task_id,
        http_status=outcome.http_status,
        request_id=outcome.request_id,
        error=None if outcome.task_id else outcome.detail,
        estimated_credits=outcome.estimated_credits,
        next_status=decision.next_status.value,
        error_code=decision.error_code,
        error_message=decision.error_message,
        delay_seconds=decision.delay_seconds,
        setback=decision.setback,
        resubmit=decision.resubmit,
    )
