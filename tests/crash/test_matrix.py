"""The crash matrix: kill -9 at every statement and at every half of every call; nothing is lost, nothing paid twice.

The steps are found by watching each scenario once (tests/crash/scenarios.py), so a new statement is a new case.
Each state that a kill can leave is left once. With `TAXIWAY_CRASH=full` every scenario is played under both policies,
and killed at every step.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace

import pytest

from service.context import Context, Counts
from service.operations import lapsing
from service.runway.outcomes import Kind, Outcome
from service.steps import cancel
from service.store import claim as claims
from service.store import gate
from tests.crash import linked_scenarios as linked
from tests.crash import scenarios
from tests.crash.harness import Site, accounts, assert_invariants, crash_site
from tests.crash.processes import ForkServer, fork_server
from tests.crash.proxy import Step, only_reads
from tests.crash.receiver import assert_told
from tests.crash.scenarios import Run, Scenario, inside_the_call
from tests.database import temporary_database

pytestmark = [pytest.mark.anyio, pytest.mark.crash]

SIDE_BY_SIDE = 2  # so many cases side by side, each with its own database and its own Runway
ATTEMPTS = 4  # what runs side by side may come in another order than when it was watched

Choice = Callable[[list[Step]], list[Step]]
EVERY_STEP: Choice = list


def each_state(steps: list[Step]) -> list[Step]:
    """Of the steps that differ in their number alone, the first; none that leaves the same as the one before it."""
    first = [step.nth == 1 for step in steps]
    same = [False] + [leaves_the_same(before, step) for before, step in itertools.pairwise(steps)]
    return [step for index, step in enumerate(steps) if first[index] and not (same[index] and first[index - 1])]


def leaves_the_same(before: Step, step: Step) -> bool:
    """Whether nothing happens between these two that anybody else could see.

    That is so between the answer to one statement and the arrival of the next, and while a statement runs that only
    reads, or whose transaction stays open. What a COMMIT finds is kept all the same: locks are held by then.
    """
    if step.moment == "before":
        return before.moment == "after" and not step.name.startswith("COMMIT")
    return not step.changes and before == replace(step, moment="before")


def each_state_of_the_call(steps: list[Step]) -> list[Step]:
    """Each state from the answer to the claim until the answer to the last statement that saves."""
    return each_state(inside_the_call(steps))


CASES: list[tuple[Scenario, str, Choice]] = [
    (scenarios.everything_in_one_tick, "fail", each_state),
    (scenarios.submitted, "resubmit", each_state_of_the_call),
    (scenarios.refused, "fail", each_state_of_the_call),
    (scenarios.enqueued, "fail", each_state),
    (scenarios.waited, "fail", each_state),
    (scenarios.followed, "fail", each_state),
    (scenarios.asked_for, "resubmit", each_state),
    (scenarios.called_back, "fail", each_state),
    (scenarios.evidence_arrives, "fail", each_state),
    (scenarios.evidence_arrives, "resubmit", each_state),
    (scenarios.looked_at, "fail", each_state),
    (scenarios.cancelled, "fail", each_state),
    (scenarios.retried, "fail", each_state),
    (scenarios.reported, "fail", each_state),
    (scenarios.reported_in_a_request, "fail", each_state),
    (linked.taken, "fail", each_state),
    (linked.taken, "resubmit", each_state_of_the_call),
    (linked.bounced, "fail", each_state_of_the_call),
    (linked.turned_away, "fail", each_state),
    (linked.shown, "fail", each_state),
    (linked.not_shown, "fail", each_state),
    (linked.withdrawn, "fail", each_state),
    (linked.queued_again, "fail", each_state),
]
if os.environ.get("TAXIWAY_CRASH") == "full":
    every_scenario = dict.fromkeys(scenario for scenario, _, _ in CASES)
    CASES = [(scenario, policy, EVERY_STEP) for scenario in every_scenario for policy in ("fail", "resubmit")]


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with fork_server() as running:
        yield running


@pytest.fixture
def database_urls(server_url: str, template_name: str) -> Iterator[list[str]]:
    """A migrated database for each of them."""
    with ExitStack() as stack:
        yield [stack.enter_context(temporary_database(server_url, template=template_name)) for _ in range(SIDE_BY_SIDE)]


def named_case(scenario: Scenario, policy: str) -> str:
    """What pytest calls it."""
    return f"{scenario.__module__.rpartition('.')[2]}.{scenario.__name__}-{policy}"


async def settle_all(site: Site) -> None:
    """A fresh process takes over: everything ends, and once the evidence is in, both books are the same."""
    await site.recover()
    found = await assert_invariants(site.world)
    if await site.show_evidence():
        found = await assert_invariants(site.world)
    assert found.unseen == 0, "a task is in Runway's book alone"
    await assert_told(site.world, site.receiver)
    await site.clear()


async def watched(site: Site, scenario: Scenario) -> list[Step]:
    """The steps of this scenario when nothing goes wrong."""
    await scenario(site, Run(site))
    steps = list(site.watch.steps)
    await settle_all(site)
    return steps


async def killed(site: Site, scenario: Scenario, step: Step) -> bool:
    """Play the scenario, and kill at this step; whether it was reached. Only the first of its kind must come."""
    for _ in range(ATTEMPTS if step.nth == 1 else 1):
        run = Run(site, step)
        await scenario(site, run)
        try:
            await settle_all(site)
        except AssertionError as exc:
            raise AssertionError(f"{scenario.__name__}, killed at {step}: {exc}") from exc
        if run.killed:
            return True
    return False


@pytest.mark.parametrize(
    ("scenario", "policy", "choose"), CASES, ids=[named_case(scenario, policy) for scenario, policy, _ in CASES]
)
async def test_killed_at_any_step_a_video_ends_and_is_paid_once(
    database_urls: list[str],
    forks: ForkServer,
    scenario: Scenario,
    policy: str,
    choose: Choice,
    record_property: Callable[[str, object], None],
) -> None:
    async with AsyncExitStack() as stack:
        sites = [
            await stack.enter_async_context(crash_site(url, forks, unknown_policy=policy)) for url in database_urls
        ]
        steps = choose(await watched(sites[0], scenario))
        waiting = iter(steps)
        done: list[Step] = []

        async def work(site: Site) -> None:
            done.extend([step for step in waiting if await killed(site, scenario, step)])

        async with asyncio.TaskGroup() as group:
            for site in sites:
                group.create_task(work(site))
    record_property("killed", len(done))
    print(  # noqa: T201  # the numbers of the proof, for whoever runs it with -s
        f"crash matrix: {scenario.__name__} under {policy}: killed at {len(done)} of {len(steps)} steps"
    )
    # How often a statement runs depends on who is faster: answers that come together are saved together.
    assert {step.kind for step in done} == {step.kind for step in steps}


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("SELECT 1", True),
        ("-- INSERT\nWITH a AS (SELECT 'UPDATE') SELECT * FROM a", True),
        ("SELECT set_config('lock_timeout', '2000', true)", True),
        ("SELECT * FROM taxiway.videos FOR UPDATE", False),
        ("WITH a AS (DELETE FROM taxiway.videos RETURNING id) SELECT id FROM a", False),
        ("SELECT pg_try_advisory_lock(1)", False),
        ("BEGIN", False),
        (claims.claiming().usual, False),
    ],
)
def test_a_statement_that_may_change_something_is_never_passed_over(sql: str, reads: bool) -> None:
    assert only_reads(sql) is reads


LAPSED_AS_NOT_SENT = Outcome(Kind.NOT_SENT, "believed, without proof, never to have been sent")


async def no_deletes(_ctx: Context, _share: object) -> Counts:
    """A cancel step that does nothing, and says that it did."""
    return {"deleted": 0}


@pytest.mark.parametrize(
    ("policy", "module", "name", "broken", "complaint"),
    [
        ("fail", lapsing, "LAPSED", LAPSED_AS_NOT_SENT, "tasks, 0 consents"),
        ("resubmit", cancel, "run_once", no_deletes, "is left open"),
    ],
)
async def test_the_judge_sees_it_when_a_promise_is_broken(
    database_url: str,
    forks: ForkServer,
    monkeypatch: pytest.MonkeyPatch,
    policy: str,
    module: object,
    name: str,
    broken: object,
    complaint: str,
) -> None:
    """A matrix that cannot fail would prove nothing."""
    async with crash_site(database_url, forks, unknown_policy=policy) as site:
        steps = await watched(site, scenarios.submitted)
        step = next(step for step in steps if step.moment == "after the whole request of" and "POST" in step.name)
        await scenarios.submitted(site, run := Run(site, step))
        assert run.killed
        monkeypatch.setattr(module, name, broken)
        await site.recover()
        with contextlib.suppress(AssertionError):  # that it does not come to rest is no proof yet
            await site.show_evidence(rounds=3)
        found = await accounts(site.world)
        assert any(complaint in each for each in found.complaints), found


async def test_the_judge_sees_it_when_a_round_is_charged_twice(
    database_url: str, forks: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that does not note what it let pass: the mirror then puts the row back in the app's queue."""
    monkeypatch.setattr(gate, "_PASSED", "SELECT $1::uuid, $2::text, $3::integer")
    async with crash_site(database_url, forks) as site:
        await linked.bounced(site, Run(site))
        await site.recover()
        found = await accounts(site.world)
        assert [words.partition(": ")[2] for words in found.complaints] == ["charged 2 times for round 1"]
