"""A web process on a database that only reads, such as a replica: it shows everything, and says 503 to the rest."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from service.app import create_app
from tests.database import execute
from tests.world import API_KEY, IMAGE, World, world

pytestmark = pytest.mark.anyio

TOKEN = "admin-token-for-tests-1"
VIDEO = {"input": {"promptText": "a boat", "promptImage": IMAGE}}


async def reader(w: World, **changes: object) -> httpx.AsyncClient:
    """A client of another process, whose database takes no writes."""
    name = w.url.partition("?")[0].rpartition("/")[2]
    await execute(w.url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await w.ctx.database.close()
    ctx = replace(w.ctx, settings=w.ctx.settings.model_copy(update=changes))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app(ctx)), base_url="https://taxiway.test")


async def test_all_that_only_reads_works_without_a_runway_key(database_url: str) -> None:
    async with world(database_url, admin_tokens=(TOKEN,)) as w:
        done = await w.enqueue()
        await w.finish()
        running = await w.enqueue()
        await w.tick()
        await w.later(minutes=1)
        async with await reader(w, runway_key=None) as client:
            client.headers["authorization"] = f"Bearer {TOKEN}"
            for path in (
                "/videos", "/videos?q=boat", f"/videos/{done}", f"/videos/{running}", f"/videos/{done}/events",
                f"/videos/{done}/submissions", "/health", "/health/ready", "/stats", "/models", "/ticks", "/metrics",
            ):  # fmt: skip
                assert (await client.get(path)).status_code == 200, path
            assert (await client.get(f"/videos/{done}/file")).status_code == 302
            assert (await client.post("/login", data={"token": TOKEN})).status_code == 303
            del client.headers["authorization"]
            for path in (
                "/", "/ui/overview/state", "/ui/overview/plots", "/ui/ticks", "/ui/ticks/list", "/ui/models",
                "/ui/models/list",
                "/ui/videos", f"/ui/videos/{done}", f"/ui/videos/{running}", "/ui/studio",
            ):  # fmt: skip
                assert (await client.get(path)).status_code == 200, path


async def test_what_would_write_says_that_it_cannot(w: World) -> None:
    video_id = await w.enqueue()
    async with await reader(w) as client:
        client.headers["authorization"] = f"Bearer {API_KEY}"
        answers = [await client.post("/videos", json=VIDEO), await client.get(f"/videos/{video_id}")]
        answers.append(await client.post(f"/videos/{video_id}/cancel"))
    assert [(one.status_code, "retry-after" in one.headers) for one in answers] == [(503, True)] * 3
