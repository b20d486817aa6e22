"""Rescue: submissions whose holder is gone, answers that could not reach their video, and rows dragged back by hand."""

from __future__ import annotations

import logging

from service.house import Counts, House
from service.logs import VIDEO, event
from service.operations.attach import follow_evidence
from service.operations.saving import as_answer
from service.runway import outcomes
from service.runway.outcomes import Kind, Outcome
from service.store import inbox, ledger, submissions
from service.store.submissions import Answer, Guard, Lapsed

log = logging.getLogger(__name__)

BATCH = 100
NOTHING: Counts = {"lapsed": 0, "completed": 0, "restored": 0, "orphaned": 0, "matched": 0, "adopted": 0}
LAPSED = Outcome(Kind.UNKNOWN, "whoever held it died, or hung, before an answer was saved")
DRAGGED_WORDS = (
    "This video was put back in the queue, but an earlier attempt may have been taken and charged by Runway. "
    "Retry it with accept_double_charge, or adopt the task."
)


async def run_once(house: House) -> Counts:
    """One batch: declare lapsed submissions unknown, complete saved answers, restore dragged rows, follow callbacks."""
    database = house.database
    return {
        "lapsed": await _give_up_lapsed(house),
        "completed": await _complete_unsaved(house),
        "restored": await ledger.restore(database, DRAGGED_WORDS, BATCH),
        "orphaned": await ledger.end_orphans(database, BATCH),
        "matched": await inbox.match(database, BATCH),
        "adopted": await follow_evidence(house),
    }


async def _give_up_lapsed(house: House) -> int:
    lapsed = await submissions.lapsed(house.database, BATCH)
    if not lapsed:
        return 0
    answers = [_unknown(house, one) for one in lapsed]
    results = await submissions.save(house.database, answers, guard=Guard.EXPIRED)
    for one in lapsed:
        if one.submission_id in results:
            event(
                log, VIDEO, "lapsed", "No outcome by the deadline: unknown", level=logging.WARNING,
                video=one.video_id, submission=one.submission_id,
            )  # fmt: skip
    return len(results)


def _unknown(house: House, one: Lapsed) -> Answer:
    decision = outcomes.decide(
        LAPSED, model=one.model, setbacks=one.setbacks, resubmits=one.resubmits, bound=one.quoted_credits,
        settings=house.settings, chance=house.chance(),
    )  # fmt: skip
    return as_answer(one.submission_id, one.video_id, LAPSED, decision)


async def _complete_unsaved(house: House) -> int:
    answers = await submissions.unsaved(house.database, BATCH)
    if not answers:
        return 0
    results = await submissions.save(house.database, answers, guard=Guard.UNSAVED)
    return sum(result != "locked" for result in results.values())
