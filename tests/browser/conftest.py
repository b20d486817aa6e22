"""A browser for all of these tests, and for each a Taxiway of its own and people in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, expect

from tests.browser.harness import PATIENCE_MS, Site, Visits, Watch, launched, opened


# Not for the whole session: its event loop must not outlive these tests.
@pytest.fixture(scope="package")
async def chromium() -> AsyncIterator[Browser]:
    """The browser. Each test opens windows of its own."""
    expect.set_options(timeout=PATIENCE_MS)
    starting = launched()
    try:
        browser = await starting.__aenter__()
    except FileNotFoundError as exc:
        pytest.skip(str(exc))
    try:
        yield browser
    finally:
        await starting.__aexit__(None, None, None)


@pytest.fixture
async def site(database_url: str) -> AsyncIterator[Site]:
    """A Taxiway with its page and its Runway, on sockets."""
    async with opened(database_url) as one:
        yield one


@pytest.fixture
async def visits(chromium: Browser, site: Site) -> AsyncIterator[Visits]:
    """People in front of it. At the end, none of their browsers may have complained or asked another host."""
    people = Visits(chromium, site, Watch(site.address))
    yield people
    await people.leave()
    people.watch.check()
