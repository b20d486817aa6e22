"""Attack: whatever is sent, no answer is a defect, nothing opens without its secret, and no secret comes out."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import queue
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.app import ROUTES, create_app
from service.local.sim_options import SimulatorOptions
from service.logs import ConsoleFormatter, JsonFormatter, Redactor
from service.web import openapi
from tests.crash.harness import callback
from tests.database import renamed, temporary_database
from tests.simulator_server import on_socket
from tests.world import API_KEY, CALLBACK_SECRET, CRON_SECRET, IMAGE, RUNWAY_KEY, World, world

pytestmark = pytest.mark.anyio

PIXELS = "c2VjcmV0cGl4ZWxz" * 50  # what a data URI carries must never be seen again
SECRETS = (API_KEY, CRON_SECRET, CALLBACK_SECRET, CALLBACK_SECRET.removeprefix("whsec_"), RUNWAY_KEY)
# Nothing of how it is made shows in an answer.
INSIDE = re.compile(r'Traceback|File "|asyncpg|postgres(ql)?://|\.s\.PGSQL|SELECT |INSERT |UPDATE |unnest|jsonb', re.I)
OPEN = {"/health", "/health/live", "/health/ready", "/openapi.json"}
CLIENTS = ("httpx", "httpcore", "urllib3", "schemathesis", "hypothesis")  # what the attackers log of themselves
EXAMPLES = 25


@dataclass
class Heard:
    """Every byte that the service answered, and every line that it logged, in every form."""

    answers: list[str] = field(default_factory=list)
    lines: io.StringIO = field(default_factory=io.StringIO)

    def recorded(self, app: ASGIApp) -> ASGIApp:
        """The same app; what it sends is kept."""

        async def recorder(scope: Scope, receive: Receive, send: Send) -> None:
            async def keep(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self.answers.append(repr(message["headers"]))
                elif message["type"] == "http.response.body" and scope.get("path") != "/openapi.json":
                    self.answers.append(message.get("body", b"").decode("utf-8", "replace"))
                await send(message)

            await app(scope, receive, keep)

        return recorder


class Everything(logging.Handler):
    """Writes each record down as the console, as JSON, and raw."""

    def __init__(self, out: io.StringIO) -> None:
        super().__init__(logging.DEBUG)
        redact = Redactor(SECRETS)
        self._out = out
        self._forms = (ConsoleFormatter(redact), JsonFormatter(redact), logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(CLIENTS):
            self._out.writelines(form.format(record) + "\n" for form in self._forms)


@pytest.fixture(scope="module", autouse=True)
def heard() -> Iterator[Heard]:
    """Collects through the whole file; in the end, no secret may be in it."""
    found, root = Heard(), logging.getLogger()
    handler, level = Everything(found.lines), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield found
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    logged, answered = found.lines.getvalue(), "\n".join(found.answers)
    print(f"\nsearched {len(found.answers)} parts of answers and {len(logged.splitlines())} lines of logs")  # noqa: T201
    for secret in (*SECRETS, PIXELS):
        assert secret not in logged
        assert secret not in answered
    assert not INSIDE.findall(answered)


@pytest.fixture(autouse=True)
def at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """pytest sets the level anew for each test."""
    caplog.set_level(logging.DEBUG)


@dataclass
class Target:
    """A whole Taxiway, and clients of it that see a defect as the answer 500."""

    world: World
    anyone: httpx.AsyncClient
    api: httpx.AsyncClient
    cron: httpx.AsyncClient

    async def still_works(self) -> None:
        """After an attack: what was accepted can be listed and read, and a tick has no trouble with it."""
        listed = await self.api.get("/videos?limit=200")
        assert listed.status_code == 200, listed.text
        for video in listed.json()["videos"]:
            assert (await self.api.get(f"/videos/{video['id']}")).status_code == 200
        ticked = await self.cron.post("/process-queued")
        assert (ticked.status_code, ticked.json().get("errors")) == (200, None)


@asynccontextmanager
async def target(database_url: str, heard: Heard, **changes: Any) -> AsyncIterator[Target]:
    async with world(database_url, options={"credits": 1_000_000}, **changes) as w:
        transport = httpx.ASGITransport(app=heard.recorded(create_app(w.house)), raise_app_exceptions=False)

        def client(token: str) -> httpx.AsyncClient:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return httpx.AsyncClient(transport=transport, base_url="http://taxiway.test", headers=headers)

        async with client("") as anyone, client(API_KEY) as api, client(CRON_SECRET) as cron:
            yield Target(w, anyone, api, cron)


def refused(response: httpx.Response, *wanted: int) -> None:
    """An answer that says no, in the one form."""
    told = (response.request.method, str(response.request.url)[:200], response.status_code, response.text[:500])
    assert response.status_code in wanted, told
    if response.request.method != "HEAD":
        assert response.headers["content-type"] == "application/problem+json", told
        assert {"type", "title", "status", "detail"} <= response.json().keys(), told
        assert not INSIDE.search(response.text), told


# The document, and everything that can be made from it.


@pytest.fixture(scope="module")
def address(server_url: str, template_name: str, heard: Heard) -> Iterator[str]:
    """The address of a service on a real socket, in a thread of its own."""
    ready: queue.Queue[str | BaseException] = queue.Queue()
    stop = threading.Event()

    async def serve(url: str) -> None:
        async with world(url, options={"credits": 1_000_000}) as w, on_socket(heard.recorded(create_app(w.house))) as at:
            ready.put(at)
            await asyncio.to_thread(stop.wait)

    def thread(url: str) -> None:
        try:
            asyncio.run(serve(url))
        except BaseException as exc:
            ready.put(exc)
            raise

    with temporary_database(server_url, template=template_name) as url:
        server = threading.Thread(target=thread, args=(url,))
        server.start()
        try:
            at = ready.get(timeout=30)
            assert isinstance(at, str), at
            yield at
        finally:
            stop.set()
            server.join(30)


DOCUMENT = schemathesis.openapi.from_dict(openapi.build())
OPERATIONS = [operation.ok() for operation in DOCUMENT.get_all_operations()]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_answers_are_what_the_document_says(address: str, operation: Any, mode: GenerationMode) -> None:
    video = httpx.post(f"{address}/videos", json=ordinary(), headers=credentials("/videos"), trust_env=False)
    known = video.json()["id"]
    tokens = credentials(operation.path)

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def attack(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = known
        if operation.path == "/callbacks/runway":
            body = json.dumps(case.body if isinstance(case.body, dict | list | str) else None).encode()
            signed = callback("x")["headers"]
            del body
            response = case.call(base_url=address, headers=signed, allow_redirects=False)
        else:
            response = case.call(base_url=address, headers=tokens, allow_redirects=False)
        case.validate_response(response, checks=CHECKS)

    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        pytest.fail("unused")
    attack()


def ordinary(**changes: Any) -> dict[str, Any]:
    return {"input": {"promptText": "a boat", "promptImage": IMAGE}} | changes


def credentials(path: str) -> dict[str, str]:
    """The headers with which this path opens."""
    if path.startswith("/videos"):
        return {"authorization": f"Bearer {API_KEY}"}
    if path.startswith(("/process", "/poll")):
        return {"authorization": f"Bearer {CRON_SECRET}"}
    return {}
