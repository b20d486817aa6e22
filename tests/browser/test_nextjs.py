"""The Next.js app of the page `nextjs`: types are checked, it is built and started, a film goes the whole round."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from tests.node import installed, on_sockets, run, served
from tests.ports import free_port
from tests.world import API_KEY, CRON_SECRET, IMAGE, World, world

pytestmark = [pytest.mark.anyio, pytest.mark.browser, pytest.mark.node]

APP = Path(__file__).parents[1] / "nextjs"
START = ("node", "node_modules/next/dist/bin/next", "start", "--hostname", "127.0.0.1")
ANSWER_SECONDS = 30
CRON = {"Authorization": f"Bearer {CRON_SECRET}"}
FILM = {"key": "5f1c0c1e-film", "prompt": "A small boat leaves the harbour", "image": IMAGE}


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """A copy of the app: installed from its lock file, its types checked, built."""
    with installed(APP, "--ignore-scripts") as folder:
        run(folder, "npx", "--no-install", "tsc", "--noEmit")
        run(folder, "npx", "--no-install", "next", "build")
        yield folder


@asynccontextmanager
async def whole(folder: Path, database: str) -> AsyncIterator[tuple[World, httpx.AsyncClient]]:
    """Runway, Taxiway and the app, each on a socket; a client of the app that notes what a browser gets to see."""
    async with world(database) as w, on_sockets(w) as taxiway:
        with served(folder, free_port(), *START, TAXIWAY_URL=taxiway, TAXIWAY_API_KEY=API_KEY) as url:
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=ANSWER_SECONDS) as browser:
                yield w, browser


async def ask_for_a_film(page: Page, url: str, prompt: str) -> None:
    """Fill in the app's form, and send it."""
    await page.goto(url)
    await page.get_by_placeholder("What happens").fill(prompt)
    await page.get_by_placeholder("https://").fill(IMAGE)
    await page.get_by_role("button").click()


async def statuses(w: World) -> list[str]:
    """How the videos are, oldest first."""
    return [row["status"] for row in await w.rows("SELECT status FROM taxiway.videos ORDER BY created_at")]


async def test_a_film_goes_the_whole_round(built: Path, database_url: str) -> None:
    async with whole(built, database_url) as (w, browser):
        seen: list[httpx.Response] = []

        async def ask(method: str, path: str, **options: object) -> httpx.Response:
            seen.append(await browser.request(method, path, **options))  # type: ignore[arg-type]
            return seen[-1]

        assert "Make a video" in (await ask("GET", "/")).text
        queued = await ask("POST", "/api/videos", json=FILM)
        assert (queued.status_code, queued.json()["status"]) == (202, "queued")
        again = await ask("POST", "/api/videos", json=FILM)
        assert again.json() == queued.json()
        other = await ask("POST", "/api/videos", json=FILM | {"prompt": "Another boat"})
        assert (other.status_code, "Idempotency-Key" in other.json()["error"]) == (422, True)

        path = f"/api/videos/{queued.json()['id']}"
        early = await ask("GET", f"{path}/file")
        assert (early.status_code, "no file yet" in early.json()["error"]) == (409, True)
        for _ in range(12):
            video = (await ask("GET", path)).json()
            if video["status"] == "completed":
                break
            await w.later(minutes=1)
        assert video["status"] == "completed"
        assert len(w.creates) == 1
        assert (await ask("GET", "/api/cron")).status_code == 401
        assert (await ask("GET", "/api/cron", headers=CRON)).status_code == 200

        there = await ask("GET", f"{path}/file")
        assert there.status_code == 302
        async with httpx.AsyncClient(trust_env=False) as anyone:
            film = await anyone.get(there.headers["location"])
        assert (film.status_code, film.content[4:8]) == (200, b"ftyp")
        for name in ("..%2Fhealth", "7"):
            assert (await ask("GET", f"/api/videos/{name}")).status_code == 404
        for answer in seen:
            assert API_KEY not in answer.text + str(answer.headers)


async def test_with_one_tick_a_day_the_page_plays_its_film_and_the_tick_rescues_those_left(
    built: Path, database_url: str, chromium: Browser
) -> None:
    async with whole(built, database_url) as (w, app):
        page = await chromium.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        await ask_for_a_film(page, str(app.base_url), "x" * 5000)
        await expect(page.locator("[role=alert]:not([id])")).to_contain_text("promptText")
        await ask_for_a_film(page, str(app.base_url), "A small boat leaves the harbour")
        await expect(page.get_by_role("status")).to_have_text("processing")
        await expect(page.get_by_role("progressbar")).to_be_visible()

        left = await chromium.new_page()
        await ask_for_a_film(left, str(app.base_url), "A lantern goes out")
        await expect(left.get_by_role("status")).to_have_text("processing")
        await left.close()
        assert (await app.post("/api/videos", json=FILM)).status_code == 202

        await w.later(minutes=3)
        await expect(page.get_by_role("status")).to_have_text("completed")
        await page.wait_for_function("document.querySelector('video').currentTime > 0")
        assert [line for line in wrong if "Failed to load resource" not in line] == []  # the 422, and no icon
        assert await statuses(w) == ["completed", "processing", "queued"]
        assert not await w.rows("SELECT FROM taxiway.ticks")

        for day in (["completed", "completed", "processing"], ["completed", "completed", "completed"]):
            await w.later(hours=20)
            assert (await app.get("/api/cron", headers=CRON)).status_code == 200
            assert await statuses(w) == day
        assert len(w.creates) == 3
        await page.close()


def test_the_key_is_read_on_the_server_alone() -> None:
    reading = {path.name for path in APP.rglob("*.ts*") if "process.env" in path.read_text(encoding="utf-8")}
    on_client = {path.name for path in APP.rglob("*.ts*") if "use client" in path.read_text(encoding="utf-8")}
    assert reading == {"taxiway.ts", "route.ts"}
    assert on_client == {"page.tsx"}
    assert "taxiway" not in (APP / "app" / "page.tsx").read_text(encoding="utf-8")


def test_the_lock_names_no_place() -> None:
    lock = (APP / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    assert not re.search(r"registry|mirror", lock)
