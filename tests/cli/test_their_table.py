"""The table that an app had before Taxiway, linked: its stuck rows, its INSERT in a transaction, its query."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.database import connected, execute
from tests.invoking import taxiway
from tests.world import IMAGE, World

pytestmark = pytest.mark.anyio

OWNER = UUID("5b3a2f0e-0000-4000-8000-000000000001")
TABLE = """
CREATE TABLE public.videos (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL, prompt text NOT NULL, image_url text,
    status text NOT NULL DEFAULT 'queued', error_message text, runway_video_id text,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
    plan text NOT NULL DEFAULT 'pro')
"""
# What their fire-and-forget call left: `processing`, and no id.
STUCK = f"INSERT INTO videos (user_id, prompt, status) VALUES ('{OWNER}', 'stuck', 'processing')"
INSERT = "INSERT INTO videos (user_id, prompt, image_url, status) VALUES ($1, 'a boat', $2, 'queued') RETURNING id"
QUERY = """
SELECT id, status, error_message, runway_video_id, created_at, updated_at FROM videos ORDER BY created_at DESC LIMIT 5;
"""


async def columns(w: World) -> list[str]:
    """The columns of their table."""
    sql = "SELECT attname FROM pg_attribute WHERE attrelid = 'public.videos'::regclass AND attnum > 0 ORDER BY attnum"
    return [row["attname"] for row in await w.rows(sql)]


async def test_their_table_with_a_stuck_row_and_a_row_inserted_afterwards(w: World) -> None:
    await execute(w.url, TABLE, STUCK)
    before = await columns(w)
    asked = await taxiway(w.url, "link", "videos", "--yes", "--fail-stuck")
    assert asked.exit_code == 0, asked.output
    async with connected(w.url) as theirs, theirs.transaction():
        video = await theirs.fetchval(INSERT, OWNER, IMAGE)
        assert (await w.tick())["submit"]["claimed"] == 0  # until they commit, there is nothing
    await w.finish()
    newest, stuck = await w.rows(QUERY)
    assert list(newest.keys()) == [
        "id", "status", "error_message", "runway_video_id", "created_at", "updated_at",
    ]  # fmt: skip
    assert (newest["id"], newest["status"], newest["error_message"]) == (video, "completed", None)
    assert newest["runway_video_id"] == w.creates[0].task_id
    assert newest["updated_at"] > newest["created_at"]
    assert (stuck["status"], stuck["runway_video_id"]) == ("failed", None)
    assert stuck["error_message"]
    [failed] = (await w.api.get("/videos?status=failed")).json()["videos"]
    assert failed["error"]["code"] == "SUBMISSION_UNKNOWN"
    assert len(w.creates) == 1
    assert await columns(w) == before


async def test_a_transaction_that_they_roll_back_leaves_nothing(w: World) -> None:
    await execute(w.url, TABLE)
    assert (await taxiway(w.url, "link", "videos", "--yes")).exit_code == 0
    async with connected(w.url) as theirs:
        undone = theirs.transaction()
        await undone.start()
        await theirs.fetchval(INSERT, OWNER, IMAGE)
        await undone.rollback()
    await w.finish()
    assert not w.creates
    assert not await w.rows("SELECT FROM taxiway.videos")


async def test_a_stuck_row_that_is_queued_again_is_sent_with_that_consent(w: World) -> None:
    await execute(w.url, TABLE, STUCK)
    assert (await taxiway(w.url, "link", "videos", "--yes", "--requeue-stuck")).exit_code == 0
    await w.finish()
    [row] = await w.rows(QUERY)
    assert row["status"] == "completed"
    [first, second] = await w.rows("SELECT outcome, consent FROM taxiway.submissions ORDER BY id")
    assert (first["outcome"], first["consent"]) == ("unknown", "operator")
    assert second["outcome"] == "accepted"
