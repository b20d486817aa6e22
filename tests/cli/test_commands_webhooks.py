"""`webhooks`, `deliveries` and `listen`: what goes out, as the command line shows and sends it."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from starlette.responses import Response

from tests.commands import command
from tests.invoking import complaint, printed, taxiway, terminal
from tests.receiving import HOOK, SECRET, App, notifying
from tests.simulator_server import on_socket
from tests.world import RUNWAY_KEY, world

pytestmark = pytest.mark.anyio

# Commands send by themselves, and not to an app in this process.
LOCAL = {"WEBHOOK_SECRETS": SECRET, "WEBHOOK_PRIVATE_HOSTS": "127.0.0.1"}


class TestWebhooks:
    """The endpoints."""

    async def test_they_are_listed_tested_and_enabled(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        app = App()
        async with on_socket(app) as url:
            hook = f"{url}/hook"
            changes = {"webhook_url": (hook,), "webhook_private_hosts": ("127.0.0.1",)}
            async with notifying(database_url, **changes) as (site, inside):
                inside.answers = [Response(status_code=410)]
                await site.world.enqueue()
                await site.world.finish()
            [row] = printed(await taxiway(database_url, "webhooks"))
            assert (row["state"], row["url"]) == ("disabled", hook)
            with terminal(monkeypatch):
                assert "it answered 410 Gone" in (await taxiway(database_url, "webhooks")).stdout
            assert "set WEBHOOK_URL" in complaint(await taxiway(database_url, "webhooks", "test", **LOCAL))
            [enabled] = printed(await taxiway(database_url, "webhooks", "enable", row["id"]))
            assert (enabled["state"], enabled["waiting"]) == ("ok", 1)
            [tested] = printed(await taxiway(database_url, "webhooks", "test", **LOCAL))
            assert (tested["delivered"], tested["http_status"]) == (True, 204)
            assert app.events == ["webhook.test"]
            app.answers = [Response(status_code=500)]
            refused = await taxiway(database_url, "webhooks", "test", row["id"], **LOCAL)
            assert (refused.exit_code, json.loads(refused.stdout)["http_status"]) == (1, 500)

    async def test_what_is_not_understood(self, database_url: str) -> None:
        for words, hint in [
            (("webhooks", "enable"), "say which"),
            (("webhooks", "list", "3"), "is for `test` and `enable`"),
            (("webhooks", "burn"), "burn"),
            (("deliveries", "replay"), "say which"),
            (("deliveries", "019abc00", "3"), "is for `show` and `replay`"),
            (("deliveries", "no-id"), "is no id"),
            (("listen", HOOK, "--event", "video.burnt"), "is no event"),
        ]:
            result = await taxiway(database_url, *words)
            assert (result.exit_code, hint in result.stderr) == (2, True), (words, result.stderr)
        assert "no webhook endpoint has the id 7" in complaint(await taxiway(database_url, "webhooks", "enable", 7))
        assert "no delivery has the id 7" in complaint(await taxiway(database_url, "deliveries", "show", 7))


class TestDeliveries:
    """What was sent."""

    async def test_they_are_listed_and_shown(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        async with notifying(database_url) as (site, app):
            app.answers = [Response("no room", status_code=503)]
            video, other = str(await site.world.enqueue()), str(await site.world.enqueue())
            await site.world.finish()
        rows = printed(await taxiway(database_url, "deliveries"))
        assert sorted(row["video_id"] for row in rows) == sorted((video, other))
        assert [row["video_id"] for row in printed(await taxiway(database_url, "deliveries", video))] == [video]
        [due] = printed(await taxiway(database_url, "deliveries", "--state", "due"))
        assert (due["last"]["http_status"], due["last"]["answer"]) == (503, "no room")
        assert printed(await taxiway(database_url, "deliveries", "--endpoint", "0")) == []
        [shown] = printed(await taxiway(database_url, "deliveries", "show", due["id"]))
        assert json.loads(shown["request"]["body"])["data"]["id"] == due["video_id"]
        with terminal(monkeypatch):
            table = (await taxiway(database_url, "deliveries")).stdout
            assert "503 in" in table
            assert due["video_id"] in table
            report = (await taxiway(database_url, "deliveries", "show", due["id"])).stdout
            assert "no room" in report
            assert '"type": "video.completed"' in report

    async def test_one_is_sent_again(self, database_url: str) -> None:
        app = App(answers=[Response(status_code=500)])
        async with on_socket(app) as url:
            changes = {"webhook_url": (f"{url}/hook",), "webhook_private_hosts": ("127.0.0.1",)}
            async with notifying(database_url, **changes) as (site, inside):
                await site.world.enqueue()
                await site.world.finish()
                [(_, headers, body)] = inside.got
            [row] = printed(await taxiway(database_url, "deliveries"))
            failed = await taxiway(database_url, "deliveries", "replay", row["id"], **LOCAL)
            assert (failed.exit_code, json.loads(failed.stdout)["state"]) == (1, "due")
            [again] = printed(await taxiway(database_url, "deliveries", "replay", row["id"], **LOCAL))
            assert (again["state"], len(again["attempts"])) == ("delivered", 3)
            assert app.got[-1][1]["webhook-id"] == headers["webhook-id"]
            assert app.got[-1][2] == body


async def ask(database_url: str, sql: str) -> list[Any]:
    async with world(database_url) as w:
        return await w.rows(sql)


class TestListen:
    """An app on a laptop gets what the others get."""

    async def test_every_event_comes_until_it_ends(self, database_url: str, tmp_path: Path) -> None:
        app = App(answers=[Response(status_code=500)])
        given = {"DATABASE_URL": database_url, "RUNWAYML_API_SECRET": RUNWAY_KEY}
        async with on_socket(app) as url:
            with command(tmp_path, "listen", f"{url}/hook", **given) as listener:
                await anyio.to_thread.run_sync(listener.wait_for, "sending webhooks to")
                secret = listener.log.partition("signed with ")[2].partition(";")[0]
                assert secret.startswith("whsec_")
                async with world(database_url) as w:
                    video = await w.enqueue()
                    await w.tick()
                    await anyio.to_thread.run_sync(listener.wait_for, '"event": "video.processing"')
                    await w.api.post(f"/videos/{video}/cancel")
                    await w.later(seconds=6)
                    await anyio.to_thread.run_sync(listener.wait_for, '"event": "video.cancelled"')
                    assert await w.rows("SELECT FROM taxiway.endpoints WHERE kind = 'listen'")
                end = partial(listener.end, signal.SIGINT)
                assert await anyio.to_thread.run_sync(end) == 0
                assert "Traceback" not in listener.log
        assert (app.events[0], app.events[-1]) == ("video.processing", "video.cancelled")
        assert [json.loads(line)["result"] for line in listener.said.splitlines()][-1] == "delivered"
        assert await ask(database_url, "SELECT FROM taxiway.endpoints WHERE kind = 'listen'") == []
        assert await ask(database_url, "SELECT FROM taxiway.deliveries WHERE state = 'due'") == []

    async def test_one_that_died_is_forgotten_by_the_next_tick(self, database_url: str) -> None:
        async with notifying(database_url, webhook_url=()) as (site, app):
            w = site.world
            await w.rows(
                "INSERT INTO taxiway.endpoints (kind, url, events, listen_until) VALUES "
                "('listen', 'http://localhost:1/a', '{video.completed}', taxiway.now() + interval '3 min')"
            )
            first = await w.enqueue()
            await w.finish()
            [row] = await w.rows("SELECT video_id, state FROM taxiway.deliveries")
            assert (row["video_id"], row["state"]) == (first, "due")  # ticks leave it to the laptop
            await w.later(minutes=4)
            await w.tick()
            assert [row["state"] for row in await w.rows("SELECT state FROM taxiway.deliveries")] == ["superseded"]
            assert await w.rows("SELECT FROM taxiway.endpoints") == []
            assert app.got == []

    @pytest.mark.parametrize("url", ["ftp://localhost/a", "http://user@localhost/a", "nowhere", "http:///a"])
    async def test_what_is_no_address_is_refused(self, database_url: str, url: str) -> None:
        assert "the address" in complaint(await taxiway(database_url, "listen", url))
