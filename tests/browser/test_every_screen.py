"""What holds on every screen: light and dark, on a phone, for those who only look."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import Page, expect

from tests.browser.axe import violations
from tests.browser.harness import DESK, PHONE, Site, Visits
from tests.pages import VIEWER_TOKEN

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

SCREENS = [
    "/", "/ui/videos", "/ui/videos?q=nothing-of-this", "/ui/studio", "/ui/bulk?action=retry", "/ui/ticks", "/ui/models",
    "/ui/nowhere", "/docs", "/docs/operating", "/docs/speed", "/docs/routes", "/docs/nowhere",
]  # fmt: skip
Scheme = Literal["light", "dark"]
RULES: dict[Scheme, str | None] = {"light": None, "dark": "color-contrast"}  # nothing else differs between them

ONE_OF_EACH = """
SELECT DISTINCT ON (status::text, error_code = 'SUBMISSION_UNKNOWN') id FROM taxiway.videos
ORDER BY status::text, error_code = 'SUBMISSION_UNKNOWN', created_at
"""


async def opens(page: Page, path: str) -> None:
    """Go to a screen, and see all of it: also what it asks for when it is there."""
    await page.goto(path, wait_until="load")
    await expect(page.locator("h1").first).to_be_visible()
    await expect(page.locator("[hx-trigger~='load'], [hx-trigger^='load,']").get_by_text("…")).to_have_count(0)


async def every_screen(site: Site) -> list[str]:
    """The screens, and the page of a video in each state."""
    return [*SCREENS, *(f"/ui/videos/{row['id']}" for row in await site.rows(ONE_OF_EACH))]


async def too_wide(page: Page) -> list[str]:
    """Elements that stick out to the right of the window, where the whole page then scrolls sideways."""
    found: list[str] = await page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) return [];
          return [...document.querySelectorAll("body *")]
            .filter((element) => element.getBoundingClientRect().right > width + 1)
            .map((element) => element.outerHTML.slice(0, 120));
        }"""
    )
    return found


async def test_is_readable_for_everybody_in_light_and_dark_and_on_a_phone(busy_visits: Visits) -> None:
    busy_visits.watch.allowed.append("status of 404")
    grounds, complaints = set(), []
    anonymous = await busy_visits.anonymous()
    admin = await busy_visits.log_in()
    for page, path in [(anonymous, "/login"), *((admin, path) for path in await every_screen(busy_visits.site))]:
        await page.set_viewport_size(PHONE)
        await page.emulate_media(color_scheme="light")
        await opens(page, path)
        complaints += [f"{path} is too wide: {element}" for element in await too_wide(page)]
        await page.set_viewport_size(DESK)
        for scheme, only in RULES.items():
            await page.emulate_media(color_scheme=scheme)
            complaints += [f"{path}, {scheme}: {words}" for words in await violations(page, only=only)]
            grounds.add((scheme, await page.evaluate("() => getComputedStyle(document.body).backgroundColor")))
    assert not complaints, "\n".join(complaints)
    assert grounds == {("light", "rgb(243, 245, 248)"), ("dark", "rgb(13, 17, 23)")}


async def test_who_only_looks_sees_nothing_to_act_with(busy_visits: Visits) -> None:
    busy_visits.watch.allowed.append("status of 404")
    page = await busy_visits.log_in(VIEWER_TOKEN)
    for path in await every_screen(busy_visits.site):
        await opens(page, path)
        actions = page.locator("form[method=post]:not([action='/logout']) button, button[hx-post]")
        assert await actions.all_inner_texts() == [], path
