"""Files and images through this host: what is fetched, from where, and above all from where not."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.web.page import media
from tests.pages import Control, control
from tests.resolving import resolving

pytestmark = pytest.mark.anyio

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


async def test_an_image_of_the_inner_network_is_never_asked_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def accept(reader: Any, writer: Any) -> None:
        asked.append("somebody came")
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    resolving(monkeypatch, "127.0.0.1")
    async with server, control(database_url) as c:
        for url in ("https://inner.example.com/a.jpg", "https://example.com/x.png"):
            video_id = await c.world.enqueue(input={"promptText": "a boat", "promptImage": url})
            shown = await c.admin.get(f"/ui/videos/{video_id}/image")
            assert (shown.status_code, shown.headers["content-type"]) == (200, "image/svg+xml")
    assert asked == []


async def test_images_of_data_uris_and_placeholders(database_url: str) -> None:
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    async with control(database_url) as c:
        first = [{"uri": uri, "position": "first"}]
        for given in (uri, first):
            video_id = await c.world.enqueue(input={"promptText": "a boat", "promptImage": given})
            shown = await c.viewer.get(f"/ui/videos/{video_id}/image")
            assert (shown.content, shown.headers["content-type"]) == (PNG, "image/png")
            assert "sandbox" in shown.headers["content-security-policy"]
            assert shown.headers["x-content-type-options"] == "nosniff"
        for odd in (
            "data:text/html;base64,PHA+",
            "data:image/png;base64,!",
            "data:image/svg+xml,<svg/>",
            "runway://x",
            "",
        ):
            await c.world.rows(
                "UPDATE taxiway.videos SET input = jsonb_build_object('promptImage', $2::text) WHERE id = $1",
                video_id,
                odd,
            )
            shown = await c.viewer.get(f"/ui/videos/{video_id}/image")
            assert (shown.status_code, shown.headers["content-type"]) == (200, "image/svg+xml")
        assert (await c.anonymous.get(f"/ui/videos/{video_id}/image")).status_code == 303
        assert (await c.viewer.get("/ui/videos/x/image")).status_code == 404


Answering = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answering], list[httpx.Request]]:
    """Replaces every host but Runway's own."""

    def use(answer: Answering) -> list[httpx.Request]:
        seen: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return answer(request)

        monkeypatch.setattr(media, "_transport", lambda is_own: httpx.MockTransport(handle))
        return seen

    return use


class Body(httpx.AsyncByteStream):
    """A body that comes piece by piece, or never ends."""

    def __init__(self, content: bytes, *, endless: bool = False) -> None:
        self.content, self.endless = content, endless

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content
        while self.endless:
            yield self.content


ENDLESS = Body(b"x" * 1_000_000, endless=True)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(200, headers={"content-type": "image/webp; q=1"}, stream=Body(b"RIFF")), "image/webp"),
        (httpx.Response(200, headers={"content-type": "image/svg+xml"}, content=b"<svg/>"), "image/svg+xml"),
        (httpx.Response(200, headers={"content-type": "text/html"}, content=b"<p>"), "image/svg+xml"),
        (httpx.Response(302, headers={"location": "https://127.0.0.1/"}), "image/svg+xml"),
        (httpx.Response(404, headers={"content-type": "image/png"}, content=PNG), "image/svg+xml"),
        (
            httpx.Response(200, headers={"content-type": "image/png"}, stream=Body(b"x" * 1_000_000, endless=True)),
            "image/svg+xml",
        ),
    ],
)
async def test_only_images_of_a_sane_size_are_passed_on(
    database_url: str, upstream: Any, answer: httpx.Response, kind: str
) -> None:
    seen = upstream(lambda _request: answer)
    async with control(database_url) as c:
        video_id = await c.world.enqueue()
        shown = await c.admin.get(f"/ui/videos/{video_id}/image")
        assert (shown.status_code, shown.headers["content-type"]) == (200, kind)
        assert (shown.text == media.PLACEHOLDER) is (kind == "image/svg+xml")
        assert len(seen) == 1
        assert "authorization" not in seen[0].headers
        assert "cookie" not in seen[0].headers


async def completed(c: Control) -> UUID:
    video_id = await c.world.enqueue()
    await c.world.finish()
    return video_id


async def test_the_file_whole_and_in_ranges(database_url: str) -> None:
    async with control(database_url) as c:
        video_id = await completed(c)
        path = f"/ui/videos/{video_id}/media"
        whole = await c.viewer.get(path)
        assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
        assert len(whole.content) == int(whole.headers["content-length"])
        assert "sandbox" in whole.headers["content-security-policy"]
        part = await c.viewer.client.get(path, headers={"range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, b"ftyp")
        assert part.headers["content-range"] == f"bytes 4-7/{len(whole.content)}"
        beyond = await c.viewer.client.get(path, headers={"range": "bytes=999999999-"})
        assert beyond.status_code == 416
        assert (await c.anonymous.get(path)).status_code == 303


async def test_a_file_that_is_not_there(database_url: str, upstream: Any) -> None:
    async with control(database_url) as c:
        queued = await c.world.enqueue()
        assert (await c.admin.get(f"/ui/videos/{queued}/media")).status_code == 409
        await c.admin.post(f"/ui/videos/{queued}/cancel")
        video_id = await completed(c)

        async def at(url: str) -> int:
            await c.world.rows(
                "UPDATE taxiway.videos SET output = jsonb_build_array($2::text) WHERE id = $1", video_id, url
            )
            return (await c.admin.get(f"/ui/videos/{video_id}/media")).status_code

        seen = upstream(lambda _request: httpx.Response(200, headers={"content-type": "text/html"}, content=b"<p>"))
        assert await at("https://files.example.com/a.mp4") == 503
        assert await at("http://files.example.com/a.mp4") == 503
        assert await at("https://10.0.0.1/a.mp4") == 503
        assert await at("http://runway.test.example.com/a.mp4") == 503
        assert [str(request.url) for request in seen] == ["https://files.example.com/a.mp4"]

        def broken(_request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("no")

        upstream(broken)
        assert await at("https://files.example.com/a.mp4") == 503


async def test_outputs_are_shown_by_what_they_are(database_url: str, upstream: Any) -> None:
    """A host that does not say what it serves serves what the address says; an image is its own thumbnail."""
    endings = {
        "png": ("image", "<img"),
        "mp3": ("audio", "<audio"),
        "zip": ("application", None),
        "mp4": ("video", "<video"),
    }
    async with control(database_url) as c:
        video_id = await completed(c)
        urls = [f"https://files.example.com/a.{ending}" for ending in endings]
        await c.world.rows("UPDATE taxiway.videos SET output = $2::jsonb WHERE id = $1", video_id, json.dumps(urls))
        page = (await c.viewer.get(f"/ui/videos/{video_id}")).text
        for number, (ending, (kind, tag)) in enumerate(endings.items(), start=1):
            source = f"/ui/videos/{video_id}/media" + (f"?output={number}" if number > 1 else "")
            name = f"{video_id}-{number}.{ending}" if number > 1 else f"{video_id}.{ending}"
            assert f'data-kind="{kind}"' in page
            assert f'<a href="{source}" download="{name}">' in page
            assert tag is None or re.search(f'{tag} [^>]*src="{re.escape(source)}"', page)
            upstream(lambda _request: httpx.Response(200, headers={"content-type": "binary/octet-stream"}, content=PNG))
            shown = await c.viewer.get(source)
            assert (shown.status_code, shown.headers["content-type"].partition("/")[0]) == (200, kind)
        assert (await c.viewer.get(f"/ui/videos/{video_id}/media?output=5")).status_code == 404

        thumbnail = f"/ui/videos/{video_id}/thumbnail"
        assert f'src="{thumbnail}"' in (await c.viewer.get("/ui/videos")).text
        seen = upstream(lambda _request: httpx.Response(200, headers={"content-type": "image/png"}, stream=Body(PNG)))
        assert (await c.viewer.get(thumbnail)).content == PNG
        assert [str(request.url) for request in seen] == urls[:1]
        await c.world.rows(
            "UPDATE taxiway.videos SET output = $2::jsonb, input = NULL, image_url = NULL WHERE id = $1",
            video_id,
            json.dumps(urls[1:]),
        )
        assert 'class="thumb" data-kind="audio"' in (await c.viewer.get("/ui/videos")).text
