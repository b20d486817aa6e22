"""Overview, Ticks and Models: is it well, what did the cron do, and who may stop and start what."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.browser.harness import Visits
from tests.pages import VIEWER_TOKEN

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

STAY = """() => { window.stayed = true; }"""
STAYED = """() => window.stayed === true"""


async def row(page: Page, model: str, word: str) -> None:
    """See this word in the model's row."""
    await expect(page.locator(f"tr[data-model='{model}']")).to_contain_text(word)


async def test_now_is_red_when_the_cron_has_stopped_and_green_when_it_is_back(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    health = page.get_by_test_id("health")
    async with site.ticking():
        await page.goto("/")
        await expect(page.get_by_role("heading", level=1)).to_have_text("All is well")
        await page.evaluate(STAY)
    await site.later(minutes=15)
    # Overview asks less often where an answer takes long.
    await expect(page.get_by_role("heading", level=1)).to_have_text("This needs you", timeout=60_000)
    await expect(health).to_contain_text("the cron has stopped")
    await expect(page.get_by_test_id("last-tick")).to_have_attribute("data-kind", "bad")
    red = await health.evaluate("(element) => getComputedStyle(element).borderLeftColor")
    assert red == "rgb(179, 34, 31)"
    async with site.ticking():
        await expect(health).not_to_contain_text("the cron has stopped")
    assert await page.evaluate(STAYED)


async def test_now_follows_what_happens_and_knows_the_account(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    site.runway.state.runway.change(speed=0)
    await page.goto("/")
    await expect(page.locator("#count-queued")).to_have_text("0")
    await page.evaluate(STAY)
    await site.enqueue()
    await expect(page.locator("#count-queued")).to_have_text("1")
    await site.tick()
    await expect(page.locator("#count-processing")).to_have_text("1")
    await expect(page.get_by_test_id("spent")).to_contain_text("25")
    assert await page.evaluate(STAYED)
    await page.reload()
    await expect(page.get_by_test_id("credits")).to_have_text("9,975")
    await expect(page.get_by_test_id("in-flight")).to_contain_text("1 of 5")


async def test_now_says_when_the_key_is_refused(visits: Visits) -> None:
    visits.site.runway.state.runway.change(key_revoked=True)
    page = await visits.log_in()
    await page.goto("/")
    await expect(page.get_by_test_id("runway-unavailable")).to_be_visible()
    await expect(page.locator("#account .notice")).to_contain_text("RUNWAYML_API_SECRET")


async def test_the_plots_reach_as_far_back_as_one_likes(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    await site.enqueue()
    await site.later(hours=5)
    await page.goto("/")
    plots = page.locator("#plots")
    await expect(plots.get_by_role("img").first).to_be_visible()
    await plots.get_by_role("link", name="Day").click()
    await expect(plots.get_by_role("heading", name="The last day")).to_be_visible()
    await expect(page).to_have_url(f"{site.address}/?window=day")
    await plots.get_by_text("The numbers, as a table").click()
    await expect(plots.get_by_role("row")).to_have_count(2)
    await page.reload()
    await expect(plots.get_by_role("heading", name="The last day")).to_be_visible()


async def test_a_tick_is_run_by_hand(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    video = await site.enqueue()
    await page.goto("/ui/ticks")
    await expect(page.get_by_text("None has run yet")).to_be_visible()
    await page.get_by_role("button", name="Run one now").click()
    await expect(page.get_by_test_id("ran")).to_contain_text("1 accepted")
    await expect(page.get_by_test_id("ticks").get_by_role("row")).to_have_count(2)
    assert (await site.row(video))["status"] == "processing"


async def test_ticks_of_others_appear_by_themselves(visits: Visits) -> None:
    page = await visits.log_in(VIEWER_TOKEN)
    await page.goto("/ui/ticks")
    await visits.site.tick()
    await expect(page.get_by_test_id("ticks")).to_contain_text("nothing to do")
    await expect(page.get_by_role("button", name="Run one now")).to_have_count(0)


async def test_a_model_is_paused_and_resumed(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    video = await site.enqueue()
    await page.goto("/ui/models")
    await row(page, "gen4_turbo", "open")
    await page.get_by_role("combobox", name="Model").select_option("gen4_turbo")
    await page.get_by_role("combobox", name="For").select_option("300")
    await page.get_by_label("Why").fill("<b>rehearsal</b>")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_test_id("result")).to_contain_text("Paused")
    await row(page, "gen4_turbo", "<b>rehearsal</b>")
    await row(page, "gen4.5", "open")
    await site.tick()
    assert (await site.row(video))["status"] == "queued"
    await page.get_by_role("button", name="Resume gen4_turbo").click()
    await row(page, "gen4_turbo", "open")
    await site.tick()
    assert (await site.row(video))["status"] == "processing"


async def test_no_model_is_open_while_all_are_paused(visits: Visits) -> None:
    page = await visits.log_in()
    await page.goto("/ui/models")
    await page.get_by_role("combobox", name="Model").select_option("all")
    await page.get_by_role("button", name="Pause").click()
    await row(page, "all", "paused")
    await row(page, "gen4_turbo", "waits all models are paused")
    table = page.get_by_test_id("models")
    await expect(table.get_by_text("open", exact=True)).to_have_count(0)
    await expect(table.locator(".badge[data-kind=ok]")).to_have_count(0)
    await page.get_by_role("button", name="Resume all models").click()
    await row(page, "gen4_turbo", "open")


async def test_who_only_looks_is_refused_by_the_service_as_well(visits: Visits) -> None:
    visits.watch.allowed.append("status of 403")
    page = await visits.log_in(VIEWER_TOKEN)
    await page.goto("/ui/models")
    statuses = await page.evaluate(
        """async () => {
          const headers = JSON.parse(document.body.getAttribute("hx-headers"));
          const post = (path, body) => fetch(path, {method: "POST", headers, body: new URLSearchParams(body)});
          const paused = await post("/ui/models/pause", {model: "all", seconds: 60});
          const answers = [paused, await post("/ui/ticks/run", {})];
          return answers.map((answer) => answer.status);
        }"""
    )
    assert statuses == [403, 403]
    await page.reload()
    await row(page, "gen4_turbo", "open")
    assert await visits.site.rows("SELECT FROM taxiway.ticks") == []
