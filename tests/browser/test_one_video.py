"""One video, from the studio until it plays, and everything that can be done with it."""

from __future__ import annotations

import json
import re
from uuid import UUID

import pytest
from playwright.async_api import Dialog, Page, expect

from tests.browser.harness import Visits
from tests.browser.scenarios import hand_in, picture, settle

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

MARKUP = """<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>&amp; 'quotes' "too" {{ 7 * 7 }}"""
PLAYS = "(player) => { player.muted = true; return player.play(); }"
HAS_PLAYED = """() => {
  const player = document.querySelector("video");
  return player && player.readyState >= 2 && player.currentTime > 0.2 && !player.error;
}"""


def id_in(page: Page) -> UUID:
    """The video whose page is open."""
    return UUID(page.url.rpartition("/")[2])


async def status(page: Page, value: str) -> None:
    """See the video in this state."""
    await expect(page.get_by_test_id("state")).to_have_attribute("data-status", value)


async def agree(dialog: Dialog) -> None:
    """Yes."""
    await dialog.accept()


async def test_made_in_the_studio_it_goes_live_until_it_plays(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    watching = await page.context.new_page()
    await watching.goto("/ui/videos")
    await expect(watching.get_by_test_id("none")).to_be_visible()
    await page.goto("/ui/studio")
    await expect(page.get_by_test_id("problems")).to_contain_text("image", ignore_case=True)
    await page.get_by_test_id("f.promptText").fill("A small boat leaves the harbour")
    await page.get_by_test_id("file").set_input_files(
        {"name": "boat.png", "mimeType": "image/png", "buffer": picture(1)}
    )
    await expect(page.get_by_test_id("quote")).to_contain_text("25 credits")
    await page.get_by_test_id("f.duration").fill("10")
    await expect(page.get_by_test_id("quote")).to_contain_text("50 credits")
    await page.get_by_test_id("f.duration").fill("11")
    await expect(page.get_by_test_id("problems")).to_contain_text("10")
    await page.get_by_test_id("f.duration").fill("2")
    await expect(page.get_by_test_id("quote")).to_contain_text("10 credits")
    await page.get_by_test_id("make").click()
    await expect(page).to_have_url(re.compile(r"/ui/videos/[0-9a-f-]{36}$"))
    await status(page, "queued")
    row = watching.locator(f"[data-id='{id_in(page)}']")
    await expect(row).to_contain_text("queued")
    for window in (page, watching):
        await window.evaluate("() => { window.stayed = true; }")
    async with site.ticking():
        await status(page, "completed")
    await expect(row).to_contain_text("completed")
    await page.get_by_test_id("player").evaluate(PLAYS)
    await page.wait_for_function(HAS_PLAYED)
    assert [await window.evaluate("() => window.stayed") for window in (page, watching)] == [True, True]
    assert len(site.creates) == 1
    await expect(page.get_by_test_id("cost")).to_contain_text("10 credits")


async def test_its_page_tells_the_whole_story(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    video = await hand_in(site, "a boat", fault="fail=INTERNAL", metadata={"order": 4711})
    await settle(site)
    await page.goto(f"/ui/videos/{video}")
    await status(page, "completed")
    for event in ("enqueued", "submission_opened", "accepted", "retried", "completed"):
        await expect(page.locator(f"[data-event={event}]").first).to_be_visible()
    await expect(page.locator("[data-event=submission_opened]")).to_have_count(2)
    await expect(page.get_by_test_id("timeline")).to_contain_text("INTERNAL: Runway failed on its side")
    await page.get_by_text("The video as JSON").click()
    await expect(page.get_by_test_id("json")).to_contain_text('"order": 4711')
    natural = "() => document.querySelector('img.asked').naturalWidth"
    assert await page.evaluate(natural) == 160


async def test_it_is_cancelled_here_and_at_runway(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    site.runway.state.runway.change(speed=0)
    video = await hand_in(site, "a boat")
    await site.tick()
    await page.goto(f"/ui/videos/{video}")
    await status(page, "processing")
    page.once("dialog", lambda dialog: dialog.dismiss())
    await page.get_by_test_id("cancel").click()
    await status(page, "processing")
    page.on("dialog", agree)
    await page.get_by_test_id("cancel").click()
    await status(page, "cancelled")
    await site.tick()
    assert site.runway.state.runway.tasks == {}


async def test_it_is_edited_and_sent_as_a_new_one(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    video = await hand_in(site, "a boat", fault="fail=SAFETY.INPUT.TEXT", priority=7)
    await settle(site)
    await page.goto(f"/ui/videos/{video}")
    await expect(page.get_by_test_id("failure")).to_contain_text("SAFETY.INPUT")
    await page.get_by_test_id("edit").click()
    await expect(page.get_by_test_id("f.promptText")).to_have_value("a boat")
    await page.get_by_test_id("f.promptText").fill("a friendlier boat")
    await expect(page.get_by_test_id("quote")).to_contain_text("25 credits")
    await page.get_by_test_id("make").click()
    await status(page, "queued")
    assert id_in(page) != video
    old, new = await site.row(video), await site.row(id_in(page))
    assert (old["status"], new["priority"]) == ("failed", 7)
    assert '"a friendlier boat"' in new["input"]
    assert "data:image/png;base64," in new["input"]


async def test_an_unknown_outcome_is_cleared_up_by_its_task(visits: Visits) -> None:
    visits.watch.allowed += ["status of 4", "Response Status Error Code 4"]
    page, site = await visits.log_in(), visits.site
    video = await hand_in(site, "a boat", fault="drop_after")
    await site.tick()
    await page.goto(f"/ui/videos/{video}")
    await expect(page.get_by_test_id("failure")).to_contain_text("SUBMISSION_UNKNOWN")
    await page.get_by_test_id("task").fill("00000000-0000-4000-8000-000000000000")
    await page.get_by_test_id("attach").click()
    await expect(page.get_by_test_id("error")).to_be_visible()
    [task] = site.runway.state.runway.tasks
    await page.get_by_test_id("task").fill(task)
    await page.get_by_test_id("attach").click()
    async with site.ticking():
        await status(page, "completed")
    assert len(site.creates) == 1


async def test_an_unknown_outcome_is_retried_with_consent_alone(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    video = await hand_in(site, "a boat", fault="drop_after")
    await site.tick()
    await page.goto(f"/ui/videos/{video}")
    await page.get_by_test_id("retry").click()
    assert await page.evaluate("() => document.querySelector('form:invalid') !== null")
    assert (await site.row(video))["status"] == "failed"
    await page.get_by_test_id("consent").check()
    await page.get_by_test_id("retry").click()
    await status(page, "queued")
    await expect(page.locator("[data-event=consented]")).to_be_visible()
    assert [row["consent"] for row in await site.ledger(video)] == ["operator"]


async def test_edit_and_resubmit_does_not_go_round_the_consent(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    video = await hand_in(site, "a boat", fault="drop_after")
    await site.tick()
    await page.goto(f"/ui/videos/{video}")
    await page.get_by_test_id("edit").click()
    await expect(page.get_by_test_id("second-payment")).to_contain_text("this one is paid as well")
    await page.get_by_test_id("f.promptText").fill("the same boat")
    await page.get_by_test_id("make").click()
    assert await page.evaluate("() => document.querySelector('#consent:invalid') !== null")
    assert len(await site.rows("SELECT FROM taxiway.videos")) == 1
    await page.get_by_test_id("consent").check()
    await page.get_by_test_id("f.promptText").fill("a friendlier boat")
    await expect(page.get_by_test_id("consent")).to_be_checked()
    await page.get_by_test_id("make").click()
    await status(page, "queued")
    again = id_in(page)
    await page.goto(f"/ui/videos/{video}")
    await expect(page.locator("[data-event=made_again]")).to_contain_text(f"Made again as {again}")


async def test_a_text_file_is_refused_as_an_image(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    await page.goto("/ui/studio")
    await page.get_by_test_id("f.promptText").fill("a boat")
    file = {"name": "notes.png", "mimeType": "image/png", "buffer": b"just a text, whatever it is called"}
    await page.get_by_test_id("file").set_input_files(file)  # type: ignore[arg-type]  # as Playwright reads it
    await expect(page.locator("[data-note-of='f.promptImage']")).to_have_text(
        "notes.png is not a JPEG, PNG or WebP image. Choose another file."
    )
    await expect(page.get_by_test_id("problems")).to_contain_text("Add an image")
    await page.get_by_test_id("make").click()
    assert await page.evaluate("() => document.querySelector('[type=file]:invalid') !== null")
    assert await site.rows("SELECT FROM taxiway.videos") == []
    await page.get_by_test_id("file").set_input_files({**file, "buffer": picture(1)})  # type: ignore[arg-type]
    await expect(page.get_by_test_id("quote")).to_contain_text("25 credits ($0.25)")


async def test_the_prompt_is_the_heading_and_ids_and_json_are_copied(visits: Visits) -> None:
    page, site = await visits.log_in(permissions=["clipboard-read", "clipboard-write"]), visits.site
    video = await hand_in(site, "A small boat leaves the harbour")
    await site.tick()
    await page.goto(f"/ui/videos/{video}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("A small boat leaves the harbour")
    await expect(page).to_have_title("A small boat leaves the harbour · Taxiway")
    row = await site.row(video)
    pasted = "() => navigator.clipboard.readText()"
    await page.get_by_role("button", name="Copy the id", exact=True).click()
    await expect(page.get_by_role("button", name="Copied the id", exact=True)).to_be_visible()
    assert await page.evaluate(pasted) == str(video)
    await page.get_by_role("button", name="Copy the id of Runway's task").click()
    await page.wait_for_function(
        "(task) => navigator.clipboard.readText().then((text) => text === task)", arg=row["runway_video_id"]
    )
    await page.get_by_text("The video as JSON").click()
    await page.get_by_role("button", name="Copy the JSON").click()
    await expect(page.get_by_role("button", name="Copied the JSON")).to_be_visible()
    assert json.loads(await page.evaluate(pasted))["id"] == str(video)


async def test_markup_is_shown_as_what_it_is(visits: Visits) -> None:
    page, site = await visits.log_in(), visits.site
    video = await hand_in(site, MARKUP, metadata={"<b>name</b>": MARKUP})
    for path in ("/ui/videos", f"/ui/videos/{video}"):
        await page.goto(path)
        await expect(page.get_by_text(MARKUP).first).to_be_visible()
    await site.tick()  # what comes live is written by a script
    await status(page, "processing")
    await page.get_by_text("The video as JSON").click()
    await expect(page.get_by_test_id("json")).to_contain_text("<b>name</b>")
    await page.goto(f"/ui/studio?from={video}")
    await expect(page.get_by_test_id("f.promptText")).to_have_value(MARKUP)
    await page.goto("/ui/videos")
    await page.get_by_test_id("search").fill(MARKUP[:150])
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("search")).to_have_value(MARKUP[:150])
    assert await page.evaluate("() => 'hacked' in window") is False
