"""`python -m tests.browser.pictures`: pictures of the page for the README, in .pictures/. Needs a browser."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, ViewportSize, expect

from service.installer.migrate import migrate
from service.local.postgres import Server
from tests.browser.harness import PATIENCE_MS, PHONE, Site, Visits, Watch, launched, opened
from tests.browser.scenarios import an_hour

FOLDER = Path(__file__).parents[2] / ".pictures"
WINDOW: ViewportSize = {"width": 1180, "height": 860}
VIDEOS = 40
PLAYS = """async (player) => {
  player.muted = true;
  await player.play();
  await new Promise((resolve) => { player.onseeked = resolve; player.pause(); player.currentTime = 0.7; });
}"""


async def draw() -> None:
    """Make all of them."""
    FOLDER.mkdir(exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    async with _database() as url, opened(url, max_credits_per_day=2_500) as site, launched() as browser:
        await an_hour(site, VIDEOS)
        visits = Visits(browser, site, Watch(site.address))
        for scheme in ("light", "dark"):
            page = await visits.log_in(viewport=WINDOW, color_scheme=scheme)
            await _now(page)
            await _shot(page, f"now-{scheme}", whole=True)
        page = await visits.log_in(viewport={"width": WINDOW["width"], "height": 1_000}, color_scheme="light")
        await page.goto("/ui/videos")
        await expect(page.get_by_test_id("video").first).to_be_visible()
        await _shot(page, "videos")
        await page.set_viewport_size(WINDOW)
        await _one_video(page, site)
        await _shot(page, "video")
        await page.goto("/ui/studio")
        await page.get_by_test_id("f.promptText").fill("A paper boat turns slowly in a puddle, rain begins, macro")
        await page.get_by_test_id("image").fill("https://example.com/paper-boat.jpg")
        await expect(page.get_by_test_id("quote")).to_be_visible()
        await _shot(page, "studio")
        page = await visits.log_in(viewport=PHONE, device_scale_factor=2, color_scheme="dark")
        await page.goto("/ui/videos")
        await expect(page.get_by_test_id("video").first).to_be_visible()
        await _shot(page, "phone")
        await visits.leave()
        visits.watch.check()


async def _now(page: Page) -> None:
    await page.goto("/")
    await expect(page.get_by_test_id("credits")).to_be_visible()
    await expect(page.locator("#plots svg.plot").first).to_be_visible()


async def _one_video(page: Page, site: Site) -> None:
    """One that failed once, was made, and is open on the page."""
    [row, *_] = await site.rows(
        "SELECT id FROM taxiway.videos "
        "WHERE status = 'completed' AND operation = 'image_to_video' ORDER BY created_at DESC"
    )
    await page.goto(f"/ui/videos/{row['id']}")
    await page.get_by_test_id("player").evaluate(PLAYS)


async def _shot(page: Page, name: str, *, whole: bool = False) -> None:
    path = FOLDER / f"{name}.png"
    await page.screenshot(path=path, full_page=whole)
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
