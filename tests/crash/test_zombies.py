"""Zombies: a process that is stopped inside its call, given up, and wakes up again with an answer in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.crash import scenarios
from tests.crash.accounts import Accounts
from tests.crash.harness import (
    PAST_DEADLINE_SECONDS,
    Site,
    assert_invariants,
    crash_site,
)
from tests.crash.processes import ForkServer, Process, fork_server
from tests.crash.proxy import Step
from tests.crash.scenarios import Run, inside_the_call

pytestmark = [pytest.mark.anyio, pytest.mark.crash]


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with fork_server() as running:
        yield running


async def steps_of_a_call(site: Site) -> list[Step]:
    """Where a process can be stopped, from the answer to its claim until the answer to its save."""
    await scenarios.submitted(site, Run(site))
    steps = inside_the_call(list(site.watch.steps))
    await site.recover()
    await site.clear()
    return steps


async def stopped(
    site: Site,
    at: Step,
    meanwhile: Callable[[Site], Awaitable[None]],
    wake: Callable[[], object] = bool,
    **options: Any,
) -> Process | None:
    """Run a tick that is stopped at this step, past its deadline; then it wakes, and goes on to its end.

    None if it came to its end without that step.
    """
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hook(step: Step) -> None:
        if step == at and not reached.is_set():
            site.started[-1].freeze()
            reached.set()
            await go_on.wait()

    site.watch.restart(hook)
    process = site.start("tick", **options)
    waits = [asyncio.create_task(process.end()), asyncio.create_task(reached.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if not reached.is_set():
        return None
    await site.world.later(seconds=PAST_DEADLINE_SECONDS)
    await meanwhile(site)
    wake()
    process.thaw()
    go_on.set()
    await waits[0]
    return process


async def rescued(site: Site) -> None:
    """Somebody else gives the call up, and does what the policy says."""
    await site.world.tick()
    await site.world.later(seconds=10)
    await site.world.tick()


async def retried_by_an_operator(site: Site) -> None:
    """Somebody else gives the call up, and the operator pays again if need be."""
    await site.world.tick()
    [video] = await site.world.rows("SELECT id FROM taxiway.videos")
    await site.world.api.post(f"/videos/{video['id']}/retry", json={"accept_double_charge": True})
    await site.world.tick()


async def ended(site: Site) -> Accounts:
    """All is done. The zombie's own answer was evidence enough: no task is in Runway's book alone."""
    await site.recover()
    found = await assert_invariants(site.world)
    assert found.unseen == 0
    assert found.statuses == {"completed": 1}
    return found


@pytest.mark.parametrize(
    ("policy", "meanwhile", "most"),
    [("fail", rescued, 1), ("resubmit", rescued, 2), ("fail", retried_by_an_operator, 2)],
    ids=["fail", "resubmit", "operator"],
)
async def test_a_zombie_at_any_step_of_its_call_pays_no_more_than_was_consented(
    database_url: str,
    forks: ForkServer,
    policy: str,
    meanwhile: Callable[[Site], Awaitable[None]],
    most: int,
    record_property: Callable[[str, object], None],
) -> None:
    creates: list[int] = []
    reached: set[tuple[str, str, str]] = set()
    async with crash_site(database_url, forks, unknown_policy=policy) as site:
        steps = await steps_of_a_call(site)
        for step in steps:
            await site.enqueue()
            zombie = await stopped(site, step, meanwhile)
            found = await ended(site)
            assert found.tasks <= most, step
            assert found.deleted == found.tasks - 1, step
            await site.clear()
            if zombie:
                creates.append(found.tasks)
                reached.add(step.kind)
    record_property("stopped", len(creates))
    summary = f"stopped at {len(creates)} steps, {sum(creates)} creates, {creates.count(2)} surplus tasks deleted"
    print(f"zombies: {summary}")  # noqa: T201  # the numbers of the proof, for whoever runs it with -s
    assert max(creates) == most
    assert reached == {step.kind for step in steps}


async def test_a_zombie_that_wakes_too_late_does_not_send(database_url: str, forks: ForkServer, tmp_path: Path) -> None:
    """It knows by its own clock, and its "not sent" puts the video back in the queue."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    async with crash_site(database_url, forks) as site:
        claim_answered, *_ = await steps_of_a_call(site)
        await site.enqueue()
        late = partial(clock.write_text, str(PAST_DEADLINE_SECONDS))
        process = await stopped(site, claim_answered, rescued, late, clock=clock)
        assert process is not None
        assert (await process.counts())["submit"]["not_sent"] == 1
        assert not site.world.creates
        [video] = await site.world.rows("SELECT status FROM taxiway.videos")
        assert video["status"] == "queued"
        assert (await ended(site)).tasks == 1


async def test_a_zombie_that_brings_a_refusal_frees_its_video(database_url: str, forks: ForkServer) -> None:
    """Rejected, although late, proves that nothing was made: the video may be sent again."""
    async with crash_site(database_url, forks) as site:
        steps = await steps_of_a_call(site)
        answered = next(step for step in steps if step.moment == "after half of the answer of")
        await site.enqueue()
        site.world.faults({"simulate": "status=503"})
        process = await stopped(site, answered, rescued)
        assert process is not None
        assert (await process.counts())["submit"]["rejected"] == 1
        assert (await ended(site)).tasks == 1
