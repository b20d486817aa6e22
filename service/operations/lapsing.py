"""Lapsing: a submission whose process is gone has no outcome by its deadline. What it came to is unknown."""

from __future__ import annotations

import logging

from service.context import Context
from service.logs import VIDEO, event
from service.operations.parking import ParkingLot
from service.operations.saving import as_outcome_row
from service.runway import outcomes
from service.runway.outcomes import Kind, Outcome
from service.store import submissions
from service.store.outcome_row import OutcomeRow
from service.store.submissions import Guard, Lapsed

log = logging.getLogger(__name__)

LAPSED = Outcome(Kind.UNKNOWN, "the process that was to send it died, or hung, before it saved an answer")


async def give_up_lapsed(ctx: Context, limit: int) -> int:
    """Declare so many of them unknown; how many that were. Their slots are free then."""
    parking = ParkingLot(ctx, "rescue")
    lapsed = await submissions.lapsed(ctx.database, limit, list(map(int, parking.passed_over("lapse"))))
    if not lapsed:
        return 0
    answers = [_unknown(ctx, one) for one in lapsed]
    results = await submissions.save_batch(
        ctx.database, answers, parking, guard=Guard.EXPIRED, name="lapse", actor="rescue"
    )
    for one in lapsed:
        if results.get(one.submission_id, "busy") != "busy":
            event(
                log, VIDEO, "lapsed", "No outcome by the deadline: unknown", level=logging.WARNING,
                video=one.video_id, submission=one.submission_id,
            )  # fmt: skip
    return sum(result != "busy" for result in results.values())


def _unknown(ctx: Context, one: Lapsed) -> OutcomeRow:
    decision = outcomes.decide(
        LAPSED, model=one.model, retries=one.retries, resubmissions=one.resubmissions, bound=one.quoted_credits,
        settings=ctx.settings, random=ctx.random(),
    )  # fmt: skip
    return as_outcome_row(one.submission_id, one.video_id, LAPSED, decision)
