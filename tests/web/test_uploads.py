"""Uploads: Runway's form is handed out, the bytes go past Taxiway, and a video does not outlive its upload."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.runway.assets import DATA_URI_MAX_LENGTH
from tests.invoking import printed, taxiway
from tests.world import World

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 1_000
DAY = timedelta(hours=24)


def at_runway(w: World) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=w.runway))


async def uploaded(w: World) -> str:
    answer = await w.api.post("/uploads", json={"filename": "boat.png"})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    form = answer.json()
    async with at_runway(w) as storage:
        sent = await storage.post(form["upload_url"], data=form["fields"], files={"file": ("boat.png", PNG)})
    assert sent.status_code == 204
    ends = datetime.fromisoformat(form["expires_at"])
    assert abs(ends - datetime.fromtimestamp(w.clock.now, UTC) - DAY) < timedelta(minutes=1)
    return str(form["uri"])


async def test_a_file_is_uploaded_past_taxiway_and_makes_a_video(w: World) -> None:
    uri = await uploaded(w)
    video_id = await w.enqueue(input={"promptText": "a boat", "promptImage": uri})
    await w.finish()
    assert (await w.row(video_id))["status"] == "completed"


async def test_a_video_expires_with_its_upload(w: World) -> None:
    """Through every way in: the API, SQL, a retry. What is asked for earlier stays."""
    of_upload = {"promptText": "a boat", "promptImage": [{"uri": "runway://some-upload", "position": "first"}]}
    first = await w.enqueue(input=of_upload)
    other = await w.enqueue()
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    early = await w.enqueue(input=of_upload, expires_at=soon)
    await w.rows(
        "INSERT INTO taxiway.videos (prompt, image_url, status) VALUES ('x', 'runway://some-upload', 'queued')"
    )
    await w.tick()
    rows = await w.rows("SELECT *, expires_at - created_at AS lives FROM taxiway.videos ORDER BY created_at")
    assert [row["lives"] <= DAY for row in rows] == [True, False, True, True]
    assert [rows[0]["lives"], rows[3]["lives"]] == [DAY, DAY]
    assert rows[2]["expires_at"] == datetime.fromisoformat(soon)
    assert {row["id"] for row in rows[:3]} == {first, other, early}

    await w.rows("UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now() WHERE id = $1", first)
    await w.later(hours=23)
    assert (await w.api.post(f"/videos/{first}/retry")).status_code == 202
    assert (await w.row(first))["expires_at"] == rows[0]["expires_at"]

    late = (datetime.fromtimestamp(w.clock.now, UTC) + timedelta(hours=25)).isoformat()
    refused = await w.api.post("/videos", json={"input": of_upload, "run_after": late})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/run_after"


async def test_refusals_are_problems(w: World) -> None:
    assert (await w.anyone.post("/uploads", json={"filename": "boat.png"})).status_code == 401
    short = await w.api.post("/uploads", json={"filename": "x"})
    assert (short.status_code, short.json()["errors"][0]["pointer"]) == (422, "/filename")
    said = iter([(429, {"error": "Slow down"}), (400, {"error": "Buy credits"}), (200, {}), (500, {})])

    def answer(_request: httpx.Request) -> httpx.Response:
        status, body = next(said)
        return httpx.Response(status, json=body)

    ctx = replace(w.ctx, transport=lambda: httpx.MockTransport(answer))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=create_app(ctx)), base_url="http://taxiway.test", headers=w.api.headers
    ) as api:
        answers = [await api.post("/uploads", json={"filename": "boat.png"}) for _ in range(4)]
    assert [one.status_code for one in answers] == [429, 422, 503, 503]
    assert answers[0].headers["retry-after"] == "10"
    assert "Slow down" in answers[0].json()["detail"]
    assert "Buy credits" in answers[1].json()["detail"]


async def test_the_command_line_uploads_what_a_data_uri_cannot_hold(
    w: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.commands.console.open_context", lambda: w.ctx)
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    small.write_bytes(PNG)
    large.write_bytes(PNG + b"\0" * DATA_URI_MAX_LENGTH)
    [sent] = printed(await taxiway(w.url, "upload", small))
    assert sent["uri"].startswith("runway://")
    for path, beginning in ((small, "data:image/png;base64,"), (large, "runway://")):
        [video] = printed(await taxiway(w.url, "enqueue", "--no-wait", "--prompt", "a boat", "--image", path))
        assert video["input"]["promptImage"].startswith(beginning)
    await w.finish()
    assert {row["status"] for row in await w.rows("SELECT status FROM taxiway.videos")} == {"completed"}
    assert [form.size for form in w.runway.state.runway.uploads.forms.values()] == [len(PNG), large.stat().st_size]
