"""LiteLLM's provider `runwayml/…`, unmodified, with Taxiway as its `api_base`."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

import pytest

from tests.node import on_sockets
from tests.world import API_KEY, IMAGE, World

pytestmark = [pytest.mark.anyio, pytest.mark.litellm]


async def test_a_video_through_litellm(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch a list of prices otherwise
    litellm = import_module("litellm")
    async with on_sockets(w) as url:

        async def call(name: str, **what: Any) -> Any:
            where = {"custom_llm_provider": "runwayml", "api_base": f"{url}/v1", "api_key": API_KEY}
            return await asyncio.to_thread(getattr(litellm, name), **where, **what)

        boat = {"prompt": "a boat", "seconds": "5", "size": "1280x720", "extra_body": {"promptImage": IMAGE}}
        made = await call("video_generation", model="runwayml/gen4_turbo", **boat)
        assert (await call("video_status", video_id=made.id)).status == "queued"
        await w.later(minutes=3)
        assert (await call("video_status", video_id=made.id)).status == "completed"
        content = await call("video_content", video_id=made.id)
    assert b"ftyp" in content[:16]
    assert len(w.creates) == 1
    [row] = await w.rows("SELECT status, quoted_credits FROM taxiway.videos")
    assert (row["status"], row["quoted_credits"]) == ("completed", 25)
