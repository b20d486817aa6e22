"""The list: found by anything one knows of it, tabs, filters, failures by reason, and one action for many."""

from __future__ import annotations

import re

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
CODED = "SELECT prompt, 'failed', '%s'"  # in place of what is copied
SEEN = """() => {
  window.seen = [];
  new MutationObserver(() => {
    const left = document.querySelector("#bulk [data-left]")?.dataset.left;
    if (left !== undefined && window.seen.at(-1) !== left) window.seen.push(left);
  }).observe(document.body, {childList: true, subtree: true});
}"""


async def search_box(page: Page, words: str) -> None:
    """Search for words."""
    await page.get_by_test_id("search").fill(words)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(r"[?&]q="))
    await expect(page.get_by_test_id("search")).to_have_value(words)


async def search(page: Page, words: str, *found: object) -> None:
    """Search for words, and find just these videos."""
    await search_box(page, words)
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
    tabs = page.get_by_test_id("tabs")
    await expect(tabs.locator("#tab-failed")).to_have_text("failed 250")
    await tabs.locator("#tab-queued").click()
    await expect(page.get_by_test_id("video")).to_have_count(1)
    await expect(tabs.locator("[aria-current]")).to_have_text("queued 1")
    await page.get_by_role("combobox", name="Model").select_option("gen4_turbo")
    await page.get_by_role("button", name="Find").click()
    await search(page, "newest", newest)
    await expect(tabs.locator("#tab-failed")).to_have_text("failed 0")
    chips = page.get_by_test_id("chips")
    await expect(chips.locator(".chip")).to_have_text([re.compile("search: newest"), re.compile("model: gen4_turbo")])
    await chips.get_by_role("link", name="model: gen4_turbo").click()
    await expect(page).to_have_url(f"{site.address}/ui/videos?q=newest&status=queued")
    await chips.get_by_role("link", name="Clear all").click()
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
    await safety.get_by_role("link").click()
    await expect(page.get_by_test_id("video")).to_have_count(2)
    await page.get_by_test_id("select-all").check()
    await page.get_by_test_id("bulk-retry").click()
    await expect(page.get_by_test_id("counted")).to_contain_text("Retry 2 videos?")
    assert await site.rows("SELECT FROM taxiway.videos WHERE status = 'queued'") == []
    await page.get_by_test_id("confirm").click()
    await expect(page.get_by_test_id("progress")).to_contain_text("2 of 2 videos queued again")
    assert len(await site.rows("SELECT FROM taxiway.videos WHERE status = 'queued'")) == 2
    await settle(site)
    await page.goto("/ui/videos?status=failed")
    await page.get_by_test_id("select-all").check()
    await page.get_by_test_id("bulk-retry").click()
    await expect(page.get_by_test_id("counted")).to_contain_text("1 of them is left alone")


async def test_the_failures_follow_the_filters_and_leave_room_for_the_list(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    words = {"model": "gen4.5", "promptText": "a kite", "ratio": "1280:720", "duration": 5}
    await hand_in(site, "a boat", fault="fail=SAFETY.INPUT.TEXT")
    await settle(site)
    await hand_in(site, "a kite", fault="status=400", operation="text_to_video", input=words)
    await settle(site)
    reasons = page.get_by_test_id("reasons").locator("code")
    for query, shown in (
        ("", ["REJECTED", "SAFETY.INPUT.TEXT"]), ("model=gen4.5", ["REJECTED"]), ("q=boat", ["SAFETY.INPUT.TEXT"]),
        ("error_code=REJECTED", ["REJECTED"]), ("status=completed", []), ("model=gen4.5&q=boat", []),
    ):  # fmt: skip
        await page.goto(f"/ui/videos?{query}")
        await expect(reasons).to_have_text(shown)
    for name in ("A", "INTERNAL.BAD_OUTPUT.CODE01", "ASSET.INVALID", "EXPIRED", "NO_OUTPUT", "TASK_TIMEOUT", "LAST"):
        await execute(site.url, COPIES.replace("249", "1").replace("SELECT prompt, status, error_code", CODED % name))
    for width, most in ((390, 200), (1_280, 90)):
        await page.set_viewport_size({"width": width, "height": 844})
        await page.goto("/ui/videos")
        box = await page.get_by_test_id("reasons").bounding_box()
        assert box is not None
        assert box["height"] <= most
        first = await page.get_by_test_id("video").first.bounding_box()
        assert first is not None
        assert first["y"] < 844, "the list begins on the first screen"


async def test_a_bar_shows_how_far_many_batches_are(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    await hand_in(site, "a boat", fault="fail=SAFETY.INPUT.TEXT")
    await settle(site)
    await execute(site.url, COPIES)
    await page.goto("/ui/videos?error_code=SAFETY.INPUT.TEXT")
    await page.get_by_test_id("select-all").check()
    await page.get_by_test_id("bulk-retry").click()
    await expect(page.get_by_test_id("counted")).to_contain_text("Retry 250 videos?")
    await page.evaluate(SEEN)
    await page.get_by_test_id("confirm").click()
    bar = page.get_by_test_id("progress").get_by_role("progressbar")
    await expect(bar).to_have_attribute("value", "250")
    await expect(page.get_by_test_id("progress")).to_contain_text("Done")
    assert await page.evaluate("() => window.seen") == ["150", "50", "0"]
    assert len(await site.rows("SELECT FROM taxiway.videos WHERE status = 'queued'")) == 250


async def test_selected_rows_are_cancelled_and_stay_selected_until_then(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    kept = await hand_in(site, "keep this fox")
    boats = [await hand_in(site, "a boat") for _ in range(3)]
    await page.goto("/ui/videos")
    for video in boats[:2]:
        await page.locator(f"#s-{video}").check()
    await expect(page.get_by_test_id("selected")).to_have_text("2 selected")
    newest = await hand_in(site, "the newest")  # the list is written anew, with what was selected
    await expect(page.locator(f"[data-id='{newest}']")).to_be_visible()
    await expect(page.get_by_test_id("selected")).to_have_text("2 selected")
    await page.get_by_test_id("bulk-cancel").click()
    await expect(page.get_by_test_id("counted")).to_contain_text("Cancel 2 videos?")
    await page.get_by_test_id("confirm").click()
    await expect(page.get_by_test_id("progress")).to_contain_text("2 of 2 videos cancelled")
    await expect(page.get_by_test_id("selected")).to_have_text("")
    statuses = {row["id"]: row["status"] for row in await site.rows("SELECT id, status FROM taxiway.videos")}
    assert [statuses[video] for video in (*boats, kept, newest)] == ["cancelled"] * 2 + ["queued"] * 3
    await page.get_by_test_id("select-page").check()
    await expect(page.get_by_test_id("selected")).to_have_text("5 selected")


async def test_all_that_wait_are_cancelled(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    await hand_in(site, "keep this fox")
    for _ in range(3):
        await hand_in(site, "a boat")
    await page.goto("/ui/videos")
    await search_box(page, "boat")
    await page.get_by_test_id("select-all").check()
    await page.get_by_test_id("bulk-cancel").click()
    await page.get_by_test_id("confirm").click()
    await expect(page.get_by_test_id("progress")).to_contain_text("3 of 3 videos cancelled")
    assert len(await site.rows("SELECT FROM taxiway.videos WHERE status = 'queued'")) == 1


async def test_the_credits_say_what_is_paid_and_what_is_only_a_quote(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    made = await hand_in(site, "made")
    await settle(site)
    unknown = await hand_in(site, "unknown", fault="drop_after")
    refused = await hand_in(site, "refused", fault="status=400")
    await settle(site)
    waiting = await hand_in(site, "waiting")
    await page.goto("/ui/videos")
    for video, words in (
        (waiting, "quote 25 $0.25"), (refused, "0 $0.00"), (unknown, "up to 25 $0.25"), (made, "25 $0.25"),
    ):  # fmt: skip
        await expect(page.locator(f"[data-id='{video}'] .cost")).to_have_text(words)
