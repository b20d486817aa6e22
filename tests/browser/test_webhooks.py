"""Webhooks: what was sent to whom, and sending it again; for those who only look, and on a phone."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, expect
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount

from tests.browser.axe import violations
from tests.browser.harness import Visits, Watch, opened, served
from tests.browser.scenarios import hand_in, settle
from tests.browser.test_every_screen import MISFITS, opens
from tests.pages import VIEWER_TOKEN
from tests.receiving import SECRET, App

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

WIDTHS = (390, 1_280)


async def test_what_was_not_delivered_is_found_and_sent_again(chromium: Browser, database_url: str) -> None:
    app = App(answers=[Response("we are moving house", status_code=503)])
    async with served(Starlette(routes=[Mount("/", app)])) as receiver:
        changes: dict[str, Any] = {"webhook_secrets": (SECRET,), "webhook_private_hosts": ("127.0.0.1",)}
        async with opened(database_url, webhook_url=(f"{receiver}/hook",), **changes) as site:
            visits = Visits(chromium, site, Watch(site.address))
            await site.tick()
            video = await hand_in(site, "A boat")
            await settle(site)
            page = await visits.log_in()
            await page.goto("/")
            await page.get_by_role("link", name="Webhooks", exact=True).click()
            await expect(page.get_by_test_id("endpoints")).to_contain_text("1")
            await page.get_by_role("link", name="video.completed").click()
            await expect(page.get_by_test_id("attempts")).to_contain_text("we are moving house")
            await expect(page.get_by_test_id("body")).to_contain_text(str(video))
            await page.get_by_test_id("replay").click()
            await expect(page.get_by_test_id("replayed")).to_contain_text("Sent again: 204")
            await expect(page.get_by_test_id("state")).to_have_text("delivered")
            here = page.url
            await page.goto("/ui/webhooks")
            await page.get_by_test_id("test").click()
            await expect(page.get_by_test_id("tested")).to_contain_text("answered 204")
            await page.get_by_label("State").select_option("delivered")
            await page.get_by_test_id("filter").click()
            await expect(page.get_by_test_id("deliveries").locator("tbody tr")).to_have_count(2)
            assert app.events == ["video.completed", "video.completed", "webhook.test"]

            complaints = []
            for path in ("/ui/webhooks", here, f"/ui/videos/{video}"):
                await opens(page, path)
                for width in WIDTHS:
                    await page.set_viewport_size({"width": width, "height": 844})
                    complaints += [f"{path} at {width}: {words}" for words in await page.evaluate(MISFITS)]
                    complaints += [f"{path} at {width}: {words}" for words in await violations(page)]
            assert not complaints, "\n".join(complaints)

            viewer = await visits.log_in(VIEWER_TOKEN)
            for path in ("/ui/webhooks", here):
                await opens(viewer, path)
                assert await viewer.locator("form[method=post]:not([action='/logout']) button").count() == 0
            await visits.leave()
            visits.watch.check()
