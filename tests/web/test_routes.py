"""The tables of routes: what the app serves is in them, and whom they name is let in, and no one else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from service import docs
from service.actors import SCOPES, Key
from service.app import ENDPOINTS, create_app
from service.context import Context
from service.web import page
from service.web.auth import PUBLIC
from service.web.endpoint import Endpoint, routes
from tests.commands import ROOT
from tests.pages import HTMX, SITE, TOKENS, browser
from tests.world import API_KEY, CRON_SECRET, World, settings, world

pytestmark = pytest.mark.anyio

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"  # what is let in answers 503, or what its body deserves
TOKEN_OF = {
    "api_keys": API_KEY, "cron_secret": CRON_SECRET, "admin_tokens": TOKENS["admin_tokens"][0],
    "viewer_tokens": TOKENS["viewer_tokens"][0],
}  # fmt: skip
REFUSED = (401, 403)
ELSEWHERE = ("/v1/", "/_simulator/", "/primary")  # calls to Runway, to its double, to Patroni


def calls(*endpoints: Endpoint) -> Iterator[tuple[str, str]]:
    """Every call of these endpoints, HEAD in place of GET included."""
    for one in endpoints:
        for path in one.paths:
            for method in {*one.methods, *(["HEAD"] if one.method == "GET" else [])}:
                yield method, filled(path)


def filled(path: str) -> str:
    return path.format(id=uuid4(), model="gen4_turbo", name="quickstart", path="app.css")


GUARDED = [one for one in ENDPOINTS if one.access is not PUBLIC]
BEARING = [one for one in GUARDED if not one.access.is_signed]


async def statuses(w: World, one: Endpoint, token: str | None) -> set[int]:
    """What every call of an endpoint comes to with this token."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return {(await w.anyone.request(method, path, headers=headers)).status_code for method, path in calls(one)}


def test_what_is_public_says_so() -> None:
    public = {one.path for one in ENDPOINTS if one.access is PUBLIC}
    assert public == {
        "/process-queued", "/health", "/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/{name}",
    }  # fmt: skip
    assert [one.methods for one in ENDPOINTS if one.access is PUBLIC and one.path == "/process-queued"] == [
        ["HEAD", "OPTIONS"]
    ]
    assert all(one.access is PUBLIC or one.access.settings for one in ENDPOINTS)
    assert {one.path for one in page.SCREENS if one.access == page.PUBLIC} == {"/login", "/static/{path}"}


async def test_every_route_of_the_app_is_in_a_table() -> None:
    async with world(NOWHERE) as w:
        app = create_app(w.ctx)
    *api, mount = app.routes
    assert [route.path.replace(":path", "") for route in api if isinstance(route, Route)] == list(
        dict.fromkeys(path for one in ENDPOINTS for path in one.paths)
    )
    assert isinstance(mount, Mount)
    assert isinstance(mount.app, Starlette)
    assert mount.app.state is app.state
    served = [(route.path, route.name) for route in mount.routes if isinstance(route, Route)]
    assert served == [(screen.path, screen.target) for screen in page.SCREENS]
    assert len(served) == len(mount.routes)
    assert app.url_path_for("video.show", id="7") == "/ui/videos/7"


DECLARED = [(method, path) for one in ENDPOINTS for method in one.methods for path in one.paths]
DECLARED += [(screen.method, screen.path) for screen in page.SCREENS]


def test_no_call_is_declared_twice() -> None:
    assert len(DECLARED) == len(set(DECLARED))


@pytest.mark.parametrize("text", [ROOT / "README.md", *docs.FOLDER.glob("*.md")], ids=lambda path: path.name)
def test_every_call_that_a_page_names_is_declared(text: Path) -> None:
    named = set(re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`\s?]*)", text.read_text(encoding="utf-8")))
    assert {call for call in named if not call[1].startswith(ELSEWHERE)} <= set(DECLARED)


@pytest.mark.parametrize("one", GUARDED, ids=lambda one: f"{one.method} {one.path}")
async def test_an_endpoint_lets_in_whom_it_names_and_no_one_else(one: Endpoint) -> None:
    async with world(NOWHERE, **TOKENS) as w:
        assert await statuses(w, one, None) == {401}
        assert await statuses(w, one, "wrong-token-0123456789") == {401}
        for setting, token in TOKEN_OF.items():
            found = await statuses(w, one, token)
            if setting in one.access.settings:
                assert not found & set(REFUSED), setting
            else:
                assert found == {401}, setting


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_key_with_a_scope_may_do_what_the_scope_allows(scope: str) -> None:
    secret = "secret-of-a-key-0123456789"
    key = Key.of(f"shop+{scope}:{secret}", "api-key-1")
    async with world(NOWHERE, api_keys=(str(f"shop+{scope}:{secret}"),)) as w:
        for one in BEARING:
            if "api_keys" not in one.access.settings:
                continue
            found = await statuses(w, one, secret)
            if getattr(key, one.access.may):
                assert not found & set(REFUSED), one.path
            else:
                assert found == {403}, one.path


async def test_without_a_session_no_screen_is_shown_that_is_not_public() -> None:
    async with world(NOWHERE, **TOKENS) as w:
        one = browser(w.ctx)
        for screen in page.SCREENS:
            path = filled(screen.path)
            answer = await one.client.request(screen.method, path)
            part = await one.client.request(screen.method, path, headers=HTMX)
            if screen.access == page.PUBLIC:
                assert answer.status_code != 303, path
            else:
                assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login"), path
                assert (part.status_code, part.headers["hx-retarget"]) == (401, "#notice"), path


async def test_the_endpoints_of_one_path_know_each_other() -> None:
    async def echo(_ctx: Context, request: Request) -> Response:
        return Response(request.method)

    def endpoint(method: str, **more: Any) -> Endpoint:
        return Endpoint(method, "/here", echo, PUBLIC, "Say the method", **more)

    table = (endpoint("GET", also=("/there",)), endpoint("POST|PUT"), endpoint("OPTIONS"))
    app = Starlette(routes=routes(table))
    async with world(NOWHERE) as w:
        app.state.ctx = w.ctx
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=SITE) as client:
            for method in ("GET", "POST", "PUT", "OPTIONS"):
                assert (await client.request(method, "/here")).text == method
            assert (await client.head("/here")).status_code == 200
            refused = await client.delete("/here")
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST, PUT")
            assert (await client.post("/there")).headers["allow"] == "GET, HEAD"


def test_refusals_follow_from_what_an_endpoint_takes() -> None:
    of = {f"{one.method} {one.path}": one.refusals for one in ENDPOINTS}
    assert of["GET /health/live"] == []
    assert of["GET /ticks"] == [401, 422, 503]
    assert of["POST|GET /process-queued"] == [401, 422, 503]
    assert of["GET /videos/{id}/file"] == [401, 403, 404, 409, 410, 422, 503]
    assert of["POST /callbacks/runway"] == [400, 401, 408, 409, 413, 422, 503]
    assert of["POST /videos"] == [400, 401, 403, 408, 409, 410, 413, 422, 429, 503]
    assert settings(NOWHERE).api_keys, "a test without keys would be refused for another reason"
