"""Files in the studio that no data URI holds: the browser sends them to Runway's storage, and says how that goes."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import UUID

import pytest
from playwright.async_api import Locator, Page, Route, expect

from tests.browser.axe import violations
from tests.browser.harness import Visits
from tests.browser.scenarios import picture

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

PLACE = "**/ui/studio/upload"
STORAGE = re.compile(r"^http://127\.0\.0\.1:\d+/uploads$")  # the simulator's; Runway's is another host, too
LARGE_BYTES = 6_000_000
DEMANDS = "(status of|Error Code) 401"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A picture that is larger than a data URI."""
    path = tmp_path / "boat.png"
    path.write_bytes(picture(1).ljust(LARGE_BYTES, b"\0"))
    return path


async def studio(visits: Visits) -> Page:
    """The studio, with a prompt."""
    visits.watch.allowed.append(rf"request to another host: {STORAGE.pattern.strip('^')}")
    page = await visits.log_in()
    await page.goto("/ui/studio")
    await page.get_by_test_id("f.promptText").fill("A small boat leaves the harbour")
    return page


def note(page: Page) -> Locator:
    """What is said next to the file."""
    return page.locator("[data-note-of='f.promptImage']")


async def test_it_goes_to_runway_and_its_video_is_made(visits: Visits, large: Path) -> None:
    page, site = await studio(visits), visits.site
    held: list[Route] = []
    await page.route(STORAGE, lambda route: held.append(route))  # Playwright cannot wrap `append` itself
    await page.get_by_test_id("file").set_input_files(large)
    await expect(note(page)).to_have_text("Sending boat.png (6.0 MB) to Runway's storage …")
    await expect(note(page)).to_have_attribute("role", "status")
    await expect(page.get_by_test_id("quote")).to_contain_text("25 credits")
    await expect(page.get_by_test_id("make")).to_be_disabled()
    await page.locator("[name=max_credits]").press("Enter")
    assert await violations(page) == []
    await held[0].continue_()
    await expect(note(page)).to_contain_text("boat.png was sent to Runway. The address above stands for it until")
    image = page.get_by_test_id("image")
    await expect(image).to_have_value(re.compile(r"^runway://[0-9a-f-]{36}$"))
    uri = await image.input_value()
    await expect(page.get_by_test_id("quote")).to_contain_text("25 credits")
    # It stays with the field when the model changes, also over one that has no image.
    for what, count in (("text_to_video gen4.5", 0), ("image_to_video gen4_turbo", 1)):
        await page.get_by_test_id("what").select_option(what)
        await expect(image).to_have_count(count)
    await expect(image).to_have_value(uri)
    assert await site.rows("SELECT FROM taxiway.videos") == []
    await page.get_by_test_id("make").click()
    await expect(page).to_have_url(re.compile(r"/ui/videos/[0-9a-f-]{36}$"))
    async with site.ticking():
        await expect(page.get_by_test_id("state")).to_have_attribute("data-status", "completed")
    row = await site.row(UUID(page.url.rpartition("/")[2]))
    assert f'"{uri}"' in row["input"]
    [form] = site.runway.state.runway.uploads.forms.values()
    assert (form.size, uri) == (LARGE_BYTES, f"runway://{form.id}")


async def test_what_goes_wrong_is_said_next_to_the_file(visits: Visits, large: Path, tmp_path: Path) -> None:
    visits.watch.allowed += ["status of 429", "net::ERR_FAILED"]
    page = await studio(visits)
    file, words = page.get_by_test_id("file"), note(page)
    notice = '<div class="notice"><p><strong>Too many requests.</strong> Runway refuses the upload: Slow down</p></div>'
    await page.route(PLACE, lambda route: route.fulfill(status=429, content_type="text/html", body=notice), times=1)
    await file.set_input_files(large)
    await expect(words).to_have_text("Too many requests. Runway refuses the upload: Slow down")
    await expect(words).to_have_class(re.compile("complaint"))
    await page.get_by_test_id("make").click()
    assert await page.evaluate("() => document.querySelector('[type=file]:invalid') !== null")
    await page.route(STORAGE, lambda route: route.abort("failed"), times=1)
    await file.set_input_files(large)
    await expect(words).to_have_text(
        "boat.png did not reach Runway's storage. Choose it again, or give its https:// address."
    )
    # An address in its place ends the complaint.
    await page.get_by_test_id("image").fill("https://example.com/boat.jpg")
    await expect(words).to_be_empty()
    await expect(page.get_by_test_id("quote")).to_contain_text("25 credits")
    # The same file again, and then a small one, which takes its place.
    await file.set_input_files(large)
    await expect(page.get_by_test_id("image")).to_have_value(re.compile("^runway://"))
    small = tmp_path / "small.png"
    small.write_bytes(picture(2))
    await file.set_input_files(small)
    await expect(words).to_have_text(re.compile(r"^small\.png, \d+ kB$"))
    await expect(page.get_by_test_id("image")).to_have_value("")
    await page.get_by_test_id("make").click()
    await expect(page).to_have_url(re.compile(r"/ui/videos/[0-9a-f-]{36}$"))
    [row] = await visits.site.rows("SELECT input FROM taxiway.videos")
    assert "data:image/png;base64," in row["input"]
    assert "runway://" not in row["input"]


async def test_an_ended_session_asks_for_the_login_here(visits: Visits, large: Path) -> None:
    visits.watch.allowed.append(DEMANDS)
    page = await studio(visits)
    await page.context.clear_cookies()
    await page.get_by_test_id("file").set_input_files(large)
    await expect(page.get_by_test_id("session-ended")).to_contain_text("What you typed is still here")
    await expect(note(page)).to_contain_text("Log in again, then choose the file again.")
    assert visits.site.runway.state.runway.uploads.forms == {}
