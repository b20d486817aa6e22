"""The API of webhooks that go out: what was sent, sending it again, a test, and enabling an endpoint."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.responses import Response

from service.operations.redelivering import shown_url
from tests.pages import ADMIN_TOKEN, VIEWER_TOKEN, Control
from tests.receiving import HOOK, notifying
from tests.world import world

pytestmark = pytest.mark.anyio

OTHER = "https://other.example.com/services/T0123ABCD/secret-part-of-it-0?token=abc"


async def ask(site: Control, method: str, path: str, token: str = ADMIN_TOKEN, **more: Any) -> httpx.Response:
    return await site.world.anyone.request(method, path, headers={"authorization": f"Bearer {token}"}, **more)


async def deliveries(site: Control, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await ask(site, "GET", f"/deliveries{query}", VIEWER_TOKEN)).json()["deliveries"]
    return found


async def test_what_was_sent_and_answered_is_shown(database_url: str) -> None:
    async with notifying(database_url) as (site, app):
        app.answers = [Response("no room", status_code=503)]
        video = str(await site.world.enqueue())
        await site.world.finish()
        [row] = await deliveries(site, f"?video={video}")
        assert (row["state"], row["tries"], row["last"]["http_status"]) == ("due", 1, 503)
        assert row["next_attempt_at"] > row["created_at"]
        await site.world.later(seconds=6)
        await site.world.tick()
        shown = (await ask(site, "GET", f"/deliveries/{row['id']}", VIEWER_TOKEN)).json()
        assert [(one["http_status"], one["answer"]) for one in shown["attempts"]] == [(503, "no room"), (204, "")]
        assert (shown["state"], shown["next_attempt_at"], shown["last"]) == ("delivered", None, shown["attempts"][1])
        url, headers, body = app.got[-1]
        assert url == HOOK
        request = shown["request"]
        assert httpx.Response(200, text=request["body"]).json() == body
        assert request["headers"].items() <= headers.items()
        assert headers.keys() - request["headers"].keys() >= {"webhook-signature"}


async def test_the_list_is_filtered_and_paged(database_url: str) -> None:
    async with notifying(database_url, webhook_url=(HOOK, OTHER)) as (site, app):
        app.answers = [Response(status_code=410)]
        videos = [str(await site.world.enqueue()) for _ in range(3)]
        own = str(await site.world.enqueue(webhook_url="https://third.example.com/done"))
        await site.world.finish()
        every = await deliveries(site)
        assert [one["id"] for one in every] == sorted((one["id"] for one in every), reverse=True)
        assert {one["video_id"] for one in await deliveries(site, f"?video={videos[0]}")} == {videos[0]}
        assert [one["video_id"] for one in await deliveries(site, "?endpoint=0")] == [own]
        states = {one["state"] for one in await deliveries(site, "?state=disabled,failed")}
        assert states == {"disabled"}
        first = (await ask(site, "GET", "/deliveries?limit=2")).json()
        second = (await ask(site, "GET", f"/deliveries?limit=200&cursor={first['next']}")).json()
        assert first["deliveries"] + second["deliveries"] == every
        assert (len(first["deliveries"]), second["next"]) == (2, None)
        endpoint = every[-1]["endpoint_id"]
        assert {one["endpoint_id"] for one in await deliveries(site, f"?endpoint={endpoint}")} == {endpoint}
        for query in ("state=lost", "cursor=x", "endpoint=-1", "video=7", "limit=0", "color=red"):
            assert (await ask(site, "GET", f"/deliveries?{query}")).status_code == 422, query


async def test_a_delivery_is_sent_again_under_the_same_id(database_url: str) -> None:
    async with notifying(database_url) as (site, app):
        await site.world.enqueue()
        await site.world.finish()
        [row] = await deliveries(site)
        again = await ask(site, "POST", f"/deliveries/{row['id']}/replay")
        assert (again.status_code, again.json()["state"], len(again.json()["attempts"])) == (200, "delivered", 2)
        assert [headers["webhook-id"] for _, headers, _ in app.got] == [row["webhook_id"]] * 2
        assert app.got[0][2] == app.got[1][2]
        app.answers = [Response(status_code=500)]
        failed = (await ask(site, "POST", f"/deliveries/{row['id']}/replay")).json()
        assert (failed["state"], failed["tries"]) == ("due", 1)
        await site.world.later(seconds=6)
        await site.world.tick()
        assert [one["state"] for one in await deliveries(site)] == ["delivered"]


async def test_what_cannot_be_sent_again_says_why(database_url: str) -> None:
    async with notifying(database_url) as (site, _):
        erased = str(await site.world.enqueue(webhook_url="https://third.example.com/done"))
        await site.world.finish()
        [own] = await deliveries(site, "?endpoint=0")
        [endpoints] = [one for one in await deliveries(site) if one["endpoint_id"]]
        await site.world.rows("UPDATE taxiway.deliveries SET url = '' WHERE endpoint_id IS NULL")
        refused = await ask(site, "POST", f"/deliveries/{own['id']}/replay")
        assert (refused.status_code, "was erased" in refused.json()["detail"]) == (409, True), erased
        await site.world.rows("UPDATE taxiway.deliveries SET leased_until = taxiway.now() + interval '9 s'")
        busy = await ask(site, "POST", f"/deliveries/{endpoints['id']}/replay")
        assert (busy.status_code, "under way" in busy.json()["detail"]) == (409, True)
        await site.world.rows("UPDATE taxiway.deliveries SET leased_until = NULL")
        await site.world.rows("UPDATE taxiway.endpoints SET kind = 'listen'")
        laptop = await ask(site, "POST", f"/deliveries/{endpoints['id']}/replay")
        assert (laptop.status_code, "taxiway listen" in laptop.json()["detail"]) == (409, True)
        for unknown in ("12345", "x", "9" * 19, "9" * 5000):
            answer = await ask(site, "POST", f"/deliveries/{unknown}/replay")
            assert (answer.status_code, answer.json()["title"]) == (404, "There is no such delivery")
    async with world(database_url, admin_tokens=(ADMIN_TOKEN,)) as w:
        answer = await w.anyone.post("/deliveries/1/replay", headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
        assert (answer.status_code, answer.json()["missing"]) == (503, ["WEBHOOK_SECRETS"])


async def test_a_test_event_says_what_each_endpoint_answers(database_url: str) -> None:
    async with notifying(database_url, webhook_url=(HOOK, OTHER)) as (site, app):
        app.answers = [Response("fine"), Response("who are you?", status_code=401)]
        results = (await ask(site, "POST", "/webhooks/test")).json()["results"]
        assert sorted((one["delivered"], one["http_status"], one["answer"]) for one in results) == [
            (False, 401, "who are you?"), (True, 200, "fine"),
        ]  # fmt: skip
        assert app.events == ["webhook.test"] * 2
        assert app.got[0][2]["text"] == app.got[0][2]["data"]["text"]
        assert len({headers["webhook-id"] for _, headers, _ in app.got}) == 2
        assert "secret" not in str(results)
        rows = await deliveries(site)
        assert {(one["id"], one["state"]) for one in rows} == {
            (one["delivery_id"], "delivered" if one["delivered"] else "failed") for one in results
        }
        await site.world.later(days=1)
        await site.world.tick()
        assert len(app.got) == 2  # a test is not tried again
        one = (await ask(site, "POST", "/webhooks/test", json={"endpoint_id": results[0]["endpoint_id"]})).json()
        assert [result["endpoint_id"] for result in one["results"]] == [results[0]["endpoint_id"]]
        assert (await ask(site, "POST", "/webhooks/test", json={"endpoint_id": 999})).status_code == 404
    async with notifying(database_url, webhook_url=()) as (site, _):
        await site.world.tick()  # the settings name no endpoint any more
        nowhere = await ask(site, "POST", "/webhooks/test")
        assert (nowhere.status_code, nowhere.json()["missing"]) == (503, ["WEBHOOK_URL"])


async def test_an_endpoint_that_is_gone_is_enabled_again(database_url: str) -> None:
    async with notifying(database_url) as (site, app):
        app.answers = [Response(status_code=410)]
        await site.world.enqueue()
        await site.world.finish()
        [gone] = (await ask(site, "GET", "/webhooks", VIEWER_TOKEN)).json()["endpoints"]
        assert (gone["state"], gone["disabled_reason"], gone["url"]) == ("disabled", "it answered 410 Gone", HOOK)
        assert [one["state"] for one in await deliveries(site)] == ["disabled"]
        enabled = await ask(site, "POST", f"/webhooks/{gone['id']}/enable")
        assert (enabled.status_code, enabled.json()["state"]) == (200, "ok")
        assert [one["state"] for one in await deliveries(site)] == ["delivered"]  # by that very request
        assert app.events == ["video.completed"] * 2
        assert (await ask(site, "POST", "/webhooks/999/enable")).status_code == 404
        assert (await ask(site, "POST", "/webhooks/x/enable")).json()["title"] == "There is no such webhook endpoint"


async def test_an_endpoint_that_fails_says_since_when_and_what_waits(database_url: str) -> None:
    async with notifying(database_url) as (site, app):
        app.answers = [Response(status_code=500) for _ in range(6)]
        for _ in range(6):
            await site.world.enqueue()
        await site.world.finish()
        [failing] = (await ask(site, "GET", "/webhooks")).json()["endpoints"]
        assert (failing["state"], failing["last_error"], failing["waiting"]) == ("failing", "HTTP 500", 6)
        assert failing["failing_since"] is not None


async def test_only_an_operator_may_act(database_url: str) -> None:
    async with notifying(database_url) as (site, app):
        await site.world.enqueue()
        await site.world.finish()
        [row] = await deliveries(site)
        for path in (f"/deliveries/{row['id']}/replay", "/webhooks/test", "/webhooks/1/enable"):
            assert (await ask(site, "POST", path, VIEWER_TOKEN)).status_code == 401
            assert (await site.world.api.post(path)).status_code == 401
        assert len(app.got) == 1
        assert (await site.world.api.get("/deliveries")).status_code == 401


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (HOOK, HOOK),
        ("https://hooks.slack.com/services/T0123ABCD/B0123ABCD/abcdefghijklmnopqrstuvwx", "https://hooks.slack.com/services/…/…/…"),
        ("https://example.com/webhooks/done?token=1", "https://example.com/webhooks/done?…"),
        ("http://localhost:3000/hook#laptop", "http://localhost:3000/hook"),
        ("", ""),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_what_lets_one_post_there(url: str, shown: str) -> None:
    assert shown_url(url) == shown
