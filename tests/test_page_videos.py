"""The screens about videos: the live list, one video, the studio, and bulk."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from starlette.applications import Starlette

from service.app import create_app
from service.web.page import live
from tests.pages import HTMX, SITE, Browser, Control, check, control
from tests.world import IMAGE

pytestmark = pytest.mark.anyio


async def failed(c: Control, fault: str) -> UUID:
    c.world.faults(fault)
    video_id = await c.world.enqueue()
    await c.world.finish()
    return video_id


async def followed(
    c: Control, path: str, browser: Browser, steps: list[Any], headers: dict[str, str] | None = None, **state: Any
) -> list[tuple[str, str, str]]:
    """A live stream, read to its end: (event, id, data). After each look, the next of `steps` is done."""
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds
        if steps:
            await steps.pop(0)()

    ctx = replace(c.world.ctx, sleep=sleep, monotonic=lambda: clock[0])
    app: Starlette = create_app(ctx)
    for name, value in state.items():
        setattr(app.state, name, value)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url=SITE, cookies=browser.client.cookies
    ) as client:
        response = await client.get(path, headers=headers)
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in response.text.split("\r\n\r\n") if block.strip() and not block.startswith(":")]
    fields = [dict(line.partition(": ")[::2] for line in block.split("\r\n")) for block in blocks]
    return [(one.get("event", ""), one.get("id", ""), one.get("data", "")) for one in fields]


async def test_the_list_is_for_those_who_are_logged_in(database_url: str) -> None:
    async with control(database_url) as c:
        for path in ("/ui/videos", "/ui/studio", "/ui/bulk", f"/ui/videos/{uuid4()}", "/ui/videos/events"):
            assert (await c.anonymous.get(path)).status_code == 303
        assert "No video was created yet" in check(await c.viewer.get("/ui/videos"))


async def test_search_filters_and_failures_by_reason(database_url: str) -> None:
    async with control(database_url) as c:
        bad = await failed(c, "fail=ASSET.INVALID")
        await failed(c, "drop_after")
        good = await c.world.enqueue(input={"promptText": "a <zebra> & more", "promptImage": IMAGE})
        page = await c.admin.get("/ui/videos")
        words = check(page)
        assert "a <zebra> & more" in words
        assert "ASSET.INVALID" in words
        assert page.text.count('data-testid="video"') == 3
        # What may have been paid for is decided one by one.
        assert re.findall(r"/ui/bulk\?action=retry&amp;error_code=([A-Z._]+)", page.text) == ["ASSET.INVALID"]
        assert "/ui/bulk?action" not in (await c.viewer.get("/ui/videos")).text

        async def ids(query: str) -> list[str]:
            return re.findall(r'data-id="([0-9a-f-]+)"', (await c.viewer.get(f"/ui/videos?{query}")).text)

        assert await ids("q=zebra") == [str(good)]
        assert await ids("status=failed&error_code=ASSET.INVALID") == [str(bad)]
        assert await ids(f"q={bad}") == [str(bad)]
        assert "No video matches" in check(await c.viewer.get("/ui/videos?q=nothing"))
        assert "cannot be looked for" in check(await c.viewer.get("/ui/videos?status=odd&cursor=!"))


async def test_pages_go_forth_and_back(database_url: str) -> None:
    async with control(database_url) as c:
        ids = [str(await c.world.enqueue()) for _ in range(60)][::-1]
        path, seen = "/ui/videos?status=queued", []
        pages = []
        for _ in range(3):
            text = (await c.viewer.get(path)).text
            pages.append(re.findall(r'data-id="([0-9a-f-]+)"', text))
            older = re.search(r'href="([^"]+)" rel="next"', text)
            newer = re.search(r'href="([^"]+)" rel="prev"', text)
            seen.append((bool(newer), bool(older)))
            path = older[1].replace("&amp;", "&") if older else path
        assert [one for page in pages for one in page] == ids
        assert seen == [(False, True), (True, True), (True, False)]
        for number in (1, 0):
            newer = re.search(r'href="([^"]+)" rel="prev"', (await c.viewer.get(path)).text)
            assert newer
            path = newer[1].replace("&amp;", "&")
            assert re.findall(r'data-id="([0-9a-f-]+)"', (await c.viewer.get(path)).text) == pages[number]
        assert path == "/ui/videos?status=queued"


async def test_the_list_follows_and_sends_only_what_changed(database_url: str) -> None:
    async with control(database_url) as c:
        page = await c.viewer.get("/ui/videos")
        found = re.search(r'data-live="([^"]+)" data-seen="([^"]+)"', page.text)
        assert found
        path = f"{found[1]}?seen={found[2]}"

        async def nothing() -> None: ...

        async def enqueue() -> None:
            await c.world.enqueue()

        events = await followed(c, path, c.viewer, [nothing, enqueue, nothing])
        assert [event for event, _, _ in events] == ["begin", "parts"]
        parts = json.loads(events[1][2])
        assert list(parts) == ["found"]
        assert 'data-testid="video"' in parts["found"]
        # Whoever comes again says what they have; a new look adds nothing.
        again = await followed(c, "/ui/videos/events", c.viewer, [], headers={"last-event-id": events[1][1]})
        assert [event for event, _, _ in again] == ["begin"]
        refused = await c.viewer.get("/ui/videos/events?status=odd")
        assert refused.status_code == 422


async def test_a_stream_ends_when_the_server_stops_and_when_the_database_is_away(database_url: str) -> None:
    async with control(database_url) as c:
        looks: list[int] = []

        async def count() -> None:
            looks.append(1)

        await followed(c, "/ui/videos/events", c.viewer, [count] * 99)
        assert len(looks) == int(live.STREAM_SECONDS / live.REFRESH_SECONDS)
        looks.clear()
        await followed(c, "/ui/videos/events", c.viewer, [count] * 9, stopping=lambda: len(looks) >= 2)
        assert len(looks) == 2

        async def away() -> None:
            await c.world.rows("ALTER TABLE taxiway.videos RENAME TO gone")

        events = await followed(c, "/ui/videos/events", c.viewer, [away, count])
        assert [event for event, _, _ in events] == ["begin", "parts"]


async def test_one_video_tells_its_story_and_follows_to_its_end(database_url: str) -> None:
    async with control(database_url) as c:
        video_id = await c.world.enqueue(metadata={"order": 7})
        page = await c.viewer.get(f"/ui/videos/{video_id}")
        words = check(page)
        assert "a boat" in words
        assert "Queued." in words
        assert '"order": 7' in words
        assert 'data-testid="actions"' not in page.text
        path = f"/ui/videos/{video_id}/events"
        events = await followed(c, path, c.viewer, [c.world.tick, c.world.finish])
        assert [event for event, _, _ in events] == ["begin", "parts", "parts", "parts", "end"]
        assert "/media" in json.loads(events[-2][2])["state"]
        done = check(await c.viewer.get(f"/ui/videos/{video_id}"))
        assert "Paid once (25 credits)" in done
        assert "Runway took it as a task" in done
        assert "data-live" not in (await c.viewer.get(f"/ui/videos/{video_id}")).text
        assert (await c.viewer.get(f"/ui/videos/{uuid4()}")).status_code == 404
        assert (await c.viewer.get(f"/ui/videos/{uuid4()}/events")).status_code == 404


async def test_retry_with_consent_in_plain_words(database_url: str) -> None:
    async with control(database_url) as c:
        video_id = await failed(c, "drop_after")
        path = f"/ui/videos/{video_id}"
        words = check(await c.admin.get(path))
        assert "25 credits ($0.25) a second time" in words
        assert "Attach this task" in words
        refused = await c.admin.post(f"{path}/retry", part=True)
        assert (refused.status_code, refused.headers["hx-retarget"]) == (409, "#notice")
        assert (await c.viewer.post(f"{path}/retry", consent="yes")).status_code == 403
        done = await c.admin.post(f"{path}/retry", part=True, consent="yes")
        assert (done.status_code, done.headers["hx-redirect"]) == (204, path)
        assert (await c.world.row(video_id))["status"] == "queued"
        [entry] = await c.world.ledger(video_id)
        assert entry["consent"] == "operator"


async def test_cancel_and_attach(database_url: str) -> None:
    async with control(database_url) as c:
        unknown = await failed(c, "drop_after")
        [entry] = c.world.creates
        bad = await c.admin.post(f"/ui/videos/{unknown}/attach", task_id="")
        assert bad.status_code == 422
        assert (await c.admin.post(f"/ui/videos/{unknown}/attach", task_id=str(uuid4()))).status_code == 409
        attached = await c.admin.post(f"/ui/videos/{unknown}/attach", task_id=f" {entry.task_id} ")
        assert attached.status_code == 303
        assert (await c.world.row(unknown))["runway_video_id"] == entry.task_id
        again = await c.admin.post(f"/ui/videos/{unknown}/attach", task_id=entry.task_id)
        assert again.status_code == 303
        other = await c.world.enqueue()
        elsewhere = await c.admin.post(f"/ui/videos/{other}/attach", task_id=entry.task_id)
        assert elsewhere.status_code == 409
        assert "Cancel the video" in check(await c.admin.get(f"/ui/videos/{other}"))
        assert (await c.admin.post(f"/ui/videos/{other}/cancel")).status_code == 303
        assert (await c.world.row(other))["status"] == "cancelled"
        assert "Cancelled just now" in check(await c.admin.get(f"/ui/videos/{other}"))


TURBO: dict[str, Any] = {
    "what": "image_to_video gen4_turbo",
    "f.promptText": "a boat",
    "f.promptImage": IMAGE,
    "f.ratio": "1280:720",
}
SENT = TURBO | {"f.duration": "10", "f.seed": "7", "f.contentModeration.publicFigureThreshold": "low"}


async def test_the_studio_shows_the_fields_of_each_model(database_url: str) -> None:
    async with control(database_url) as c:
        page = await c.admin.get("/ui/studio")
        words = check(page)
        assert "1 to 1,000 characters" in words
        assert 'name="f.duration" min="2" max="10" step="1" value="5"' in page.text
        fields = await c.admin.client.get(
            "/ui/studio", params={"what": "text_to_video gen4.5", "f.promptText": "typed"}, headers=HTMX
        )
        assert "promptImage" not in fields.text
        assert "typed" in fields.text
        assert "only with outputFormat prores or hdr_prores" in check(fields)
        assert "You have read-only access." in check(await c.viewer.get("/ui/studio"))
        odd = await c.admin.get("/ui/studio?what=nonsense")
        assert odd.status_code == 200


async def test_a_price_as_one_types(database_url: str) -> None:
    async with control(database_url) as c:

        async def quoted(**fields: Any) -> str:
            return check(await c.admin.post("/ui/studio/quote", part=True, **fields))

        assert "50 credits" in await quoted(**SENT)
        assert "$0.50" in await quoted(**SENT)
        assert "Seconds must be a whole number from 2 to 10" in await quoted(**SENT | {"f.duration": "11"})
        assert "Seconds must be a whole number" in await quoted(**SENT | {"f.duration": "2.5"})
        assert "Image Add an image: paste a link or choose a file." in await quoted(**SENT | {"f.promptImage": ""})
        assert "50 credits" in await quoted(**SENT | {"f.promptImage": "", "image_has_file": "data:image/png"})
        assert "metadata is not JSON" in await quoted(**SENT | {"metadata": "{"})
        assert "priority" in await quoted(**SENT | {"priority": "1000"})
        assert "choose a model" in await quoted(what="x y")


async def test_what_the_studio_queues(database_url: str) -> None:
    async with control(database_url) as c:
        response = await c.admin.post("/ui/studio", **SENT | {"priority": "5", "metadata": '{"order": 1}'})
        assert response.status_code == 303
        row = await c.world.row(UUID(response.headers["location"].rpartition("/")[2]))
        assert json.loads(row["input"]) == {
            "model": "gen4_turbo", "promptText": "a boat", "promptImage": IMAGE, "ratio": "1280:720", "duration": 10,
            "seed": 7, "contentModeration": {"publicFigureThreshold": "low"},
        }  # fmt: skip
        assert (row["priority"], json.loads(row["metadata"])) == (5, {"order": 1})
        uri = "data:image/png;base64,iVBORw0KGgo="
        sent = await c.admin.post("/ui/studio", part=True, **TURBO | {"f.promptImage": "", "image_data": uri})
        video_id = sent.headers["hx-redirect"].rpartition("/")[2]
        # Edit and resubmit: the image inside is kept without being sent to and fro.
        again = await c.admin.get(f"/ui/studio?from={video_id}")
        assert "a boat" in check(again)
        assert "base64" not in again.text
        kept = await c.admin.post("/ui/studio", **TURBO | {"f.promptImage": "", "image_from": video_id})
        row = await c.world.row(UUID(kept.headers["location"].rpartition("/")[2]))
        assert json.loads(row["input"])["promptImage"] == uri
        assert (await c.admin.post("/ui/studio", **TURBO | {"f.duration": "99"})).status_code == 422
        assert (await c.viewer.post("/ui/studio", **SENT)).status_code == 403
        assert (await c.admin.get("/ui/studio?from=x")).status_code == 404


async def test_bulk_counts_first_and_goes_on_until_none_is_left(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.web.page import bulk

    monkeypatch.setattr(bulk, "BATCH", 2)
    async with control(database_url) as c:
        for _ in range(5):
            await c.world.enqueue()
        await c.world.rows(
            "UPDATE taxiway.videos SET status = 'failed', error_code = 'EXPIRED', finished_at = now() - interval '1 h'"
        )
        page = await c.admin.get("/ui/bulk?action=retry&error_code=EXPIRED")
        assert "5 videos match" in check(page)
        assert (await c.world.rows("SELECT count(*) FROM taxiway.videos WHERE status = 'failed'"))[0][0] == 5
        rounds = []
        text = page.text
        hidden = r'<input type="hidden" name="(\w+)" value="([^"]*)">'
        while fields := dict(re.findall(hidden, text[text.index('id="bulk"') :])):
            response = await c.admin.post("/ui/bulk/batch", part=True, **fields)
            text = response.text
            check(response)
            rounds.append(re.search(r'max="(\d+)" value="(\d+)"', text)[0])  # type: ignore[index]
        assert rounds == ['max="5" value="2"', 'max="5" value="4"', 'max="5" value="5"']
        assert "Done" in text
        assert "There is nothing to do" in check(await c.admin.get("/ui/bulk?action=retry"))
        viewer = await c.viewer.get("/ui/bulk?action=cancel")
        assert "5 videos match" in check(viewer)
        assert "You have read-only access." in check(viewer)
        assert (await c.viewer.post("/ui/bulk/batch", action="cancel")).status_code == 403
        assert (await c.admin.post("/ui/bulk/batch", action="burn")).status_code == 422
        cancelled = await c.admin.post("/ui/bulk/batch", part=True, action="cancel", total="5", q="boat")
        assert "2 of 5 videos cancelled" in check(cancelled)
        assert "created_after" in check(await c.admin.get("/ui/bulk?action=retry&created_after=soon"))
