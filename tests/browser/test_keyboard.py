"""Without a mouse: everything is reached with Tab, done with Enter, and one sees where one is."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.harness import Visits
from tests.pages import ADMIN_TOKEN

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

MOST_STEPS = 60
WHERE = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  return {
    name: element.dataset.testid || element.id || element.textContent.trim().slice(0, 40),
    tag: element.tagName,
    marked: element.matches(":focus-visible") && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    there: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight,
  };
}"""


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element with this test id, id or text has the focus; at each step it must be seen."""
    passed = []
    for _ in range(MOST_STEPS):
        await page.keyboard.press("Tab")
        where = await page.evaluate(WHERE)
        passed.append(where["name"])
        if where["tag"] not in ("BODY", "VIDEO"):
            assert where["marked"], f"no mark shows that {where} has the focus"
            assert where["there"], f"{where} has the focus, out of sight"
        if where["name"] == name:
            return
    raise AssertionError(f"{name} is not reached: {passed}")


async def test_log_in_make_a_video_open_it_and_retry_it(visits: Visits) -> None:
    page, site = await visits.anonymous(), visits.site
    await page.goto("/ui/studio")
    await expect(page.get_by_label("Token")).to_be_focused()
    await page.keyboard.type(ADMIN_TOKEN)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{site.address}/ui/studio")
    await expect(page.get_by_test_id("problems")).to_be_visible()

    await tab_to(page, "what")
    await page.keyboard.type("gen4.5: text")
    await expect(page.get_by_test_id("image")).to_have_count(0)
    await tab_to(page, "f.promptText")
    await page.keyboard.type("A small boat")
    await expect(page.get_by_test_id("quote")).to_contain_text("60 credits")
    await tab_to(page, "make")
    site.faults("fail=SAFETY.INPUT.TEXT")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(r"/ui/videos/[0-9a-f-]{36}$"))
    async with site.ticking():
        await expect(page.get_by_test_id("failure")).to_be_visible()

    await page.goto("/")
    await tab_to(page, "Videos")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("video")).to_have_count(1)
    await tab_to(page, "search")
    await tab_to(page, f"v-{await page.get_by_test_id('video').get_attribute('data-id')}")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("retry")).to_be_visible()
    await tab_to(page, "retry")
    await page.keyboard.press("Enter")
    async with site.ticking():
        await expect(page.get_by_test_id("player")).to_be_visible()


async def test_the_first_step_skips_the_navigation(visits: Visits) -> None:
    page = await visits.log_in()
    for path in ("/", "/ui/videos", "/ui/studio", "/ui/ticks", "/ui/models"):
        await page.goto(path)
        await tab_to(page, "Skip to the content")
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.keyboard.press("Tab")
        assert await page.evaluate("() => document.querySelector('main').contains(document.activeElement)"), path
