"""/quotes: what a video would cost and how long it would take, before it is created."""

from __future__ import annotations

import pytest

from tests.world import IMAGE, World

pytestmark = pytest.mark.anyio

GOOD = {"input": {"promptText": "a boat", "promptImage": IMAGE, "duration": 10}}


async def test_a_quote_is_what_handing_it_in_would_say(w: World) -> None:
    quote = await w.api.post("/quotes", json=GOOD)
    assert quote.status_code == 200
    assert quote.json() == {
        "operation": "image_to_video",
        "model": "gen4_turbo",
        "input": GOOD["input"] | {"model": "gen4_turbo", "ratio": "1280:720"},
        "warnings": [],
        "quoted_credits": 50,
        "eta_seconds": None,
    }
    assert await w.rows("SELECT FROM taxiway.videos") == []
    queued = (await w.api.post("/videos", json=GOOD)).json()
    assert (queued["input"], queued["quoted_credits"]) == (quote.json()["input"], 50)


async def test_a_quote_warns_of_what_would_not_be_sent(w: World) -> None:
    quote = (await w.api.post("/quotes", json=GOOD | {"fps": 24, "aspect_ratio": "1:1"})).json()
    assert quote["input"]["ratio"] == "960:960"
    message = "gen4_turbo in image_to_video has no fps: it is not sent"
    assert quote["warnings"] == [{"type": "unsupported", "feature": "fps", "message": message}]


async def test_a_bad_request_is_refused_like_the_video_itself(w: World) -> None:
    for body in ({"input": {"promptText": ""}}, {"input": GOOD["input"] | {"seed": "x"}}, {}):
        quote, video = await w.api.post("/quotes", json=body), await w.api.post("/videos", json=body)
        assert (quote.status_code, quote.json()) == (422, video.json())
    assert (await w.anyone.post("/quotes", json=GOOD)).status_code == 401


async def test_the_time_is_that_of_recent_videos_of_the_model(w: World) -> None:
    await w.rows(
        """INSERT INTO taxiway.videos (status, model, created_at, finished_at)
           SELECT CASE WHEN n > 100 THEN 'failed' ELSE 'completed' END,
                  CASE WHEN n > 50 THEN 'gen4.5' ELSE 'gen4_turbo' END,
                  now() - make_interval(secs => n), now()
           FROM generate_series(1, 120) AS n"""
    )
    assert (await w.api.post("/quotes", json=GOOD)).json()["eta_seconds"] == {"p50": 25.5, "p95": 47.5}
    text = {"operation": "text_to_video", "input": {"promptText": "a boat"}}
    assert (await w.api.post("/quotes", json=text)).json()["eta_seconds"] == {"p50": 75.5, "p95": 97.5}
