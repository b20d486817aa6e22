"""The history of one video: everything that happened to it, in order, and who did it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from service import webhooks
from service.operations.saving import as_outcome_row
from service.runway.outcomes import Decision, Kind, Outcome
from service.store import claim as claims
from service.store import submissions, tasks
from service.videos import Status
from tests.database import execute
from tests.world import CALLBACK_SECRET, World, world

pytestmark = pytest.mark.anyio

ADMIN = "admin-token-for-tests-01"


async def story(w: World, video_id: UUID) -> list[dict[str, Any]]:
    response = await w.api.get(f"/videos/{video_id}/events")
    assert response.status_code == 200, response.text
    entries: list[dict[str, Any]] = response.json()["events"]
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    return entries


def events(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["event"] for entry in entries]


async def look(w: World, seconds: float) -> None:
    """Let Runway work for a while, and look at every task, without moving what the database remembers."""
    w.clock.now += seconds
    await execute(
        w.url, "UPDATE taxiway.videos SET poll_after = taxiway.now(), polled_at = NULL WHERE poll_after IS NOT NULL"
    )
    await w.tick()


async def test_from_the_queue_to_the_file(w: World) -> None:
    video_id = await w.enqueue()
    assert events(await story(w, video_id)) == ["enqueued"]
    await w.tick()
    for _ in range(8):
        await look(w, 10)
        if (await w.row(video_id))["status"] == "completed":
            break
    entries = await story(w, video_id)
    polls = [entry for entry in entries if entry["event"] == "polled"]
    assert events(entries) == [
        "enqueued", "submission_opened", "accepted", *["polled"] * len(polls), "completed",
    ]  # fmt: skip
    assert [entry["actor"] for entry in entries] == [
        "api-key-1",
        "submit",
        "submit",
        *["poll"] * len(polls),
        "poll",
    ]
    [row] = await w.ledger(video_id)
    accepted = entries[2]
    assert (accepted["http_status"], accepted["request_id"]) == (200, row["request_id"])
    assert row["request_id"]
    assert {entry["task_id"] for entry in entries[2:]} == {row["task_id"]}
    assert [entry["credits"] for entry in (entries[0], entries[1], accepted, entries[-1])] == [25, 25, None, 25]
    # Polls that said the same are one line, with how many and from when to when.
    assert [entry["task_status"] for entry in polls] == sorted({entry["task_status"] for entry in polls})
    assert polls[-1]["task_status"] == "SUCCEEDED"
    assert row["polls"] == sum(entry["polls"] for entry in polls)
    assert entries[0]["seconds"] is None
    assert all(entry["seconds"] >= 0 for entry in entries[1:])


async def test_errors_are_reported_in_full_with_each_task(w: World) -> None:
    w.faults("status=503", "fail=INTERNAL", "fail=SAFETY.INPUT.TEXT")
    video_id = await w.enqueue()
    for _ in range(12):
        await execute(w.url, "UPDATE taxiway.videos SET run_after = taxiway.now() WHERE status = 'queued'")
        await look(w, 10)
    entries = await story(w, video_id)
    answers = [entry for entry in entries if entry["event"] in ("accepted", "rejected")]
    assert [(entry["event"], entry["http_status"]) for entry in answers] == [
        ("rejected", 503), ("accepted", 200), ("accepted", 200),
    ]  # fmt: skip
    assert answers[0]["error"]
    [again] = [entry for entry in entries if entry["event"] == "retried"]
    assert (again["actor"], again["code"]) == ("poll", "INTERNAL")
    assert again["error"].startswith("INTERNAL: ")
    assert (entries[-1]["event"], entries[-1]["code"]) == ("failed", "SAFETY.INPUT.TEXT")
    assert entries[-1]["error"].startswith("SAFETY.INPUT.TEXT: ")


async def test_consent_cancel_and_deletion(w: World) -> None:
    w.faults("drop_after")
    video_id = await w.enqueue()
    await w.tick()
    entries = await story(w, video_id)
    assert events(entries) == ["enqueued", "submission_opened", "unknown", "failed"]
    await w.api.post(f"/videos/{video_id}/retry", json={"accept_double_charge": True})
    await w.tick()
    await w.api.post(f"/videos/{video_id}/cancel")
    before, entries = entries, await story(w, video_id)
    assert entries[: len(before)] == before, "what is there already is never rewritten"
    assert [(entry["event"], entry["actor"]) for entry in entries[len(before) :]] == [
        ("consented", "api-key-1"), ("retried", "api-key-1"), ("submission_opened", "submit"),
        ("accepted", "submit"), ("cancelled", "api-key-1"),
    ]  # fmt: skip
    assert [row["consented_by"] for row in await w.ledger(video_id)] == ["api-key-1", None]
    await w.tick()
    after = await story(w, video_id)
    assert after[: len(entries)] == entries
    assert [(entry["event"], entry["actor"]) for entry in after[len(entries) :]] == [("deleted", "cancel")]


async def test_an_attached_task_and_an_end_leave_the_history_as_it_was(database_url: str) -> None:
    async with world(database_url, admin_tokens=(ADMIN,)) as w:
        w.faults("drop_after")
        video_id = await w.enqueue()
        await w.tick()
        before = await story(w, video_id)
        task_id = w.creates[0].task_id
        admin = {"Authorization": f"Bearer {ADMIN}"}
        attached = await w.anyone.post(f"/videos/{video_id}/attach", json={"task_id": task_id}, headers=admin)
        assert attached.status_code == 200, attached.text
        after = await story(w, video_id)
        assert [entry | {"task_id": None} for entry in after[: len(before)]] == before
        assert [(entry["event"], entry["actor"]) for entry in after[len(before) :]] == [("attached", "admin-token-1")]
        for _ in range(8):
            await look(w, 10)
        ended = await story(w, video_id)
        assert ended[: len(after)] == after
        assert ended[-1]["event"] == "completed"


async def test_a_task_that_vanishes_leaves_the_history_as_it_was(w: World) -> None:
    w.faults("vanish")
    video_id = await w.enqueue()
    await w.tick()
    before = await story(w, video_id)
    assert events(before) == ["enqueued", "submission_opened", "accepted"]
    await w.finish()
    assert (await w.row(video_id))["error_code"] == "TASK_VANISHED"
    assert (await w.ledger(video_id))[0]["outcome"] == "unknown"
    after = [entry for entry in await story(w, video_id) if entry["event"] != "polled"]
    assert after[: len(before)] == before
    assert events(after[len(before) :]) == ["failed"]


@pytest.mark.parametrize("many", [1, 2])
@pytest.mark.parametrize(
    ("http_status", "actor", "credits", "kept"),
    [
        (200, "submit", None, 0),
        (200, "submit", Decimal(30), 0),
        (201, "submit", Decimal(30), 1),
        (200, "rescue", None, 1),
    ],
)
async def test_what_the_ledger_says_has_no_event(
    w: World, many: int, http_status: int, actor: str, credits: Decimal | None, kept: int
) -> None:
    ids = await w.enqueue_many(many)
    answers = [
        as_outcome_row(
            one.submission_id, one.video_id,
            Outcome(Kind.ACCEPTED, "task created", http_status=http_status, task_id=str(uuid4()),
                    estimated_credits=credits),
            Decision(Status.PROCESSING),
        )
        for one in await claims.claim(w.ctx.database, many, 60)
    ]  # fmt: skip
    await submissions.save(w.ctx.database, answers, actor=actor)
    assert len(await w.rows("SELECT FROM taxiway.events WHERE kind = 'accepted'")) == kept * many
    for answer in answers:
        line = (await story(w, answer.video_id))[-1]
        assert (line["event"], line["actor"], line["http_status"]) == ("accepted", actor, http_status)
        assert (line["credits"], line["task_id"]) == (credits, answer.task_id)
    assert sorted(ids) == sorted(answer.video_id for answer in answers)


async def test_only_the_newest_polls_are_kept(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tasks.KEPT_POLLS == 50
    video_id = await w.enqueue()
    await w.tick()
    polls = json.dumps([[n, "RUNNING", n / 100] for n in range(50)])
    await w.rows("UPDATE taxiway.submissions SET polls = 53, recent_polls = $1::jsonb", polls)
    await look(w, 5)
    [row] = await w.ledger(video_id)
    kept = json.loads(row["recent_polls"])
    assert (row["polls"], len(kept), kept[0][0]) == (54, 50, 1)
    dropped = next(entry for entry in await story(w, video_id) if entry["event"] == "polled")
    assert (dropped["polls"], dropped["words"]) == (4, "4 polls before that are counted, but not kept")


async def test_polls_that_said_the_same_are_one_line(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    begun = datetime(2026, 11, 28, 0, 57, 1, tzinfo=UTC).timestamp()
    said = [*["THROTTLED"] * 16, *["RUNNING"] * 2, "SUCCEEDED"]
    polls = json.dumps([[begun + 10 * n, status, None] for n, status in enumerate(said)])
    await w.rows("UPDATE taxiway.submissions SET polls = 19, recent_polls = $1::jsonb", polls)
    polled = [entry for entry in await story(w, video_id) if entry["event"] == "polled"]
    assert [entry["words"] for entry in polled] == [
        "16 polls, 00:57–00:59, THROTTLED", "2 polls, 00:59:41–00:59:51, RUNNING", "1 poll, 01:00:01, SUCCEEDED",  # noqa: RUF001
    ]  # fmt: skip


async def test_callbacks_by_task_and_by_video(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    task_id = (await w.row(video_id))["runway_video_id"]
    for number, body in enumerate(({"task_id": task_id}, {"task_id": "nobody's", "video_id": str(video_id)})):
        raw = json.dumps(body).encode()
        headers = webhooks.headers(CALLBACK_SECRET, f"msg_{number}", int(w.clock()), raw)
        assert (await w.anyone.post("/callbacks/runway", content=raw, headers=headers)).status_code in (200, 202)
    assert "callback" not in events(await story(w, video_id)), "it has changed nothing yet"
    await w.tick()
    [callback] = [entry for entry in await story(w, video_id) if entry["event"] == "callback"]
    assert callback["actor"] == "callback", "the other one changed nothing"


async def test_a_video_that_nobody_knows(w: World) -> None:
    assert (await w.api.get(f"/videos/{uuid4()}/events")).status_code == 404
    assert (await w.anyone.get(f"/videos/{uuid4()}/events")).status_code == 401
