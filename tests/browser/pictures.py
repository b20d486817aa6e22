"""`python -m tests.browser.pictures`: the README's picture of the page, light and dark. Needs a browser."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, ViewportSize, expect

from service.installer.migrate import migrate
from service.local.postgres import Server
from tests.browser.harness import PATIENCE_MS, Visits, Watch, launched, opened
from tests.browser.scenarios import an_hour

FOLDER = Path(__file__).parents[2] / ".pictures"
WINDOW: ViewportSize = {"width": 1180, "height": 860}
VIDEOS = 40


async def draw() -> None:
    """Draw it in both."""
    FOLDER.mkdir(exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    async with _database() as url, opened(url, max_credits_per_day=2_500) as site, launched() as browser:
        await an_hour(site, VIDEOS)
        visits = Visits(browser, site, Watch(site.address))
        for scheme in ("light", "dark"):
            page = await visits.log_in(viewport=WINDOW, color_scheme=scheme)
            await _overview(page)
            await _shot(page, f"overview-{scheme}")
        await visits.leave()
        visits.watch.check()


async def _overview(page: Page) -> None:
    await page.goto("/")
    await expect(page.get_by_test_id("credits")).to_be_visible()
    await expect(page.locator("#plots svg.plot").first).to_be_visible()


async def _shot(page: Page, name: str) -> None:
    path = FOLDER / f"{name}.png"
    await page.screenshot(path=path, full_page=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


@asynccontextmanager
async def _database() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "postgres", durable=False)
        await asyncio.to_thread(server.start)
        try:
            await migrate(server.url())
            yield server.url()
        finally:
            await asyncio.to_thread(server.remove)


if __name__ == "__main__":
    asyncio.run(draw())
