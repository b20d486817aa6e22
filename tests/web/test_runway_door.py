"""Runway's own SDK, unmodified, at Taxiway instead of Runway: what it retries, waits for, deletes and is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import anyio.to_thread
import httpx
import pytest
from runwayml import (
    BadRequestError,
    NotFoundError,
    RateLimitError,
    RunwayML,
    TaskFailedError,
)
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount

from service.app import create_app
from service.errors import DatabaseUnavailable
from service.store import calls
from tests.database import connected
from tests.simulator_server import on_socket
from tests.web.door_wire import Held, dropped, failed, refused, sdk
from tests.world import API_KEY, IMAGE, World, world

pytestmark = pytest.mark.anyio

BOAT: dict[str, Any] = {
    "model": "gen4_turbo", "prompt_image": IMAGE, "prompt_text": "a boat", "ratio": "1280:720", "duration": 5,
}  # fmt: skip
RAW = {"model": "gen4_turbo", "promptImage": IMAGE, "promptText": "a boat", "ratio": "1280:720", "duration": 5}


async def made(w: World) -> list[tuple[UUID, list[int]]]:
    """Every video with the attempts that were seen of it, oldest first."""
    rows = await w.rows(
        "SELECT v.id, c.attempts FROM taxiway.videos v LEFT JOIN taxiway.calls c ON c.video_id = v.id ORDER BY v.id"
    )
    return [(row["id"], row["attempts"]) for row in rows]


async def test_a_life_through_the_sdk_is_one_paid_task(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sdk(w, monkeypatch) as (client, wire):
        task = await client.image_to_video.create(**BOAT, extra_headers={"taxiway-user": "ann"})
        assert task.model_dump()["estimated_cost"] == {"credits": 25}
        pending = await client.tasks.retrieve(task.id)  # which submits it: no tick runs here
        assert (pending.status, pending.model_dump()["estimated_cost"]) == ("PENDING", {"credits": 25})
        done = await task.wait_for_task_output()
        assert (done.status, done.cost.credits, len(done.output)) == ("SUCCEEDED", 25, 1)
        assert len(w.creates) == 1
        assert (await w.row(UUID(task.id)))["user_id"] == "ann"

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=w.runway)) as anyone:
            assert (await anyone.get(done.output[0])).status_code == 200
            await w.later(days=3)
            assert (await anyone.get(done.output[0])).status_code == 403
            again = await client.tasks.retrieve(task.id)
            assert again.status == "SUCCEEDED"
            assert (await anyone.get(again.output[0])).status_code == 200
        assert {status for _, status, _ in wire.seen} == {200}


async def test_attempts_of_one_call_are_one_video(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sdk(w, monkeypatch) as (client, wire):
        wire.faults = [dropped]  # after the commit
        first = await client.image_to_video.create(**BOAT)
        assert await made(w) == [(UUID(first.id), [0, 1])]
        assert [headers.get("taxiway-deduplicated") for _, _, headers in wire.seen] == [None, "retry"]
        events = await w.rows("SELECT kind, code FROM taxiway.events ORDER BY at")
        assert [(row["kind"], row["code"]) for row in events] == [("enqueued", None), ("call_repeated", "1")]

        await w.later(seconds=10)
        second = await client.image_to_video.create(**BOAT)  # an equal one: people ask for variants so
        assert second.id != first.id

        ship = BOAT | {"prompt_text": "a ship"}
        wire.faults = [failed, dropped]  # a 500 before it; then the first attempt that arrives loses its answer
        third = await client.image_to_video.create(**ship)
        assert await made(w) == [(UUID(first.id), [0, 1]), (UUID(second.id), [0]), (UUID(third.id), [1, 2])]

        # Whose wish is in a header is part of the call: the retry for one user is not answered with another's video.
        wire.faults = [refused]
        for name in ("ann", "bob"):
            await client.image_to_video.create(**ship, extra_headers={"taxiway-user": name})
        assert len(await made(w)) == 5


async def test_four_equal_calls_that_all_retry_are_four_videos(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sdk(w, monkeypatch) as (client, wire):
        wire.faults = [dropped] * 4
        tasks = await asyncio.gather(*[client.image_to_video.create(**BOAT) for _ in range(4)])
        videos = await made(w)
        assert {UUID(task.id) for task in tasks} == {video for video, _ in videos}
        assert [attempts for _, attempts in videos] == [[0, 1]] * 4


async def test_an_attempt_that_comes_late_finds_the_video_of_its_retry(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sdk(w, monkeypatch) as (client, wire):
        late = Held(late=True)
        wire.faults = [late]
        task = await client.image_to_video.create(**BOAT)
        assert (await late.arrive()).json()["id"] == task.id
        assert await made(w) == [(UUID(task.id), [1, 0])]

        # Once the caller has read its id, no attempt of its call is still to come.
        await client.tasks.retrieve(task.id)
        wire.faults = [refused, refused]
        other = await client.image_to_video.create(**BOAT)
        assert (await made(w))[1:] == [(UUID(other.id), [2])]

        # Nor after the time in which an SDK would have sent it: 2 x 60 s + 70 s.
        await w.later(seconds=191)
        wire.faults = [refused]
        third = await client.image_to_video.create(**BOAT)
        assert (await made(w))[2:] == [(UUID(third.id), [1])]
        await w.later(seconds=188)
        wire.faults = [refused, refused]
        assert (await client.image_to_video.create(**BOAT)).id == third.id


async def test_a_retry_waits_for_the_attempt_that_is_being_stored(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = """
        CREATE FUNCTION public.held() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER held AFTER INSERT ON taxiway.calls DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION public.held();
    """
    async with world(own_database_url) as w, connected(own_database_url) as operator:
        await operator.execute(held)
        for hold in ("SELECT pg_advisory_xact_lock(4711)", "LOCK TABLE taxiway.videos IN EXCLUSIVE MODE"):
            async with sdk(w, monkeypatch) as (client, wire):
                slow = Held(late=False)
                wire.faults = [slow]
                transaction = operator.transaction()
                await transaction.start()
                await operator.execute(hold)
                call = asyncio.create_task(client.image_to_video.create(**BOAT))
                await until_both_wait(w)
                await transaction.rollback()
                task = await call
                assert (await slow.arrive()).json()["id"] == task.id
                video, attempts = (await made(w))[-1]
                assert (video, sorted(attempts)) == (UUID(task.id), [0, 1])  # whichever of them came to the lock first
                await client.tasks.retrieve(task.id)
        assert len(await made(w)) == 2


async def until_both_wait(w: World) -> None:
    """Until two connections wait for a lock: that of the attempt that is being stored, and that of its retry."""
    async with asyncio.timeout(10):
        while len(await w.rows(WAITING)) < 2:  # noqa: ASYNC110  # PostgreSQL knows no event for it
            await asyncio.sleep(0.01)


WAITING = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def test_a_commit_that_is_not_known_is_tried_again_at_once(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = calls.enqueue

    async def unknown(*arguments: Any) -> Any:
        await stored(*arguments)
        monkeypatch.setattr(calls, "enqueue", stored)
        raise DatabaseUnavailable("the connection broke at the commit")

    async with sdk(w, monkeypatch) as (client, wire):
        monkeypatch.setattr(calls, "enqueue", unknown)
        task = await client.image_to_video.create(**BOAT)
        assert [(count, status) for count, status, _ in wire.seen] == [("0", 503), ("1", 200)]
        assert wire.seen[0][2]["retry-after-ms"] == "500"
        assert await made(w) == [(UUID(task.id), [0, 1])]


async def test_an_idempotency_key_decides(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sdk(w, monkeypatch) as (client, wire):
        client._idempotency_header = "Idempotency-Key"
        wire.faults = [dropped]
        first = await client.image_to_video.create(**BOAT)
        assert wire.seen[-1][2]["taxiway-deduplicated"] == "key"
        second = await client.image_to_video.create(**BOAT)
        assert (second.id != first.id, len(await made(w))) == (True, 2)
        named = {"Idempotency-Key": "mine"}
        third = [(await client.image_to_video.create(**BOAT, extra_headers=named)).id for _ in range(2)]
        assert third[0] == third[1]
        with pytest.raises(BadRequestError, match="Idempotency-Key: was used before"):
            await client.image_to_video.create(**BOAT | {"prompt_text": "a ship"}, extra_headers=named)


async def test_a_wait_outlives_a_restart(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sdk(w, monkeypatch) as (client, wire):
        task = await client.image_to_video.create(**BOAT)
        await client.tasks.retrieve(task.id)
        wire.faults = [refused, refused]
        wire.restart(create_app(replace(w.ctx)))
        assert (await task.wait_for_task_output()).status == "SUCCEEDED"
        assert len(w.creates) == 1


async def test_delete_cancels_or_hides(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sdk(w, monkeypatch) as (client, wire):
        queued = await client.image_to_video.create(**BOAT)
        await client.tasks.delete(queued.id)
        assert [(status, headers.get("content-length")) for _, status, headers in wire.seen][-1] == (204, None)
        assert w.creates == []

        running = await client.image_to_video.create(**BOAT)
        await client.tasks.retrieve(running.id)
        await client.tasks.delete(running.id)
        await w.tick()
        assert w.runway.state.runway.ledger.totals()["deleted"] == 1

        ended = await client.image_to_video.create(**BOAT)
        await client.tasks.retrieve(ended.id)
        await ended.wait_for_task_output()
        await client.tasks.delete(ended.id)
        assert (await w.row(UUID(ended.id)))["status"] == "completed"
        assert (await w.api.get(f"/videos/{ended.id}")).status_code == 200
        assert (await w.rows("SELECT actor FROM taxiway.events WHERE kind = 'hidden'"))[0]["actor"] == "api-key-1"

        for task in (queued, running, ended):
            with pytest.raises(NotFoundError, match="Could not find Task"):
                await client.tasks.delete(task.id)
            with pytest.raises(NotFoundError, match="Could not find Task"):
                await task.wait_for_task_output()


async def test_a_failure_and_a_pause_as_an_sdk_sees_them(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sdk(w, monkeypatch, max_retries=0) as (client, _):
        w.faults("fail=SAFETY.INPUT.TEXT")
        task = await client.image_to_video.create(**BOAT)
        await client.tasks.retrieve(task.id)
        with pytest.raises(TaskFailedError) as caught:
            await task.wait_for_task_output()
        details: Any = caught.value.task_details
        assert (details.status, details.failure_code, details.cost.credits) == ("FAILED", "SAFETY.INPUT.TEXT", 25)

        w.faults("drop_after")
        lost = await client.image_to_video.create(**BOAT)
        await client.tasks.retrieve(lost.id)
        failed_one = await client.tasks.retrieve(lost.id)
        assert failed_one.model_dump()["failure_code"] == "TAXIWAY.SUBMISSION_UNKNOWN"
        assert failed_one.model_dump()["cost"] == {"credits": 25}

        for fault, status, error in (
            ("no_credits", BadRequestError, "enough credits"),
            ("daily_limit", RateLimitError, "daily task limit"),
            ("key_revoked", BadRequestError, "refuses the key"),
        ):
            w.faults(fault)
            waits = await client.image_to_video.create(**BOAT)
            assert [(await client.tasks.retrieve(waits.id)).status for _ in range(2)] == ["THROTTLED"] * 2
            with pytest.raises(status, match=error):
                await client.image_to_video.create(**BOAT, extra_headers={"taxiway-fail-fast": "true"})
            await client.image_to_video.create(**BOAT)
            await w.rows("DELETE FROM taxiway.models")
            await w.rows("DELETE FROM taxiway.videos")


async def test_a_failure_that_is_tried_again_is_no_end_of_a_wait(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sdk(w, monkeypatch) as (client, _):
        w.faults("fail=INTERNAL")
        task = await client.image_to_video.create(**BOAT)
        seen: list[str] = []
        while seen[-1:] != ["SUCCEEDED"] and len(seen) < 50:
            seen.append((await client.tasks.retrieve(task.id)).status)
            await w.later(seconds=6)
        assert list(dict.fromkeys(seen)) == ["PENDING", "RUNNING", "THROTTLED", "SUCCEEDED"]
        assert [entry["outcome"] for entry in await w.ledger(UUID(task.id))] == ["accepted"] * 2


async def test_what_is_refused_is_refused_in_runways_shape(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sdk(w, monkeypatch) as (client, wire):
        with pytest.raises(BadRequestError) as caught:
            await client.image_to_video.create(**BOAT | {"ratio": "16:9", "prompt_image": "http://a.test/b.png"})
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["error"] == "Validation of body failed"
        issues = caught.value.body["issues"]
        assert sorted(issue["path"] for issue in issues) == [["promptImage"], ["ratio"]]
        assert all(issue["code"] == "custom" and issue["message"] for issue in issues)
        with pytest.raises(BadRequestError, match="Taxiway's catalogue"):
            await client.post("/v1/image_to_hologram", body={}, cast_to=object)
        for method, path in (("post", "/v1/avatars"), ("get", "/v1/nothing"), ("get", "/v1/tasks/no-uuid")):
            with pytest.raises(NotFoundError):
                await getattr(client, method)(path, cast_to=object)
        with pytest.raises(BadRequestError, match="X-Runway-Version"):
            await client.image_to_video.create(**BOAT, extra_headers={"X-Runway-Version": "2023-01-01"})
        assert {headers["x-should-retry"] for _, status, headers in wire.seen if status != 400} == {"false"}
        assert await made(w) == []
    answer = await w.api.post("/v1/image_to_video", content=b"{")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    answer = await w.api.post("/v1/image_to_video", json={name: RAW[name] for name in RAW if name != "model"})
    assert (answer.status_code, answer.json()["issues"][0]["path"]) == (400, ["model"]), "Runway has no default"
    answer = await w.anyone.post("/v1/image_to_video", json=RAW)
    assert (answer.status_code, answer.json()["error"]) == (401, "No API key was provided.")


async def test_limits_and_scopes(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"see": "see+read:", "make": "make+create:", "mine": "mine+own:", "full": "full:"}
    tokens = {name: f"secret-of-{name}-0123456789" for name in keys}
    named = tuple(prefix + tokens[name] for name, prefix in keys.items())
    async with world(database_url, api_keys=named, max_queued=2) as w:

        def client(name: str) -> httpx.AsyncClient:
            headers = {"authorization": f"Bearer {tokens[name]}"}
            return httpx.AsyncClient(transport=w.api._transport, base_url="http://taxiway.test", headers=headers)

        async with client("see") as see, client("make") as make, client("mine") as mine, client("full") as full:
            assert (await see.post("/v1/image_to_video", json=RAW)).status_code == 403
            task = (await make.post("/v1/image_to_video", json=RAW)).json()["id"]
            assert (await make.get(f"/v1/tasks/{task}")).status_code == 403
            assert (await see.delete(f"/v1/tasks/{task}")).status_code == 403
            assert (await see.post("/v1/uploads", json={"filename": "a.png"})).status_code == 403
            assert (await mine.get(f"/v1/tasks/{task}")).status_code == 404
            assert (await mine.delete(f"/v1/tasks/{task}")).status_code == 404
            assert await w.rows("SELECT FROM taxiway.calls WHERE read_at IS NULL")  # its caller may still send it again
            assert (await see.get(f"/v1/tasks/{task}")).json()["status"] == "PENDING"
            assert w.creates == []  # it may not create one
            own = (await mine.post("/v1/image_to_video", json=RAW)).json()["id"]
            full_queue = await full.post("/v1/image_to_video", json=RAW)
            assert (full_queue.status_code, full_queue.headers["retry-after"]) == (429, "30")
            repeated = await mine.post("/v1/image_to_video", json=RAW, headers={"x-stainless-retry-count": "1"})
            assert repeated.json()["id"] == own
            assert (await mine.get(f"/v1/tasks/{own}")).status_code == 200
            # Runway's task of a video is no task of another caller's.
            [row] = await w.rows("SELECT runway_video_id FROM taxiway.videos WHERE id = $1", UUID(own))
            assert (await mine.get(f"/v1/tasks/{row['runway_video_id']}")).status_code == 404
            assert (await mine.get("/v1/organization")).status_code == 403
            assert (await full.get("/v1/organization")).json()["creditBalance"] > 0


async def test_what_makes_no_task_is_handed_on(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    answers = {
        "/v1/uploads": {
            "uploadUrl": "https://s3.test/u?X-Amz-Signature=abcdef0123",
            "fields": {"key": "k"},
            "runwayUri": "runway://1",
        }
    }

    async def runway(scope: Any, receive: Any, send: Any) -> None:
        asked.append((scope["method"], scope["path"]))
        if scope["path"] in answers:
            await JSONResponse(answers[scope["path"]])(scope, receive, send)
            return
        await w.runway(scope, receive, send)

    ctx = replace(w.ctx, transport=lambda: httpx.ASGITransport(app=runway))
    async with sdk(replace(w, ctx=ctx), monkeypatch) as (client, _):
        upload = await client.post("/v1/uploads", body={"filename": "a.png", "type": "ephemeral"}, cast_to=object)
        assert upload == answers["/v1/uploads"]
        assert [(await client.organization.retrieve()).credit_balance for _ in range(3)] == [10_000] * 3
        assert asked.count(("GET", "/v1/organization")) == 1

        head = {"authorization": f"Bearer {w.ctx.settings.runway_key}", "x-runway-version": "2024-11-06"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=w.runway), base_url="http://runway.test") as old:
            task = (await old.post("/v1/image_to_video", json=RAW, headers=head)).json()["id"]
        for _ in range(2):
            assert (await client.tasks.retrieve(task)).id == task
        assert asked.count(("GET", f"/v1/tasks/{task}")) == 1
        with pytest.raises(NotFoundError):
            await client.tasks.retrieve(str(uuid4()))
        with pytest.raises(NotFoundError):
            await client.tasks.delete(task)
        assert ("DELETE", f"/v1/tasks/{task}") not in asked


async def test_taxiway_does_not_call_itself(w: World) -> None:
    itself = replace(w.ctx, transport=lambda: httpx.ASGITransport(app=create_app(w.ctx)))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=create_app(itself)), base_url="http://taxiway.test", headers=w.api.headers
    ) as app:
        task = (await app.post("/v1/image_to_video", json=RAW)).json()["id"]
        for _ in range(2):
            assert (await app.get(f"/v1/tasks/{task}")).json()["status"] == "THROTTLED"
        shown = (await app.get(f"/videos/{task}")).json()
        assert "Taxiway's own call" in shown["waiting"]["detail"]
        assert (await app.get("/v1/organization")).status_code == 503
    assert len(await made(w)) == 1


async def test_every_base_url_and_the_sync_sdk(w: World) -> None:
    app = create_app(w.ctx)
    async with on_socket(app) as url, on_socket(Starlette(routes=[Mount("/runway", app)])) as under:

        def calls_of(base: str) -> str:
            with RunwayML(api_key=API_KEY, base_url=base, max_retries=0) as client:
                task = client.image_to_video.create(**BOAT)
                status: str = client.tasks.retrieve(task.id).status
                client.tasks.delete(task.id)
                return status

        for base in (url, f"{url}/", f"{url}/v1", f"{url}/v1/", f"{under}/runway"):
            assert await anyio.to_thread.run_sync(calls_of, base) == "PENDING"


async def test_what_has_no_known_price_needs_a_bound(w: World) -> None:
    for most, words in ((None, "taxiway-max-credits: "), ("lots", "must be a number"), ("-1", "greater than 0")):
        headers = {} if most is None else {"taxiway-max-credits": most}
        answer = await w.api.post("/v1/workflows/0a1b", json={}, headers=headers)  # whose price is not known
        assert (answer.status_code, words in answer.text) == (400, True), answer.text
    assert (await w.api.post("/v1/workflows", json={})).status_code == 400
