"""The crash matrix: kill -9 at every statement and at every half of every call, then see that nothing was lost or
paid twice.

The steps are found by watching each scene once (tests/crash/scenes.py), so a new statement is a new case.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from service.outcomes import Kind, Outcome
from service.steps import cancel, rescue
from tests.crash import scenes
from tests.crash.harness import Field, Zygote, accounts, crash_field, judge, zygote
from tests.crash.proxy import RUNWAY, Step
from tests.crash.scenes import Run, Scene

pytestmark = [pytest.mark.anyio, pytest.mark.crash]

ATTEMPTS = 4  # calls that run side by side may come in another order than when they were watched
SCENES = (
    scenes.everything_in_one_tick,
    scenes.enqueued,
    scenes.called_back,
    scenes.evidence_arrives,
    scenes.looked_at,
    scenes.cancelled,
    scenes.retried,
    scenes.refused,
)
POLICIES = ("fail", "resubmit")


@pytest.fixture(scope="module")
def forks() -> Iterator[Zygote]:
    with zygote() as running:
        yield running


async def settled(field: Field) -> None:
    """A fresh process takes over: everything ends, and once the evidence is in, both books are the same."""
    await field.recover()
    await judge(field.world)
    await field.show_evidence()
    found = await judge(field.world)
    assert found.unseen == 0, "a task is in Runway's book alone"


async def traced(field: Field, scene: Scene) -> list[Step]:
    """The steps of this scene when nothing goes wrong."""
    await scene(field, Run(field))
    steps = list(field.watch.steps)
    await settled(field)
    return steps


async def killed(field: Field, scene: Scene, step: Step) -> bool:
    """Play the scene, and kill at this step; whether it was reached."""
    for _ in range(ATTEMPTS):
        run = Run(field, step)
        await scene(field, run)
        await settled(field)
        if run.killed:
            return True
    return False


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_killed_at_every_step_a_video_ends_and_is_paid_once(
    database_url: str, forks: Zygote, policy: str, scene: Scene, record_property: Callable[[str, object], None]
) -> None:
    async with crash_field(database_url, forks, unknown_policy=policy) as field:
        t = time.monotonic()
        steps = await traced(field, scene)
        missed = [step for step in steps if not await killed(field, scene, step)]
        print(f"{scene.__name__}: {len(steps)} steps, missed {list(map(str, missed))} {time.monotonic()-t:.1f}s")
