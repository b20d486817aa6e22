"""The AI SDK makes films through a provider: plain, and durable in a run that sleeps until Taxiway's webhook."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.node import installed, on_sockets, run, served
from tests.ports import free_port
from tests.world import API_KEY, CRON_SECRET, IMAGE, World, world

pytestmark = [pytest.mark.anyio, pytest.mark.node]

APP = Path(__file__).parents[1] / "aisdk"
SECRET = "whsec_" + b64encode(b"of the webhooks that go out").decode()
FILM = {"prompt": "A small boat leaves the harbour", "image": IMAGE}
ANSWER_SECONDS = 60
UNDER_WAY = "SELECT FROM taxiway.videos WHERE status IN ('queued', 'processing')"
OWN_DELIVERIES = "SELECT tries FROM taxiway.deliveries WHERE endpoint_id IS NULL AND state = 'delivered' ORDER BY id"


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    """A copy of the app: installed from its lock file, its types checked, its workflow bundled."""
    with installed(APP, "--ignore-scripts") as folder:
        run(folder, "npm", "run", "build")
        yield folder


@dataclass
class Setup:
    """Runway, Taxiway and the app, each on a socket."""

    w: World
    app: httpx.AsyncClient
    taxiway: str

    async def film(self, path: str, **changes: Any) -> asyncio.Task[httpx.Response]:
        """Ask the app for a film; the request to come, once it has a video."""
        film = asyncio.create_task(self.app.post(path, json=FILM | changes))
        await self.until(film, UNDER_WAY)
        return film

    async def until(self, film: asyncio.Task[httpx.Response], query: str) -> None:
        """Wait until the database has such a row. An answer before that is the app's error."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while not await self.w.rows(query):
                done, _ = await asyncio.wait({film}, timeout=0.1)
                assert not done, film.result().text

    async def tick(self) -> None:
        """One call of the cron."""
        headers = {"Authorization": f"Bearer {CRON_SECRET}"}
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS) as cron:
            answer = await cron.post(f"{self.taxiway}/process-queued", headers=headers)
        assert "errors" not in answer.json(), answer.text


@pytest.fixture
async def setup(built: Path, database_url: str) -> AsyncIterator[Setup]:
    """The app as it listens to its own webhook, besides those of its runs."""
    port = free_port()
    webhooks: dict[str, Any] = {
        "webhook_url": (f"http://localhost:{port}/received",),
        "webhook_secrets": (SECRET,),
        "webhook_private_hosts": ("localhost",),
    }
    async with world(database_url, **webhooks) as w, on_sockets(w) as taxiway:
        settings = {"TAXIWAY_URL": taxiway, "TAXIWAY_API_KEY": API_KEY, "WEBHOOK_SECRET": SECRET}
        with served(built, port, "node", "server.ts", **settings) as url:
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=ANSWER_SECONDS) as app:
                yield Setup(w, app, taxiway)


async def test_a_plain_call_polls_until_there_is_a_film(setup: Setup) -> None:
    film = await setup.film("/plain")
    await setup.until(film, "SELECT FROM taxiway.videos WHERE status = 'processing'")
    await setup.w.later(minutes=3)
    answer = await film
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert (made["mediaType"], made["bytes"] > 1000) == ("video/mp4", True)
    assert len(setup.w.creates) == 1
    assert not await setup.w.rows("SELECT FROM taxiway.ticks")


async def test_a_durable_run_sleeps_until_the_webhook_also_if_the_first_delivery_is_lost(setup: Setup) -> None:
    for lost in (0, 1):
        film = await setup.film("/durable", lost=lost)
        await setup.tick()
        await setup.w.later(minutes=1)
        await setup.tick()
        for _ in range(lost):
            assert not film.done()
            await setup.w.later(seconds=20)
            await setup.tick()
        answer = await film
        assert answer.status_code == 200, answer.text
        [video] = answer.json()["videos"]
        assert video["mediaType"] == "video/mp4"
        assert [warning["feature"] for warning in answer.json()["warnings"]] == ["fps"]
    assert [row["tries"] for row in await setup.w.rows(OWN_DELIVERIES)] == [1, 2]
    assert len(setup.w.creates) == 2


async def test_openai_and_standardwebhooks_verify_what_is_delivered(setup: Setup) -> None:
    video_id = await setup.w.enqueue()
    await setup.tick()
    await setup.w.later(minutes=3)
    await setup.tick()
    [event] = (await setup.app.get("/verified")).json()
    assert (event["type"], event["data"]["id"]) == ("video.completed", str(video_id))
