"""Webhooks that go out: who gets what, in which order, and what an answer means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from standardwebhooks import Webhook
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service import webhooks
from service.deadline import Share
from service.doctor import at_work
from service.doctor.checks import Check
from service.operations import delivering
from service.operations.saving import as_outcome_row
from service.runway.outcomes import Decision, Kind, Outcome
from service.steps import deliver
from service.store import claim as claims
from service.store import deliveries
from service.tick import tick
from service.videos import FailureCode, Status
from tests.crash.soak_receiver import seconds_to_next_webhook
from tests.database import connected
from tests.saved import save_answers
from tests.world import IMAGE, World, world

pytestmark = pytest.mark.anyio

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
HOOK, OTHER = "https://app.example.com/hook", "https://other.example.com/hook"
OWN = "https://own.example.com/videos/1?token=abc"
REQUEST: dict[str, Any] = {"input": {"promptText": "a boat", "promptImage": IMAGE}}
EVERYTHING = ("video.completed", "video.failed", "video.cancelled", "video.settled", "video.processing",
              "video.progress", "group.ended")  # fmt: skip


@dataclass
class Receiver:
    """An app that takes webhooks. `requests`: what it got; `answers`: what it answers, by host; then 204."""

    requests: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    answers: dict[str, list[Response | Exception | asyncio.Event]] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        body = await request.body()
        self.requests.append((str(request.url), request.headers[webhooks.ID], json.loads(body)))
        self.headers.append(dict(request.headers))
        self.bodies.append(body)
        self.news.set()
        planned = self.answers.get(request.url.hostname or "", [])
        answer = planned.pop(0) if planned else Response(status_code=204)
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = Response(status_code=204)
        if isinstance(answer, Exception):
            raise answer
        await answer(scope, receive, send)

    def plan(self, url: str, *answers: int | Response | Exception | asyncio.Event) -> None:
        """What the host of this address answers next: statuses, answers, failures, or an event that it waits for."""
        host = httpx.URL(url).host
        self.answers.setdefault(host, []).extend(
            Response("no", status_code=one) if isinstance(one, int) else one for one in answers
        )

    def events(self, url: str = HOOK) -> list[str]:
        """The types of what came to this address."""
        return [str(body["type"]) for to, _, body in self.requests if to == url]

    def ids(self, url: str = HOOK) -> list[str]:
        """The webhook-ids of what came to this address."""
        return [id for to, id, _ in self.requests if to == url]


@asynccontextmanager
async def receiving(
    url: str, *, hooks: tuple[str, ...] = (HOOK,), **changes: Any
) -> AsyncIterator[tuple[World, Receiver]]:
    """A Taxiway whose webhooks go to a receiver in this process."""
    receiver = Receiver()
    async with world(url, receiver=receiver, **({"webhook_secrets": (SECRET,), "webhook_url": hooks} | changes)) as w:
        if hooks:
            await w.tick()
        yield w, receiver


async def rows(w: World, order: str = "id") -> list[Any]:
    return await w.rows(f"SELECT * FROM taxiway.deliveries ORDER BY {order}")


async def states(w: World) -> list[tuple[str, str, int]]:
    return [(row["event"], row["state"], row["tries"]) for row in await rows(w)]


async def deliver_now(w: World) -> dict[str, int]:
    """The step alone."""
    return await deliver.run_once(w.ctx)


# What is sent


async def test_the_end_of_a_video_is_reported_as_the_api_shows_it(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        video_id = await w.enqueue(metadata={"order": 7})
        await w.finish()
        [(url, id, body)] = receiver.requests
        assert (url, id) == (HOOK, f"msg_{video_id.hex}_1_completed")
        shown = (await w.api.get(f"/videos/{video_id}")).json()
        assert body["data"] == shown | {"charge": "paid", "paid_credits": 25.0, "most_credits": 25.0}
        assert body["data"]["metadata"] == {"order": 7}
        assert body["type"] == "video.completed"
        assert body["timestamp"] == shown["finished_at"]
        [row] = await rows(w)
        assert (row["state"], row["tries"], row["video_id"], row["leased_until"]) == ("delivered", 1, video_id, None)
        [attempt] = json.loads(row["attempts"])
        assert (attempt["http_status"], attempt["error"], attempt["answer"]) == (204, None, "")


async def test_what_has_changed_since_is_not_in_it(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        w.faults("status=400")
        receiver.plan(HOOK, 500)
        video_id = await w.enqueue()
        await w.tick()
        await w.api.post(f"/videos/{video_id}/retry")
        await w.later(minutes=10)
        await w.finish()
        first, again, completed = (body for _, _, body in receiver.requests)
        assert first == again
        assert first["data"]["status"] == "failed"
        assert first["data"]["error"]["code"] == "REJECTED"
        assert (first["data"]["file"], first["data"]["charge"]) == (None, "nothing")
        assert (completed["data"]["status"], completed["data"]["charge"]) == ("completed", "paid")
        assert receiver.ids() == [f"msg_{video_id.hex}_{end}" for end in ("1_failed", "1_failed", "2_completed")]


async def test_the_first_secret_signs(database_url: str) -> None:
    newer = webhooks.new_secret()
    async with receiving(database_url, webhook_secrets=(SECRET, newer)) as (w, receiver):
        await w.enqueue()
        await w.finish()
        [headers], [body] = receiver.headers, receiver.bodies
        assert webhooks.verify(headers, body, (SECRET,), w.clock())
        with pytest.raises(webhooks.SignatureRefused):
            webhooks.verify(headers, body, (newer,), w.clock())
        assert headers["user-agent"].startswith("Taxiway/")
        assert headers["content-type"] == "application/json"


async def test_clients_that_apps_have_verify_it(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        video_id = await w.enqueue()
        await w.finish()
        [headers], [body] = receiver.headers, receiver.bodies
        assert Webhook(SECRET).verify(body, headers)["data"]["id"] == str(video_id)
        from openai import InvalidWebhookSignatureError, OpenAI  # half a second, in the one process that runs this

        client = OpenAI(api_key="-")
        unwrapped: Any = client.webhooks.unwrap(body, headers, secret=SECRET)
        assert (unwrapped.type, unwrapped.data.id) == ("video.completed", str(video_id))
        with pytest.raises(InvalidWebhookSignatureError):
            client.webhooks.unwrap(body + b" ", headers, secret=SECRET)


# To whom


async def test_every_endpoint_gets_what_it_wants_and_the_own_address_the_end_alone(database_url: str) -> None:
    async with receiving(database_url, hooks=(HOOK, OTHER), webhook_events=EVERYTHING) as (w, receiver):
        await w.enqueue(webhook_url=OWN)
        for _ in range(12):
            await w.tick()
            await w.later(seconds=7)
        assert receiver.events(HOOK) == receiver.events(OTHER)
        assert receiver.events(HOOK)[0] == "video.processing"
        assert receiver.events(HOOK)[-1] == "video.completed"
        assert "video.progress" in receiver.events(HOOK)
        assert receiver.events(OWN) == ["video.completed"]
        assert receiver.ids(OWN) == receiver.ids(HOOK)[-1:]


async def test_rows_that_were_inserted_with_sql_are_reported_too(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        await w.rows("INSERT INTO taxiway.videos (prompt, image_url) VALUES ('a boat', $1), (NULL, NULL)", IMAGE)
        await w.finish()
        assert sorted(receiver.events()) == ["video.completed", "video.failed"]


async def test_an_endpoint_that_the_settings_do_not_name_any_more_gets_nothing(database_url: str) -> None:
    async with receiving(database_url, hooks=(HOOK, OTHER)) as (w, receiver):
        receiver.plan(OTHER, 500)
        await w.enqueue()
        await w.finish()
        fewer = replace(w.ctx, settings=w.ctx.settings.model_copy(update={"webhook_url": (HOOK,)}))
        await w.later(minutes=1)
        await tick(fewer)
        await w.enqueue()
        await w.later(minutes=1)
        await tick(fewer)
        await w.later(minutes=1)
        await tick(fewer)
        assert (len(receiver.events(HOOK)), len(receiver.events(OTHER))) == (2, 1)
        await w.tick()  # named again: what was due to it is sent
        assert len(receiver.events(OTHER)) == 2


async def test_without_a_secret_nothing_is_taken_and_nothing_is_sent(w: World) -> None:
    response = await w.api.post("/videos", json=REQUEST | {"webhook_url": OWN})
    assert response.status_code == 503
    assert "WEBHOOK_SECRETS" in response.json()["detail"]


@pytest.mark.parametrize(
    "url", ["http://example.com/a", "https://127.0.0.1/", "https://user@example.com/", "https://a"]
)
async def test_an_address_that_webhooks_must_not_go_to_is_refused(database_url: str, url: str) -> None:
    async with receiving(database_url) as (w, _):
        response = await w.api.post("/videos", json=REQUEST | {"webhook_url": url})
        assert response.status_code == 422
        assert response.json()["errors"][0]["pointer"] == "/webhook_url"


# Order


async def test_the_next_event_of_a_video_waits_for_the_one_before(database_url: str) -> None:
    async with receiving(database_url, hooks=(HOOK, OTHER)) as (w, receiver):
        w.faults("status=400")
        receiver.plan(HOOK, 500, 500)
        video_id = await w.enqueue()
        await w.tick()
        await w.api.post(f"/videos/{video_id}/retry")
        await w.later(seconds=1)
        for _ in range(4):
            await w.tick()
            await w.later(seconds=10)
        assert (await w.row(video_id))["status"] == "completed"
        assert receiver.events(HOOK) == ["video.failed"] * 2  # not before it has arrived
        assert receiver.events(OTHER) == ["video.failed", "video.completed"]  # another address waits for nothing
        async with connected(database_url) as connection:
            assert (await seconds_to_next_webhook(connection) or 0) > 200  # that of the first: the second waits for it
        await w.later(minutes=6)
        await w.tick()
        assert receiver.events(HOOK) == ["video.failed"] * 3 + ["video.completed"]


async def test_a_later_event_takes_the_place_of_progress_that_was_not_delivered(database_url: str) -> None:
    async with receiving(database_url, webhook_events=EVERYTHING) as (w, receiver):
        receiver.plan(HOOK, 500)
        await w.enqueue()
        await w.finish()
        await w.later(hours=1)
        await w.tick()
        assert receiver.events()[-1] == "video.completed"
        found = await states(w)
        assert ("video.processing", "superseded") in {(event, state) for event, state, _ in found}
        assert {state for event, state, _ in found if event == "video.completed"} == {"delivered"}


async def test_what_is_on_its_way_is_superseded_only_when_it_comes_back(database_url: str) -> None:
    async with receiving(database_url, webhook_events=EVERYTHING) as (w, receiver):
        video_id = await w.enqueue()
        await w.tick()
        assert receiver.events() == ["video.processing"]
        await w.rows("UPDATE taxiway.deliveries SET state = 'due', tries = 0, ended_at = NULL, due_at = taxiway.now()")
        [due] = await deliveries.claim(w.ctx.database, 10)
        await w.api.post(f"/videos/{video_id}/cancel")
        assert [(event, state) for event, state, _ in await states(w)] == [
            ("video.processing", "due"), ("video.cancelled", "due"),
        ]  # fmt: skip
        assert await deliveries.claim(w.ctx.database, 10) == []  # it waits for the one on its way
        failed = deliveries.AttemptRow(due.id, due.endpoint_id, "retry", 5.0, {"http_status": 500})
        await deliveries.record(w.ctx.database, [failed])
        assert (await rows(w))[0]["state"] == "superseded"
        await deliver_now(w)
        assert receiver.events() == ["video.processing", "video.cancelled"]


# What an answer means


async def test_ten_attempts_over_three_days(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        receiver.plan(HOOK, *[500] * 20)
        await w.enqueue()
        await w.finish()
        for _ in range(200):
            await w.later(minutes=30)
            await deliver_now(w)
        assert len(receiver.requests) == 10
        assert len(set(receiver.ids())) == 1
        [row] = await rows(w)
        assert (row["state"], row["tries"]) == ("failed", 10)


@pytest.mark.parametrize("failure", [RedirectResponse(OTHER, 307), Response(status_code=404), OSError("no route"),
                                     httpx.ConnectError("no"), ValueError("odd")])  # fmt: skip
async def test_what_is_no_2xx_is_a_failure(database_url: str, failure: Any) -> None:
    async with receiving(database_url) as (w, receiver):
        receiver.plan(HOOK, failure)
        await w.enqueue()
        await w.finish()
        assert receiver.events(OTHER) == []
        [row] = await rows(w)
        assert (row["state"], row["tries"]) == ("due", 1)
        await w.later(seconds=6)
        assert (await deliver_now(w))["delivered"] == 1


async def test_an_endpoint_that_is_gone_is_disabled(database_url: str) -> None:
    async with receiving(database_url, hooks=(HOOK, OTHER)) as (w, receiver):
        receiver.plan(HOOK, 500, 500, 410, 410)
        await w.enqueue_many(2)
        await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
        await deliver_now(w)
        await w.later(seconds=6)
        await deliver_now(w)
        assert {(row["url"], row["state"]) for row in await rows(w)} == {(HOOK, "disabled"), (OTHER, "delivered")}
        await w.enqueue()
        await w.finish()
        assert (len(receiver.events(HOOK)), len(receiver.events(OTHER))) == (4, 3)


async def test_an_own_address_that_is_gone_is_tried_three_times_without_an_alarm(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        receiver.plan(OWN, 404, 410, 404, 404)
        await w.enqueue(webhook_url=OWN)
        await w.finish()
        for seconds in (6, 31, 600, 6_000):
            await w.later(seconds=seconds)
            await deliver_now(w)
        assert receiver.events(OWN) == ["video.completed"] * 3
        assert {(row["url"], row["state"]) for row in await rows(w)} == {(HOOK, "delivered"), (OWN, "failed")}


async def test_an_endpoint_that_fails_gets_probes_and_what_waits_uses_up_no_attempt(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        receiver.plan(HOOK, *[503] * 30)
        for _ in range(30):
            await w.enqueue()
        await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
        await deliver_now(w)
        assert len(receiver.requests) == 10  # as many as may be under way at once
        await w.later(seconds=6)
        await deliver_now(w)
        assert len(receiver.requests) == 11
        await deliver_now(w)
        assert len(receiver.requests) == 11
        await w.later(hours=1)
        await deliver_now(w)
        assert len(receiver.requests) == 12
        receiver.answers.clear()
        await w.later(minutes=6)
        assert (await deliver_now(w))["delivered"] == 30
        assert [row["failures"] for row in await w.rows("SELECT failures FROM taxiway.endpoints")] == [0]
        assert max(row["tries"] for row in await rows(w)) <= 3


async def test_a_receiver_that_hangs_delays_only_itself(database_url: str) -> None:
    async with receiving(database_url, hooks=(HOOK, OTHER)) as (w, receiver):
        hangs = asyncio.Event()
        receiver.plan(HOOK, *[hangs] * 30)
        for _ in range(30):
            await w.enqueue()
        await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
        step = asyncio.create_task(deliver_now(w))
        async with asyncio.timeout(10):
            while len(receiver.events(OTHER)) < 30:
                await receiver.news.wait()
                receiver.news.clear()
        assert len(receiver.events(HOOK)) == 10
        hangs.set()
        assert (await step)["delivered"] == 60


async def test_what_a_dead_process_had_claimed_is_delivered_by_the_next(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        await w.enqueue()
        await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
        assert len(await deliveries.claim(w.ctx.database, 10)) == 1
        await deliver_now(w)
        assert receiver.requests == []
        await w.later(seconds=deliveries.LEASE_SECONDS + 1)
        assert (await deliver_now(w))["delivered"] == 1


async def test_doctor_names_endpoints_that_fail_and_those_that_are_gone(database_url: str) -> None:
    async with receiving(database_url, hooks=(HOOK, OTHER)) as (w, receiver):
        receiver.plan(HOOK, *[500] * 6)
        receiver.plan(OTHER, 410)
        await w.enqueue_many(6)
        await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
        assert await webhook_checks(w) == []
        await deliver_now(w)
        await w.later(hours=3)
        failing, gone = await webhook_checks(w)
        assert (failing.status, gone.status) == ("warning", "error")
        assert "app.example.com" in failing.name
        assert "/hook" not in failing.name
        assert failing.message == "has failed for 3 h (HTTP 500); 6 wait"
        assert "disabled 3 h ago, because it answered 410 Gone" in gone.message


async def webhook_checks(w: World) -> list[Check]:
    checks = at_work.checks(w.ctx.settings, await at_work.facts(w.ctx.database, w.ctx.settings), w.clock())
    return [one for one in checks if one.area == "webhooks"]


async def test_what_is_old_is_pruned_and_what_is_still_due_is_given_up_first(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        await w.enqueue()
        await w.finish()
        receiver.plan(HOOK, *[500] * 100)
        await w.enqueue()
        await w.finish()
        await w.later(days=6)
        await w.tick()
        assert [state for _, state, _ in await states(w)] == ["delivered", "due"]
        await w.later(days=1, hours=1)
        await w.tick()
        assert [state for _, state, _ in await states(w)] == ["failed"]
        await w.tick()
        assert await states(w) == []


async def test_a_video_is_not_removed_before_its_end_was_reported(database_url: str) -> None:
    async with receiving(database_url, video_retention=86_400) as (w, receiver):
        receiver.plan(HOOK, 500, 500, 500, 500, 500, 500)
        video_id = await w.enqueue()
        await w.finish()
        await w.later(days=1, hours=1)
        await w.tick()
        assert (await w.row(video_id))["status"] == "completed"
        receiver.answers.clear()
        for _ in range(3):
            await w.later(hours=12)
            await w.tick()
        assert await w.rows("SELECT FROM taxiway.videos") == []
        assert await states(w) == []
        assert len(set(receiver.ids())) == 1


# Another address


async def replay(w: World, key: str, url: str, **changes: Any) -> httpx.Response:
    body = REQUEST | {"webhook_url": url} | changes
    return await w.api.post("/videos", json=body, headers={"idempotency-key": key})


async def test_a_repeat_with_another_address_replaces_it(database_url: str) -> None:
    async with receiving(database_url, hooks=()) as (w, receiver):
        first = await replay(w, "one", OWN)
        assert "idempotent-replayed" not in first.headers
        again = await replay(w, "one", OTHER)
        assert (again.json()["id"], again.headers["idempotent-replayed"]) == (first.json()["id"], "true")
        assert (await replay(w, "one", OTHER, priority=5)).status_code == 422  # the rest is compared as ever
        await w.finish()
        assert (receiver.events(OWN), receiver.events(OTHER)) == ([], ["video.completed"])


async def test_a_repeat_waits_only_a_little_for_another_that_holds_the_video(database_url: str) -> None:
    async with receiving(database_url, hooks=()) as (w, _), connected(database_url) as app:
        key = {"idempotency-key": "one"}
        await w.api.post("/videos", json=REQUEST | {"webhook_url": OWN}, headers=key)
        async with app.transaction():
            await app.execute("SELECT FROM taxiway.videos FOR NO KEY UPDATE")
            async with asyncio.timeout(15):
                answer = await w.api.post("/videos", json=REQUEST | {"webhook_url": OTHER}, headers=key)
        assert answer.status_code == 409, answer.text
        answer = await w.api.post("/videos", json=REQUEST | {"webhook_url": OTHER}, headers=key)
        assert answer.status_code == 202


async def test_an_address_whose_scheme_is_in_capitals_gets_its_end(database_url: str) -> None:
    async with receiving(database_url, hooks=()) as (w, receiver):
        assert (await w.api.post("/videos", json=REQUEST | {"webhook_url": "HTTPS" + OWN[5:]})).status_code == 202
        await w.finish()
        assert receiver.events(OWN) == ["video.completed"]


async def test_a_repeat_after_the_end_is_told_at_once_under_the_same_id(database_url: str) -> None:
    async with receiving(database_url, hooks=()) as (w, receiver):
        receiver.plan(OWN, 404)
        await replay(w, "one", OWN)
        await w.finish()
        await replay(w, "one", OTHER)
        assert receiver.events(OTHER) == ["video.completed"]
        assert receiver.ids(OTHER) == receiver.ids(OWN)
        await replay(w, "one", OTHER)
        await w.later(hours=1)
        await w.tick()
        assert (len(receiver.events(OTHER)), len(receiver.events(OWN))) == (1, 1)
        assert [state for _, state, _ in await states(w)] == ["superseded", "delivered"]


# In requests


async def test_a_request_delivers_what_it_has_ended(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        video_id = await w.enqueue()
        await w.api.post(f"/videos/{video_id}/cancel")
        assert receiver.events() == ["video.cancelled"]


async def test_who_delivers(database_url: str) -> None:
    tokens = {"admin_tokens": ("admin-token-for-tests-01",), "viewer_tokens": ("viewer-token-for-tests-1",)}
    async with receiving(database_url, **tokens) as (w, receiver):
        video_id = await w.enqueue()
        await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
        viewer = {"authorization": "Bearer viewer-token-for-tests-1"}
        for method, path, client, headers in (
            ("GET", "/health", w.api, {}), ("GET", "/docs", w.anyone, {}), ("HEAD", f"/videos/{video_id}", w.api, {}),
            ("GET", f"/videos/{video_id}", w.anyone, viewer), ("GET", "/metrics", w.anyone, viewer),
            ("GET", "/videos", w.anyone, {}),
        ):  # fmt: skip
            w.ctx.outbox.note()
            await client.request(method, path, headers=headers)
            assert receiver.requests == [], path
        w.ctx.outbox.note()
        await w.api.get("/videos")
        assert receiver.events() == ["video.cancelled"]


async def test_a_process_asks_once_a_second_at_most(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        await w.enqueue()
        await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
        await w.api.get("/videos")
        assert receiver.requests == []  # the request before has just asked


async def test_what_a_request_cuts_off_is_no_attempt_and_is_left_to_the_ticks(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "REQUEST_SECONDS", 1.05)
    async with receiving(database_url) as (w, receiver):
        receiver.plan(HOOK, asyncio.Event())
        video_id = await w.enqueue()
        assert (await w.api.post(f"/videos/{video_id}/cancel")).status_code == 200
        [row] = await rows(w)
        assert (row["state"], row["tries"], row["for_ticks"]) == ("due", 0, True)
        w.ctx.outbox.note()
        await w.api.get("/videos")
        assert len(receiver.requests) == 1
        await w.tick()
        assert receiver.events() == ["video.cancelled"] * 2
        assert [state for _, state, _ in await states(w)] == ["delivered"]


async def test_what_a_request_had_no_time_to_begin_is_left_to_the_next_request(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving(database_url) as (w, receiver):
        videos_of = deliveries.videos_of
        clock = [0.0]

        async def slow(*arguments: Any, **options: Any) -> Any:
            clock[0] += 1.5
            return await videos_of(*arguments, **options)

        video_id = await w.enqueue()
        ctx = replace(w.ctx, monotonic=lambda: clock[0])
        with monkeypatch.context() as patched:
            patched.setattr(deliveries, "videos_of", slow)
            await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
            ctx.outbox.note()
            await delivering.within_request(ctx)
        assert receiver.requests == []
        await w.api.get(f"/videos/{video_id}")
        ctx.outbox.note()
        await w.api.get(f"/videos/{video_id}")
        assert receiver.events() == ["video.cancelled"]


async def test_the_answer_stands_when_the_delivery_breaks(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving(database_url) as (w, _):
        video_id = await w.enqueue()

        async def fail(*_: object, **__: object) -> Any:
            raise OSError("gone")

        monkeypatch.setattr(deliveries, "claim", fail)
        assert (await w.api.post(f"/videos/{video_id}/cancel")).status_code == 200


async def test_a_video_that_cannot_be_shown_keeps_no_other_waiting(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        odd, other = await w.enqueue(), await w.enqueue()
        await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
        await w.rows("UPDATE taxiway.videos SET input = '[1]' WHERE id = $1", odd)
        await w.tick()
        assert receiver.ids() == [f"msg_{other.hex}_1_cancelled"]
        assert [(row["state"], row["tries"]) for row in await rows(w)] == [("due", 1), ("delivered", 1)]


# Settled


async def test_an_unknown_outcome_that_is_resolved_is_reported_once_more(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        w.faults("drop_after")
        video_id = await w.enqueue()
        await w.tick()
        [task] = w.creates
        assert receiver.requests[0][2]["data"]["charge"] == "unknown"
        from service.operations import attaching

        await attaching.attach(w.ctx, video_id, task.task_id)
        await w.finish()
        assert receiver.events() == ["video.failed", "video.settled", "video.completed"]
        assert receiver.requests[2][2]["data"]["charge"] == "paid"


async def test_a_cancelled_video_is_settled_once_its_task_is_deleted(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        video_id = await w.enqueue()
        await w.tick()
        await w.api.post(f"/videos/{video_id}/cancel")
        await w.tick()
        assert receiver.events() == ["video.cancelled", "video.settled"]
        assert [body["data"]["charge"] for _, _, body in receiver.requests] == ["unknown", "paid"]


async def test_a_video_that_is_cancelled_before_runway_refuses_it_is_settled(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        video_id = await w.enqueue()
        [permitted] = await claims.claim(w.ctx.database, 1, 60)
        assert (await w.api.post(f"/videos/{video_id}/cancel")).status_code == 200
        outcome = Outcome(Kind.REJECTED, "Bad Request", http_status=400)
        decision = Decision(Status.FAILED, error_code=FailureCode.REJECTED)
        await save_answers(w.ctx, [as_outcome_row(permitted.submission_id, video_id, outcome, decision)])
        await w.tick()
        assert receiver.events() == ["video.cancelled", "video.settled"]
        assert [body["data"]["charge"] for _, _, body in receiver.requests] == ["unknown", "nothing"]


async def test_a_refusal_that_ends_a_video_is_reported_once(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        w.faults("status=400")
        await w.enqueue()
        await w.tick()
        await w.tick()
        assert receiver.events() == ["video.failed"]


# Groups


async def grouped(w: World, count: int, url: str | None = None) -> tuple[UUID, list[UUID]]:
    """Videos of one group."""
    group, ids = uuid4(), await w.enqueue_many(count)
    await w.rows("UPDATE taxiway.videos SET group_id = $1, group_size = $2, webhook_url = $3", group, count, url)
    return group, ids


async def test_a_group_is_reported_when_all_of_it_has_ended(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        group, ids = await grouped(w, 3, OWN)
        await w.api.post(f"/videos/{ids[0]}/cancel")
        await w.tick()
        assert receiver.events(OWN) == []
        await w.finish()
        assert receiver.events(OWN) == ["group.ended"]  # and not the end of each video
        assert sorted(receiver.events(HOOK)) == ["group.ended", "video.cancelled", *["video.completed"] * 2]
        data = next(body["data"] for to, _, body in receiver.requests if to == OWN)
        assert data["id"] == str(group)
        assert [(one["id"], one["status"]) for one in data["videos"]] == [
            (str(ids[0]), "cancelled"), (str(ids[1]), "completed"), (str(ids[2]), "completed"),
        ]  # fmt: skip
        assert receiver.ids(OWN) == [f"msg_{group.hex}_ended"]


async def test_a_group_that_ends_again_is_reported_again(database_url: str) -> None:
    async with receiving(database_url, hooks=()) as (w, receiver):
        w.faults("status=400")
        group, ids = await grouped(w, 2, OWN)
        await w.finish()
        [failed] = [one for one in ids if (await w.row(one))["status"] == "failed"]
        await w.api.post(f"/videos/{failed}/retry")
        await w.finish()
        assert receiver.ids(OWN) == [f"msg_{group.hex}_ended", f"msg_{group.hex}_ended_2"]


async def test_the_end_of_a_group_is_reported_although_one_of_it_was_erased(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        group, ids = await grouped(w, 2, OWN)
        await w.tick()
        await w.finish()
        await w.rows("UPDATE taxiway.deliveries SET state = 'due', ended_at = NULL, due_at = taxiway.now() + '1 hour'")
        receiver.requests.clear()
        await w.api.delete(f"/videos/{ids[0]}")
        await w.tick()
        assert (await w.row(ids[0]))["status"] == "erased"
        await w.later(hours=2)
        await w.tick()
        assert receiver.ids(OWN) == [f"msg_{group.hex}_ended"]
        assert sorted(receiver.events()) == ["group.ended", "video.completed"]
        for url, _, body in receiver.requests:
            if body["type"] == "group.ended":
                assert [one["id"] for one in body["data"]["videos"]] == [str(ids[1])], url


async def test_of_a_group_that_is_erased_nothing_is_sent(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        _, ids = await grouped(w, 2, OWN)
        for one in ids:
            assert (await w.api.delete(f"/videos/{one}")).status_code in (202, 204)
        await w.tick()
        assert "group.ended" not in receiver.events() + receiver.events(OWN)
        assert {row["url"] for row in await rows(w)} <= {"", HOOK}
        assert {row["state"] for row in await rows(w)} == {"dropped"}


# Cost


async def test_an_idle_tick_asks_nothing_more(database_url: str) -> None:
    async with receiving(database_url) as (w, _):
        asked: list[str] = []
        run = type(w.ctx.database)._run

        async def counted(self: Any, method: str, sql: str, arguments: Any) -> Any:
            asked.append(sql)
            return await run(self, method, sql, arguments)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(w.ctx.database), "_run", counted)
            await w.tick()
        assert not [sql for sql in asked if "deliveries" in sql and "AS intake" not in sql]
        assert len(asked) <= 4


async def test_without_time_nothing_is_begun(database_url: str) -> None:
    async with receiving(database_url) as (w, receiver):
        await w.enqueue()
        await w.rows("UPDATE taxiway.videos SET status = 'cancelled'")
        over = Share(w.ctx.monotonic, w.ctx.monotonic(), w.ctx.monotonic() + 0.5)
        assert await deliver.run_once(w.ctx, over) == deliver.NOTHING
        assert receiver.requests == []
