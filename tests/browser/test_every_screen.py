"""What holds on every screen: light and dark, on a phone, with a keyboard, for everybody."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import Page, expect

from tests.browser.axe import violations
from tests.browser.harness import PHONE, Visits
from tests.pages import VIEWER_TOKEN

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

SCREENS = ["/", "/ui/cron", "/ui/lanes"]
SCHEMES: list[Literal["light", "dark"]] = ["light", "dark"]


async def opens(page: Page, path: str) -> None:
    """Go to a screen, and see it."""
    await page.goto(path)
    await expect(page.locator("h1").first).to_be_visible()


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


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_axe_finds_nothing_serious(visits: Visits, scheme: Literal["light", "dark"]) -> None:
    found = {}
    page = await visits.stranger(color_scheme=scheme)
    await opens(page, "/login")
    found["/login"] = await violations(page)
    page = await visits.somebody(color_scheme=scheme)
    for path in SCREENS:
        await opens(page, path)
        found[path] = await violations(page)
    told = [f"{path}: {words}" for path, each in found.items() for words in each]
    assert not told, "\n".join(told)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_phone_is_wide_enough(visits: Visits, scheme: Literal["light", "dark"]) -> None:
    page = await visits.somebody(viewport=PHONE, has_touch=True, color_scheme=scheme)
    found = {}
    for path in SCREENS:
        await opens(page, path)
        found[path] = await too_wide(page)
    assert found == {path: [] for path in SCREENS}


async def test_dark_is_dark(visits: Visits) -> None:
    colour = "() => getComputedStyle(document.body).backgroundColor"
    grounds = {}
    for scheme in SCHEMES:
        page = await visits.somebody(color_scheme=scheme)
        for path in SCREENS:
            await opens(page, path)
            grounds[scheme, path] = await page.evaluate(colour)
    assert {grounds["light", path] for path in SCREENS} == {grounds["light", "/"]}
    assert {grounds["dark", path] for path in SCREENS} == {grounds["dark", "/"]}
    assert grounds["light", "/"] != grounds["dark", "/"]


async def test_who_only_looks_sees_nothing_to_act_with(visits: Visits) -> None:
    page = await visits.somebody(VIEWER_TOKEN)
    for path in SCREENS:
        await opens(page, path)
        for selector in ("form[method=post]:not([action='/logout'])", "[hx-post]"):
            await expect(page.locator(selector)).to_have_count(0)
