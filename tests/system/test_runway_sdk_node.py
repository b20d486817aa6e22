"""Runway's SDK for Node.js, unmodified, at Taxiway: calls that lose their answers, a wait, deletions and errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import installed, on_sockets, run
from tests.world import API_KEY, IMAGE, World

pytestmark = [pytest.mark.anyio, pytest.mark.node]

APP = Path(__file__).parents[1] / "runwaysdk"
UNDER_WAY = "SELECT FROM taxiway.videos WHERE status = 'processing' AND runway_video_id IS NOT NULL"


@pytest.fixture(scope="module")
def app() -> Iterator[Path]:
    """The calls, with their packages."""
    with installed(APP) as folder:
        yield folder


async def test_the_sdk_pays_once_for_each_call(app: Path, w: World) -> None:
    async with on_sockets(w) as url:
        environment = {"RUNWAYML_BASE_URL": url, "RUNWAYML_API_SECRET": API_KEY, "IMAGE": IMAGE}
        calls = asyncio.create_task(asyncio.to_thread(run, app, "node", "calls.mjs", **environment))
        async with asyncio.timeout(60):
            while not calls.done() and not await w.rows(UNDER_WAY):  # the SDK's own polls submit it
                await asyncio.wait({calls}, timeout=0.1)
        await w.later(minutes=3)
        said = json.loads(await calls)
    assert said["estimatedCost"] == {"credits": 25}
    assert (said["ended"]["status"], said["ended"]["cost"]) == ("SUCCEEDED", {"credits": 25})
    assert said["again"]["output"] == said["ended"]["output"]
    videos = await w.rows("SELECT id::text, status FROM taxiway.videos ORDER BY id")
    assert {row["id"] for row in videos} == {said["first"], *said["four"], said["named"]}
    assert len(videos) == 6
    assert [entry.task_id for entry in w.creates] == [
        (await w.rows("SELECT runway_video_id FROM taxiway.videos WHERE status = 'completed'"))[0][0]
    ]
    missing = {"status": 404, "error": {"error": "Could not find Task"}}
    assert (said["deletedTwice"], said["waitedForDeleted"]) == (missing, missing)
    assert said["invalid"]["status"] == 400
    assert [issue["path"] for issue in said["invalid"]["error"]["issues"]] == [["ratio"]]
    assert said["credits"] == 10_000 - 25
