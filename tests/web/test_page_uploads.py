"""The studio's way for large files: whom it begins an upload for, and where the page may then send it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.runway.assets import UPLOAD_MAX_BYTES
from service.web import page
from tests.pages import HTMX, SITE, Control, check, control

pytestmark = pytest.mark.anyio

UPLOAD = "/ui/studio/upload"
LARGE = b"\x89PNG\r\n\x1a\n" + b"\0" * 6_000_000


def answering(site: Control, *answers: httpx.Response) -> None:
    """From now on Runway answers the administrator's requests with these, one after the other."""
    said = iter(answers)
    app = site.admin.client._transport.app  # type: ignore[attr-defined]
    app.state.ctx = replace(site.world.ctx, transport=lambda: httpx.MockTransport(lambda _: next(said)))


def connects(answer: httpx.Response) -> str:
    """Where the scripts of a page may send to."""
    found = re.search(r"connect-src ([^;]+);", answer.headers["content-security-policy"])
    assert found
    return found[1]


async def test_a_file_goes_to_runway_and_makes_a_video(database_url: str) -> None:
    async with control(database_url) as c:
        begun = await c.admin.post(UPLOAD, part=True, filename="boat.png")
        assert (begun.status_code, begun.headers["cache-control"]) == (200, "no-store")
        assert begun.headers["x-content-type-options"] == "nosniff"
        form = begun.json()
        assert form.keys() == {"uri", "upload_url", "fields", "expires_at"}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=c.world.runway)) as storage:
            sent = await storage.post(form["upload_url"], data=form["fields"], files={"file": ("boat.png", LARGE)})
        assert sent.status_code == 204
        fields = {
            "what": "image_to_video gen4_turbo", "f.promptText": "a boat", "f.promptImage": form["uri"],
            "f.duration": "5", "f.ratio": "1280:720", "file.f.promptImage": "", "has.f.promptImage": "",
        }  # fmt: skip
        assert "25 credits" in check(await c.admin.post("/ui/studio/quote", part=True, **fields))
        made = await c.admin.post("/ui/studio", **fields)
        await c.world.finish()
        row = await c.world.row(UUID(made.headers["location"].rpartition("/")[2]))
        assert row["status"] == "completed"
        assert form["uri"] in row["input"]
        # Begun again from it, the form has the address, which stands for the file still.
        assert form["uri"] in (await c.admin.get(f"/ui/studio?from={row['id']}")).text


async def test_runways_refusals_are_notices_in_its_words(database_url: str) -> None:
    async with control(database_url) as c:
        answering(
            c, httpx.Response(429, json={"error": "Slow down"}), httpx.Response(400, json={"error": "Buy credits"}),
            httpx.Response(401, json={"error": "No such key"}), httpx.Response(200, json={}),
            httpx.Response(200, json={"runwayUri": "runway://a", "uploadUrl": "javascript:alert(1)", "fields": {}}),
        )  # fmt: skip
        answers = [await c.admin.post(UPLOAD, part=True, filename="boat.png") for _ in range(5)]
        assert [one.status_code for one in answers] == [429, 422, 503, 503, 503]
        assert answers[0].headers["retry-after"] == "10"
        for answer, words in zip(
            answers, ["Slow down", "Buy credits", "401", "cannot be read", "cannot be read"], strict=True
        ):
            assert words in check(answer)
            assert 'class="notice"' in answer.text
        short = await c.admin.post(UPLOAD, part=True, filename="x")
        assert (short.status_code, "filename" in check(short)) == (422, True)
        assert (await c.admin.post(UPLOAD, part=True)).status_code == 422


async def test_without_a_key_it_says_so(database_url: str) -> None:
    async with control(database_url, runway_key=None) as c:
        refused = await c.admin.post(UPLOAD, part=True, filename="boat.png")
        assert refused.status_code == 503
        assert "RUNWAYML_API_SECRET" in check(refused)


async def test_it_begins_nothing_for_strangers_other_sites_and_those_who_only_look(database_url: str) -> None:
    async with control(database_url) as c:
        file: dict[str, Any] = {"filename": "boat.png"}
        ended = await c.anonymous.post(UPLOAD, part=True, **file)
        assert (ended.status_code, "Your session has ended" in check(ended)) == (401, True)
        viewer = await c.viewer.post(UPLOAD, part=True, **file)
        assert (viewer.status_code, "You have read-only access" in check(viewer)) == (403, True)
        stale = await c.admin.post(UPLOAD, part=True, csrf=c.viewer.csrf, **file)
        assert (stale.status_code, "data-csrf" in stale.text) == (403, True)
        headers = HTMX | {"origin": "https://evil.example", "x-csrf-token": c.admin.csrf}
        foreign = await c.admin.client.post(UPLOAD, data=file, headers=headers)
        assert (foreign.status_code, "Another site" in check(foreign)) == (403, True)
        bearer = {"authorization": "Bearer api-key-for-tests-0001", "origin": SITE}
        assert (await c.anonymous.client.post(UPLOAD, data=file, headers=bearer)).status_code == 303
        assert c.world.runway.state.runway.uploads.forms == {}


async def test_only_the_studio_of_an_administrator_may_send_elsewhere(database_url: str) -> None:
    async with control(database_url) as c:
        for screen in page.SCREENS:
            if screen.method != "GET" or "{" in screen.path or screen.kind == "stream":
                continue
            for one in (c.admin, c.viewer):
                is_it = screen.path == "/ui/studio" and one is c.admin
                wanted = f"'self' https:{simulator(c)}" if is_it else "'self'"
                assert connects(await one.get(screen.path)) == wanted, screen.path


def simulator(c: Control) -> str:
    """The simulator's source in the policy, where it is called without https."""
    url = c.world.ctx.settings.runway_url
    return f" {url}" if url.startswith("http://") else ""


@pytest.mark.parametrize(
    ("runway_url", "wanted"),
    [
        ("https://api.dev.runwayml.com", "'self' https:"),
        ("https://gateway.example/runway", "'self' https:"),
        ("http://127.0.0.1:8765/v1", "'self' https: http://127.0.0.1:8765"),
        ("http://simulator:8765/under/path", "'self' https: http://simulator:8765"),
    ],
)
async def test_without_https_it_may_send_to_the_simulator_alone(
    database_url: str, runway_url: str, wanted: str
) -> None:
    async with control(database_url, runway_url=runway_url) as c:
        assert connects(await c.admin.get("/ui/studio")) == wanted


async def test_the_form_says_what_is_too_large_and_what_to_do_without_a_script(database_url: str) -> None:
    async with control(database_url) as c:
        shown = await c.admin.get("/ui/studio")
        words = check(shown)
        assert "or a file of at most 200 MB (JPEG, PNG, WebP); beyond 3.1 MB it goes to Runway's storage first" in words
        assert f'data-most="{UPLOAD_MAX_BYTES}"' in shown.text
        aside = re.search(r"<noscript>(.+?)</noscript>", shown.text)
        assert aside
        assert "Give its https:// address" in aside[1]
        assert "taxiway upload FILE" in aside[1]
