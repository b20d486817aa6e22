"""The list and Bulk: found by anything one knows of it, failures by reason, all of them at once."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.harness import Visits
from tests.browser.scenarios import hand_in, settle
from tests.database import execute

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

COPIES = """
INSERT INTO taxiway.videos (prompt, status, error_code, error_message, operation, model, input, quoted_credits,
                            finished_at)
SELECT prompt, status, error_code, error_message, operation, model, input, quoted_credits, finished_at
FROM taxiway.videos, generate_series(1, 249)
"""
SEEN = """() => {
  window.seen = [];
  new MutationObserver(() => {
    const left = document.getElementById("bulk")?.dataset.left;
    if (left !== undefined && window.seen.at(-1) !== left) window.seen.push(left);
  }).observe(document.body, {childList: true, subtree: true});
}"""


async def search(page: Page, words: str, *found: object) -> None:
    """Search for words, and find just these videos."""
    await page.get_by_test_id("search").fill(words)
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("search")).to_have_value(words)
    await expect(page.get_by_test_id("video")).to_have_count(len(found))
    for video in found:
        await expect(page.locator(f"[data-id='{video}']")).to_be_visible()


async def test_a_video_is_found_by_anything_one_knows_of_it(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    boat = await hand_in(site, "A small boat leaves the harbour", metadata={"order": 4711})
    kite = await hand_in(site, "A red kite climbs", metadata={"customer": "harbour-studio"})
    await hand_in(site, "A fox in the snow")
    await site.tick()
    await page.goto("/ui/videos")
    await expect(page.get_by_test_id("video")).to_have_count(3)
    await search(page, str(boat), boat)
    await search(page, (await site.row(kite))["runway_video_id"], kite)
    await search(page, "small boat", boat)
    await search(page, "4711", boat)
    await search(page, "harbour", boat, kite)
    await search(page, "nothing of this")
    await expect(page.get_by_test_id("none")).to_be_visible()


async def test_filters_and_pages_go_there_and_back(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    await hand_in(site, "a boat", fault="fail=SAFETY.INPUT.TEXT")
    await settle(site)
    await execute(site.url, COPIES)
    newest = await hand_in(site, "the newest")
    await page.goto("/ui/videos")
    await expect(page.get_by_test_id("video")).to_have_count(25)
    await page.get_by_test_id("older").click()
    await expect(page.get_by_role("link", name="Newer")).to_be_visible()
    await expect(page.locator(f"[data-id='{newest}']")).to_have_count(0)
    await page.get_by_role("link", name="Newer").click()
    await expect(page.locator(f"[data-id='{newest}']")).to_be_visible()
    await page.get_by_role("combobox", name="Status").select_option("queued")
    await page.get_by_role("button", name="Find").click()
    await expect(page.get_by_test_id("video")).to_have_count(1)
    await page.get_by_role("link", name="Clear").click()
    await expect(page.get_by_test_id("video")).to_have_count(25)


async def test_failures_are_grouped_by_reason_and_retried_all_at_once(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    for fault in ("fail=SAFETY.INPUT.TEXT", "status=400", "fail=SAFETY.INPUT.TEXT", "drop_after"):
        await hand_in(site, "a boat", fault=fault)
    await settle(site)
    await page.goto("/ui/videos")
    reasons = page.get_by_test_id("reasons").get_by_role("listitem")
    await expect(reasons).to_have_count(3)
    safety = reasons.filter(has_text="SAFETY.INPUT.TEXT")
    await expect(safety.locator(".count")).to_have_text("2")
    await safety.locator("a.reason").click()
    await expect(page.get_by_test_id("video")).to_have_count(2)
    await safety.get_by_role("link", name="Retry all").click()
    await expect(page.get_by_test_id("counted")).to_contain_text("2 videos match")
    assert await site.rows("SELECT FROM taxiway.videos WHERE status = 'queued'") == []
    await page.get_by_test_id("confirm").click()
    await expect(page.get_by_test_id("progress")).to_contain_text("2 of 2 videos queued again")
    assert len(await site.rows("SELECT FROM taxiway.videos WHERE status = 'queued'")) == 2
    await settle(site)
    await page.goto("/ui/bulk?action=retry")
    await expect(page.get_by_test_id("counted")).to_contain_text("1 of them is left alone")


async def test_a_bar_shows_how_far_many_batches_are(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    await hand_in(site, "a boat", fault="fail=SAFETY.INPUT.TEXT")
    await settle(site)
    await execute(site.url, COPIES)
    await page.goto("/ui/bulk?action=retry&error_code=SAFETY.INPUT.TEXT")
    await expect(page.get_by_test_id("counted")).to_contain_text("250 videos match")
    await page.evaluate(SEEN)
    await page.get_by_test_id("confirm").click()
    bar = page.get_by_role("progressbar")
    await expect(bar).to_have_attribute("value", "250")
    await expect(page.get_by_test_id("progress")).to_contain_text("Done")
    assert await page.evaluate("() => window.seen") == ["150", "50", "0"]
    assert len(await site.rows("SELECT FROM taxiway.videos WHERE status = 'queued'")) == 250


async def test_all_that_wait_are_cancelled(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    await hand_in(site, "keep this fox")
    for _ in range(3):
        await hand_in(site, "a boat")
    await page.goto("/ui/bulk")
    await page.get_by_test_id("action").select_option("cancel")
    await page.get_by_role("searchbox").fill("boat")
    await page.get_by_test_id("count").click()
    await page.get_by_test_id("confirm").click()
    await expect(page.get_by_test_id("progress")).to_contain_text("3 of 3 videos cancelled")
    assert len(await site.rows("SELECT FROM taxiway.videos WHERE status = 'queued'")) == 1
