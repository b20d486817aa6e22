"""Random histories: everything that can happen to a queue, in any order, with the promises checked after each step.

`HISTORIES=500 pytest tests/crash/test_histories.py` looks at more of them.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar, cast
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from service import tick, webhooks
from service.operations.saving import as_outcome_row
from service.runway import outcomes
from service.store import claim as claims
from service.store import models
from service.store.claim import OpenSubmission
from service.store.database import Database
from tests.crash.never import NEVER, NOBODYS
from tests.crash.until_idle import judged, until_idle
from tests.database import TABLES, connected, execute
from tests.saved import save_answers
from tests.world import CALLBACK_SECRET, IMAGE, World, world

pytestmark = pytest.mark.crash

HISTORIES = int(os.environ.get("HISTORIES", "5"))
THOROUGH = "HISTORIES" in os.environ  # other histories each time, and a failure is made small, which takes minutes
STEPS = 30
PATIENCE_SECONDS = 60  # for one step: no step waits for anything
MODELS = ("gen4_turbo", "gen4.5")

T = TypeVar("T")
SOME = st.integers(0, 40)  # picks one of what there is, whatever that is by then
CREATE_FAULTS = st.sampled_from(
    ("drop_before", "drop_after", "status=500", "status=503", "status=429", "status=401", "status=400", "no_credits",
     "body=garbage", "accepted_status=504", "fail=INTERNAL", "fail=SAFETY.INPUT.TEXT", "empty", "vanish", "throttled",
     "cancelled", "backwards"),
)  # fmt: skip
LATER_FAULTS = st.sampled_from(("drop_before", "status=500", "body=garbage", "status=404,body=html", "key_revoked"))
LEAPS = st.sampled_from((1, 6, 31, 95, 601, 3_600, 90_000))
PAUSES = st.one_of(st.none(), st.sampled_from((1, 31, 601)))  # None: it is resumed


class Killed(BaseException):
    """The process is gone: nothing that catches errors catches this."""


class Mortal:
    """The database as a process sees it that dies at a statement, and does nothing after it."""

    def __init__(self, database: Database, statements: int, *, after: bool) -> None:
        self._database, self._left, self._after = database, statements, after

    def __getattr__(self, name: str) -> Any:
        asks = name in ("fetch", "fetchrow", "fetchval", "execute")
        return partial(self._ask, name) if asks else getattr(self._database, name)

    async def _ask(self, name: str, *arguments: object) -> Any:
        self._left -= 1
        if self._left < 0 and not (self._after and self._left == -1):
            raise Killed
        # Shielded: the server finishes a statement that it has got, whatever happens to who sent it.
        result = await asyncio.shield(getattr(self._database, name)(*arguments))
        if self._left < 0:
            raise Killed
        return result


class History(RuleBasedStateMachine):
    """One database and one Runway, and everybody who touches them."""

    url: ClassVar[str]
    policy: ClassVar[str]
    runner: ClassVar[asyncio.Runner]
    happened: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.prompts: dict[UUID, str] = {}
        self.removed: set[UUID] = set()
        self.excused: set[UUID] = set()  # touched on purpose in this step: may leave an end
        self.ends: dict[UUID, tuple[str, str | None]] = {}
        self.zombies: list[tuple[OpenSubmission, outcomes.Outcome]] = []
        self.messages: list[tuple[str, float, bytes]] = []
        self.stack = AsyncExitStack()
        self.w: World = self.do(self._open())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one step, which must end, and nothing may go on after it."""

        async def bounded() -> T:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await work

        result = self.runner.run(bounded())
        left = asyncio.all_tasks(self.runner.get_loop())
        assert not left, f"left running: {left}"
        return result

    async def _open(self) -> World:
        await execute(self.url, f"TRUNCATE {TABLES}")
        options = {"tier": 5, "credits": 1_000_000}
        entered = world(self.url, options=options, unknown_policy=self.policy, task_retries=1)
        self.connection = await self.stack.enter_async_context(connected(self.url))
        return await self.stack.enter_async_context(entered)

    def pick(self, index: int) -> UUID | None:
        """One of the videos that there are."""
        ids = list(self.prompts)
        return ids[index % len(ids)] if ids else None

    def tasks(self) -> list[str]:
        """Every task that was ever made."""
        return [entry.task_id for entry in self.w.creates if entry.task_id]

    # What users and apps do.

    @initialize()
    def begin(self) -> None:
        self.enqueue(4, MODELS[0])

    @rule(count=st.integers(1, 4), model=st.sampled_from(MODELS))
    def enqueue(self, count: int, model: str) -> None:
        for _ in range(count):
            prompt = f"history {len(self.prompts)}"
            body = {"promptText": prompt, "promptImage": IMAGE, "model": model}
            self.prompts[self.do(self.w.enqueue(input=body))] = prompt

    @rule()
    def app_inserts(self) -> None:
        prompt = f"history {len(self.prompts)}"
        sql = (
            "INSERT INTO taxiway.videos (user_id, prompt, image_url, status) "
            "VALUES ('app', $1, $2, 'queued') RETURNING id"
        )
        [row] = self.do(self.connection.fetch(sql, prompt, IMAGE))
        self.prompts[row["id"]] = prompt

    @rule(index=SOME)
    def cancel(self, index: int) -> None:
        if (video_id := self.pick(index)) is not None:
            answer = self.do(self.w.api.post(f"/videos/{video_id}/cancel"))
            assert answer.status_code in (200, 404, 409)

    @rule(index=SOME, consent=st.booleans())
    def retry(self, index: int, consent: bool) -> None:
        failed = self.do(
            self.connection.fetch("SELECT id FROM taxiway.videos WHERE status = 'failed' ORDER BY created_at")
        )
        video_id = failed[index % len(failed)]["id"] if failed else self.pick(index)
        if video_id is not None:
            answer = self.do(self.w.api.post(f"/videos/{video_id}/retry", json={"accept_double_charge": consent}))
            assert answer.status_code in (202, 404, 409)
            self.happened[f"retries answered {answer.status_code}"] += 1
            if answer.status_code == 202:
                self.excused.add(video_id)

    @rule(index=SOME)
    def read(self, index: int) -> None:
        if (video_id := self.pick(index)) is not None:
            assert self.do(self.w.api.get(f"/videos/{video_id}")).status_code in (200, 404)

    @rule(index=SOME)
    def app_drags(self, index: int) -> None:
        if (video_id := self.pick(index)) is not None:
            try:
                self.do(self.connection.fetch("UPDATE taxiway.videos SET status = 'queued' WHERE id = $1", video_id))
            except asyncpg.CheckViolationError:
                self.happened["drags refused"] += 1
            else:
                self.excused.add(video_id)
                self.happened["drags"] += 1

    @rule(index=SOME, really=st.booleans())
    def app_deletes(self, index: int, really: bool) -> None:
        if really and (video_id := self.pick(index)) is not None:
            self.do(self.connection.fetch("DELETE FROM taxiway.videos WHERE id = $1", video_id))
            self.removed.add(video_id)

    # What drives the service.

    @rule()
    def tick(self) -> None:
        self.do(self.w.tick())
        assert self.do(self.connection.fetch(NOBODYS)) == []

    @rule(statements=st.integers(0, 16), after=st.booleans())
    def tick_dies(self, statements: int, after: bool) -> None:
        """The process ends before, or just after, its n-th statement; what it had sent goes on without it."""

        async def die() -> None:
            mortal = cast("Database", Mortal(self.w.ctx.database, statements, after=after))
            with suppress(Killed, BaseExceptionGroup):
                await tick.tick(replace(self.w.ctx, database=mortal))
            await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

        self.do(die())

    @rule(count=st.integers(2, 3))
    def ticks_overlap(self, count: int) -> None:
        async def overlap() -> None:
            await asyncio.gather(*(tick.tick(self.w.ctx) for _ in range(count)))

        self.do(overlap())

    @rule()
    def poll(self) -> None:
        counts = self.do(tick.poll_only(self.w.ctx)).as_json()
        assert "errors" not in counts

    @rule(seconds=LEAPS)
    def time_passes(self, seconds: int) -> None:
        self.do(self.w.later(seconds=seconds))

    # What dies, and what comes back.

    @rule(limit=st.integers(1, 3))
    def dies_before_its_call(self, limit: int) -> None:
        self.happened["died before"] += len(self.do(claims.claim(self.w.ctx.database, limit, 60.0)))

    @rule(limit=st.integers(1, 3), lapses=st.booleans(), wakes=st.booleans())
    def stalls_after_its_call(self, limit: int, lapses: bool, wakes: bool) -> None:
        """A process hangs with the answers in its hands, often until it is given up. It may wake, at once or later."""
        self.enqueue(limit, MODELS[1])
        self.do(self._call(limit))
        if lapses:
            self.do(self.w.later(seconds=95))
            self.do(self.w.tick())
        if wakes:
            self.wakes_and_saves(len(self.zombies) - 1)

    async def _call(self, limit: int) -> None:
        claimed = await claims.claim(self.w.ctx.database, limit, 60.0)
        async with self.w.ctx.runway() as runway:
            for submission in claimed:
                give_up_at = self.w.ctx.monotonic() + 60
                answer = await runway.create(submission.operation, submission.input, give_up_at=give_up_at)
                self.zombies.append((submission, outcomes.classify(answer)))

    @rule(index=SOME)
    def wakes_and_saves(self, index: int) -> None:
        if not self.zombies:
            return
        submission, outcome = self.zombies.pop(index % len(self.zombies))
        decision = outcomes.decide(
            outcome, model=submission.model, retries=submission.retries, resubmissions=submission.resubmissions,
            bound=submission.quoted_credits, settings=self.w.ctx.settings, random=0.0,
        )  # fmt: skip
        answer = as_outcome_row(submission.submission_id, submission.video_id, outcome, decision)
        self.do(save_answers(self.w.ctx, [answer]))
        self.happened[f"late {outcome.kind.value}"] += 1

    # What Runway and its relays do.

    @rule(words=st.lists(CREATE_FAULTS, min_size=1, max_size=3), leap=LEAPS)
    def creates_go_wrong(self, words: list[str], leap: int) -> None:
        self.do(self.w.later(seconds=leap))
        self.enqueue(len(words), MODELS[0])
        self.w.faults(*words)
        self.do(self.w.tick())

    @rule(words=LATER_FAULTS, on=st.sampled_from(("retrieve", "delete")))
    def look_goes_wrong(self, words: str, on: str) -> None:
        self.w.faults({"simulate": words, "on": on})

    @rule(model=st.sampled_from((*MODELS, "all")), seconds=PAUSES)
    def model_is_paused_or_resumed(self, model: str, seconds: int | None) -> None:
        if seconds is None:
            self.do(models.resume(self.w.ctx.database, model))
        else:
            self.do(models.pause(self.w.ctx.database, model, seconds, "busy", "by a test"))

    @rule(index=SOME, early=st.booleans(), video=st.one_of(st.none(), SOME))
    def callback(self, index: int, early: bool, video: int | None) -> None:
        """About a task that is known, or about one that nobody ever heard of; it may name the wrong video."""
        booked = self.do(
            self.connection.fetch("SELECT task_id FROM taxiway.submissions WHERE task_id IS NOT NULL ORDER BY id")
        )
        task_id = str(uuid4()) if early or not booked else booked[index % len(booked)]["task_id"]
        data = {"task_id": task_id}
        if video is not None and (video_id := self.pick(video)) is not None:
            data["video_id"] = str(video_id)
        body = json.dumps({"data": data}).encode()
        self.messages.append((f"msg_{len(self.messages)}", self.w.clock(), body))
        assert self._send(*self.messages[-1]).status_code in (200, 202)

    @rule(index=SOME)
    def evidence(self, index: int) -> None:
        """Somebody found out which video's task this is; often before its id was saved."""
        entries = [entry for entry in self.w.creates if entry.task_id]
        booked = {row["task_id"] for row in self.do(self.connection.fetch("SELECT task_id FROM taxiway.submissions"))}
        entries = [entry for entry in entries if entry.task_id not in booked] or entries
        if entries:
            entry = entries[index % len(entries)]
            video_id = next(id for id, prompt in self.prompts.items() if prompt == entry.prompt)
            body = json.dumps({"data": {"task_id": entry.task_id, "video_id": str(video_id)}}).encode()
            self.messages.append((f"msg_{len(self.messages)}", self.w.clock(), body))
            answer = self._send(*self.messages[-1])
            assert answer.status_code in (200, 202)
            self.happened[f"evidence {answer.json()['result']}"] += 1

    @rule(index=SOME, other=st.booleans())
    def callback_again(self, index: int, other: bool) -> None:
        if self.messages:
            name, sent, body = self.messages[index % len(self.messages)]
            answer = self._send(name, sent, body + b" " if other else body)
            pruned = self.w.clock() - sent > 6 * 86_400
            assert answer.status_code in ((409,) if other and not pruned else (200, 202, 409))

    @rule()
    def callback_forged(self) -> None:
        made = self.tasks() or [str(uuid4())]
        body = json.dumps({"data": {"task_id": made[0]}}).encode()
        forged = webhooks.new_secret(lambda count: b"\1" * count)
        assert self._send("msg_forged", 0.0, body, forged).status_code == 401

    def _send(self, name: str, _sent: float, body: bytes, secret: str = CALLBACK_SECRET) -> httpx.Response:
        headers = webhooks.headers(secret, name, int(self.w.clock()), body)
        return self.do(self.w.anyone.post("/callbacks/runway", content=body, headers=headers))

    # What must hold after every step.

    @invariant()
    def promises_hold(self) -> None:
        self.do(self._check())

    async def _check(self) -> None:
        for promise, sql in NEVER.items():
            assert not (rows := await self.connection.fetch(sql)), f"{promise}: {rows}"
        rows = await self.connection.fetch("SELECT id, status, error_code FROM taxiway.videos")
        now = {row["id"]: (row["status"], row["error_code"]) for row in rows}
        for video_id, (status, error_code) in self.ends.items():
            later = now.get(video_id)
            if later is None:
                assert video_id in self.removed
            elif later != (status, error_code) and video_id not in self.excused:
                assert error_code == "SUBMISSION_UNKNOWN", f"{status} {error_code} became {later}"
        assert self.prompts.keys() - self.removed == now.keys()
        self.ends = {id: end for id, end in now.items() if end[0] in ("completed", "failed", "cancelled")}
        self.excused.clear()

    def teardown(self) -> None:
        try:
            self.do(self._settle())
        finally:
            self.do(self.stack.aclose())

    async def _settle(self) -> None:
        """Let it come to its end, and compare the books."""
        self.w.runway.state.runway.faults.clear()
        await until_idle(self.w, rounds=90)
        accounts = await judged(self.w, self.prompts, frozenset(self.removed))
        self.happened["histories"] += 1
        self.happened["deleted rows"] += len(self.removed)
        self.happened["consents"] += accounts.consents
        self.happened["videos"] += len(self.prompts)
        self.happened["creates"] += accounts.creates
        self.happened["unknown"] += accounts.outcomes["unknown"]


@pytest.mark.parametrize("policy", ["fail", "resubmit"])
def test_the_promises_hold_in_random_histories(
    database_url: str, policy: str, record_property: Callable[[str, object], None]
) -> None:
    with asyncio.Runner() as runner:
        History.url, History.policy = database_url, policy
        History.runner, History.happened = runner, Counter()
        thorough = settings(
            max_examples=HISTORIES, stateful_step_count=STEPS, deadline=None, database=None,
            derandomize=not THOROUGH, suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink) if THOROUGH else (Phase.generate,),
        )  # fmt: skip
        run_state_machine_as_test(History, settings=thorough)
    record_property("histories", dict(History.happened))
    print(f"{policy}: {dict(History.happened)}")  # noqa: T201  # shown with -s
