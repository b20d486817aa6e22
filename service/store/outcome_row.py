"""An outcome as a row, and what all statements share that save one (submissions.py, accepted.py)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

SUBMIT = "submit"  # the step, as the actor of an event
OK = 200
FIRST_POLL_SECONDS = 5.0  # no task is done sooner, and Runway wants no poll sooner

# When a task is polled first. The claim has said that already; only after a long call is it too soon.
FIRST_POLL = f"""CASE WHEN v.poll_after > taxiway.now() + make_interval(secs => {FIRST_POLL_SECONDS} / 2.0)
             THEN v.poll_after ELSE taxiway.now() + make_interval(secs => {FIRST_POLL_SECONDS}) END"""

# How long a held row of the ledger is waited for, asked once a statement.
LOCK_MILLISECONDS = 100
PATIENCE = f"AND (SELECT set_config('lock_timeout', '{LOCK_MILLISECONDS}', true)) <> ''"


@dataclass(frozen=True)
class OutcomeRow:
    """The outcome of a submission and what becomes of its video, as the statement takes it."""

    submission_id: int
    video_id: UUID
    outcome: str
    task_id: str | None
    http_status: int | None
    request_id: str | None
    error: str | None
    estimated_credits: Decimal | None
    next_status: str
    error_code: str | None
    error_message: str | None
    delay_seconds: float
    retry: bool
    resubmit: bool
    ledger_only: bool = False  # the video's row refuses it: rescue completes it, or it ends as UNSTORABLE
    announced: bool = True  # an endpoint may want to know that Runway took it

    @property
    def is_usual(self) -> bool:
        """Whether Runway took it, and nothing stands in the way of saying so, or waits for it."""
        return self.outcome == "accepted" and self.http_status == OK and not (self.ledger_only or self.announced)
