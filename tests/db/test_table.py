"""The app's own table: rows that it writes, drags about and deletes, and its own query and log."""

from __future__ import annotations

import logging
from uuid import UUID

import asyncpg
import pytest

from service.context import build
from service.logs import ConsoleFormatter
from service.redaction import Redactor
from service.store import claim as claims
from tests.database import connected, execute
from tests.world import IMAGE, RUNWAY_KEY, World, settings, world

pytestmark = pytest.mark.anyio

THEIR_TABLE = """
CREATE TABLE taxiway.videos (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL, prompt text NOT NULL, image_url text,
    status text NOT NULL DEFAULT 'queued', error_message text, runway_video_id text,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
    plan text NOT NULL)
"""
THEIR_QUERY = """
SELECT id, status, error_message, runway_video_id, created_at, updated_at
FROM taxiway.videos ORDER BY created_at DESC LIMIT 5;
"""
THEIR_INSERT = (
    "INSERT INTO taxiway.videos (user_id, prompt, image_url, status) VALUES ($1, $2, $3, 'queued') RETURNING id"
)


async def insert(w: World, prompt: str | None = "a boat", image: str | None = IMAGE) -> UUID:
    [row] = await w.rows(THEIR_INSERT, "user-1", prompt, image)
    video_id: UUID = row["id"]
    return video_id


async def test_a_row_that_the_app_inserts_is_a_video(w: World) -> None:
    video_id = await insert(w)
    counts = await w.tick()
    assert (counts["intake"]["mapped"], counts["submit"]["accepted"]) == (1, 1)
    await w.finish()
    row = await w.row(video_id)
    assert (row["status"], row["operation"], row["model"]) == ("completed", "image_to_video", "gen4_turbo")


async def test_without_an_image_it_is_a_text_to_video(w: World) -> None:
    video_id = await insert(w, image=None)
    await w.finish()
    row = await w.row(video_id)
    assert (row["status"], row["operation"], row["model"]) == ("completed", "text_to_video", "gen4.5")


@pytest.mark.parametrize(
    ("prompt", "image"), [(None, None), ("", "  "), ("a boat", "http://10.0.0.1/a.jpg"), ("x" * 1001, None)]
)
async def test_a_row_that_makes_no_request_fails_and_delays_nobody(
    w: World, prompt: str | None, image: str | None
) -> None:
    bad = await insert(w, prompt, image)
    good = await insert(w)
    counts = await w.tick()
    assert counts["intake"] | {"refused": 1, "mapped": 1} == counts["intake"]
    assert counts["submit"]["accepted"] == 1
    row = await w.row(bad)
    assert (row["status"], row["error_code"]) == ("failed", "INVALID_REQUEST")
    assert row["error_message"].startswith("The row makes no valid request: /input/")
    assert (await w.row(good))["status"] == "processing"
    assert len(w.creates) == 1


async def test_an_app_with_a_column_model_chooses_its_model(w: World) -> None:
    sql = "INSERT INTO taxiway.videos (prompt, image_url, model, status) VALUES ('a', $1, $2, 'queued') RETURNING id"
    [good] = await w.rows(sql, IMAGE, "gen4.5")
    [bad] = await w.rows(sql, IMAGE, "sora")
    await w.finish()
    assert (await w.row(good["id"]))["model"] == "gen4.5"
    assert (await w.row(bad["id"]))["error_code"] == "INVALID_REQUEST"


async def test_a_row_dragged_back_while_its_task_runs_returns_to_its_task(w: World) -> None:
    video_id = await w.enqueue()
    await w.tick()
    task_id = (await w.row(video_id))["runway_video_id"]
    await execute(w.url, "UPDATE taxiway.videos SET status = 'queued', runway_video_id = NULL")
    assert (await w.tick())["rescue"]["restored"] == 1
    assert (await w.row(video_id))["runway_video_id"] == task_id
    await w.finish()
    assert (await w.row(video_id))["status"] == "completed"
    assert len(w.creates) == 1


async def test_a_row_dragged_back_after_an_unknown_outcome_is_not_sent_again(w: World) -> None:
    w.faults("drop_after")
    video_id = await w.enqueue()
    await w.tick()
    await execute(w.url, "UPDATE taxiway.videos SET status = 'queued'")
    await w.tick()
    row = await w.row(video_id)
    assert (row["status"], row["error_code"]) == ("failed", "SUBMISSION_UNKNOWN")
    assert len(w.creates) == 1


async def test_a_row_dragged_back_after_a_settled_failure_is_sent_again_with_its_new_prompt(w: World) -> None:
    w.faults("fail=SAFETY.INPUT.TEXT")
    video_id = await insert(w, prompt="something refused")
    await w.finish()
    await execute(w.url, "UPDATE taxiway.videos SET status = 'queued', prompt = 'a boat'")
    await w.finish()
    row = await w.row(video_id)
    assert row["status"] == "completed"
    assert [entry.prompt for entry in w.creates] == ["something refused", "a boat"]


async def test_an_api_row_dragged_back_keeps_its_request(w: World) -> None:
    w.faults("fail=SAFETY.INPUT.TEXT")
    await w.enqueue(input={"promptText": "a boat", "promptImage": IMAGE, "duration": 3})
    await w.finish()
    await execute(w.url, "UPDATE taxiway.videos SET status = 'queued'")
    await w.finish()
    assert [entry.charged for entry in w.creates] == [15, 15]


async def test_a_row_dragged_back_with_its_submission_open_poisons_nobody(w: World) -> None:
    dragged = await w.enqueue()
    # A process that claimed and then died: the submission is open, and the app has cancelled and re-queued the row.
    await w.rows(
        "INSERT INTO taxiway.submissions (video_id, model, call_deadline, deadline) VALUES ($1, 'gen4_turbo', "
        "taxiway.now() + interval '60 s', taxiway.now() + interval '90 s') RETURNING id", dragged,
    )  # fmt: skip
    other = await w.enqueue()
    counts = await w.tick()
    assert counts["submit"]["accepted"] == 1
    assert (await w.row(other))["status"] == "processing"
    assert (await w.row(dragged))["status"] == "queued"
    await w.finish()
    assert (await w.row(dragged))["error_code"] == "SUBMISSION_UNKNOWN"
    assert len(w.creates) == 1


async def test_the_app_cannot_store_a_stuck_row(w: World) -> None:
    await w.enqueue()
    with pytest.raises(Exception, match="videos_never_stuck"):
        await execute(w.url, "UPDATE taxiway.videos SET status = 'processing'")


@pytest.mark.parametrize(
    ("table", "changes", "constraint"),
    [
        ("videos", "status = 'sent'", "videos_never_stuck"),
        ("videos", "open_submission_id = 1", "videos_never_stuck"),
        ("videos", "status = 'erased'", "videos_erased_is_empty"),
        ("submissions", "outcome = 'paid', closed_at = taxiway.now()", "submissions_outcome"),
        ("submissions", "outcome = 'rejected'", "submissions_outcome"),
        ("submissions", "closed_at = taxiway.now()", "submissions_outcome"),
        ("submissions", "task_id = 't'", "submissions_outcome"),
        ("submissions", "outcome = 'accepted', closed_at = taxiway.now()", "submissions_outcome"),
        ("submissions", "outcome = 'not_sent', closed_at = taxiway.now(), task_id = 't'", "submissions_outcome"),
        ("submissions", "consent = 'nobody'", "submissions_consent_known"),
        ("submissions", "deadline = call_deadline", "submissions_lease_outlasts_call"),
    ],
)
async def test_what_is_never_true_cannot_be_stored(w: World, table: str, changes: str, constraint: str) -> None:
    await w.enqueue()
    if table == "submissions":
        await claims.claim(w.ctx.database, 1, 30.0)
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await execute(w.url, f"UPDATE taxiway.{table} SET {changes}")


async def test_what_may_have_been_paid_is_not_claimed_although_it_says_queued(w: World) -> None:
    """The claim itself sees to it: a worker's submit step runs beside the rescue that puts such a row back."""
    w.faults("drop_after")
    await w.enqueue()
    await w.tick()
    await execute(
        w.url,
        "UPDATE taxiway.videos SET status = 'queued', finished_at = NULL, error_code = NULL, run_after = taxiway.now()",
    )
    assert await claims.claim(w.ctx.database, 10, 30.0) == []
    await execute(w.url, "UPDATE taxiway.submissions SET consent = 'operator', consented_at = taxiway.now()")
    assert len(await claims.claim(w.ctx.database, 10, 30.0)) == 1


async def test_what_was_put_back_without_a_trace_is_found_by_the_next_tick(w: World) -> None:
    w.faults("drop_after")
    video_id = await w.enqueue()
    await w.tick()
    await execute(w.url, "UPDATE taxiway.videos SET status = 'queued', finished_at = NULL, error_code = NULL")
    await w.tick()
    row = await w.row(video_id)
    assert (row["status"], row["error_code"]) == ("failed", "SUBMISSION_UNKNOWN")
    assert len(w.creates) == 1


# What each says that the ledger must never hold.
SECOND_PERMISSION = """
INSERT INTO taxiway.submissions (video_id, model, call_deadline, deadline)
SELECT video_id, model, taxiway.now() + interval '1 min', taxiway.now() + interval '2 min' FROM taxiway.submissions
"""
SECOND_SUBMISSION_OF_A_TASK = """
INSERT INTO taxiway.submissions (video_id, model, call_deadline, deadline, outcome, closed_at, task_id)
SELECT gen_random_uuid(), model, taxiway.now() + interval '1 min', taxiway.now() + interval '2 min',
       outcome, closed_at, task_id
FROM taxiway.submissions
"""


async def test_two_permissions_at_once_cannot_be_stored(w: World) -> None:
    await w.enqueue()
    await claim_by_hand(w)
    with pytest.raises(Exception, match="submissions_one_open"):
        await execute(w.url, SECOND_PERMISSION)


async def test_one_task_of_two_submissions_cannot_be_stored(w: World) -> None:
    await w.enqueue()
    await w.tick()
    with pytest.raises(Exception, match="submissions_task"):
        await execute(w.url, SECOND_SUBMISSION_OF_A_TASK)


async def test_a_video_that_the_app_deletes_leaves_a_surplus_that_is_deleted(w: World) -> None:
    await w.enqueue()
    [submission] = await claim_by_hand(w)
    await execute(w.url, "DELETE FROM taxiway.videos")
    await w.later(minutes=5)
    counts = await w.tick()
    assert counts["rescue"]["lapsed"] == 1
    assert submission == (await w.rows("SELECT id FROM taxiway.submissions WHERE outcome = 'unknown'"))[0]["id"]


# Another entry of the same book, which is closed.
REJECTED_BEFORE = """
INSERT INTO taxiway.submissions (video_id, model, opened_at, call_deadline, deadline, outcome, closed_at, settled_at)
SELECT id, model, taxiway.now() - interval '1 hour', taxiway.now() - interval '59 min',
       taxiway.now() - interval '58 min', 'rejected',
       taxiway.now() - interval '1 hour', taxiway.now() - interval '1 hour' FROM taxiway.videos
"""


@pytest.mark.parametrize(
    ("sql", "deleted"),
    [
        ("UPDATE taxiway.videos SET status = 'cancelled'", True),
        ("UPDATE taxiway.videos SET status = 'failed'", True),
        ("UPDATE taxiway.videos SET runway_video_id = '5b3a2f0e-0000-4000-8000-000000000001'", True),
        ("DELETE FROM taxiway.videos", True),
        ("UPDATE taxiway.videos SET status = 'completed'", False),
    ],
)
async def test_a_task_that_nobody_waits_for_any_more_is_ended(w: World, sql: str, deleted: bool) -> None:
    video_id = await w.enqueue()
    await execute(w.url, REJECTED_BEFORE)
    await w.tick()
    [before, _] = await w.ledger(video_id)
    await execute(w.url, sql)
    assert (await w.tick())["rescue"]["orphaned"] == 1
    assert w.creates[0].deleted is deleted
    [untouched, entry] = await w.ledger(video_id)
    assert untouched == before
    assert entry["settled_at"] is not None
    assert (await w.tick())["rescue"]["orphaned"] == 0


async def claim_by_hand(w: World) -> list[int]:
    from service.store import claim as claims

    return [submission.submission_id for submission in await claims.claim(w.ctx.database, 10, 60)]


async def test_an_expired_row_says_so(database_url: str) -> None:
    async with world(database_url, queue_timeout=3600) as w:
        w.faults({"simulate": "status=503, body=runway", "times": 9})
        waited, fresh = await w.enqueue(), await w.enqueue()
        await w.tick()
        assert (await w.row(waited))["error_message"].startswith("Waiting to be sent again")
        await w.later(minutes=61)
        later_one = await w.enqueue()
        counts = await w.tick()
        assert counts["intake"]["expired"] == 2
        row = await w.row(waited)
        assert (row["status"], row["error_code"]) == ("failed", "EXPIRED")
        assert (await w.row(fresh))["status"] == "failed"
        assert (await w.row(later_one))["status"] == "queued"
        assert (await w.api.post(f"/videos/{waited}/retry")).status_code == 202


async def test_the_log_of_one_video(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="service")
    async with world(database_url, runway_url="https://api.dev.runwayml.com") as w:
        video_id = await w.enqueue()
        await w.tick()
        row = await w.row(video_id)
    formatter = ConsoleFormatter(Redactor([RUNWAY_KEY]))
    lines = [formatter.format(record) for record in caplog.records if f"video={video_id}" in formatter.format(record)]
    story = [line.split(" ", 2)[2].strip().split(f" video={video_id}")[0] for line in lines]
    assert story == [
        "[Video Generation] Starting video generation",
        "[Video Generation] Environment check: Runway API key present",
        "[Video Generation] Claimed for image_to_video with gen4_turbo",
        "[Video Generation] Status now processing",
        "[Runway API] Request starting",
        "[Runway API] Endpoint called: POST https://api.dev.runwayml.com/v1/image_to_video",
        "[Runway API] Response status: 200",
        f"[Runway API] Success response: task id {row['runway_video_id']}",
        f"[Video Generation] Runway response for video: {row['runway_video_id']}",
        "[Video Generation] Row updated: status processing",
    ]


async def test_a_log_of_a_failure_shows_where(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with world(database_url) as w:
        w.faults("drop_before")
        await w.enqueue()
        await w.tick()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line.split(":")[0] for line in warnings] == ["No response", "Unknown"]


async def test_build_takes_what_the_url_says(database_url: str) -> None:
    ctx = build(settings(database_url + ("&" if "?" in database_url else "?") + "connection_limit=2"))
    async with connected(database_url):
        assert await ctx.database.fetchval("SELECT 1") == 1
    await ctx.database.close()


async def test_a_row_with_a_model_that_was_never_seen_is_sent(w: World) -> None:
    assert not await w.rows("SELECT FROM taxiway.models")
    sql = "INSERT INTO taxiway.videos (prompt, image_url, model) VALUES ('a boat', $1, 'gen4.5') RETURNING id"
    [row] = await w.rows(sql, IMAGE)
    assert (await w.tick())["submit"]["accepted"] == 1
    assert (await w.row(row["id"]))["status"] == "processing"


async def test_a_row_whose_image_can_no_longer_be_fetched_is_refused(w: World) -> None:
    ended = "https://bucket.example.com/a.jpg?X-Amz-Date=20200101T000000Z&X-Amz-Expires=3600"
    video_id = await insert(w, image=ended)
    assert (await w.tick())["intake"]["refused"] == 1
    assert "its signature ends at 2020-01-01 01:00:00 UTC" in (await w.row(video_id))["error_message"]
    assert not w.creates
