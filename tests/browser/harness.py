"""A real browser in front of a real Taxiway: sockets, a database, a simulated Runway, and people who log in."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    WebError,
    async_playwright,
)
from starlette.applications import Starlette

from service import context as contexts
from service.app import create_app
from service.local.ticker import Cron
from service.serving import listen, server
from service.simulator.app import SimulatorOptions, create_simulator
from service.simulator.ledger import iso
from tests.database import connected, execute
from tests.pages import ADMIN_TOKEN, TOKENS
from tests.simulator_server import until
from tests.world import API_KEY, CRON_SECRET, Clock, World, settings

NO_BROWSER = "no browser: install Debian's package chromium (apt-get install chromium)"
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
PATIENCE_MS = 15_000  # for what a screen is to show; a loaded machine is slow, a hang is longer
CRON_SECONDS = 0.25
CALL_SECONDS = 30
SERVER_PATIENCE_SECONDS = 2
SPEED = 40  # Runway's tasks take 12 to 22 s, divided by this
HERE = "127.0.0.1"
DESK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 375, "height": 740}
LOCAL_SCHEMES = ("data", "blob", "about")

# Looks at tasks are due at once: Runway's gap of 5 s is not what these tests are about.
HURRY = "UPDATE taxiway.videos SET poll_after = taxiway.now() WHERE poll_after > taxiway.now()"
# The columns in which a time is stored, by their table.
TIMES = """
SELECT table_name, array_agg(column_name::text) AS names
FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = 'taxiway' AND table_type = 'BASE TABLE' AND data_type = 'timestamp with time zone'
GROUP BY table_name ORDER BY table_name
"""
# Until when a file is at its address is Runway's to say, and Runway's clock goes forward.
URLS_STAY = "UPDATE taxiway.videos SET video_url_expires_at = video_url_expires_at + $1::interval"


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """A headless Chromium that can reach nothing but this machine. Raises FileNotFoundError if there is none."""
    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError(NO_BROWSER)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


class Running(Clock):
    """Unix seconds that pass by themselves, and further when told to."""

    def __init__(self) -> None:
        self._ahead = 0.0

    @property
    def now(self) -> float:
        """The time."""
        return time.time() + self._ahead

    @now.setter
    def now(self, value: float) -> None:
        self._ahead = value - time.time()


@dataclass
class Site(World):
    """A Taxiway and its Runway on sockets. `address` is where the page is."""

    address: str = ""

    async def later(self, **interval: float) -> None:
        """Let time pass: what is stored becomes older, for the clock of a browser cannot be turned."""
        passed = timedelta(**interval)
        self.clock.now += passed.total_seconds()
        async with connected(self.url) as connection, connection.transaction():
            for table, names in await connection.fetch(TIMES):
                # One UPDATE for all columns: constraints between them hold before and after, not half-way.
                changes = ", ".join(f'"{name}" = "{name}" - $1::interval' for name in names)
                await connection.execute(f'UPDATE taxiway."{table}" SET {changes}', passed)
            await connection.execute(URLS_STAY, passed)
        for task in self.runway.state.runway.tasks.values():
            task.created_at = iso((datetime.fromisoformat(task.created_at) - passed).timestamp())

    @asynccontextmanager
    async def ticking(self) -> AsyncIterator[None]:
        """A cron service calls, while inside."""

        async def sleep(_seconds: float) -> None:
            await asyncio.sleep(CRON_SECONDS)
            await execute(self.url, HURRY)

        url = f"{self.address}/process-queued"
        caller = Cron(url, CRON_SECRET, every=CRON_SECONDS, timeout=CALL_SECONDS, sleep=sleep)
        async with caller.running():
            yield

    async def hurried_tick(self) -> None:
        """One tick, in this process, that looks at every task."""
        await execute(self.url, HURRY)
        await self.tick()


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """Serve on a free port of the loopback; yields the base URL."""
    with listen(HERE, 0) as listener:
        built = server(app, HERE, 0, timeout=SERVER_PATIENCE_SECONDS)
        serving = asyncio.create_task(built.serve(sockets=[listener]))
        try:
            await until(lambda: built.started or serving.done())
            yield f"http://{HERE}:{listener.getsockname()[1]}"
        finally:
            built.should_exit = True
            await serving


@asynccontextmanager
async def opened(url: str, *, options: dict[str, Any] | None = None, **changes: Any) -> AsyncIterator[Site]:
    """Serve a Taxiway on the database `url`, and a Runway whose tasks run by themselves."""
    clock = Running()
    runway = create_simulator(SimulatorOptions(**({"speed": SPEED} | (options or {}))), clock=clock, random=Random(7))
    async with AsyncExitStack() as stack:
        runway_url = await stack.enter_async_context(served(runway))
        ctx = contexts.build(settings(url, **(TOKENS | {"runway_url": runway_url} | changes)))
        stack.push_async_callback(ctx.database.close)
        address = await stack.enter_async_context(served(create_app(ctx)))

        clients = {}
        for name, token in (("api", API_KEY), ("cron", CRON_SECRET), ("anyone", None)):
            headers = {"authorization": f"Bearer {token}"} if token else {}
            client = httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=CALL_SECONDS)
            clients[name] = await stack.enter_async_context(client)
        yield Site(ctx=ctx, runway=runway, clock=clock, url=url, address=address, **clients)


@dataclass
class Watch:
    """What a browser must not do, and did. `allowed`: patterns of the console errors that a test brings about."""

    address: str
    allowed: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        """Watch every page of it."""
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)

    def check(self) -> None:
        """Raises AssertionError if there was a console error, an exception or a request to another host."""
        found = [text for text in self.complaints if not any(re.search(pattern, text) for pattern in self.allowed)]
        assert not found, "\n".join(found)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _error(self, error: WebError) -> None:
        self.complaints.append(f"exception: {error.error.message}")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in LOCAL_SCHEMES and f"{parts.scheme}://{parts.netloc}" != self.address:
            self.complaints.append(f"request to another host: {request.url}")


@dataclass
class Visits:
    """People with browsers of their own, all of them watched."""

    browser: Browser
    site: Site
    watch: Watch
    _contexts: list[BrowserContext] = field(default_factory=list)

    async def anonymous(self, **options: Any) -> Page:
        """A page without a login. `options` are those of Playwright's `new_context`."""
        chosen = {"viewport": DESK, "base_url": self.site.address, "reduced_motion": "reduce"} | options
        context = await self.browser.new_context(**chosen)
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        self.watch.over(context)
        return await context.new_page()

    async def log_in(self, token: str = ADMIN_TOKEN, **options: Any) -> Page:
        """A page that is logged in with this token."""
        page = await self.anonymous(**options)
        answer = await page.context.request.post("/login", form={"token": token}, max_redirects=0)
        assert answer.status == 303, await answer.text()
        return page

    async def leave(self) -> None:
        """Close all of it, and wait until the server has seen that: a page's stream ends with its connection."""
        for context in self._contexts:
            await context.close()
        await until(lambda: not any(_is_an_answer(task) for task in asyncio.all_tasks()))


def _is_an_answer(task: asyncio.Task[Any]) -> bool:
    """Whether this is uvicorn's task for one request."""
    return getattr(task.get_coro(), "__name__", "") == "run_asgi"
