"""A browser for all of these tests, and for each a Taxiway of its own, with visits to its page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.browser.harness import PATIENCE_MS, Site, Visits, Watch, launched, opened
from tests.browser.scenarios import an_hour
from tests.database import temporary_database


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


@pytest.fixture(scope="package")
def busy_database_url(server_url: str, template_name: str) -> Iterator[str]:
    """A migrated database for one Taxiway that several tests look at."""
    with temporary_database(server_url, template=template_name) as url:
        yield url


@pytest.fixture(scope="package")
async def busy_site(busy_database_url: str) -> AsyncIterator[Site]:
    """A Taxiway after an hour's work, for those who only look."""
    async with opened(busy_database_url) as one:
        await an_hour(one, videos=14)
        yield one


@pytest.fixture
async def visits(chromium: Browser, site: Site) -> AsyncIterator[Visits]:
    """People in front of it. At the end, none of their browsers may have complained or asked another host."""
    visits = Visits(chromium, site, Watch(site.address))
    yield visits
    await visits.leave()
    visits.watch.check()


@pytest.fixture
async def busy_visits(chromium: Browser, busy_site: Site) -> AsyncIterator[Visits]:
    """The same in front of the busy one."""
    visits = Visits(chromium, busy_site, Watch(busy_site.address))
    yield visits
    await visits.leave()
    visits.watch.check()
