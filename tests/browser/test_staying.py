"""A page that stays open: its session ends, its server goes away, others act, and what was typed stays."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.harness import Visits
from tests.browser.scenarios import hand_in, picture, settle
from tests.pages import ADMIN_TOKEN

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

PROMPT = "A small boat leaves the harbour, and nobody wants to type this twice"
REFUSED = "(status of|Error Code) 401"


async def log_in_again(page: Page) -> None:
    """Give the token in the notice that the open page shows."""
    ended = page.get_by_test_id("session-ended")
    await ended.get_by_label("Token").fill(ADMIN_TOKEN)
    await ended.get_by_role("button", name="Log in").click()
    await expect(page.get_by_test_id("session-begun")).to_be_visible()


async def test_an_expired_session_keeps_what_was_typed(visits: Visits) -> None:
    visits.watch.allowed.append(REFUSED)
    page, site = await visits.log_in(), visits.site
    await page.goto("/ui/studio")
    await page.get_by_test_id("f.promptText").fill(PROMPT)
    await page.get_by_test_id("file").set_input_files(
        {"name": "boat.png", "mimeType": "image/png", "buffer": picture(1)}
    )
    await expect(page.get_by_test_id("quote")).to_contain_text("25 credits")
    await page.context.clear_cookies()
    await page.get_by_test_id("make").click()
    await expect(page.get_by_test_id("session-ended")).to_contain_text("What you typed is still here")
    assert page.url.endswith("/ui/studio")
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("No such token")
    await log_in_again(page)
    await expect(page.get_by_test_id("f.promptText")).to_have_value(PROMPT)
    await page.get_by_test_id("make").click()
    await expect(page).to_have_url(re.compile(r"/ui/videos/[0-9a-f-]{36}$"))
    [row] = await site.rows("SELECT input FROM taxiway.videos")
    assert PROMPT in row["input"]
    assert "data:image/png;base64," in row["input"]


async def test_a_login_elsewhere_keeps_it_too(visits: Visits) -> None:
    visits.watch.allowed.append("(status of|Error Code) 403")
    page = await visits.log_in()
    await page.goto("/ui/models")
    await page.get_by_label("Why").fill("rehearsal")
    await page.get_by_role("combobox", name="Model").select_option("gen4_turbo")
    await page.context.request.post("/login", form={"token": ADMIN_TOKEN}, max_redirects=0)
    await page.get_by_test_id("pause").click()
    await expect(page.get_by_test_id("session-changed")).to_contain_text("Press the button once more")
    await expect(page.get_by_label("Why")).to_have_value("rehearsal")
    await page.get_by_test_id("pause").click()
    await expect(page.locator("tr[data-model=gen4_turbo]")).to_contain_text("rehearsal")


async def test_a_live_page_asks_for_the_login_and_goes_on(visits: Visits) -> None:
    visits.watch.allowed.append(REFUSED)
    page, site = await visits.log_in(), visits.site
    await page.goto("/")
    await page.context.clear_cookies()
    await expect(page.get_by_test_id("session-ended")).to_be_visible()
    await log_in_again(page)
    await site.enqueue()
    await expect(page.locator("#count-queued")).to_have_text("1")


async def test_a_live_list_says_that_it_is_stale_and_when_it_is_live_again(visits: Visits) -> None:
    visits.watch.allowed += ["(status of|Error Code) 503", "ERR_INCOMPLETE_CHUNKED_ENCODING"]
    page, site = await visits.log_in(), visits.site
    await hand_in(site, "a boat")
    await page.goto("/ui/videos")
    liveness = page.get_by_test_id("liveness")
    await expect(page.get_by_test_id("video")).to_have_count(1)
    await expect(liveness).to_be_empty()
    await site.rows("ALTER TABLE taxiway.videos RENAME TO gone")
    await expect(liveness).to_contain_text("Not live. Taxiway does not answer: you see what was there")
    await expect(liveness.locator("time")).to_have_text(re.compile("ago$"))
    await expect(page.get_by_test_id("video")).to_have_count(1)
    await site.rows("ALTER TABLE taxiway.gone RENAME TO videos")
    await hand_in(site, "another boat")
    await expect(page.get_by_test_id("video")).to_have_count(2)
    await expect(liveness).to_be_empty()


async def test_it_says_so_too_where_a_server_only_hangs(visits: Visits) -> None:
    async def hang(_: Route) -> None:
        return None

    page = await visits.log_in()
    await page.route("**/ui/videos/events*", hang)
    await page.goto("/ui/videos")
    await expect(page.get_by_test_id("liveness")).to_contain_text("Not live.")


async def test_the_page_of_an_ended_video_sees_that_it_is_retried_elsewhere(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    video = await hand_in(site, "a boat", fault="fail=SAFETY.INPUT.TEXT")
    await settle(site)
    await page.goto(f"/ui/videos/{video}")
    await expect(page.get_by_test_id("failure")).to_be_visible()
    await page.evaluate("() => { window.stayed = true; }")
    assert (await site.api.post(f"/videos/{video}/retry")).status_code == 202
    await expect(page.get_by_test_id("state")).to_have_attribute("data-status", "queued")
    async with site.ticking():
        await expect(page.get_by_test_id("player")).to_be_visible()
    assert await page.evaluate("() => window.stayed")


async def test_what_is_typed_into_a_live_part_stays(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    video = await hand_in(site, "a boat", fault="drop_after")
    await site.tick()
    await page.goto(f"/ui/videos/{video}")
    await page.get_by_test_id("task").fill("half an id")
    await page.get_by_test_id("consent").check()
    await page.evaluate("() => replace('actions', document.getElementById('actions').innerHTML)")
    await expect(page.get_by_test_id("task")).to_have_value("half an id")
    await expect(page.get_by_test_id("consent")).to_be_checked()
