"""Who is let in, what they may do, and that the browser enforces what the page's headers ask for."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.harness import Visits
from tests.pages import ADMIN_TOKEN, VIEWER_TOKEN

pytestmark = [pytest.mark.anyio, pytest.mark.browser]

REFUSED = r"console error: Failed to load resource: the server responded with a status of 401"


async def test_logs_in_where_one_wanted_to_go_and_out_again(visits: Visits) -> None:
    page = await visits.anonymous()
    await page.goto("/?window=day")
    await expect(page).to_have_url(f"{visits.site.address}/login?next=%2F%3Fwindow%3Dday")
    await page.get_by_label("Token").fill(ADMIN_TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await expect(page).to_have_url(f"{visits.site.address}/?window=day")
    await expect(page.get_by_test_id("role")).to_have_text("Admin")
    await page.get_by_role("button", name="Log out").click()
    await expect(page).to_have_url(f"{visits.site.address}/login")
    await page.goto("/")
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_refuses_a_wrong_token_and_says_so(visits: Visits) -> None:
    visits.watch.allowed.append(REFUSED)
    page = await visits.anonymous()
    await page.goto("/login")
    await page.get_by_label("Token").fill("no-such-token-as-this")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("No such token")
    await expect(page.get_by_label("Token")).to_have_value("")
    await page.goto("/")
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_a_link_logs_in_and_leaves_no_token_behind(visits: Visits) -> None:
    page = await visits.anonymous()
    await page.goto(f"/login#token={VIEWER_TOKEN}")
    await expect(page.get_by_test_id("role")).to_have_text("Read only")
    await expect(page).to_have_url(f"{visits.site.address}/")
    await page.go_back()
    assert VIEWER_TOKEN not in page.url


async def test_scripts_cannot_read_the_session(visits: Visits) -> None:
    page = await visits.log_in()
    await page.goto("/")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await page.evaluate("document.cookie") == ""
    [cookie] = await page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"


async def test_the_browser_refuses_scripts_styles_and_hosts_that_are_not_ours(visits: Visits) -> None:
    visits.watch.allowed += ["Content Security Policy", "request to another host: http://elsewhere.test/"]
    page = await visits.log_in()
    await page.goto("/")
    await page.evaluate(
        """() => {
          window.refused = new Set();
          document.addEventListener("securitypolicyviolation", (event) => refused.add(event.effectiveDirective));
          const add = (name, values) => document.head.append(Object.assign(document.createElement(name), values));
          add("script", {textContent: "window.ran = true"});
          add("style", {textContent: "body { display: none }"});
          add("img", {src: "http://elsewhere.test/picture.png"});
          fetch("http://elsewhere.test/").catch(() => null);
        }"""
    )
    kinds = ["connect-src", "img-src", "script-src-elem", "style-src-elem"]
    await page.wait_for_function("(kinds) => kinds.every((kind) => refused.has(kind))", arg=kinds)
    assert await page.evaluate("'ran' in window") is False
    await expect(page.locator("body")).to_be_visible()
