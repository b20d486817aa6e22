"""Everything that Runway can do wrong, one fault at a time and in mixtures, over real sockets."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import httpx
import pytest

from service import context as contexts
from service import deadline
from service.app import create_app
from service.runway import outcomes
from service.simulator.app import SimulatorOptions, create_simulator
from service.simulator.faults import On
from service.steps import cancel
from service.store import claim as claims
from service.store import tasks
from tests.crash.scripted import Script, Scripted
from tests.crash.until_idle import judged, until_idle
from tests.simulator_server import on_socket
from tests.world import API_KEY, CRON_SECRET, IMAGE, Clock, World, settings, warm

pytestmark = [pytest.mark.anyio, pytest.mark.crash]

CALL_SECONDS = 1.0
PATIENT_SECONDS = 2.5  # where each answer counts: sixty of them at once take a busy machine more than a second
PROMPT_SECONDS = 1.0
ENDLESS = f"{PATIENT_SECONDS * 1.3:g}"
LATE = f"{PROMPT_SECONDS * 1.3:g}"
UNKNOWN = ("failed", "SUBMISSION_UNKNOWN")
REJECTED = ("failed", "REJECTED")
COMPLETED = ("completed", None)
MIXTURES = int(os.environ.get("PROVIDER_SEEDS", "2"))

# One fault of one create, and how its video ends when Runway is itself again afterwards.
CREATES: dict[str, tuple[str, str | None]] = {
    "slow=0.05": COMPLETED,
    f"slow={ENDLESS}": UNKNOWN,
    f"stall={ENDLESS}": UNKNOWN,
    f"slow={LATE},status=503": UNKNOWN,  # too late to be Runway shedding load
    **dict.fromkeys(("drop_before", "drop_before,reset", "drop_after", "drop_after,reset", "half"), UNKNOWN),
    **dict.fromkeys(("status=400", "status=403", "status=413", "status=422"), REJECTED),
    **dict.fromkeys(("status=401", "status=404", "status=405", "status=429", "status=429,retry_after=30"), COMPLETED),
    **dict.fromkeys(("status=502", "status=503"), COMPLETED),
    **dict.fromkeys(("no_credits", "key_revoked", "daily_limit"), COMPLETED),
    **dict.fromkeys(("status=408", "status=409", "status=500", "status=504", "status=302", "status=599"), UNKNOWN),
    **{f"status={n},body={body}": UNKNOWN for n in (502, 503, 504) for body in ("bare", "html", "none", "garbage")},
    **{f"accepted_status={n}": UNKNOWN for n in (201, 202, 204, 302, 408, 500, 504)},
    **{f"accepted_status=503,body={body}": UNKNOWN for body in ("bare", "html", "none", "garbage")},
    **{f"body={body}": UNKNOWN for body in ("garbage", "none", "html", "no_id")},
}
# What can become of a task, also known by the create's fault. With another task after it where the code allows one.
FATES: dict[str, tuple[str, str | None]] = {
    **{
        f"fail={code}": ("failed", code)
        for code in (
            "SAFETY.INPUT.TEXT", "SAFETY.INPUT.IMAGE", "SAFETY.OUTPUT.VIDEO", "INPUT_PREPROCESSING.SAFETY.TEXT",
            "INTERNAL.BAD_OUTPUT.CODE01", "INTERNAL.BAD_OUTPUT.01", "ASSET.INVALID", "SOMETHING.NEW",
        )
    },
    **{
        f"fail={code}": COMPLETED
        for code in ("INPUT_PREPROCESSING.INTERNAL", "THIRD_PARTY.UNAVAILABLE", "INTERNAL", "null")
    },
    "empty": ("failed", "NO_OUTPUT"),
    "vanish": ("failed", "TASK_VANISHED"),
    "throttled": ("failed", "TASK_TIMEOUT"),
    "backwards": COMPLETED,
    "cancelled": ("failed", "TASK_CANCELLED"),
}  # fmt: skip
RETRIED = ("INPUT_PREPROCESSING.INTERNAL", "THIRD_PARTY.UNAVAILABLE", "INTERNAL", "null")
# Looking and deleting can be repeated, so whatever goes wrong with them must not be seen in the end.
PASSING = (
    "slow=0.05", f"slow={ENDLESS}", f"stall={ENDLESS}", "drop_before", "drop_before,reset", "drop_after",
    "drop_after,reset", "half", "body=garbage", "body=none", "body=html", "key_revoked",
    *(f"status={n}" for n in (400, 401, 403, 405, 408, 429, 500, 502, 503, 504)),
    *(f"status={n},body={body}" for n in (404, 502, 503) for body in ("bare", "html", "none")),
)  # fmt: skip
LOOKS: dict[str, tuple[str, str | None]] = {
    **dict.fromkeys((*PASSING, "body=no_id"), COMPLETED),
    **dict.fromkeys(("status=404", "vanish"), COMPLETED),  # one 404 proves nothing
}
# For mixtures: everything above, as often as one would meet it. A model that is paused for good is no mixture.
MIXED: dict[On, tuple[str, ...]] = {
    "create": (*CREATES, *FATES),
    "retrieve": (*LOOKS, "", "", ""),
    "delete": PASSING,
}


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls end within a second or so, so that what takes too long takes no longer than that."""
    monkeypatch.setattr(deadline, "SHORTEST_CALL_SECONDS", 0.0)
    monkeypatch.setattr(cancel, "RETRIEVE_SECONDS", CALL_SECONDS)
    monkeypatch.setattr(tasks, "CALL_SECONDS", CALL_SECONDS)
    monkeypatch.setattr(outcomes, "PROMPT_REFUSAL_SECONDS", PROMPT_SECONDS)


@asynccontextmanager
async def socket_world(
    url: str, script: Script, *, timeout: float = CALL_SECONDS, **options: Any
) -> AsyncIterator[World]:
    """A Taxiway whose Runway is reached over a socket, with the product's own transport."""
    clock = Clock()
    runway = create_simulator(
        SimulatorOptions(**({"tier": 5, "credits": 1_000_000} | options)), clock=clock, random=Random(7)
    )
    async with on_socket(Scripted(runway, script)) as base_url:
        built = contexts.build(settings(url, runway_url=base_url, submit_concurrency=60))
        quick = built.settings.model_copy(update={"post_timeout": timeout})
        ctx = replace(built, settings=quick, now=clock, random=lambda: 0.0)
        app = httpx.ASGITransport(app=create_app(ctx))
        clients = [
            httpx.AsyncClient(transport=app, base_url="http://taxiway.test", headers=headers)
            for headers in (
                {"authorization": f"Bearer {API_KEY}"},
                {"authorization": f"Bearer {CRON_SECRET}"},
                {},
            )
        ]
        try:
            yield World(ctx, runway, clock, url, *clients)
        finally:
            await ctx.database.close()


async def order(w: World, prompts: list[str], **changes: Any) -> dict[UUID, str]:
    """Hand in one video for each prompt."""
    body = {"promptImage": IMAGE} | changes
    return {await w.enqueue(input=body | {"promptText": prompt}): prompt for prompt in prompts}


async def paused_models(w: World) -> dict[str, str]:
    """The models that are paused, with their reasons."""
    return {
        row["model"]: row["reason"] for row in await w.rows("SELECT * FROM taxiway.models WHERE reason IS NOT NULL")
    }


def once(faults: dict[str, str], on: On) -> Script:
    """Each video's first request of a kind goes wrong in its own way."""
    return lambda prompt, kind, count: faults.get(prompt, "") if kind == on and count == 0 else ""


@pytest.mark.parametrize(("on", "table"), [("create", CREATES), ("create", FATES), ("retrieve", LOOKS)])
async def test_every_single_fault_ends_as_the_tables_say(
    database_url: str,
    on: On,
    table: dict[str, tuple[str, str | None]],
    record_property: Callable[[str, object], None],
) -> None:
    faults = {f"video {number}": words for number, words in enumerate(table)}
    # As many good ones between them, or it would be an outage.
    good = {f"good {number}": "" for number in range(len(faults))}
    async with socket_world(database_url, once(faults, on), timeout=PATIENT_SECONDS) as w:
        prompts = await order(w, [prompt for pair in zip(faults, good, strict=True) for prompt in pair])
        await until_idle(w, rounds=120)
        accounts = await judged(w, prompts)
        rows = await w.rows("SELECT id, status, error_code, error_message FROM taxiway.videos")
        by_prompt = {prompts[row["id"]]: (row["status"], row["error_code"]) for row in rows}
        assert {words: by_prompt[prompt] for prompt, words in faults.items()} == table
        assert {by_prompt[prompt] for prompt in good} == {COMPLETED}
        again = sum(f"fail={code}" in table for code in RETRIED)
        assert accounts.tasks <= len(table) + len(good) + again
    record_property("faults", len(table))


async def test_whatever_goes_wrong_with_a_delete_the_task_is_gone_in_the_end(database_url: str) -> None:
    faults = {f"video {number}": words for number, words in enumerate(PASSING)}
    async with socket_world(database_url, once(faults, "delete")) as w:
        prompts = await order(w, list(faults))
        await w.tick()
        for video_id in prompts:
            assert (await w.api.post(f"/videos/{video_id}/cancel")).status_code == 200
        await until_idle(w)
        accounts = await judged(w, prompts)
        assert accounts.statuses == {"cancelled": len(PASSING)}
        assert accounts.deleted == len(PASSING)


@pytest.mark.parametrize("seed", range(MIXTURES))
async def test_mixtures_of_faults_lose_nothing_and_pay_nothing_twice(
    database_url: str, seed: int, record_property: Callable[[str, object], None]
) -> None:
    def script(prompt: str, on: On, count: int) -> str:
        dice = Random(f"{seed} {prompt} {on} {count}")
        return dice.choice(MIXED[on]) if dice.random() < 0.5 else ""

    async with socket_world(database_url, script) as w:
        prompts = await order(w, [f"video {number}" for number in range(45)])
        dice = Random(seed)
        for _ in range(3):
            await w.tick()
            for video_id in dice.sample(sorted(prompts), 4):
                await w.api.post(f"/videos/{video_id}/cancel")
            for video_id in dice.sample(sorted(prompts), 8):
                consent = {"accept_double_charge": dice.random() < 0.5}
                await w.api.post(f"/videos/{video_id}/retry", json=consent)
            await w.later(seconds=20)
        await until_idle(w, rounds=90)
        accounts = await judged(w, prompts)
    record_property("statuses", dict(accounts.statuses))
    record_property("outcomes", dict(accounts.outcomes))


PAUSED_FOR = {"no_credits": outcomes.PAUSE_SECONDS[outcomes.Reason.NO_CREDITS],
              "key_refused": outcomes.PAUSE_SECONDS[outcomes.Reason.KEY_REFUSED]}  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "broken", "mended"),
    [
        ("no_credits", {"credits": 0}, {"credits": 10_000}),
        ("key_refused", {"key_revoked": True}, {"key_revoked": False}),
    ],
)
async def test_a_queue_survives_that_credits_or_key_go_half_way(
    database_url: str, reason: str, broken: dict[str, Any], mended: dict[str, Any]
) -> None:
    def script(prompt: str, on: On, count: int) -> str:
        if on == "create" and prompt == "video 14" and count == 0:
            w.runway.state.runway.change(**broken)
        return ""

    async with socket_world(database_url, script, timeout=10) as w:  # no test of a short call
        slow = replace(w.ctx, settings=w.ctx.settings.model_copy(update={"submit_concurrency": 1}))
        w = replace(w, ctx=slow)
        prompts = await order(w, [f"video {number}" for number in range(30)])
        await w.tick()
        assert await paused_models(w) == {"all": reason}
        [queued] = await w.rows(
            "SELECT count(*), max(retries), max(error_code) FROM taxiway.videos WHERE status = 'queued'"
        )
        assert tuple(queued) == (16, 0, None)
        assert len(w.creates) == 15
        for probes in range(1, 4):
            for _ in range(3):  # however often it ticks meanwhile
                await w.tick()
                await w.later(seconds=PAUSED_FOR[reason] / 4)
            await w.later(seconds=PAUSED_FOR[reason] / 4 + 1)
            await w.tick()
            assert len(w.creates) == 15 + probes
        w.runway.state.runway.change(**mended)
        await until_idle(w)
        accounts = await judged(w, prompts)
        assert accounts.statuses == {"completed": 30}
        assert accounts.tasks == 30


async def test_a_daily_limit_pauses_one_model_and_starves_no_other(database_url: str) -> None:
    async with socket_world(database_url, lambda *_: "", daily_limit=5) as w:
        paused = await order(w, [f"turbo {number}" for number in range(12)])
        await w.tick()
        assert await paused_models(w) == {"gen4_turbo": "daily_limit"}
        other = await order(w, [f"gen {number}" for number in range(4)], model="gen4.5")
        counts = await w.tick()
        assert counts["submit"]["accepted"] == 4
        before = len(w.creates)
        await w.tick()
        assert len(w.creates) == before, "a paused model costs no creates"
        for _ in range(4):  # the limit is a rolling day: room comes back by itself
            await w.later(hours=24, seconds=1)
            await until_idle_but_queued(w)
        await until_idle(w)
        accounts = await judged(w, paused | other)
        assert accounts.statuses == {"completed": 16}


async def until_idle_but_queued(w: World) -> None:
    """A few ticks, a few seconds apart, for what can be done now."""
    for _ in range(4):
        await w.tick()
        await w.later(seconds=10)


async def test_a_long_paused_model_does_not_slow_the_claims_of_another(database_url: str) -> None:
    async with socket_world(database_url, lambda *_: "") as w:
        await order(w, ["seen 0"], model="gen4.5")
        await order(w, ["turbo 0"])
        alone = await _claim_seconds(w, "gen4.5")
        await w.rows(
            """INSERT INTO taxiway.videos (operation, model, input, status, origin)
               SELECT 'image_to_video', 'gen4_turbo', '{}', 'queued', 'api' FROM generate_series(1, 20000)"""
        )
        await w.rows(
            """UPDATE taxiway.models SET reason = 'daily_limit', paused_until = taxiway.now() + interval '1 day'
               WHERE model = 'gen4_turbo'"""
        )
        await w.rows("ANALYZE taxiway.videos")
        crowded = await _claim_seconds(w, "gen4.5")
        assert crowded < alone * 4 + 0.02, f"{alone * 1000:.1f} ms alone, {crowded * 1000:.1f} ms beside 20,000 paused"


async def _claim_seconds(w: World, model: str) -> float:
    """The best of a few claims in which exactly one video can be had."""
    best = float("inf")
    for number in range(4):
        [video_id] = await order(w, [f"{model} {number}"], model=model)
        await w.rows("UPDATE taxiway.models SET reason = 'busy', paused_until = taxiway.now() WHERE model <> $1", model)
        await warm(w.url, 50, model)
        started = time.perf_counter()
        taken = await claims.claim(w.ctx.database, 20, 5.0)
        best = min(best, time.perf_counter() - started)
        assert video_id in [submission.video_id for submission in taken]
    return best


async def test_throttled_for_most_of_a_day_is_waiting_and_not_failing(database_url: str) -> None:
    async with socket_world(database_url, lambda *_: "", concurrency=0) as w:
        prompts = await order(w, ["patient 0", "patient 1"])
        for _ in range(23):
            await w.tick()
            await w.later(hours=1)
        rows = await w.rows("SELECT status, task_status, error_code FROM taxiway.videos")
        assert [tuple(row) for row in rows] == [("processing", "THROTTLED", None)] * 2
        w.runway.state.runway.change(concurrency=5)
        await until_idle(w)
        assert (await judged(w, prompts)).statuses == {"completed": 2}
