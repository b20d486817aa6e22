"""Who acts in a schedule: the processes of the service, which may die, and the crowd around them, which does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import httpx

from service import webhooks
from service.app import create_app
from service.errors import TaxiwayError
from service.steps import cancel, poll, rescue
from service.tick import tick
from service.videos import FailureCode
from tests.crash.schedules.ground import BEGINNING
from tests.world import API_KEY, CALLBACK_SECRET, IMAGE

if TYPE_CHECKING:
    from tests.crash.schedules.processes import Process
    from tests.crash.schedules.simulation import Simulation

Life = Callable[["Process", str], Coroutine[Any, Any, None]]
MODELS = ("gen4_turbo", "gen4.5")
AGAIN_SECONDS = 1.0


def new_id(simulation: Simulation) -> UUID:
    """An id for a video, the same in every run."""
    simulation.happened["ids"] += 1
    return UUID(int=Random(f"{simulation.seed} {simulation.happened['ids']}").getrandbits(128), version=4)


async def tick_once(process: Process) -> None:
    """One tick. Whatever its steps report, it is no defect."""
    counts = (await tick(process.ctx)).as_json()
    for step, words in counts.get("errors", {}).items():
        assert " " in words, f"{step} failed with {words}"  # the name of a class is all that is said of a defect


async def _tick(process: Process, name: str, *, every: float) -> None:
    await _again(process, name, every, tick_once)


async def _rescue(process: Process, name: str) -> None:
    async def once(process: Process) -> None:
        for step in (rescue, cancel, poll):
            await step.run_once(process.ctx)

    await _again(process, name, 5.0, once)


async def _again(process: Process, name: str, every: float, work: Callable[[Process], Awaitable[None]]) -> None:
    rounds = process.simulation.rounds
    while rounds[name] > 0:
        rounds[name] -= 1
        try:
            await work(process)
        except TaxiwayError as exc:
            process.simulation.note(f"    {process.name}: {exc}")
        await asyncio.sleep(every * process.simulation.nature.waking)


async def _serve(_process: Process, _name: str) -> None:
    """The web process serves when it is asked."""


SERVICE: dict[str, Life] = {
    "tick0": partial(_tick, every=1.0),
    "tick1": partial(_tick, every=2.0),
    "tick2": partial(_tick, every=3.5),
    "rescue": _rescue,
    "web": _serve,
}


async def ask(process: Process, method: str, path: str, **what: Any) -> httpx.Response | None:
    """One request to the web process; None if that died, or its answer was lost."""
    web = process.simulation.processes["web"]

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(web.ctx))
        async with httpx.AsyncClient(transport=transport, base_url="http://taxiway.test") as client:
            what["headers"] = {"authorization": f"Bearer {API_KEY}"} | what.get("headers", {})
            return await client.request(method, path, **what)

    task = web.start(call())
    await asyncio.wait({task})
    return None if task.cancelled() else task.result()


async def _user(process: Process) -> None:
    """Hands videos in, and changes its mind."""
    simulation = process.simulation
    for number in range(simulation.nature.videos):
        await _hand_in(process, f"schedule {simulation.seed} video {number}", MODELS[number % len(MODELS)])
    without, with_consent = partial(_retry, consent=False), partial(_retry, consent=True)
    acts = (_cancel, without, with_consent, with_consent, _read, _drag)
    for _ in range(simulation.nature.acts):
        await asyncio.sleep(4.0 * simulation.nature.waking)
        await process.switch("act")
        act = acts[simulation.decisions.one_of(len(acts))]
        failed = {video_id: code for video_id, (status, code) in simulation.ends.items() if status == "failed"}
        unknown = [video_id for video_id, code in failed.items() if code == FailureCode.SUBMISSION_UNKNOWN]
        again = (act is with_consent and unknown) or list(failed) if act in (with_consent, without) else []
        videos = again or list(simulation.prompts)
        await act(process, videos[simulation.decisions.one_of(len(videos))])


async def _hand_in(process: Process, prompt: str, model: str) -> None:
    """Until it is answered: the key makes that one video."""
    body = {"input": {"promptText": prompt, "promptImage": IMAGE, "model": model}}
    while True:
        answer = await ask(process, "POST", "/videos", json=body, headers={"idempotency-key": prompt})
        if answer is not None and answer.status_code == 202:
            process.simulation.prompts[UUID(answer.json()["id"])] = prompt
            return
        assert answer is None or answer.status_code == 503, answer.text
        await asyncio.sleep(AGAIN_SECONDS)


async def _cancel(process: Process, video_id: UUID) -> None:
    answer = await ask(process, "POST", f"/videos/{video_id}/cancel")
    _expect(process, "cancel", answer, 200, 409, 503)


async def _retry(process: Process, video_id: UUID, *, consent: bool) -> None:
    process.simulation.touched.add(video_id)
    answer = await ask(process, "POST", f"/videos/{video_id}/retry", json={"accept_double_charge": consent})
    _expect(process, "retry with consent" if consent else "retry", answer, 202, 409, 503)


async def _read(process: Process, video_id: UUID) -> None:
    _expect(process, "read", await ask(process, "GET", f"/videos/{video_id}"), 200, 503)


async def _drag(process: Process, video_id: UUID) -> None:
    """The app's own UPDATE puts a row back that is with Runway, or about to be."""
    shared = process.simulation.shared
    real = await shared.take()
    sql = "UPDATE taxiway.videos SET status = 'queued' WHERE id = $1 AND status = 'processing'"
    process.simulation.touched.add(video_id)
    try:
        await shared.run(real, "execute", sql, video_id)
        process.simulation.happened["drags"] += 1
    except asyncpg.CheckViolationError:
        process.simulation.happened["drags refused"] += 1
    shared.writes += 1
    await shared.give_back(real)


def _expect(process: Process, name: str, answer: httpx.Response | None, *statuses: int) -> None:
    words = "without an answer" if answer is None else f"answered {answer.status_code}"
    process.simulation.happened[f"{name} {words}"] += 1
    process.simulation.note(f"    {name} {words}")
    assert answer is None or answer.status_code in statuses, answer.text


async def _relay(process: Process) -> None:
    """Calls back about tasks, early, late, with or without the video's id, or about one that never was."""
    simulation = process.simulation
    for number in range(simulation.nature.acts):
        await asyncio.sleep(3.0 * simulation.nature.waking)
        await process.switch("call back")
        made = [entry for entry in simulation.runway.ledger.entries if entry.task_id]
        entry = made[simulation.decisions.one_of(len(made))] if made else None
        data = {"task_id": entry.task_id if entry else str(uuid4())}
        owner = next((id for id, prompt in simulation.prompts.items() if entry and prompt == entry.prompt), None)
        if owner is not None and simulation.decisions.one_of(2):
            data["video_id"] = str(owner)
        body = json.dumps({"type": "task.updated", "data": data}).encode()
        sent_at = int(BEGINNING + simulation.loop.now)
        headers = webhooks.headers(CALLBACK_SECRET, f"msg_{number}", sent_at, body)
        answer = await ask(process, "POST", "/callbacks/runway", content=body, headers=headers)
        _expect(process, "callback", answer, 200, 202, 503)


async def _app(process: Process) -> None:
    """Holds a row in a transaction of its own that sleeps."""
    simulation, shared = process.simulation, process.simulation.shared
    for _ in range(simulation.nature.acts - 1):
        await asyncio.sleep(2.5 * simulation.nature.waking)
        await process.switch("hold a row")
        real = await shared.take()
        await shared.run(real, "execute", "BEGIN")
        real.in_transaction = True
        table = ("videos", "submissions", "models")[simulation.decisions.one_of(3)]
        await shared.run(real, "execute", f"SELECT FROM taxiway.{table} LIMIT 1 FOR UPDATE SKIP LOCKED")
        await process.switch("let go of it")
        await shared.give_back(real)


CROWD: dict[str, Callable[[Process], Coroutine[Any, Any, None]]] = {"user": _user, "relay": _relay, "app": _app}
