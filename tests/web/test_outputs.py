"""`outputs` of a video: every output of its task, at addresses that work, of the type that they are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.app import create_app
from tests.world import World

pytestmark = pytest.mark.anyio


async def completed(w: World, **changes: Any) -> UUID:
    video_id = await w.enqueue(**changes)
    await w.finish()
    return video_id


async def read(w: World, video_id: UUID) -> dict[str, Any]:
    video: dict[str, Any] = (await w.api.get(f"/videos/{video_id}")).json()
    return video


async def test_a_finished_video_has_its_output(w: World) -> None:
    queued = await w.enqueue()
    assert (await read(w, queued))["outputs"] == []
    await w.finish()
    video = await read(w, queued)
    assert video["outputs"] == [
        {
            "url": video["video_url"], "media_type": "video/mp4", "name": f"{queued}.mp4", "bytes": None,
            "expires_at": video["video_url_expires_at"],
        }
    ]  # fmt: skip


async def test_each_output_is_of_its_own_type(w: World) -> None:
    inputs = {"model": "gen4.5", "promptText": "a boat", "outputFormat": "png_sequence"}
    video_id = await completed(w, input=inputs)
    urls = ["https://a.test/o/frames.zip?x=.mp4", "https://a.test/o/sound.WAV", "https://a.test/o/part"]
    await w.rows("UPDATE taxiway.videos SET output = $1::jsonb WHERE id = $2", json.dumps(urls), video_id)
    outputs = (await read(w, video_id))["outputs"]
    assert [output["url"] for output in outputs] == urls
    assert [output["media_type"] for output in outputs] == ["application/zip", "audio/wav", "application/zip"]
    assert [output["name"] for output in outputs] == [f"{video_id}.zip", f"{video_id}-2.wav", f"{video_id}-3.zip"]
    path = f"/videos/{video_id}/file"
    for asked, status, to in (("", 302, urls[0]), ("?output=2", 302, urls[1]), ("?output=4", 404, None)):
        answer = await w.api.get(path + asked)
        assert (answer.status_code, answer.headers.get("location")) == (status, to)
    assert answer.json()["detail"] == "the video has no output 4: it has 3"
    assert (await w.api.get(f"{path}?output=0")).status_code == 422


async def test_reading_one_renews_what_dies_within_a_minute_and_a_list_never_does(w: World) -> None:
    video_id = await completed(w)
    [first] = (await read(w, video_id))["outputs"]
    await w.later(hours=23, minutes=50)
    assert (await read(w, video_id))["outputs"] == [first]
    await w.later(minutes=10)
    assert (await w.api.head(f"/videos/{video_id}")).status_code == 200
    [listed] = (await w.api.get("/videos")).json()["videos"]
    assert listed["outputs"] == [first]
    [renewed] = (await read(w, video_id))["outputs"]
    assert (renewed["url"] != first["url"], renewed["expires_at"] > first["expires_at"]) == (True, True)
    [listed] = (await w.api.get("/videos")).json()["videos"]
    assert listed["outputs"] == [renewed]


async def test_what_runway_has_no_longer_is_shown_as_it_was(w: World) -> None:
    video_id = await completed(w)
    [first] = (await read(w, video_id))["outputs"]
    await w.later(hours=30)
    w.runway.state.runway.reset()
    answer = await w.api.get(f"/videos/{video_id}")
    assert (answer.status_code, answer.json()["outputs"]) == (200, [first])


def away(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


@pytest.mark.parametrize("change", ["no key", "no Runway"])
async def test_who_reads_needs_no_runway(w: World, change: str) -> None:
    video_id = await completed(w)
    [first] = (await read(w, video_id))["outputs"]
    await w.later(hours=30)
    if change == "no key":
        ctx = replace(w.ctx, settings=w.ctx.settings.model_copy(update={"runway_key": None}))
    else:
        ctx = replace(w.ctx, transport=lambda: httpx.MockTransport(away))
    transport = httpx.ASGITransport(app=create_app(ctx))
    async with httpx.AsyncClient(transport=transport, base_url="http://taxiway.test", headers=w.api.headers) as api:
        assert (await api.get(f"/videos/{video_id}")).json()["outputs"] == [first]
        assert (await api.get(f"/videos/{video_id}/file")).status_code == 503


async def test_an_address_that_is_none_has_the_type_of_the_request(w: World) -> None:
    video_id = await completed(w)
    await w.rows("UPDATE taxiway.videos SET output = NULL, video_url = 'https://[half'")
    assert [one["media_type"] for one in (await read(w, video_id))["outputs"]] == ["video/mp4"]
