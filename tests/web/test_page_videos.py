"""The screens about videos: the live list, one video, and the studio."""

from __future__ import annotations

import base64
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
    assert fields[0]["event"] == "begin"
    assert any(one["event"] == "beat" for one in fields) or len(fields) > 1, "a browser hears that it is live"
    found = [(one.get("event", ""), one.get("id", ""), one.get("data", "")) for one in fields]
    return [one for one in found if one[0] != "beat"]


async def test_the_list_is_for_those_who_are_logged_in(database_url: str) -> None:
    async with control(database_url) as c:
        for path in ("/ui/videos", "/ui/studio", f"/ui/videos/{uuid4()}", "/ui/videos/events"):
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
        assert page.text.count(" data-select>") == 3
        assert "data-select" not in (await c.viewer.get("/ui/videos")).text
        assert "failed 2 cancelled 0" in words

        async def ids(query: str) -> list[str]:
            return re.findall(r'data-id="([0-9a-f-]+)"', (await c.viewer.get(f"/ui/videos?{query}")).text)

        async def reasons(query: str) -> list[tuple[str, str]]:
            text = check(await c.viewer.get(f"/ui/videos?{query}"))
            return re.findall(r"([A-Z_.]{9,}) (\d+)(?= [A-Z_.]{9,}| Videos, newest)", text)

        assert await reasons("") == [("ASSET.INVALID", "1"), ("SUBMISSION_UNKNOWN", "1")]
        assert await reasons(f"q={bad}") == [("ASSET.INVALID", "1")]
        assert await reasons("model=gen4.5") == await reasons("q=zebra") == await reasons("status=completed") == []
        tabs = check(await c.viewer.get("/ui/videos?q=zebra&status=failed"))
        assert "queued 1 processing 0 completed 0 failed 0 cancelled 0" in tabs
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
        assert [event for event, _, _ in events] == ["begin", "parts", "parts"]
        assert [list(json.loads(data)) for _, _, data in events[1:]] == [["found"], ["tabs"]], "counts come less often"
        assert 'data-testid="video"' in json.loads(events[1][2])["found"]
        # Whoever comes again says what they have; a new look adds nothing.
        again = await followed(c, "/ui/videos/events", c.viewer, [], headers={"last-event-id": events[-1][1]})
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
        assert [event for event, _, _ in events] == ["begin", "parts", "parts", "parts"]
        assert "/media" in json.loads(events[-1][2])["state"]
        done = check(await c.viewer.get(f"/ui/videos/{video_id}"))
        assert "Paid once (25 credits, $0.25)" in done
        assert "Runway took it as a task" in done
        assert re.search(r"<h1[^>]*>a boat</h1>", page.text)
        assert (await c.viewer.get(f"/ui/videos/{uuid4()}")).status_code == 404
        assert (await c.viewer.get(f"/ui/videos/{uuid4()}/events")).status_code == 404


async def test_the_page_of_an_ended_video_follows_what_others_do_to_it(database_url: str) -> None:
    async with control(database_url) as c:
        video_id = await failed(c, "fail=ASSET.INVALID")

        async def retry() -> None:
            assert (await c.world.api.post(f"/videos/{video_id}/retry")).status_code == 202

        events = await followed(c, f"/ui/videos/{video_id}/events", c.viewer, [retry])
        states = [json.loads(data)["state"] for event, _, data in events if event == "parts"]
        assert [re.findall(r'data-status="(\w+)"', state)[0] for state in states[:2]] == ["failed", "queued"]


async def test_a_cost_is_paid_a_bound_or_a_quote(database_url: str) -> None:
    async with control(database_url) as c:
        await failed(c, "drop_after")
        await failed(c, "status=400")
        await c.world.enqueue()
        await c.world.finish()
        await c.world.enqueue()
        text = (await c.viewer.get("/ui/videos")).text
        assert re.findall(r'data-cost="(\w+)"', text) == ["quoted", "paid", "paid", "at_most"]
        assert "quote 25 $0.25" in check(await c.viewer.get("/ui/videos?status=queued"))
        assert "25 $0.25" in check(await c.viewer.get("/ui/videos?status=completed"))
        assert "up to 25 $0.25" in check(await c.viewer.get("/ui/videos?error_code=SUBMISSION_UNKNOWN"))
        assert "0 $0.00" in check(await c.viewer.get("/ui/videos?error_code=REJECTED"))


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
        await c.world.later(minutes=3)
        assert "Cancelled 3 min ago" in check(await c.admin.get(f"/ui/videos/{other}"))


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
        assert "50 credits" in await quoted(**SENT | {"f.promptImage": "", "has.f.promptImage": "data:image/png"})
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
        sent = await c.admin.post("/ui/studio", part=True, **TURBO | {"f.promptImage": "", "file.f.promptImage": uri})
        video_id = sent.headers["hx-redirect"].rpartition("/")[2]
        # Edit and resubmit: the image inside is kept without being sent to and fro.
        again = await c.admin.get(f"/ui/studio?from={video_id}")
        assert "a boat" in check(again)
        assert "base64" not in again.text
        kept = await c.admin.post("/ui/studio", **TURBO | {"f.promptImage": "", "source": video_id})
        row = await c.world.row(UUID(kept.headers["location"].rpartition("/")[2]))
        assert json.loads(row["input"])["promptImage"] == uri
        assert (await c.admin.post("/ui/studio", **TURBO | {"f.duration": "99"})).status_code == 422
        assert (await c.viewer.post("/ui/studio", **SENT)).status_code == 403
        assert (await c.admin.get("/ui/studio?from=x")).status_code == 404


async def test_a_video_that_may_have_been_charged_is_made_again_with_consent_alone(database_url: str) -> None:
    async with control(database_url) as c:
        source = str(await failed(c, "drop_after"))
        again = SENT | {"source": source}
        quoted = check(await c.admin.post("/ui/studio/quote", part=True, **again))
        assert "it was charged (up to 25 credits ($0.25)), and this one is paid as well" in quoted
        for given in ({}, {"consent": "no"}):
            refused = await c.admin.post("/ui/studio", part=True, **again | given)
            assert (refused.status_code, refused.headers["hx-retarget"]) == (409, "#notice")
            assert "may be paid a second time" in check(refused)
        assert len(await c.world.rows("SELECT FROM taxiway.videos")) == 1
        assert "checked" in (await c.admin.post("/ui/studio/quote", part=True, **again, consent="yes")).text
        made = await c.admin.post("/ui/studio", **again | {"consent": "yes"})
        new = made.headers["location"].rpartition("/")[2]
        [event] = await c.world.rows("SELECT * FROM taxiway.events WHERE kind = 'made_again'")
        assert (str(event["video_id"]), json.loads(event["detail"])) == (source, {"video": new})
        assert f"Made again as {new}" in check(await c.viewer.get(f"/ui/videos/{source}"))
        # The consent was for one more video: a retry of the first needs its own.
        assert (await c.admin.post(f"/ui/videos/{source}/retry", part=True)).status_code == 409
        # What Runway never had needs none.
        rejected = str(await failed(c, "status=400"))
        assert "second-payment" not in (await c.admin.post("/ui/studio/quote", **SENT | {"source": rejected})).text
        assert (await c.admin.post("/ui/studio", **SENT | {"source": rejected})).status_code == 303


@pytest.mark.parametrize("content", [b"just a text", b"<svg/>", b"GIF89a" + bytes(30)])
async def test_what_is_no_image_is_refused_whatever_it_is_called(database_url: str, content: bytes) -> None:
    async with control(database_url) as c:
        uri = "data:image/png;base64," + base64.b64encode(content).decode()
        refused = await c.admin.post(
            "/ui/studio", part=True, **TURBO | {"f.promptImage": "", "file.f.promptImage": uri}
        )
        assert refused.status_code == 422
        assert "is no JPEG, PNG or WebP image" in check(refused)


def test_a_relative_time_alone_is_no_change() -> None:
    one, other = ({"a": f'<p>{words} <time title="x">{ago}</time></p>'} for words, ago in (("a", "1 s"), ("a", "2 s")))
    assert live.version(one) == live.version(other) != live.version({"a": one["a"].replace("<p>a", "<p>b")})


async def test_a_group_its_warnings_and_its_files_are_shown(database_url: str) -> None:
    async with control(database_url) as c:
        w = c.world
        body = {"input": {"promptText": "a boat", "promptImage": IMAGE, "seed": 7}, "count": 2, "fps": 24}
        group = (await w.api.post("/videos", json=body)).json()
        alone = await w.enqueue()
        await w.finish()
        second = group["videos"][1]["id"]
        urls = json.dumps([f"https://a.test/{second}.zip", f"https://a.test/{second}.wav"])
        await w.rows("UPDATE taxiway.videos SET output = $1::jsonb WHERE id = $2", urls, UUID(second))
        answer = await c.viewer.get(f"/ui/videos/{second}")
        words, page = check(answer), answer.text
        assert f'href="/ui/videos?group={group["group"]}"' in page
        assert "fps: gen4_turbo in image_to_video has no fps: it is not sent." in words
        assert "this one has that of the first plus 1." in words
        assert all(f'data-copy="https://a.test/{second}.{ending}"' in page for ending in ("zip", "wav"))
        assert f'href="/ui/videos/{second}/media" download="{second}.zip"' in page
        assert f'<audio controls preload="metadata" src="/ui/videos/{second}/media?output=2"' in page
        answer = await c.viewer.get(f"/ui/videos?group={group['group']}")
        words, listed = check(answer), answer.text
        assert f"group: {group['group']}" in words
        assert all(video["id"] in listed for video in group["videos"])
        assert str(alone) not in listed
        other = (await c.viewer.get(f"/ui/videos/{alone}")).text
        assert not any(f'data-testid="{part}"' in other for part in ("group", "warning"))
        refused = await c.viewer.get("/ui/videos?group=all")
        assert "group" in refused.text
