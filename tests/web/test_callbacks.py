"""Callbacks: what a genuine one does, what a repeated or early one does, and that a forger learns nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from service import context as contexts
from service import webhooks
from service.app import create_app
from service.context import Context
from service.deadline import Deadline
from service.errors import Conflict
from service.simulator.app import SimulatorOptions, create_simulator
from service.steps import poll, rescue, submit
from service.store import inbox as inbox_store
from service.store import tasks
from service.tick import poll_only
from service.web import callbacks
from tests.database import connected, execute
from tests.simulator_server import on_socket
from tests.world import API_KEY, CALLBACK_SECRET, IMAGE, World, settings, world

pytestmark = pytest.mark.anyio

OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of the right length").decode()
PATH = "/callbacks/runway"
Pairs = list[tuple[str | bytes, str | bytes]]


def signed(w: World, raw: bytes, *, id: str = "msg_1", off: float = 0, secret: str = CALLBACK_SECRET) -> dict[str, str]:
    """The headers of a genuine message, sent `off` seconds from now."""
    return webhooks.headers(secret, id, int(w.clock() + off), raw)


def about(task_id: object, **more: object) -> bytes:
    """A body as the simulator's relay sends it."""
    return json.dumps({"type": "task.updated", "data": {"task_id": task_id} | more}).encode()


async def call(w: World, raw: bytes, headers: Any = None, **how: Any) -> httpx.Response:
    """Post a body, signed unless headers are given."""
    headers = signed(w, raw, **how) if headers is None else headers
    return await w.anyone.post(PATH, content=raw, headers=headers)


async def followed(w: World, raw: bytes, **how: Any) -> str | None:
    """Post a callback, which is kept, and let a tick follow it: what it led to."""
    response = await call(w, raw, **how)
    assert (response.status_code, response.json()) == (202, {"result": "kept"})
    await rescue.run_once(w.ctx)
    await poll.run_once(w.ctx)
    [kept] = [one for one in await inbox(w) if one["id"] == how.get("id", "msg_1")]
    result: str | None = kept["result"]
    return result


async def with_runway(w: World) -> tuple[UUID, str]:
    """One video whose task is at Runway."""
    video_id = await w.enqueue()
    await w.tick()
    return video_id, (await w.row(video_id))["runway_video_id"]


async def unknown_video(w: World, fault: str = "drop_after") -> tuple[UUID, str]:
    """A video whose create was taken by Runway, and whose answer was lost; with the task that nobody knows."""
    w.faults(fault)
    video_id = await w.enqueue()
    await w.tick()
    row = await w.row(video_id)
    assert (row["status"], row["error_code"]) == ("failed", "SUBMISSION_UNKNOWN")
    return video_id, w.creates[-1].task_id


async def inbox(w: World) -> list[dict[str, Any]]:
    return [dict(row) for row in await w.rows("SELECT * FROM taxiway.inbox ORDER BY received_at, id")]


def finished(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """The videos that the log says have finished."""
    return [vars(r)["ids"]["video"] for r in caplog.records if vars(r).get("event") == "finished"]


@asynccontextmanager
async def relayed(database_url: str) -> AsyncIterator[tuple[Context, httpx.AsyncClient]]:
    """A service and a simulator whose relay calls it back, each on a socket: (context, a client of the API)."""
    app = create_app(contexts.build(settings(database_url)))
    try:
        async with on_socket(app) as service_url:
            options = SimulatorOptions(speed=20, relay_url=service_url + PATH, relay_secret=CALLBACK_SECRET)
            async with on_socket(create_simulator(options)) as runway_url:
                ctx = app.state.ctx = contexts.build(settings(database_url, runway_url=runway_url))
                headers = {"authorization": f"Bearer {API_KEY}"}
                async with httpx.AsyncClient(base_url=service_url, headers=headers, trust_env=False) as client:
                    yield ctx, client
    finally:
        await app.state.ctx.database.close()  # after the servers: a late callback would open it again


async def hand_in(client: httpx.AsyncClient) -> str:
    """Enqueue one video; its id."""
    response = await client.post("/videos", json={"input": {"promptText": "a boat", "promptImage": IMAGE}})
    return str(response.json()["id"])


async def until_finished(ctx: Context, *, poller: bool = False, callbacks: bool = False) -> None:
    """Wait until no video is under way; `poller` looks at every task again and again, `callbacks` at those named."""
    hurry = """UPDATE taxiway.videos SET poll_after = taxiway.now(), polled_at = NULL
               WHERE status = 'processing' AND open_submission_id IS NULL"""
    async with asyncio.timeout(30):
        while await ctx.database.fetchval("SELECT count(*) FROM taxiway.videos WHERE finished_at IS NULL"):
            if callbacks:
                await ctx.database.execute("UPDATE taxiway.videos SET polled_at = NULL WHERE status = 'processing'")
                await rescue.run_once(ctx)
                await poll.run_once(ctx)
            if poller:
                await ctx.database.execute(hurry)
                await poll_only(ctx)
            await asyncio.sleep(0.02)


# What a genuine callback does.


async def test_a_callback_is_kept_and_the_next_tick_completes_its_video(w: World) -> None:
    video_id, task_id = await with_runway(w)
    await w.later(minutes=1)
    await execute(w.url, "UPDATE taxiway.videos SET poll_after = taxiway.now() + interval '1 hour'")
    response = await call(w, about(task_id))
    assert (response.status_code, response.json()) == (202, {"result": "kept"})
    assert (await w.row(video_id))["status"] == "processing"
    counts = await w.tick()
    assert (counts["rescue"]["matched"], counts["poll"]["completed"]) == (1, 1)
    row = await w.row(video_id)
    assert (row["status"], row["cost_credits"]) == ("completed", 25)
    [kept] = await inbox(w)
    assert (kept["task_id"], kept["result"]) == (task_id, "matched")
    assert kept["handled_at"] is not None
    assert (await w.tick())["poll"]["polled"] == 0


async def test_a_task_that_was_polled_a_moment_ago_is_due_as_soon_as_runway_allows(w: World) -> None:
    video_id, task_id = await with_runway(w)
    await w.later(seconds=6)
    await w.tick()
    assert await followed(w, about(task_id)) == "matched"
    row = await w.row(video_id)
    assert (row["status"], row["task_status"]) == ("processing", "RUNNING")
    assert row["poll_after"] - row["polled_at"] == timedelta(seconds=tasks.LEAST_GAP_SECONDS)
    await w.finish()
    assert (await w.row(video_id))["status"] == "completed"


async def test_a_thousand_callbacks_at_once_are_written_together(w: World) -> None:
    many = [inbox_store.Callback(f"msg_{n % 990}", "ab", f"t{n}", None) for n in range(1000)]
    other = inbox_store.Callback("msg_0", "cd", "t", None)
    answers = await asyncio.gather(
        *(w.ctx.mailbox.keep(w.ctx.database, one) for one in [*many, other]), return_exceptions=True
    )
    assert (answers.count(True), answers.count(False)) == (990, 10)
    assert isinstance(answers[-1], Conflict)
    assert len(await inbox(w)) == 990


async def test_a_caller_that_is_cut_off_costs_no_other_callback(w: World) -> None:
    keeping = [
        asyncio.create_task(w.ctx.mailbox.keep(w.ctx.database, inbox_store.Callback(f"m{n}", "ab", "t", None)))
        for n in range(3)
    ]
    await asyncio.sleep(0)
    keeping[0].cancel()
    assert await asyncio.gather(*keeping[1:]) == [True, True]


@pytest.mark.parametrize(
    "body",
    [
        {"task_id": "TASK"},
        {"taskId": "TASK"},
        {"id": "TASK"},
        {"data": {"id": "TASK"}},
        {"data": {"taskId": "TASK"}, "code": 200},
        {"id": "TASK", "status": "SUCCEEDED", "data": "none"},
    ],
)
async def test_the_id_is_found_wherever_senders_put_it(w: World, body: dict[str, Any]) -> None:
    video_id, task_id = await with_runway(w)
    await w.later(minutes=1)
    assert await followed(w, json.dumps(body).replace("TASK", task_id).encode()) == "matched"
    assert (await w.row(video_id))["status"] == "completed"


async def test_nothing_in_the_payload_but_the_ids_is_believed(w: World) -> None:
    video_id, task_id = await with_runway(w)
    await w.later(seconds=6)
    output = ["https://evil.example/a.mp4"]
    lie = about(task_id, status="SUCCEEDED", output=output, video_id=str(uuid4()), cost={"credits": 0})
    assert await followed(w, lie) == "matched"
    row = await w.row(video_id)
    assert (row["status"], row["video_url"], row["cost_credits"]) == ("processing", None, None)
    doomed = about(task_id, status="FAILED", failureCode="SAFETY.INPUT.TEXT")
    assert await followed(w, doomed, id="msg_2") == "matched"
    await w.finish()
    row = await w.row(video_id)
    assert (row["status"], row["cost_credits"]) == ("completed", 25)
    assert row["video_url"].startswith("http://runway.test/")


async def test_an_unknown_task_is_kept_and_matched_by_a_later_tick(w: World) -> None:
    video_id = await w.enqueue()
    early = str(uuid4())
    response = await call(w, about(early))
    assert (response.status_code, response.json()) == (202, {"result": "kept"})
    assert (await w.tick())["rescue"]["matched"] == 0
    async with connected(w.url) as connection:
        # As if this had been the id that Runway gave: the row is not due for another hour.
        await connection.execute(
            "UPDATE taxiway.videos SET runway_video_id = $2, poll_after = taxiway.now() + interval '1 hour' "
            "WHERE id = $1",
            video_id,
            early,
        )
        await connection.execute("UPDATE taxiway.submissions SET task_id = $2 WHERE video_id = $1", video_id, early)
    assert (await w.tick())["rescue"]["matched"] == 1
    [kept] = await inbox(w)
    assert kept["result"] == "matched"
    assert (await w.row(video_id))["task_status"] == "GONE"  # it was made due, and looked at


async def test_a_callback_that_comes_before_the_id_is_saved_is_not_lost(w: World) -> None:
    video_id = await w.enqueue()
    runway = httpx.ASGITransport(app=w.runway)
    answered: list[int] = []

    class Overtaken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await runway.handle_async_request(request)
            await response.aread()
            answered.append((await call(w, about(response.json()["id"], video_id=str(video_id)))).status_code)
            return response

    slow = replace(w.ctx, transport=Overtaken)
    await submit.run_once(slow, Deadline(slow.monotonic, slow.monotonic() + 20))
    assert answered == [202]
    assert (await inbox(w))[0]["handled_at"] is None
    await w.later(minutes=1)
    async with connected(w.url) as connection:
        await connection.execute("UPDATE taxiway.videos SET poll_after = taxiway.now() + interval '1 hour'")
    counts = await w.tick()
    assert (counts["rescue"]["matched"], counts["poll"]["completed"]) == (1, 1)
    assert len(w.creates) == 1
    assert [entry["outcome"] for entry in await w.ledger(video_id)] == ["accepted"]


async def test_a_repeated_callback_is_a_duplicate_and_another_body_a_conflict(w: World) -> None:
    _, task_id = await with_runway(w)
    await w.later(minutes=1)
    raw = about(task_id)
    assert (await call(w, raw)).json() == {"result": "kept"}
    for off in (0, 7):
        again = await call(w, raw, off=off)
        assert (again.status_code, again.json()) == (200, {"result": "duplicate"})
    other = await call(w, raw + b" ")
    assert (other.status_code, other.json()["title"]) == (
        409,
        "The state of the video does not allow this",
    )
    assert len(await inbox(w)) == 1
    assert (await call(w, raw, id="msg_2")).json() == {"result": "kept"}


async def test_the_same_callback_ten_times_at_once(w: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    video_id, task_id = await with_runway(w)
    await w.later(minutes=1)
    answers = await asyncio.gather(*(call(w, about(task_id)) for _ in range(10)))
    assert sorted(answer.json()["result"] for answer in answers) == ["duplicate"] * 9 + ["kept"]
    await w.tick()
    assert finished(caplog) == [video_id]
    assert (await w.row(video_id))["status"] == "completed"
    assert len(await inbox(w)) == 1


async def test_a_row_that_somebody_holds_keeps_the_callback_for_a_tick(w: World) -> None:
    video_id, task_id = await with_runway(w)
    await w.later(minutes=1)
    async with connected(w.url) as holder, holder.transaction():
        await holder.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", video_id)
        assert await followed(w, about(task_id)) is None
    assert (await w.tick())["rescue"]["matched"] == 1
    assert (await w.row(video_id))["status"] == "completed"


# Who may send one.


async def test_secrets_rotate(database_url: str) -> None:
    async with world(database_url, callback_secrets=(OTHER_SECRET, CALLBACK_SECRET)) as w:
        raw = about("t")
        assert (await call(w, raw, id="msg_1", secret=CALLBACK_SECRET)).status_code == 202
        assert (await call(w, raw, id="msg_2", secret=OTHER_SECRET)).status_code == 202
    async with world(database_url, callback_secrets=(OTHER_SECRET,)) as w:
        assert (await call(w, raw, id="msg_3", secret=CALLBACK_SECRET)).status_code == 401


async def test_without_a_secret_the_route_is_closed_and_says_what_to_set(database_url: str) -> None:
    async with world(database_url, callback_secrets=()) as w:
        response = await call(w, about("t"))
        assert response.status_code == 503
        assert "CALLBACK_SECRETS" in response.json()["detail"]
        assert response.json()["missing"] == ["CALLBACK_SECRETS"]
        assert await inbox(w) == []


def forgeries(w: World) -> dict[str, tuple[bytes, Pairs]]:
    """By name: a body and headers, each of which fails for another reason."""
    raw = about("11111111-1111-4111-8111-111111111111")
    good = signed(w, raw)
    stamp, signature = good["webhook-timestamp"], good["webhook-signature"]

    def changed(name: str, *values: str | bytes) -> Pairs:
        kept: Pairs = [(key, value) for key, value in good.items() if key != name]
        return kept + [(name, value) for value in values]

    def resigned(id: str, stamp: str) -> Pairs:
        key = base64.b64decode(CALLBACK_SECRET.removeprefix("whsec_"))
        text = f"{id}.{stamp}.".encode() + raw
        made = "v1," + base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
        values = {"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": made}
        return [(name, value.encode()) for name, value in values.items()]

    arabic = stamp.translate({ord("0") + digit: 0x660 + digit for digit in range(10)})
    full_width = stamp.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    cases: dict[str, tuple[bytes, Pairs]] = {"no header": (raw, []), "an empty body": (b"", changed(""))}
    for name in good:
        cases |= {
            f"no {name}": (raw, changed(name)),
            f"two of {name}": (raw, changed(name, good[name], good[name])),
            f"{name} empty": (raw, changed(name, "")),
            f"{name} huge": (raw, changed(name, "9" * 100_000)),
            f"{name} not UTF-8": (raw, changed(name, b"\xff\xfe")),
            f"{name} with NUL": (raw, changed(name, good[name].encode() + b"\0")),
        }
    for words, id, when in (
        ("an old time", "msg_1", str(int(w.clock()) - 301)),
        ("a future time", "msg_1", str(int(w.clock()) + 302)),
        ("half seconds", "msg_1", f"{stamp}.5"),
        ("a sign", "msg_1", f"+{stamp}"),
        ("a leading zero", "msg_1", f"0{stamp}"),
        ("hexadecimal", "msg_1", hex(int(stamp))),
        ("an underscore", "msg_1", f"{stamp[:4]}_{stamp[4:]}"),
        ("an exponent", "msg_1", "1e9"),
        ("not a number", "msg_1", "NaN"),
        ("Arabic digits", "msg_1", arabic),
        ("full-width digits", "msg_1", full_width),
        ("an id with NUL", "msg\0", stamp),
        ("an id with a space", "msg 1", stamp),
        ("an id without end", "m" * 257, stamp),
    ):
        cases[words] = (raw, resigned(id, when))
    for words, value in {
        "another secret": signed(w, raw, secret=OTHER_SECRET)["webhook-signature"],
        "truncated base64": signature[:-3],
        "another version": signature.replace("v1,", "v1a,"),
        "no version": signature.removeprefix("v1,"),
        "a thousand signatures": " ".join(["v1,AAAA"] * 1000),
        "the hash in hexadecimal": "v1," + base64.b64decode(signature[3:]).hex(),
    }.items():
        cases[words] = (raw, changed("webhook-signature", value))
    cases["another body"] = (raw + b" ", list(good.items()))
    return cases


async def test_every_forgery_gets_one_identical_401_and_only_the_log_says_why(
    w: World, caplog: pytest.LogCaptureFixture
) -> None:
    answers, reasons = set(), {}
    for words, (raw, pairs) in forgeries(w).items():
        caplog.clear()
        response = await w.anyone.post(PATH, content=raw, headers=pairs)  # type: ignore[arg-type]
        answers.add((response.status_code, response.content, tuple(sorted(response.headers.items()))))
        [record] = [r for r in caplog.records if vars(r).get("event") == "callback_refused"]
        reasons[words] = record.getMessage()
        assert CALLBACK_SECRET not in caplog.text
    assert len(reasons) >= 40
    [(status, body, _)] = answers
    assert (status, json.loads(body)["detail"]) == (401, "The signature does not verify.")
    assert "from this clock" in reasons["an old time"]
    assert reasons["no webhook-id"] == "Callback refused: webhook-id is there 0 times"
    assert reasons["two of webhook-id"] == "Callback refused: webhook-id is there 2 times"
    assert "none of 1 signatures" in reasons["another body"]
    assert await inbox(w) == []


# Whoever has the secret may still send nonsense.


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"\xff\xfe{}", 400),
        (b"{", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'"task"', 400),
        (b"12", 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, 400),
        (b'{"task_id": ' + b"9" * 5_000 + b"}", 400),
        (b"{}", 422),
        (b'{"data": {}}', 422),
        (b'{"task_id": 12}', 422),
        (b'{"task_id": null}', 422),
        (b'{"task_id": ["a"]}', 422),
        (b'{"task_id": {"a": 1}}', 422),
        (b'{"task_id": true}', 422),
        (b'{"task_id": "' + b"t" * 201 + b'"}', 422),
        (b'{"task_id": "a\\u0000b"}', 422),
        (b'{"task_id": "a\\ud800b"}', 400),
        (b'{"task_id": "a\\ud83d\\ude00b", "data": {}}', 422),
        (b'{"task_id": "t", "n": NaN}', 400),
        (b'{"task_id": "t", "n": 1e999}', 400),
        (b'{"task_id": "t", "video_id": "not an id"}', 422),
        (b'{"task_id": "t", "video_id": 1}', 422),
        (b'{"task_id": "t", "video_id": "\\u0000"}', 422),
    ],
)
async def test_nonsense_that_is_signed_is_refused_in_words(w: World, raw: bytes, status: int) -> None:
    response = await call(w, raw)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert await inbox(w) == []


@pytest.mark.parametrize(
    "task_id", ["../../v1/organization", "?x=1", "#", "%2e%2e", "é" * 100, "\u202e", "' OR 1=1 --"]
)
async def test_a_strange_id_is_an_unknown_task(w: World, task_id: str) -> None:
    video_id, _ = await unknown_video(w)
    response = await call(w, about(task_id, video_id=str(video_id)))
    assert (response.status_code, response.json()) == (202, {"result": "kept"})
    await w.tick()
    assert (await w.row(video_id))["error_code"] == "SUBMISSION_UNKNOWN"


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(w: World) -> None:
    raw = b'{"task_id": "t", "x": "' + b"x" * callbacks.LARGEST_CALLBACK_BYTES + b'"}'
    assert (await call(w, raw)).status_code == 413
    chunks: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        for number in range(10_000):
            chunks.append(number)
            yield b"x" * 10_000

    claimed = signed(w, raw)
    response = await w.anyone.post(PATH, content=endless(), headers=claimed)
    assert response.status_code == 413
    assert len(chunks) <= callbacks.LARGEST_CALLBACK_BYTES / 10_000 + 2
    for lie in ("9" * 5_000, "999999999999999999"):
        assert (await w.anyone.post(PATH, headers=claimed | {"content-length": lie})).status_code == 413
    for nonsense in ("²".encode("latin-1"), b"-1", b"1e9", b""):
        sent = [(b"content-length", nonsense), *((k.encode(), v.encode()) for k, v in claimed.items())]
        assert (await w.anyone.post(PATH, headers=sent)).status_code == 401


async def test_nothing_of_a_body_is_read_before_its_headers_are_good(w: World) -> None:

    async def unwanted() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    good = signed(w, b"{}")
    stale = str(int(w.clock()) - 301)
    for headers in (
        {}, *({name: value for name, value in good.items() if name != missing} for missing in good),
        good | {"webhook-timestamp": stale}, good | {"webhook-id": ""}, good | {"webhook-signature": "v1,"},
        good | {"webhook-signature": " ".join([good["webhook-signature"]] * 21)},
    ):  # fmt: skip
        assert (await w.anyone.post(PATH, content=unwanted(), headers=headers)).status_code == 401


async def test_a_body_that_never_ends_is_given_up(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "SLOWEST_CALLBACK_SECONDS", 0.05)

    async def trickle() -> AsyncIterator[bytes]:
        yield b'{"task_id": "t'
        await asyncio.Event().wait()

    response = await w.anyone.post(PATH, content=trickle(), headers=signed(w, b"{}"))
    assert response.status_code == 408
    assert response.headers["content-type"] == "application/problem+json"
    assert "did not arrive" in response.json()["detail"]


async def test_a_caller_that_hangs_up_in_its_body_is_no_defect(w: World) -> None:
    sent: list[Any] = []
    parts = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(parts)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "headers": [(name.encode(), value.encode()) for name, value in signed(w, b"{}").items()],
        "query_string": b"",
        "app": None,
    }
    await create_app(w.ctx)(scope, receive, send)
    assert sent[0]["status"] == 400


# Evidence for a submission of unknown outcome.


async def test_evidence_attaches_the_task_of_an_unknown_submission(w: World) -> None:
    video_id, task_id = await unknown_video(w)
    assert await followed(w, about(task_id, video_id=str(video_id))) == "moved"
    row = await w.row(video_id)
    assert (row["status"], row["runway_video_id"]) == ("processing", task_id)
    await w.finish()
    assert (await w.row(video_id))["status"] == "completed"
    [entry] = await w.ledger(video_id)
    assert (entry["outcome"], entry["task_id"], entry["cost_credits"]) == ("accepted", task_id, 25)
    assert len(w.creates) == 1


async def test_evidence_that_runway_cannot_confirm_yet_is_followed_by_a_tick(w: World) -> None:
    video_id, task_id = await unknown_video(w)
    w.faults({"simulate": "status=503", "on": "retrieve"})
    raw = about(task_id, video_id=str(video_id))
    assert (await call(w, raw)).json() == {"result": "kept"}
    assert (await w.tick())["rescue"]["attached"] == 0
    assert (await w.tick())["rescue"]["attached"] == 1
    assert (await w.row(video_id))["runway_video_id"] == task_id
    assert (await inbox(w))[0]["result"] == "moved"
    assert (await call(w, raw)).json() == {"result": "duplicate"}


async def test_evidence_is_followed_without_a_key_once_there_is_one(database_url: str) -> None:
    async with world(database_url) as w:
        video_id, task_id = await unknown_video(w)
        async with world(database_url, runway_key=None) as keyless:
            assert (await call(keyless, about(task_id, video_id=str(video_id)))).json() == {"result": "kept"}
        assert (await w.tick())["rescue"]["attached"] == 1
        assert (await w.row(video_id))["runway_video_id"] == task_id


async def test_a_task_that_runway_does_not_know_is_no_evidence(w: World) -> None:
    video_id, _ = await unknown_video(w)
    response = await call(w, about(str(uuid4()), video_id=str(video_id)))
    assert response.json() == {"result": "kept"}
    assert (await w.tick())["rescue"]["attached"] == 1  # followed, to its end
    assert "does not know the task" in (await inbox(w))[0]["result"]
    assert (await w.row(video_id))["error_code"] == "SUBMISSION_UNKNOWN"


async def test_a_task_made_outside_the_submissions_window_is_no_evidence(w: World) -> None:
    video_id, _ = await unknown_video(w)
    await w.later(hours=1)
    w.faults("drop_after")
    await w.enqueue()  # another create whose answer was lost: its task is an hour younger
    await w.tick()
    unknown_task = w.creates[-1].task_id
    assert (await call(w, about(unknown_task, video_id=str(video_id)))).json() == {"result": "kept"}
    await w.tick()
    assert (await w.row(video_id))["error_code"] == "SUBMISSION_UNKNOWN"
    assert [entry["outcome"] for entry in await w.ledger(video_id)] == ["unknown"]


async def test_a_task_made_after_the_submission_was_closed_but_inside_its_window_is_evidence(
    w: World,
) -> None:
    video_id, task_id = await unknown_video(w)
    entry = w.runway.state.runway.find(task_id)
    [ledger] = await w.ledger(video_id)
    for moment, is_evidence in (
        (ledger["opened_at"] - timedelta(seconds=61), False),
        (ledger["call_deadline"] + timedelta(seconds=61), False),
        (ledger["call_deadline"] + timedelta(seconds=59), True),
    ):
        entry.created_at = moment.isoformat()
        raw = about(task_id, video_id=str(video_id))
        led_to = await followed(w, raw, id=f"msg_{moment.timestamp()}")
        assert (led_to == "moved") is is_evidence


async def test_evidence_of_a_task_that_is_held_already_changes_nothing(w: World) -> None:
    held, task_id = await with_runway(w)
    await w.later(minutes=1)
    await w.tick()
    video_id, _ = await unknown_video(w)
    before = (
        await w.rows("SELECT * FROM taxiway.videos ORDER BY id"),
        await w.rows("SELECT * FROM taxiway.submissions ORDER BY id"),
    )
    assert await followed(w, about(task_id, video_id=str(video_id))) == "matched"
    await w.tick()
    after = (
        await w.rows("SELECT * FROM taxiway.videos ORDER BY id"),
        await w.rows("SELECT * FROM taxiway.submissions ORDER BY id"),
    )
    assert before == after
    assert (await w.row(held))["runway_video_id"] == task_id


async def test_evidence_for_a_queued_video_attaches_it_out_of_the_queue(database_url: str) -> None:
    async with world(database_url, unknown_policy="resubmit") as w:
        w.faults("drop_after")
        video_id = await w.enqueue()
        await submit.run_once(w.ctx, Deadline(w.ctx.monotonic, w.ctx.monotonic() + 20))
        assert (await w.row(video_id))["status"] == "queued"
        task_id = w.creates[0].task_id
        assert await followed(w, about(task_id, video_id=str(video_id))) == "moved"
        await w.finish()
        row = await w.row(video_id)
        assert (row["status"], row["runway_video_id"], len(w.creates)) == ("completed", task_id, 1)


async def test_evidence_for_a_video_that_is_with_runway_again_books_a_surplus(w: World) -> None:
    video_id, lost = await unknown_video(w)
    retry = {"accept_double_charge": True}
    assert (await w.api.post(f"/videos/{video_id}/retry", json=retry)).status_code == 202
    await w.tick()
    second = (await w.row(video_id))["runway_video_id"]
    assert second != lost
    assert await followed(w, about(lost, video_id=str(video_id))) == "elsewhere"
    surplus, kept = await w.ledger(video_id)
    assert (surplus["task_id"], surplus["cancel_reason"], surplus["consent"]) == (
        lost,
        "surplus",
        "operator",
    )
    assert surplus["cancel_due"] is not None
    assert (kept["task_id"], kept["cancel_due"]) == (second, None)
    assert (await w.row(video_id))["runway_video_id"] == second
    await w.finish()
    assert [entry.deleted for entry in w.creates] == [True, False]
    assert (await w.row(video_id))["status"] == "completed"
    assert all(entry["settled_at"] for entry in await w.ledger(video_id))


async def test_evidence_for_a_cancelled_video_is_a_surplus(w: World) -> None:
    video_id, lost = await unknown_video(w)
    await w.api.post(f"/videos/{video_id}/retry", json={"accept_double_charge": True})
    await w.api.post(f"/videos/{video_id}/cancel")
    assert await followed(w, about(lost, video_id=str(video_id))) == "elsewhere"
    assert (await w.tick())["cancel"]["deleted"] == 1
    assert (await w.row(video_id))["status"] == "cancelled"
    assert w.creates[0].deleted


async def test_a_video_id_that_nobody_knows_is_kept(w: World) -> None:
    _, lost = await unknown_video(w)
    assert (await call(w, about(lost, video_id=str(uuid4())))).json() == {"result": "kept"}
    assert (await rescue.run_once(w.ctx))["attached"] == 0


# At the same time.


async def test_a_callback_overtakes_a_poller_that_waits_for_its_answer(
    w: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    video_id, task_id = await with_runway(w)
    await w.later(minutes=1)
    runway = httpx.ASGITransport(app=w.runway)
    asked, go_on = asyncio.Event(), asyncio.Event()

    class Held(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await runway.handle_async_request(request)
            await response.aread()
            asked.set()
            await go_on.wait()
            return response

    polling = asyncio.create_task(poll.run_once(replace(w.ctx, transport=Held)))
    await asked.wait()
    async with connected(w.url) as connection:
        await connection.execute("UPDATE taxiway.videos SET polled_at = polled_at - interval '6 seconds'")
    assert await followed(w, about(task_id)) == "matched"
    first = await w.row(video_id), await w.ledger(video_id)
    go_on.set()
    assert (await polling)["completed"] == 0
    assert (await w.row(video_id), await w.ledger(video_id)) == first
    assert finished(caplog) == [video_id]


async def test_the_relay_alone_completes_videos_over_real_sockets(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "service")
    async with relayed(database_url) as (ctx, client):
        ids = [await hand_in(client) for _ in range(3)]
        await submit.run_once(ctx, Deadline(ctx.monotonic, ctx.monotonic() + 20))
        await until_finished(ctx, callbacks=True)
        rows = await ctx.database.fetch("SELECT id, status, polled_at, submitted_at FROM taxiway.videos")
        assert {row["status"] for row in rows} == {"completed"}
        assert sorted(map(str, finished(caplog))) == sorted(ids)
        async with asyncio.timeout(30):  # a handler notes what it came to after its video has ended
            while await ctx.database.fetchval("SELECT count(*) FROM taxiway.inbox WHERE handled_at IS NULL"):
                await rescue.run_once(ctx)
        results = await ctx.database.fetch("SELECT result FROM taxiway.inbox")
        assert {row["result"] for row in results} == {"matched"}


async def test_with_relay_and_poller_racing_there_is_one_finalization(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with relayed(database_url) as (ctx, client):
        ids = [await hand_in(client) for _ in range(8)]
        await submit.run_once(ctx, Deadline(ctx.monotonic, ctx.monotonic() + 20))
        await until_finished(ctx, poller=True)
        assert sorted(map(str, finished(caplog))) == sorted(ids)
        booked = "SELECT count(*) FROM taxiway.submissions WHERE cost_credits = 25 AND settled_at IS NOT NULL"
        assert await ctx.database.fetchval(booked) == len(ids)
