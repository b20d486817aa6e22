"""A browser without a screen: it keeps cookies, and sends the session's CSRF token as the page would."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx

from service.app import create_app
from service.context import Context
from tests.world import World, world

ADMIN_TOKEN = "admin-token-for-tests-01"
VIEWER_TOKEN = "viewer-token-for-tests-1"
TOKENS: dict[str, Any] = {"admin_tokens": (ADMIN_TOKEN,), "viewer_tokens": (VIEWER_TOKEN,)}
SITE = "https://taxiway.test"
HTMX = {"hx-request": "true"}
ADDRESSES = ("href", "src", "action", "hx-get", "hx-post")
JOINS = "\0"  # where a word may be broken, which is one all the same
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass
class Browser:
    """Somebody's browser. `csrf` is what the page of its session holds."""

    client: httpx.AsyncClient
    csrf: str = ""

    async def get(self, path: str, *, part: bool = False) -> httpx.Response:
        """A page, or with `part` what htmx asks for."""
        return await self.client.get(path, headers=HTMX if part else {"accept": "text/html"})

    async def post(self, path: str, *, part: bool = False, **fields: Any) -> httpx.Response:
        """Send a form of the page."""
        headers = (HTMX if part else {"accept": "text/html"}) | {"sec-fetch-site": "same-origin", "origin": SITE}
        return await self.client.post(path, data={"csrf": self.csrf} | fields, headers=headers)

    async def login(self, token: str) -> None:
        """Log in with a token."""
        response = await self.post("/login", token=token)
        assert response.status_code == 303, response.text
        self.csrf = csrf_of((await self.client.get("/nowhere-screen", headers={"accept": "text/html"})).text)


def browser(ctx: Context) -> Browser:
    """A browser that has seen nothing yet."""
    transport = httpx.ASGITransport(app=create_app(ctx), raise_app_exceptions=False)
    return Browser(httpx.AsyncClient(transport=transport, base_url=SITE))


def csrf_of(text: str) -> str:
    """The CSRF token of a page; empty if it has none."""
    found = re.search(r"X-CSRF-Token&#34;: &#34;([0-9a-f]{64})|X-CSRF-Token\": \"([0-9a-f]{64})", text)
    return (found[1] or found[2]) if found else ""


@dataclass
class Control:
    """A Taxiway with its page, an administrator and somebody who may only look."""

    world: World
    admin: Browser
    viewer: Browser
    anonymous: Browser


@asynccontextmanager
async def control(url: str, **changes: Any) -> AsyncIterator[Control]:
    """A Taxiway with its page, and site in front of it."""
    async with world(url, **(TOKENS | changes)) as one:
        site = Control(one, browser(one.ctx), browser(one.ctx), browser(one.ctx))
        await site.admin.login(ADMIN_TOKEN)
        await site.viewer.login(VIEWER_TOKEN)
        yield site


@dataclass
class Checked(HTMLParser):
    """A page, read: `problems` names what a browser would mend silently or our CSP would refuse."""

    problems: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element brings."""
        names = [name for name, _ in attrs]
        self.problems += [f"<{tag} {name}>" for name in names if name == "style" or name.startswith("on")]
        self.problems += [f"<{tag}> has an attribute twice" for _ in [0] if len(set(names)) < len(names)]
        values = dict(attrs)
        self.problems += [f"<{tag}> inline" for _ in [0] if tag == "style" or (tag == "script" and "src" not in names)]
        self.ids += [values["id"] or ""] if "id" in values else []
        self.addresses += [
            values[name] or "" for name in ("href", "src", "action", "hx-get", "hx-post") if name in values
        ]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "wbr":
            self.text.append(JOINS)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element of SVG without content."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Elements end in the opposite order of their beginning."""
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> ends nothing")

    def handle_data(self, data: str) -> None:
        """Gather what is read."""
        self.text.append(data)


def check(response: httpx.Response) -> str:
    """The words of a page or part that is well-formed and asks for nothing that its CSP refuses."""
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["x-content-type-options"] == "nosniff"
    page = Checked()
    page.feed(response.text)
    page.close()
    assert page.problems == []
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert [address for address in page.addresses if not address.startswith(("/", "#"))] == []
    return " ".join(" ".join(page.text).replace(f" {JOINS} ", "").split())
