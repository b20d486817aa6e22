"""What holds on every screen: light and dark, on a phone, for those who only look."""

from __future__ import annotations

import os
from typing import Literal

import pytest
from playwright.async_api import Page, expect

from tests.browser.axe import violations
from tests.browser.harness import DESK, PHONE, Site, Visits
from tests.pages import VIEWER_TOKEN

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

SCREENS = [
    "/", "/ui/videos", "/ui/videos?q=nothing-of-this", "/ui/videos?status=failed", "/ui/studio", "/ui/ticks",
    "/ui/models", "/ui/webhooks", "/ui/nowhere", "/docs", "/docs/operating", "/docs/speed", "/docs/routes",
    "/docs/nowhere", "/ui/studio?what=generate/video+generate/video",
]  # fmt: skip
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
EVERY_CASE = bool(os.environ.get("TAXIWAY_EVERY_CASE"))

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


OPEN = "() => document.querySelectorAll('details').forEach((one) => { one.open = true; })"
# Text fields below 16 px make a phone zoom in; a select that is narrower than its widest choice cuts it; a code such as
# INTERNAL.BAD_OUTPUT may be broken behind a dot or a line below, and nowhere else.
MISFITS = """() => {
  const found = [];
  const page = document.scrollingElement;
  if (page.scrollWidth > innerWidth) found.push(`scrolls sideways: ${page.scrollWidth} px`);
  for (const field of document.querySelectorAll("input:not([type=hidden], [type=checkbox]), select, textarea")) {
    const size = parseFloat(getComputedStyle(field).fontSize);
    if (size < 16) found.push(`${field.name} has ${size} px`);
  }
  for (const select of document.querySelectorAll("select")) {
    const wide = select.cloneNode(true);
    Object.assign(wide.style, {position: "absolute", width: "auto", maxWidth: "none", minWidth: "0"});
    select.after(wide);
    if (wide.offsetWidth > select.offsetWidth + 1) found.push(`${select.name} is cut: ${select.offsetWidth} px`);
    wide.remove();
  }
  for (const code of document.querySelectorAll("code.name")) {
    let last = null;
    const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      for (let at = 0; at < texts.currentNode.length; at += 1) {
        const range = document.createRange();
        range.setStart(texts.currentNode, at);
        range.setEnd(texts.currentNode, at + 1);
        const top = range.getBoundingClientRect().top;
        const broken = last && top > last.top + 2 && !"._".includes(last.text);
        if (broken) found.push(`${code.textContent} breaks in mid-word`);
        last = {top, text: range.toString()};
      }
    }
  }
  return found;
}"""
WIDTHS = (390, 900, 1_280, 1_920)
# What is said of credits without dollars.
CREDITS_ALONE = """() => {
  const words = document.querySelector("main").innerText;
  return [...words.matchAll(/\\d credits\\b(?!,? \\(?\\$).{0,20}/g)].map(String);
}"""
# Times that are not relative, or do not say when exactly; the table of plots has intervals.
ABSOLUTE = """() => [...document.querySelectorAll("main time")]
  .filter((time) => !time.closest(".figures"))
  .filter((time) => !/^(just now|in \\d+ .+|\\d+ (s|min|h|d) ago)$/.test(time.textContent)
                    || !/^[\\d-]{10} [\\d:]{8} UTC$/.test(time.title))
  .map((time) => time.outerHTML)"""


def rules(number: int) -> dict[Scheme, str | None]:
    """The schemes in which a screen is judged, with the one rule that counts there, if not all do: each in turn.

    With `TAXIWAY_EVERY_CASE` in both. Nothing but the contrast differs between them.
    """
    return {"light": None, "dark": "color-contrast"} if EVERY_CASE else {SCHEMES[number % 2]: None}


async def misfits(page: Page) -> list[str]:
    """What does not fit at some width, with everything open."""
    found = []
    await page.evaluate(OPEN)
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 844})
        found += [f"at {width}: {words}" for words in await page.evaluate(MISFITS)]
    return found


async def test_times_go_on_by_themselves(busy_visits: Visits) -> None:
    page = await busy_visits.log_in()
    await page.goto("/ui/videos")
    first = page.locator("td time").first
    await first.evaluate("(time) => { time.dateTime = new Date(Date.now() - 185_000).toISOString(); }")
    await expect(first).to_have_text("3 min ago")


# Contrast by WCAG, of each colour of a plot with each other and with the ground of its card.
CONTRASTS = """() => {
  const parts = (colour) => colour.match(/\\d+(?=[,)])/g).map((part) => part / 255);
  const light = (colour) => {
    const [r, g, b] = parts(colour).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const found = [];
  for (const figure of document.querySelectorAll("#plots figure")) {
    const drawn = figure.querySelectorAll(".bar, .curve, .dot");
    const paint = (shape) => (shape.matches(".curve") ? getComputedStyle(shape).stroke : getComputedStyle(shape).fill);
    const colours = [...new Set([getComputedStyle(figure).backgroundColor, ...[...drawn].map(paint)])];
    for (const one of colours) for (const other of colours) {
      if (one < other) found.push(Math.max(light(one), light(other)) / Math.min(light(one), light(other)));
    }
  }
  return found;
}"""


async def test_colours_of_the_plots_are_told_from_each_other_and_the_ground(busy_visits: Visits) -> None:
    page = await busy_visits.log_in()
    for scheme in SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        await opens(page, "/")
        await expect(page.locator("#plots svg.plot .bar").first).to_be_visible()
        contrasts = await page.evaluate(CONTRASTS)
        assert len(contrasts) == 1 + 3 + 3
        assert min(contrasts) >= 3, (scheme, contrasts)


IN_SIGHT = """(element) => {
  const box = element.getBoundingClientRect();
  return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth;
}"""


async def test_on_a_phone_what_you_can_do_is_on_the_first_screen(busy_visits: Visits) -> None:
    site = busy_visits.site
    page = await busy_visits.log_in(viewport={"width": 390, "height": 844})
    paths = [f"/ui/videos/{row['id']}" for row in await site.rows(ONE_OF_EACH)]
    firsts = dict.fromkeys(paths, "#actions :is(button, input, a)") | {
        "/ui/videos": "#bulk-retry", "/ui/studio": "#make", "/ui/ticks": "#run", "/ui/models": "[data-testid=pause]",
    }  # fmt: skip
    for path, what in firsts.items():
        await opens(page, path)
        first = page.locator(f"{what}:visible").first
        assert await first.evaluate(IN_SIGHT), f"{path}: {await first.bounding_box()}"


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


async def test_each_is_readable_for_everybody_fits_everywhere_and_says_what_it_costs_and_when(
    busy_visits: Visits,
) -> None:
    """In light and dark, on a phone and on all that is wider; credits have dollars, and times are relative.

    One visit for all of it: to open a screen costs as much as to judge it.
    """
    busy_visits.watch.allowed.append("status of 404")
    grounds, complaints = set(), []
    anonymous = await busy_visits.anonymous()
    admin = await busy_visits.log_in()
    pages = [(anonymous, "/login"), *((admin, path) for path in await every_screen(busy_visits.site))]
    for number, (page, path) in enumerate(pages):
        await page.set_viewport_size(PHONE)
        await page.emulate_media(color_scheme="light")
        await opens(page, path)
        complaints += [f"{path} is too wide: {element}" for element in await too_wide(page)]
        await page.set_viewport_size(DESK)
        if path != "/login" and not path.startswith("/docs"):
            for script in (CREDITS_ALONE, ABSOLUTE):
                complaints += [f"{path}: {words}" for words in await page.evaluate(script)]
        for scheme, only in rules(number).items():
            await page.emulate_media(color_scheme=scheme)
            complaints += [f"{path}, {scheme}: {words}" for words in await violations(page, only=only)]
            grounds.add((scheme, await page.evaluate("() => getComputedStyle(document.body).backgroundColor")))
        complaints += [f"{path} {words}" for words in await misfits(page)]
    assert not complaints, "\n".join(complaints)
    assert grounds == {("light", "rgb(243, 245, 248)"), ("dark", "rgb(13, 17, 23)")}


async def test_who_only_looks_sees_nothing_to_act_with(busy_visits: Visits) -> None:
    busy_visits.watch.allowed.append("status of 404")
    page = await busy_visits.log_in(VIEWER_TOKEN)
    for path in await every_screen(busy_visits.site):
        await opens(page, path)
        actions = page.locator("form[method=post]:not([action='/logout']) button, button[hx-post]")
        assert await actions.all_inner_texts() == [], path
