"""Rescue: submissions whose holder is gone, answers that could not reach their video, rows dragged back manually."""

from __future__ import annotations

import logging

from service.context import Context, Counts
from service.logs import VIDEO, event
from service.operations.attach import follow_evidence
from service.operations.saving import as_outcome_row
from service.runway import outcomes
from service.runway.outcomes import Kind, Outcome
from service.store import inbox, ledger, submissions
from service.store.submissions import Guard, Lapsed, OutcomeRow

log = logging.getLogger(__name__)

BATCH = 100
NOTHING: Counts = {"lapsed": 0, "completed": 0, "restored": 0, "orphaned": 0, "matched": 0, "attached": 0}
LAPSED = Outcome(Kind.UNKNOWN, "whoever held it died, or hung, before an answer was saved")
DRAGGED_WORDS = (
    "This video was put back in the queue, but an earlier attempt may have been taken and charged by Runway. "
    "Retry it with accept_double_charge, or attach the task."
)


async def run_once(ctx: Context) -> Counts:
    """One batch: declare lapsed submissions unknown, complete saved answers, restore dragged rows, follow callbacks."""
    database = ctx.database
    return {
        "lapsed": await _give_up_lapsed(ctx),
        "completed": await _complete_unsaved(ctx),
        "restored": await ledger.restore(database, DRAGGED_WORDS, BATCH),
        "orphaned": await ledger.end_orphans(database, BATCH),
        "matched": await inbox.match(database, BATCH),
        "attached": await follow_evidence(ctx),
    }


async def _give_up_lapsed(ctx: Context) -> int:
    lapsed = await submissions.lapsed(ctx.database, BATCH)
    if not lapsed:
        return 0
    answers = [_unknown(ctx, one) for one in lapsed]
    results = await submissions.save(ctx.database, answers, guard=Guard.EXPIRED)
    for one in lapsed:
        if one.submission_id in results:
            event(
                log, VIDEO, "lapsed", "No outcome by the deadline: unknown", level=logging.WARNING,
                video=one.video_id, submission=one.submission_id,
            )  # fmt: skip
    return len(results)


def _unknown(ctx: Context, one: Lapsed) -> OutcomeRow:
    decision = outcomes.decide(
        LAPSED, model=one.model, retries=one.retries, resubmissions=one.resubmissions, bound=one.quoted_credits,
        settings=ctx.settings, random=ctx.random(),
    )  # fmt: skip
    return as_outcome_row(one.submission_id, one.video_id, LAPSED, decision)


async def _complete_unsaved(ctx: Context) -> int:
    answers = await submissions.unsaved(ctx.database, BATCH)
    if not answers:
        return 0
    results = await submissions.save(ctx.database, answers, guard=Guard.UNSAVED)
    return sum(result != "locked" for result in results.values())
