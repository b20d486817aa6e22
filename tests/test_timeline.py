"""The story of one video: everything that happened to it, in order."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from service import webhooks
from service.store import tasks
from tests.database import execute
from tests.world import CALLBACK_SECRET, World, world

pytestmark = pytest.mark.anyio


async def story(w: World, video_id: UUID) -> list[dict[str, Any]]:
    response = await w.api.get(f"/videos/{video_id}/timeline")
    assert response.status_code == 200, response.text
    entries: list[dict[str, Any]] = response.json()["entries"]
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    return entries


def events(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["event"] for entry in entries]


async def look(w: World, seconds: float) -> None:
    """Let Runway work for a while, and look at every task, without moving what the database remembers."""
    w.clock.now += seconds
    await execute(w.url, "UPDATE taxiway.videos SET poll_after = now(), polled_at = NULL WHERE poll_after IS NOT NULL")
    await w.tick()


async def test_from_the_queue_to_the_file(database_url: str) -> None:
    async with world(database_url) as w:
        video_id = await w.enqueue()
        assert events(await story(w, video_id)) == ["enqueued"]
        await w.tick()
        for _ in range(8):
            await look(w, 10)
            if (await w.row(video_id))["status"] == "completed":
                break
        entries = await story(w, video_id)
        polls = [entry for entry in entries if entry["event"] == "polled"]
        assert len(polls) >= 2
        assert events(entries) == [
            "enqueued", "submission_opened", "answered", *["polled"] * len(polls), "task_ended", "completed",
        ]  # fmt: skip
        [row] = await w.ledger(video_id)
        answered = entries[2]
        assert (answered["outcome"], answered["http_status"], answered["request_id"]) == (
            "accepted", 200, row["request_id"],
        )  # fmt: skip
        assert row["request_id"]
        assert {entry["task_id"] for entry in entries[2:]} == {row["task_id"]}
        assert [entry["credits"] for entry in (entries[0], entries[1], answered, entries[-1])] == [25, 25, 25, 25]
        assert polls[-1]["task_status"] == "SUCCEEDED"
        assert row["polls"] == len(polls)


async def test_errors_are_reported_in_full_with_each_task(database_url: str) -> None:
    async with world(database_url) as w:
        w.faults("status=503", "fail=INTERNAL", "fail=SAFETY.INPUT.TEXT")
        video_id = await w.enqueue()
        for _ in range(12):
            await execute(w.url, "UPDATE taxiway.videos SET run_after = now() WHERE status = 'queued'")
            await look(w, 10)
        entries = await story(w, video_id)
        answers = [entry for entry in entries if entry["event"] == "answered"]
        assert [(entry["outcome"], entry["http_status"]) for entry in answers] == [
            ("rejected", 503), ("accepted", 200), ("accepted", 200),
        ]  # fmt: skip
        assert answers[0]["error"]
        ended = [entry for entry in entries if entry["event"] == "task_ended"]
        assert ended[0]["error"].startswith("INTERNAL: ")
        assert ended[1]["error"].startswith("SAFETY.INPUT.TEXT: ")
        assert entries[-1]["event"] == "failed"
        assert entries[-1]["error"] == ended[1]["error"]


async def test_a_video_that_waits_says_for_what(database_url: str) -> None:
    async with world(database_url) as w:
        w.faults("status=429")
        video_id = await w.enqueue()
        await w.tick()
        last = (await story(w, video_id))[-1]
        assert last["event"] == "waiting"
        assert last["error"]


async def test_consent_cancel_and_deletion(database_url: str) -> None:
    async with world(database_url) as w:
        w.faults("drop_after")
        video_id = await w.enqueue()
        await w.tick()
        entries = await story(w, video_id)
        assert events(entries) == ["enqueued", "submission_opened", "answered", "failed"]
        assert entries[2]["outcome"] == "unknown"
        await w.api.post(f"/videos/{video_id}/retry", json={"accept_double_charge": True})
        await w.tick()
        await w.api.post(f"/videos/{video_id}/cancel")
        entries = await story(w, video_id)
        assert events(entries)[:6] == [
            "enqueued", "submission_opened", "answered", "consent", "submission_opened", "answered",
        ]  # fmt: skip
        assert {"delete_due", "cancelled"} <= set(events(entries))
        assert "an operator" in entries[3]["words"]
        await w.tick()
        assert events(await story(w, video_id))[-2:] == ["cancelled", "task_deleted"]


async def test_only_the_newest_polls_are_kept(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tasks.KEPT_POLLS == 50
    async with world(database_url) as w:
        video_id = await w.enqueue()
        await w.tick()
        polls = json.dumps([[n, "RUNNING", n / 100] for n in range(50)])
        await w.rows("UPDATE taxiway.submissions SET polls = 53, recent_polls = $1::jsonb", polls)
        await look(w, 5)
        [row] = await w.ledger(video_id)
        kept = json.loads(row["recent_polls"])
        assert (row["polls"], len(kept), kept[0][0]) == (54, 50, 1)
        dropped = next(entry for entry in await story(w, video_id) if entry["event"] == "polls_dropped")
        assert dropped["words"].startswith("4 earlier polls")


async def test_callbacks_by_task_and_by_video(database_url: str) -> None:
    async with world(database_url) as w:
        video_id = await w.enqueue()
        await w.tick()
        task_id = (await w.row(video_id))["runway_video_id"]
        for number, body in enumerate(({"task_id": task_id}, {"task_id": "nobody's", "video_id": str(video_id)})):
            raw = json.dumps(body).encode()
            headers = webhooks.headers(CALLBACK_SECRET, f"msg_{number}", int(w.clock()), raw)
            assert (await w.anyone.post("/callbacks/runway", content=raw, headers=headers)).status_code in (200, 202)
        callbacks = [entry for entry in await story(w, video_id) if entry["event"] == "callback"]
        assert [entry["task_id"] for entry in callbacks] == [task_id, "nobody's"]
        assert callbacks[1]["words"].endswith("kept for later")


async def test_a_video_that_nobody_knows(database_url: str) -> None:
    async with world(database_url) as w:
        assert (await w.api.get(f"/videos/{uuid4()}/timeline")).status_code == 404
        assert (await w.anyone.get(f"/videos/{uuid4()}/timeline")).status_code == 401
