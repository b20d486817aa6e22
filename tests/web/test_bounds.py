"""What a video may cost at most: by its request, and by the operator; and models with a slash in their name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.world import World, world

pytestmark = pytest.mark.anyio

ADMIN = "an-admin-token-0123456789"
HDR: dict[str, Any] = {"operation": "video_to_hdr", "input": {"videoUri": "https://videos.example.com/cat.mp4"}}


def said(response: Any) -> dict[str, str]:
    assert response.status_code == 422, response.text
    return {error["pointer"]: error["detail"] for error in response.json()["errors"]}


async def test_a_model_without_a_known_price_is_taken_with_a_bound(w: World) -> None:
    assert said(await w.api.post("/videos", json=HDR)).keys() == {"/max_credits"}
    assert said(await w.api.post("/quotes", json=HDR)).keys() == {"/max_credits"}
    for wrong in (0, -1, "many", "nan", 10**7):
        assert said(await w.api.post("/videos", json=HDR | {"max_credits": wrong})).keys() == {"/max_credits"}
    quoted = (await w.api.post("/quotes", json=HDR | {"max_credits": 300, "count": 2})).json()
    assert quoted["quoted_credits"] == 600
    video = (await w.api.post("/videos", json=HDR | {"max_credits": 300.5})).json()
    assert (video["model"], video["quoted_credits"]) == ("ruby", 300.5)


async def test_a_bound_below_the_price_is_refused_with_both(w: World) -> None:
    await w.enqueue(max_credits=25)
    refused = said(await w.api.post("/videos", json={"input": {"promptText": "a boat"}, "max_credits": 59}))
    assert refused == {"/max_credits": "this may cost 60 credits, and max_credits is 59: ask for less, or raise it"}


async def test_the_operator_bounds_every_video(database_url: str) -> None:
    async with world(database_url, max_credits_per_video={"video_to_hdr/*": 200, "*": 50}) as w:
        assert (await w.api.post("/videos", json=HDR)).json()["quoted_credits"] == 200
        assert (
            "MAX_CREDITS_PER_VIDEO is 200"
            in said(await w.api.post("/videos", json=HDR | {"max_credits": 300}))["/max_credits"]
        )
        too_dear = said(await w.api.post("/videos", json={"input": {"promptText": "a boat"}}))
        assert "this may cost 60 credits, and MAX_CREDITS_PER_VIDEO is 50" in too_dear["/max_credits"]


async def test_a_recipe_has_a_model_that_can_be_paused(database_url: str) -> None:
    image = {"uri": "https://images.example.com/cat.png"}
    body = {"input": {"referenceImage": image, "targetLanguage": "de", "version": "2026-06"}}
    async with world(database_url, admin_tokens=(ADMIN,)) as w:
        video = (await w.api.post("/videos", json=body)).json()
        assert (video["operation"], video["model"]) == ("recipes/ad_localization", "recipes/ad_localization")
        assert (video["quoted_credits"], video["input"]) == (21, body["input"])
        headers = {"authorization": f"Bearer {ADMIN}"}
        for verb, reason in (("pause", "manual"), ("resume", None)):
            answer = await w.anyone.post(f"/models/recipes/ad_localization/{verb}", headers=headers)
            assert answer.status_code == 200, answer.text
            assert (answer.json()["model"], answer.json()["reason"]) == ("recipes/ad_localization", reason)
