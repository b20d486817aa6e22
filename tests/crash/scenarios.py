"""The life of a video in scenarios: what stands before a process begins, and the one thing that it then does.

Together they run every statement of the service that moves a video, and every call to Runway.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx

from service.operations.saving import as_outcome_row
from service.runway import outcomes
from service.store import accepted, inbox, models, submissions
from service.store import claim as claims
from service.store.submissions import Guard
from tests.crash.harness import POST_TIMEOUT_SECONDS, Site, callback
from tests.crash.proxy import Cut, Step, named
from tests.database import connected
from tests.world import API_KEY, IMAGE

TEXT_MODEL = "gen4.5"
CLAIM = named(claims.claiming().usual)
SAVES = {named(submissions._SAVE_BY_GUARD[Guard.LIVE]), named(accepted._SAVE_ONE), named(accepted._SAVE_MANY)}
FINISHED = {"seconds": 60}  # by then a task is done, and a submission has lapsed
AS_APP = {"authorization": f"Bearer {API_KEY}"}


class Run:
    """One process that does one thing, and is killed at a step, or lives to its end (`at` is None)."""

    def __init__(self, site: Site, at: Step | None = None) -> None:
        self.site, self.at = site, at
        self.killed = False

    async def _hook(self, step: Step) -> None:
        if step == self.at and not self.killed:
            self.site.started[-1].kill()
            self.killed = True
        if self.killed:
            raise Cut

    async def tick(self) -> None:
        """`taxiway tick`"""
        self.site.watch.restart(self._hook)
        output = await self.site.start("tick").end()
        assert self.killed or '"errors"' not in output, output

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response | None:
        """`taxiway web`, and one request; None if it died before it could answer."""
        async with self.site.web() as (_, client):
            self.site.watch.restart(self._hook)
            try:
                response = await client.request(method, url, **options)
            except httpx.TransportError:
                assert self.killed
                return None
            assert response.status_code < 400, response.text
            return response


Scenario = Callable[[Site, Run], Awaitable[None]]


async def everything_in_one_tick(site: Site, run: Run) -> None:
    """A tick for which every step of it has something to do."""
    w = site.world
    await _past(site)
    await w.later(**FINISHED)
    await _present(site)
    await run.tick()


async def submitted(site: Site, run: Run) -> None:
    """A tick with one video to send."""
    await site.enqueue()
    await run.tick()


async def refused(site: Site, run: Run) -> None:
    """A tick whose create is answered with 429: the model is paused."""
    await site.enqueue()
    site.world.faults({"simulate": "daily_limit"})
    await run.tick()
    site.world.runway.state.runway.faults.clear()


def inside_the_call(steps: list[Step]) -> list[Step]:
    """Those from the answer to the claim that permits a call until the answer to the last statement that saves it."""
    first = next(i for i, step in enumerate(steps) if (step.name, step.moment) == (CLAIM, "after"))
    last = max(i for i, step in enumerate(steps) if step.name in SAVES)
    return steps[first : last + 1]


async def enqueued(site: Site, run: Run) -> None:
    """POST /videos. Whatever came of it, the same request again makes it one video."""
    key, prompt = uuid4().hex, f"video {uuid4()}"
    asked = {"input": {"promptText": prompt, "promptImage": IMAGE}}
    headers = AS_APP | {"idempotency-key": key}
    first = await run.request("POST", "/videos", json=asked, headers=headers)
    again = await site.world.api.post("/videos", json=asked, headers=headers)
    assert again.status_code == 202, again.text
    assert first is None or first.json()["id"] == again.json()["id"]
    assert len(await site.world.rows("SELECT FROM taxiway.videos WHERE prompt = $1", prompt)) == 1


async def waited(site: Site, run: Run) -> None:
    """POST /videos that submits its video and waits for it. Whatever came of it, the same request again adds none."""
    key, prompt = uuid4().hex, f"video {uuid4()}"
    asked = {"input": {"promptText": prompt, "promptImage": IMAGE}}
    headers = AS_APP | {"idempotency-key": key}
    first = await run.request("POST", "/videos", json=asked, headers=headers | {"prefer": "wait=1"})
    assert first is None or (first.status_code, first.json()["status"]) == (202, "processing"), first.text
    again = await site.world.api.post("/videos", json=asked, headers=headers)
    assert again.status_code == 202, again.text
    assert len(await site.world.rows("SELECT FROM taxiway.videos WHERE prompt = $1", prompt)) == 1


async def followed(site: Site, run: Run) -> None:
    """The same request again, which waits for a video whose task is done."""
    w, headers = site.world, AS_APP | {"idempotency-key": uuid4().hex}
    asked = {"input": {"promptText": f"video {uuid4()}", "promptImage": IMAGE}}
    await w.api.post("/videos", json=asked, headers=headers)
    await w.tick()
    await w.later(**FINISHED)
    answer = await run.request("POST", "/videos", json=asked, headers=headers | {"prefer": "wait=2"})
    assert answer is None or (answer.status_code, answer.json()["status"]) == (200, "completed"), answer.text


async def asked_for(site: Site, run: Run) -> None:
    """GET /videos/{id} of a due video, which submits it."""
    video_id = await site.enqueue()
    answer = await run.request("GET", f"/videos/{video_id}", headers=AS_APP)
    assert answer is None or answer.json()["status"] == "processing", answer.text


async def called_back(site: Site, run: Run) -> None:
    """A callback for a task that is done."""
    video_id = await sent(site)
    await site.world.later(**FINISHED)
    await run.request("POST", **callback((await site.world.row(video_id))["runway_video_id"]))


async def evidence_arrives(site: Site, run: Run) -> None:
    """A callback that names a video whose submission is unknown, and the task that it did make."""
    video_id = await sent(site, fault="drop_after")
    await run.request("POST", **callback(await lost_task(site, video_id), video_id))


async def looked_at(site: Site, run: Run) -> None:
    """GET /videos/{id} of a task that is done."""
    video_id = await sent(site)
    await site.world.later(**FINISHED)
    await run.request("GET", f"/videos/{video_id}", headers=AS_APP)


async def cancelled(site: Site, run: Run) -> None:
    """POST /videos/{id}/cancel while Runway works on it."""
    video_id = await sent(site)
    await run.request("POST", f"/videos/{video_id}/cancel", headers=AS_APP)


async def retried(site: Site, run: Run) -> None:
    """POST /videos/{id}/retry of a video that may have been paid, with consent."""
    video_id = await sent(site, fault="drop_after", policy="fail")
    consent = {"accept_double_charge": True}
    await run.request("POST", f"/videos/{video_id}/retry", json=consent, headers=AS_APP)


async def reported(site: Site, run: Run) -> None:
    """A tick that reports the end of a video, while another's ends in it."""
    await ended(site)
    await site.enqueue(webhook_url=site.hook)
    late = await site.enqueue(webhook_url=site.hook)
    await site.world.rows("UPDATE taxiway.videos SET expires_at = taxiway.now() WHERE id = $1", late)
    await run.tick()


async def reported_in_a_request(site: Site, run: Run) -> None:
    """POST /videos/{id}/cancel, which reports that, and the end of another, before it answers."""
    await ended(site)
    video_id = await site.enqueue(webhook_url=site.hook)
    await run.request("POST", f"/videos/{video_id}/cancel", headers=AS_APP)


async def ended(site: Site) -> UUID:
    """A video whose end was not reported yet."""
    video_id = await site.enqueue(webhook_url=site.hook)
    ends = "UPDATE taxiway.videos SET status = 'cancelled', finished_at = taxiway.now() WHERE id = $1"
    await site.world.rows(ends, video_id)
    return video_id


async def sent(site: Site, *, fault: str = "", policy: str = "", row_is_held: bool = False) -> UUID:
    """A video whose create was sent and saved, as a tick does it; `row_is_held`: by the app, at that moment."""
    w = site.world
    video_id, submission = await permitted(site)
    if fault:
        w.faults({"simulate": fault})
    async with w.ctx.runway() as runway:
        give_up_at = w.ctx.monotonic() + POST_TIMEOUT_SECONDS
        result = await runway.create(submission.operation, submission.input, give_up_at=give_up_at)
    outcome = outcomes.classify(result)
    settings = w.ctx.settings.model_copy(update={"unknown_policy": policy} if policy else {})
    decision = outcomes.decide(
        outcome, model=submission.model, retries=0, resubmissions=0, bound=submission.quoted_credits,
        settings=settings, random=0
    )  # fmt: skip
    answer = as_outcome_row(submission.submission_id, video_id, outcome, decision)
    async with held(w.url, video_id) if row_is_held else contextlib.nullcontext():
        await submissions.save(w.ctx.database, [answer])
    return video_id


async def permitted(site: Site) -> tuple[UUID, claims.OpenSubmission]:
    """A video that was claimed, and its open submission."""
    video_id = await site.enqueue(priority=1)
    [submission] = await claims.claim(site.world.ctx.database, 1, POST_TIMEOUT_SECONDS)
    assert submission.video_id == video_id
    return video_id, submission


@contextlib.asynccontextmanager
async def held(url: str, video_id: UUID) -> AsyncIterator[None]:
    """The app holds this row in a transaction of its own."""
    async with connected(url) as app, app.transaction():
        await app.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", video_id)
        yield


async def lost_task(site: Site, video_id: UUID) -> str:
    """The task in Runway's book that was made for this video."""
    prompt = (await site.world.row(video_id))["prompt"]
    return next(str(entry.task_id) for entry in site.world.creates if entry.prompt == prompt)


async def _past(site: Site) -> None:
    """What began before.

    Videos with Runway: done, failed, cancelled, put back in the queue by an UPDATE, called back for. And an answer
    that found its row locked, a lost task for which evidence came, a submission whose holder died.
    """
    w = site.world
    await sent(site)
    await sent(site, fault="fail=INTERNAL.BAD_OUTPUT.CODE01")
    unwanted, dragged, called = [await sent(site) for _ in range(3)]
    await sent(site, row_is_held=True)
    lost = await sent(site, fault="drop_after")
    await permitted(site)
    await w.api.post(f"/videos/{unwanted}/cancel")
    await w.rows("UPDATE taxiway.videos SET status = 'queued', runway_video_id = NULL WHERE id = $1", dragged)
    known = (await w.row(called))["runway_video_id"]
    for task_id, video_id in ((known, None), (await lost_task(site, lost), lost)):
        await inbox.receive(w.ctx.database, [inbox.Callback(f"msg_{uuid4().hex}", "ab", task_id, video_id)])


async def _present(site: Site) -> None:
    """What comes now.

    A request, a row of the app's, one that waited too long, and a video for a paused model whose time is over.
    """
    w = site.world
    await site.enqueue()
    await w.rows(
        "INSERT INTO taxiway.videos (prompt, image_url, status) VALUES ($1, $2, 'queued')", f"row {uuid4()}", IMAGE
    )
    late = await site.enqueue()
    await w.rows("UPDATE taxiway.videos SET expires_at = taxiway.now() WHERE id = $1", late)
    await w.enqueue(operation="text_to_video", input={"promptText": f"text {uuid4()}"})
    await models.pause(w.ctx.database, TEXT_MODEL, 0, "daily_limit", "Your daily task limit has been reached.")
