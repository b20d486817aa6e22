"""Deterministic simulation: three ticks, a web process, a rescue, users, callbacks and a wire, in every order.

`SCHEDULES=200 pytest tests/crash/test_schedules.py -k promises` plays more of them; `SEED=n` begins with that seed.
One that breaks a promise is made short and printed, step by step.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import pytest

from service.operations import lapsing
from service.runway.outcomes import Kind, Outcome
from tests.crash.schedules.decisions import Decisions, shorten
from tests.crash.schedules.theatre import Theatre
from tests.database import execute, run

pytestmark = pytest.mark.crash

FEWEST = 90  # in half of which everything usual must have happened
SCHEDULES = int(os.environ.get("SCHEDULES", FEWEST))
SEED = int(os.environ.get("SEED", "0"))
# To make a schedule that fails shorter; and of those that are played once more.
TRIES, AGAIN = (40, 10) if SCHEDULES > FEWEST else (8, 4)
PARTS = 2  # for as many workers
ENOUGH_SCHEDULES = 400  # in which a planted bug must show
USUAL = ("held", "lost before", "lost after", "dies before", "dies after", "drags", "retry with consent answered 202")


@pytest.fixture
def theatre(database_url: str) -> Iterator[Theatre]:
    """Where schedules are played."""
    made = Theatre(database_url)
    yield made
    made.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_the_promises_hold_in_every_order(
    theatre: Theatre, part: int, record_property: Callable[[str, object], None]
) -> None:
    happened: Counter[str] = Counter()
    for seed in range(SEED + part, SEED + SCHEDULES, PARTS):
        result = theatre.play(seed)
        if result.failure is not None:
            pytest.fail(theatre.story(result))
        happened += result.happened
    record_property("schedules", dict(happened))
    print(dict(happened))  # noqa: T201  # shown with -s
    missing = [name for name in USUAL if not happened[name]]
    assert not missing or SCHEDULES < FEWEST, f"never happened: {missing}"


def test_a_seed_makes_the_same_schedule_every_time(theatre: Theatre) -> None:
    seeds = range(SEED, SEED + AGAIN)
    first = [theatre.play(seed) for seed in seeds]
    for seed, before in zip(reversed(seeds), reversed(first), strict=True):
        again = theatre.play(seed)
        replayed = theatre.play(seed, before.decisions)
        assert again.trace == before.trace == replayed.trace
        assert again.decisions == before.decisions


# Bugs as they are made: (SQL as it stands, SQL with the bug), what else goes with it.
CLAIMED_TWICE = [("FOR UPDATE OF v SKIP LOCKED\n        ) AS first", ") AS first")]
LATE_ANSWER_HOLDS = [("WHEN h.open_submission_id = a.submission_id THEN 'holds'", "WHEN h.id IS NOT NULL THEN 'holds'")]
NOT_SENT = Outcome(Kind.NOT_SENT, "taken for not sent")


@pytest.mark.parametrize(
    ("bugs", "schema", "code"),
    [
        pytest.param(
            CLAIMED_TWICE, "DROP INDEX taxiway.submissions_one_open", nullcontext(), id="claim without a lock"
        ),
        pytest.param(LATE_ANSWER_HOLDS, "", nullcontext(), id="save without its fence"),
        pytest.param([], "", patch.object(lapsing, "LAPSED", NOT_SENT), id="lapsed is taken for not sent"),
    ],
)
def test_a_planted_bug_is_found_and_its_schedule_made_short(
    theatre: Theatre,
    bugs: list[tuple[str, str]],
    schema: str,
    code: AbstractContextManager[object],
) -> None:
    theatre.shared.plant(*bugs)
    if schema:
        run(execute(theatre.url, schema))
    with code:
        for seed in range(ENOUGH_SCHEDULES):
            result = theatre.play(seed)
            if result.failure is not None:
                break
        else:
            pytest.fail("not found")
        story = theatre.story(result, TRIES)
    assert theatre.shared.planted_hits >= len(bugs)
    print(f"after {seed + 1} schedules\n{story}")  # noqa: T201  # shown with -s


def test_a_schedule_is_shortened_to_the_decisions_that_matter() -> None:
    decisions = Decisions(7)
    for _ in range(200):
        decisions.unusual(0.5, 3)
    matter = {20: 3, 90: 2}
    given = [matter.get(place, one) for place, one in enumerate(decisions.made)]
    short = shorten(given, lambda some: len(some) > 90 and some[20] == 3 and some[90] == 2)
    assert {place: one for place, one in enumerate(short) if one} == matter
