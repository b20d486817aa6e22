"""The screen Webhooks: endpoints, deliveries, one of them, and what an administrator can do."""

from __future__ import annotations

import re

import pytest
from starlette.responses import Response

from tests.pages import Control, check
from tests.receiving import notifying

pytestmark = pytest.mark.anyio

EVIL = "<script>alert('\"x`y`')</script>"


async def delivered(site: Control) -> str:
    """One video that has ended; the path of its delivery."""
    await site.world.enqueue(input={"promptText": EVIL, "promptImage": "https://example.com/boat.jpg"})
    await site.world.finish()
    [row] = await site.world.rows("SELECT id FROM taxiway.deliveries")
    return f"/ui/webhooks/{row['id']}"


@pytest.mark.parametrize("who", ["admin", "viewer"])
async def test_every_part_of_it_is_a_page(database_url: str, who: str) -> None:
    async with notifying(database_url) as (site, app):
        visitor = getattr(site, who)
        assert "None: set WEBHOOK_URL" in check(await visitor.get("/ui/webhooks"))
        app.answers = [Response(EVIL, status_code=500)]
        path = await delivered(site)
        for at in ("/ui/webhooks", "/ui/webhooks?state=due", "/ui/webhooks?video=x", path):
            response = await visitor.get(at)
            check(response)
            assert "<script>alert" not in response.text
            assert who == "admin" or set(re.findall(r'action="([^"]+)"', response.text)) <= {"/logout", "/ui/webhooks"}
        part = await visitor.get("/ui/webhooks/list", part=True)
        assert "<html" not in check(part)
        shown = check(await visitor.get(path))
        assert "500 in" in shown
        assert "webhook-id" in shown
        video = (await site.world.rows("SELECT video_id FROM taxiway.deliveries"))[0]["video_id"]
        assert f'href="{path}"' in (await visitor.get(f"/ui/videos/{video}")).text


async def test_it_is_filtered(database_url: str) -> None:
    async with notifying(database_url) as (site, _):
        path = await delivered(site)
        for query, is_there in [("state=delivered", True), ("state=failed", False), ("endpoint=0", False), ("?", True)]:
            assert (f'href="{path}"' in (await site.viewer.get(f"/ui/webhooks?{query}")).text) == is_there, query


async def test_an_administrator_replays_tests_and_enables(database_url: str) -> None:
    async with notifying(database_url) as (site, app):
        app.answers = [Response(status_code=410)]
        path = await delivered(site)
        assert "it answered 410 Gone" in check(await site.viewer.get("/ui/webhooks"))
        [endpoint] = await site.world.rows("SELECT id FROM taxiway.endpoints")
        enabled = await site.admin.post("/ui/webhooks/enable", endpoint=endpoint["id"])
        assert "Enabled: endpoint" in check(enabled)
        tested = await site.admin.post("/ui/webhooks/test")
        assert "answered 204 in" in check(tested)
        assert app.events == ["video.completed", "webhook.test"]
        replayed = await site.admin.post(f"{path}/replay")
        assert "Sent again: 204 in" in check(replayed)
        assert app.events[-1] == "video.completed"
        for refused in ("/ui/webhooks/test", "/ui/webhooks/enable", f"{path}/replay"):
            assert (await site.viewer.post(refused)).status_code == 403
        assert (await site.admin.post("/ui/webhooks/enable", endpoint="x")).status_code == 404
        assert (await site.admin.post("/ui/webhooks/test", endpoint="99")).status_code == 404
        assert (await site.admin.get("/ui/webhooks/99")).status_code == 404
