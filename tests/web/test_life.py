"""The life of a video, from the request to its file, through every part."""

from __future__ import annotations

import pytest

from tests.world import World

pytestmark = pytest.mark.anyio


async def test_a_video_reaches_its_file_by_ticks_alone(w: World) -> None:
    video_id = await w.enqueue()
    counts = await w.tick()
    assert counts["submit"]["accepted"] == 1
    await w.finish()
    row = await w.row(video_id)
    assert row["status"] == "completed"
    assert row["error_message"] is None
    assert row["video_url"].startswith("http")
    assert row["cost_credits"] == 25
    assert len(w.creates) == 1
    [entry] = await w.ledger(video_id)
    assert (entry["outcome"], entry["task_status"], entry["cost_credits"]) == ("accepted", "SUCCEEDED", 25)
