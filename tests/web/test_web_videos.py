"""/videos: what an app sends, and what it is told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from service.store.database import Connection
from tests.world import IMAGE, World, world

pytestmark = pytest.mark.anyio

GOOD: dict[str, Any] = {"input": {"promptText": "a boat", "promptImage": IMAGE}}


def pointers(response: Any) -> list[str]:
    assert response.headers["content-type"] == "application/problem+json"
    return [error["pointer"] for error in response.json()["errors"]]


async def test_a_request_is_accepted_with_everything_that_was_assumed(w: World) -> None:
    response = await w.api.post("/videos", json=GOOD | {"metadata": {"order": 7}, "priority": 3})
    video = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/videos/{video['id']}"
    assert response.headers["retry-after"] == "5"
    assert video["status"] == "queued"
    assert video["input"] == GOOD["input"] | {"model": "gen4_turbo", "ratio": "1280:720", "duration": 5}
    assert (video["quoted_credits"], video["metadata"], video["priority"]) == (25, {"order": 7}, 3)
    row = await w.row(video["id"])
    assert (row["prompt"], row["image_url"]) == ("a boat", IMAGE)


async def test_the_text_model_is_the_default_for_text(w: World) -> None:
    for said in ({"operation": "text_to_video"}, {"operation": None}, {}):
        response = await w.api.post("/videos", json={"input": {"promptText": "a boat"}} | said)
        assert (response.json()["operation"], response.json()["model"]) == ("text_to_video", "gen4.5")


async def test_what_is_not_sent_is_a_warning_that_stays_with_the_video(w: World) -> None:
    lenient = {"aspect_ratio": "9:16", "resolution": "720p", "generate_audio": True, "references": [IMAGE]}
    created = (await w.api.post("/videos", json=GOOD | lenient)).json()
    assert [(one["type"], one["feature"]) for one in created["warnings"]] == [
        ("unsupported", "generate_audio"), ("unsupported", "references"),
    ]  # fmt: skip
    await w.tick()
    assert created["input"] == GOOD["input"] | {"model": "gen4_turbo", "ratio": "720:1280", "duration": 5}
    for read in (f"/videos/{created['id']}", "/videos"):
        found = (await w.api.get(read)).json()
        assert found.get("videos", [found])[0]["warnings"] == created["warnings"]
    quiet = (await w.api.post("/videos", json=GOOD)).json()
    assert (quiet["warnings"], (await w.row(quiet["id"]))["warnings"]) == ([], None)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/input"),
        (GOOD | {"prompt": "x"}, "/prompt"),
        (GOOD | {"priority": 101}, "/priority"),
        (GOOD | {"priority": "high"}, "/priority"),
        (GOOD | {"run_after": "2026-01-01T00:00:00"}, "/run_after"),
        (GOOD | {"expires_at": "soon"}, "/expires_at"),
        (GOOD | {"run_after": "2027-01-01T00:00:00Z", "expires_at": "2026-12-31T00:00:00Z"}, "/expires_at"),
        (GOOD | {"operation": "image-to-video"}, "/operation"),
        (GOOD | {"aspect_ratio": "5:4"}, "/aspect_ratio"),
        (GOOD | {"aspect_ratio": 1.5}, "/aspect_ratio"),
        (GOOD | {"resolution": "4k"}, "/resolution"),
        (GOOD | {"generate_audio": "yes"}, "/generate_audio"),
        (GOOD | {"references": []}, "/references"),
        (GOOD | {"metadata": {"x": "y" * 20_000}}, "/metadata"),
        (GOOD | {"metadata": {"x": "\x00"}}, "/metadata"),
        (GOOD | {"columns": {"team": 1}}, "/columns"),
        (GOOD | {"user_id": 7}, "/user_id"),
        ({"input": {"promptText": "x" * 1001, "promptImage": IMAGE}}, "/input/promptText"),
        ({"input": {"promptImage": "http://example.com/a.jpg"}}, "/input/promptImage"),
        ({"input": {"promptImage": IMAGE, "ratio": "16:9"}}, "/input/ratio"),
        ({"input": {"promptImage": IMAGE, "duration": 11}}, "/input/duration"),
        ({"input": {"promptImage": IMAGE, "callback_url": "https://example.com"}}, "/input/callback_url"),
        ({"input": {"promptImage": IMAGE, "model": "gen3a_turbo"}}, "/input/model"),
    ],
)
async def test_bad_input_names_the_field_and_stores_nothing(w: World, body: dict[str, Any], pointer: str) -> None:
    response = await w.api.post("/videos", json=body)
    assert response.status_code == 422
    assert pointers(response) == [pointer]
    assert await w.rows("SELECT FROM taxiway.videos") == []


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"\xff", b"null", b"[" * 100_000])
async def test_what_is_not_a_json_object_is_malformed(w: World, raw: bytes) -> None:
    response = await w.api.post("/videos", content=raw)
    assert response.status_code == 400
    assert response.json()["type"] == "urn:taxiway:problem:malformed"


@pytest.mark.parametrize(("size", "status"), [(1_000, 202), (1_001, 413)])
async def test_bodies_are_bounded(database_url: str, size: int, status: int) -> None:
    body = b'{"input": {"promptText": "a boat", "promptImage": "%s"}}' % IMAGE.encode()

    async def chunks() -> Any:
        yield body.ljust(500)
        yield b" " * (size - 500)

    async with world(database_url, max_body_bytes=1_000) as w:
        announced = await w.api.post("/videos", content=body.ljust(size))
        streamed = await w.api.post("/videos", content=chunks())
        assert (announced.status_code, streamed.status_code) == (status, status)


async def test_the_same_idempotency_key_returns_the_first_video(w: World) -> None:
    headers = {"idempotency-key": "order-7"}
    answers = await asyncio.gather(*(w.api.post("/videos", json=GOOD, headers=headers) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await w.api.post("/videos", json=GOOD | {"priority": 1}, headers=headers)
    assert (other.status_code, pointers(other)) == (422, ["Idempotency-Key"])
    bad = await w.api.post("/videos", json=GOOD, headers={"idempotency-key": "k" * 256})
    assert (bad.status_code, pointers(bad)) == (422, ["Idempotency-Key"])
    assert len(await w.rows("SELECT FROM taxiway.videos")) == 1


async def test_reading_one(w: World) -> None:
    video_id = await w.enqueue()
    first = await w.api.get(f"/videos/{video_id}")
    assert first.headers["retry-after"] == "5"
    etag = first.headers["etag"]
    again = await w.api.get(f"/videos/{video_id}", headers={"if-none-match": f'"other", W/{etag}'})
    assert (again.status_code, again.content) == (304, b"")
    await w.api.post(f"/videos/{video_id}/cancel")
    changed = await w.api.get(f"/videos/{video_id}", headers={"if-none-match": etag})
    assert (changed.status_code, changed.json()["status"]) == (200, "cancelled")
    assert "retry-after" not in changed.headers
    for unknown in (uuid4(), "7", "%00"):
        assert (await w.api.get(f"/videos/{unknown}")).status_code == 404


async def test_whoever_reads_does_not_wait_for_the_cron(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    statuses = []
    for _ in range(8):
        statuses.append((await w.api.get(f"/videos/{video_id}")).json()["status"])
        await w.later(seconds=30)
    assert statuses[0] == "processing"
    assert statuses[-1] == "completed"


async def test_data_uris_are_not_read_back(w: World) -> None:
    image = "data:image/png;base64,iVBORw0KGgo" + "A" * 400
    response = await w.api.post("/videos", json={"input": {"promptImage": image}})
    assert response.json()["input"]["promptImage"] == "data:image/png;base64,[…]"
    row = await w.row(response.json()["id"])
    assert row["image_url"] is None


async def test_pages_follow_one_another(w: World) -> None:
    ids = [str(await w.enqueue(metadata={"n": n})) for n in range(5)]
    seen: list[str] = []
    url = "/videos?limit=2"
    while True:
        page = (await w.api.get(url)).json()
        seen += [video["id"] for video in page["videos"]]
        if page["next"] is None:
            break
        url = f"/videos?limit=2&cursor={page['next']}"
    assert seen == ids[::-1]


async def test_lists_are_filtered(w: World) -> None:
    kept, cancelled = await w.enqueue(), await w.enqueue()
    await w.api.post(f"/videos/{cancelled}/cancel")

    async def ids(query: str) -> set[str]:
        return {video["id"] for video in (await w.api.get(f"/videos?{query}")).json()["videos"]}

    assert await ids("status=queued") == {str(kept)}
    assert await ids("status=queued,cancelled") == {str(kept), str(cancelled)}
    assert await ids("model=gen4.5") == set()
    assert await ids("error_code=EXPIRED") == set()
    bad = await w.api.get("/videos?state=x&status=done&limit=0&cursor=!&model=%00")
    assert pointers(bad) == ["/status/0", "/model", "/cursor", "/limit", "/state"]


async def _completed(w: World) -> str:
    video_id = await w.enqueue()
    await w.finish()
    return str(video_id)


async def test_the_file_redirects_to_a_live_url(w: World) -> None:
    queued = await w.enqueue()
    assert (await w.api.get(f"/videos/{queued}/file")).status_code == 409
    await w.api.post(f"/videos/{queued}/cancel")
    video_id = await _completed(w)
    first = await w.api.get(f"/videos/{video_id}/file")
    assert first.status_code == 302
    await w.later(hours=23, minutes=58)
    again = await w.api.get(f"/videos/{video_id}/file")
    assert again.headers["location"] == first.headers["location"]
    await w.later(minutes=10)
    renewed = await w.api.get(f"/videos/{video_id}/file")
    assert renewed.headers["location"] != first.headers["location"]
    row = await w.row(UUID(video_id))
    assert row["video_url"] == renewed.headers["location"]
    assert row["video_url_expires_at"] > datetime.now(UTC) + timedelta(hours=23)
    w.runway.state.runway.reset()
    await w.later(hours=30)
    assert (await w.api.get(f"/videos/{video_id}/file")).status_code == 410


async def test_cancelling_deletes_the_task_at_runway(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    response = await w.api.post(f"/videos/{video_id}/cancel")
    assert response.json()["status"] == "cancelled"
    assert (await w.api.post(f"/videos/{video_id}/cancel")).status_code == 409
    assert (await w.api.post(f"/videos/{video_id}/retry")).status_code == 409
    assert (await w.tick())["cancel"] == {"deleted": 1, "erased": 0}
    assert w.creates[0].deleted
    [entry] = await w.ledger(video_id)
    assert (entry["task_status"], entry["cancel_due"]) == ("DELETED", None)
    assert entry["settled_at"] is not None


async def test_retrying_a_failed_video_makes_a_new_submission(w: World) -> None:
    w.faults("fail=ASSET.INVALID")
    video_id = await w.enqueue()
    await w.finish()
    row = await w.row(video_id)
    assert (row["status"], row["error_code"]) == ("failed", "ASSET.INVALID")
    assert (await w.api.post(f"/videos/{video_id}/retry", json={"force": True})).status_code == 422
    retried = await w.api.post(f"/videos/{video_id}/retry")
    assert (retried.status_code, retried.json()["error"]) == (202, None)
    await w.finish()
    assert (await w.row(video_id))["status"] == "completed"
    account = (await w.api.get(f"/videos/{video_id}/submissions")).json()
    assert [entry["task_status"] for entry in account.pop("submissions")] == ["FAILED", "SUCCEEDED"]
    assert account == {
        "verdict": "paid once (25 credits)", "paid_credits": 25, "most_credits": 25, "twice_credits": 0,
    }  # fmt: skip
    waiting = (await w.api.get(f"/videos/{await w.enqueue()}/submissions")).json()
    assert (waiting["verdict"], waiting["submissions"]) == ("paid nothing", [])
    assert (await w.api.get(f"/videos/{uuid4()}/submissions")).status_code == 404


async def test_an_unknown_outcome_is_retried_only_with_consent(w: World) -> None:
    w.faults("drop_after")
    video_id = await w.enqueue()
    await w.tick()
    row = await w.row(video_id)
    assert (row["status"], row["error_code"]) == ("failed", "SUBMISSION_UNKNOWN")
    assert "25 credits" in row["error_message"]
    refused = await w.api.post(f"/videos/{video_id}/retry")
    assert refused.status_code == 409
    assert "accept_double_charge" in refused.json()["detail"]
    assert (await w.api.post(f"/videos/{video_id}/retry", json={"accept_double_charge": True})).status_code == 202
    await w.finish()
    assert (await w.row(video_id))["status"] == "completed"
    assert [entry["consent"] for entry in await w.ledger(video_id)] == ["operator", None]


async def test_an_image_whose_signature_ends_before_run_after_is_refused(w: World) -> None:
    now = datetime.now(UTC)
    signed = f"https://bucket.example.com/a.jpg?X-Amz-Date={now:%Y%m%dT%H%M%SZ}&X-Amz-Expires=3600"
    body = GOOD | {"input": {"promptText": "a boat", "promptImage": signed}}
    late = await w.api.post("/videos", json=body | {"run_after": (now + timedelta(hours=2)).isoformat()})
    assert (late.status_code, pointers(late)) == (422, ["/input/promptImage"])
    in_time = await w.api.post("/videos", json=body | {"run_after": (now + timedelta(minutes=50)).isoformat()})
    assert in_time.status_code == 202


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """From now on, the arguments of each statement of this process."""
    sent: list[tuple[object, ...]] = []
    run = Connection._run

    async def noted(self: Connection, method: str, sql: str, arguments: tuple[object, ...]) -> Any:
        sent.append(arguments)
        return await run(self, method, sql, arguments)

    monkeypatch.setattr(Connection, "_run", noted)
    return sent


async def test_requests_that_come_at_once_are_written_and_explained_together(
    w: World, sent: list[tuple[object, ...]]
) -> None:
    await w.tick()
    sent.clear()
    bodies = [GOOD | {"metadata": {"n": n}, "priority": n % 3, "max_credits": 30} for n in range(40)]
    answers = await asyncio.gather(*(w.api.post("/videos", json=body) for body in bodies))
    assert [answer.status_code for answer in answers] == [202] * 40
    assert [answer.json()["metadata"] for answer in answers] == [body["metadata"] for body in bodies]
    assert {answer.json()["waiting"]["reason"] for answer in answers} <= {"next_tick", "slots"}
    assert len(sent) < 20
    for answer in answers:
        row = await w.row(answer.json()["id"])
        assert (row["quoted_credits"], row["priority"]) == (25, answer.json()["priority"])
    events = "SELECT kind, actor, count(*) FROM taxiway.events WHERE video_id IS NOT NULL GROUP BY 1, 2"
    assert [tuple(row) for row in await w.rows(events)] == [("enqueued", "api-key-1", 40)]


async def test_a_request_that_postgresql_refuses_costs_none_that_came_with_it(w: World) -> None:
    refused = "CHECK (metadata ->> 'n' IS DISTINCT FROM '7')"
    await w.rows(f"ALTER TABLE taxiway.videos ADD CONSTRAINT no_seven {refused}")
    bodies = [GOOD | {"metadata": {"n": n}} for n in range(12)]
    answers = await asyncio.gather(*(w.api.post("/videos", json=body) for body in bodies), return_exceptions=True)
    codes = [answer.status_code for answer in answers if isinstance(answer, httpx.Response)]
    assert codes.count(202) == 11
    assert len(await w.rows("SELECT id FROM taxiway.videos")) == 11


async def test_a_request_with_a_whole_image_in_it_is_written_alone(w: World, sent: list[tuple[object, ...]]) -> None:
    image = f"data:image/png;base64,iVBORw0KGgo{'A' * 100_001}"
    answers = await asyncio.gather(
        *(w.api.post("/videos", json={"input": {"promptText": "a boat", "promptImage": image}}) for _ in range(6))
    )
    assert [answer.status_code for answer in answers] == [202] * 6
    sizes = [sum(len(one) for one in arguments if isinstance(one, str)) for arguments in sent]
    assert len([size for size in sizes if size > len(image)]) == 6
    assert max(sizes) < 2 * len(image)
