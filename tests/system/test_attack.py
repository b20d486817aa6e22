"""Attack: whatever is sent, no answer is a defect, nothing opens without its secret, and no secret comes out."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, unquote
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
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import docs, webhooks
from service.app import ENDPOINTS, create_app
from service.logs import ConsoleFormatter, JsonFormatter
from service.redaction import Redactor
from service.tick import tick
from service.web import bodies, openapi
from tests.database import renamed, temporary_database
from tests.simulator_server import on_socket
from tests.world import API_KEY, CALLBACK_SECRET, CRON_SECRET, IMAGE, RUNWAY_KEY, World, world

pytestmark = pytest.mark.anyio

ADMIN = "admin-token-for-tests-01"
PIXELS = "iVBORw0KGgoA" + "c2VjcmV0cGl4ZWxz" * 50  # what a data URI carries must never be seen again
WEBHOOK_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
WEBHOOKS: dict[str, Any] = {
    "webhook_secrets": (WEBHOOK_SECRET,), "webhook_url": ("http://127.0.0.1:9/hook",),
    "webhook_private_hosts": ("127.0.0.1",), "receiver": Response(status_code=204),
}  # fmt: skip
SECRETS = (
    API_KEY, ADMIN, CRON_SECRET, RUNWAY_KEY,
    *(part for secret in (CALLBACK_SECRET, WEBHOOK_SECRET) for part in (secret, secret.removeprefix("whsec_"))),
)  # fmt: skip
# Nothing of how it is made shows in an answer. SQL is in capitals here; in small letters it is English.
INSIDE = re.compile(r'Traceback|File "|asyncpg|postgres(ql)?://|\.s\.PGSQL|(SELECT|INSERT|UPDATE) \w+|unnest|jsonb')
OPEN = {"/health", "/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/quickstart"}
# The same text for everyone, which also says how it is made.
DOCUMENTS = {"/openapi.json", *(f"/docs/{name}" for name in docs.NAMES)}
CLIENTS = ("httpx", "httpcore", "urllib3", "schemathesis", "hypothesis")  # what the attackers log of themselves
EXAMPLES = int(os.environ.get("ATTACKS", "8"))  # of requests that fit the document, and of those that do not
ACCOUNT = {"credits": 1_000_000, "concurrency": 10_000, "daily_limit": 10_000}
SETTINGS = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@dataclass
class Heard:
    """Every byte that the service was sent and answered, and every line that it logged, in every form."""

    asked: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    lines: io.StringIO = field(default_factory=io.StringIO)

    def recorded(self, app: ASGIApp) -> ASGIApp:
        """The same app; what it sends is kept."""

        async def recorder(scope: Scope, receive: Receive, send: Send) -> None:
            async def keep(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self.answers.append(repr(message["headers"]))
                elif message["type"] == "http.response.body" and scope.get("path") not in DOCUMENTS:
                    self.answers.append(message.get("body", b"").decode("utf-8", "replace"))
                await send(message)

            async def note() -> Message:
                message = await receive()
                self.asked.append(message.get("body", b"").decode("utf-8", "replace"))
                return message

            self.asked.append(unquote(scope.get("path", "") + "?" + scope.get("query_string", b"").decode("latin-1")))
            await app(scope, note, keep)

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
    asked = "\n".join(found.asked)  # an answer may name what was sent: a field called "SELECT 1" is none of ours
    shown = [one for one in INSIDE.finditer(answered) if one[0] not in asked]
    assert [answered[max(0, one.start() - 200) : one.end() + 100] for one in shown] == []


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
    async with world(database_url, options=ACCOUNT, **{"admin_tokens": (ADMIN,)} | changes) as w:
        transport = httpx.ASGITransport(app=heard.recorded(create_app(w.ctx)), raise_app_exceptions=False)

        def client(token: str) -> httpx.AsyncClient:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return httpx.AsyncClient(transport=transport, base_url="http://taxiway.test", headers=headers)

        async with client("") as anyone, client(API_KEY) as api, client(CRON_SECRET) as cron:
            yield Target(w, anyone, api, cron)


def refused(response: httpx.Response, *wanted: int) -> None:
    """An answer that says no, in the one form."""
    exchange = (response.request.method, str(response.request.url)[:200], response.status_code, response.text[:500])
    assert response.status_code in wanted, exchange
    if response.request.method != "HEAD":
        assert response.headers["content-type"] == "application/problem+json", exchange
        assert {"type", "title", "status", "detail"} <= response.json().keys(), exchange
        assert not INSIDE.search(response.text), exchange


# The document, and everything that can be made from it.


@pytest.fixture(scope="module")
def address(server_url: str, template_name: str, heard: Heard) -> Iterator[str]:
    """The address of a service on a real socket, in a thread of its own."""
    ready: queue.Queue[str | BaseException] = queue.Queue()
    stop = threading.Event()

    async def serve(url: str) -> None:
        async with (
            world(url, admin_tokens=(ADMIN,), **WEBHOOKS) as w,
            on_socket(heard.recorded(create_app(w.ctx))) as at,
        ):
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


@pytest.fixture(scope="module")
def wire() -> Iterator[httpx.Client]:
    """A client for it: to make one takes longer than to ask with it."""
    with httpx.Client(trust_env=False) as client:
        yield client


DOCUMENT = schemathesis.openapi.from_dict(openapi.build(ENDPOINTS))
OPERATIONS: list[Any] = [found.ok() for found in DOCUMENT.get_all_operations()]  # type: ignore[union-attr]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


MODES = [
    (operation, mode)
    for operation in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode is GenerationMode.POSITIVE or operation.body or operation.query or operation.path_parameters
]


@pytest.mark.parametrize(("operation", "mode"), MODES, ids=lambda it: getattr(it, "label", None) or it.value)
def test_answers_are_what_the_document_says(
    address: str, wire: httpx.Client, operation: Any, mode: GenerationMode
) -> None:
    tokens = credentials(operation.path)
    made = wire.post(f"{address}/videos", json=ordinary(), headers=credentials("/videos"))

    @settings(SETTINGS, max_examples=EXAMPLES)
    @given(case=operation.as_strategy(generation_mode=mode))
    def attack(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = made.json()["id"]
        if operation.path == "/callbacks/runway":
            response = signed_post(wire, address, case.body)
        else:
            response = case.call(base_url=address, headers=tokens, allow_redirects=False)
        case.validate_response(response, checks=CHECKS)

    attack()


def signed_post(wire: httpx.Client, address: str, body: object) -> httpx.Response:
    """A callback whose signature is good, whatever its body is."""
    raw = json.dumps(body if isinstance(body, dict | list | str | int | None) else str(body)).encode()
    headers = webhooks.headers(CALLBACK_SECRET, f"msg_{uuid4().hex}", int(time.time()), raw)
    return wire.post(f"{address}/callbacks/runway", content=raw, headers=headers)


def ordinary(**changes: Any) -> dict[str, Any]:
    return {"input": {"promptText": "a boat", "promptImage": IMAGE}} | changes


def credentials(path: str) -> dict[str, str]:
    """The headers with which this path opens."""
    if path.startswith(("/process", "/poll")):
        return {"authorization": f"Bearer {CRON_SECRET}"}
    # With a token, /health tells where the database is, which strangers must not learn.
    return {} if path in OPEN else {"authorization": f"Bearer {ADMIN}"}


# Who may come in.


def paths() -> list[tuple[str, str]]:
    """Every route for programs with every method that it takes, HEAD included. The page's: tests/web/test_page.py."""
    video = str(uuid4())
    return sorted(
        (method, path.replace("{id}", video).replace("{name}", "quickstart"))
        for one in ENDPOINTS
        for path in one.paths
        for method in {*one.methods, *(["HEAD"] if one.method == "GET" else [])}
    )


WRONG = {
    "nothing": {},
    "empty": {"authorization": ""},
    "a scheme alone": {"authorization": "Bearer"},
    "an empty token": {"authorization": "Bearer "},
    "a wrong token": {"authorization": "Bearer wrong-token-0123456789"},
    "no scheme": {"authorization": API_KEY},
    "another scheme": {"authorization": f"Basic {API_KEY}"},
    "the beginning": {"authorization": f"Bearer {API_KEY[:-1]}"},
    "more than all": {"authorization": f"Bearer {API_KEY}x"},
    "twice": {"authorization": f"Bearer {API_KEY}, Bearer {API_KEY}"},
    "Runway's key": {"authorization": f"Bearer {RUNWAY_KEY}"},
    "another header": {"x-api-key": API_KEY, "cookie": f"authorization=Bearer {API_KEY}"},
    "bytes": {"authorization": b"Bearer \xff\xfe\x00"},
    "huge": {"authorization": "Bearer " + "x" * 100_000},
}


async def test_without_its_secret_nothing_opens(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard) as t:
        video_id = await t.world.enqueue()
        for words, (method, path) in itertools.product(WRONG, paths()):
            if path in OPEN:
                continue
            path = re.sub("[0-9a-f-]{36}", str(video_id), path)
            response = await t.anyone.request(method, path, headers=WRONG[words])  # type: ignore[arg-type]
            if method in ("HEAD", "OPTIONS") and path.startswith(("/process", "/poll")):
                assert (response.status_code, response.content) == (204, b""), words  # and nothing was done
            else:
                refused(response, 401)
        assert (await t.world.row(video_id))["status"] == "queued"
        assert await t.world.rows("SELECT FROM taxiway.ticks") == []
        assert t.world.creates == []


async def test_each_secret_opens_its_own_routes_alone(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard) as t:
        for method, path in paths():
            if method in ("GET", "POST") and path not in OPEN:
                anonymous = t.cron if path.startswith(("/videos", "/quotes", "/bulk", "/uploads")) else t.api
                refused(await anonymous.request(method, path), 401)
                if path.startswith(("/process", "/poll")):
                    refused(await t.anyone.request(method, path, headers={"authorization": f"Bearer {ADMIN}"}), 401)
        for both in (f"Bearer {API_KEY}", "Bearer wrong"), ("Bearer wrong", f"Bearer {API_KEY}"):
            pairs = [("authorization", value) for value in both]
            refused(await t.anyone.get("/videos", headers=pairs), 401)
        for scheme in ("bearer", "BEARER", "Bearer "):
            response = await t.anyone.get("/videos", headers={"authorization": f"{scheme} {API_KEY}"})
            assert response.status_code == 200


async def test_what_has_no_secret_is_closed_and_says_which(database_url: str, heard: Heard) -> None:
    nothing: dict[str, Any] = {"api_keys": (), "cron_secret": (), "callback_secrets": (), "admin_tokens": ()}
    async with target(database_url, heard, **nothing) as t:
        for method, path in paths():
            for headers in ({}, {"authorization": "Bearer "}, {"authorization": f"Bearer {API_KEY}"}):
                response = await t.anyone.request(method, path, headers=headers)
                if path in OPEN:
                    assert response.status_code == 200
                elif method not in ("HEAD", "OPTIONS") or not path.startswith(("/process", "/poll")):
                    refused(response, 503)
        assert await t.world.rows("SELECT FROM taxiway.ticks") == []


async def test_other_methods_do_nothing(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard) as t:
        taken = set(paths())
        for path in sorted({path for _, path in taken}):
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND"):
                if (method, path) in taken or (method == "GET" and ("HEAD", path) in taken):
                    continue
                response = await t.api.request(method, path)
                refused(response, 405)
                assert response.headers["allow"]
        assert await t.world.rows("SELECT FROM taxiway.ticks") == []


TRICKS = [
    "//videos",
    "/videos/",
    "/videos//",
    "/./videos",
    "/health/../videos",
    "/videos/..",
    "/%2e%2e/videos",
    "/videos%2f",
    "/VIDEOS",
    "/videos;a=b",
    "/videos/.",
    "/videos%00",
    "/videos%0d%0aX:y",
    "/videos\\",
    "/process-queued//",
    "/process-queued/.",
    "/process-queued;",
    "/process-queued%20",
    "/process-queued/x",
    "/callbacks/runway/",
    "/callbacks/",
    "/callbacks",
    "/.env",
    "/.git/config",
    "/migrations/0001_videos_and_submissions.sql",
    "/service/settings.py",
    "/" + "a/" * 5_000,
    "/" + "a" * 100_000,
    "/%ff%fe",
    "/\u202e",
    "/*",
    "/?",
    "",
    "*",
    "/health/%2e%2e/%2e%2e/etc/passwd",
    "/openapi.json/",
    "/metrics",
]


async def test_no_path_leads_round_a_check(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard) as t:
        app = heard.recorded(create_app(t.world.ctx))
        for path, method in itertools.product(TRICKS, ("GET", "POST")):
            scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
            sent = await raw_call(app, scope)
            assert sent[0]["status"] in (401, 404, 405), (method, path[:40])
        assert await t.world.rows("SELECT FROM taxiway.ticks") == []


async def raw_call(app: ASGIApp, scope: dict[str, Any], body: bytes = b"") -> list[Message]:
    """One ASGI call with nothing between us and the app."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        sent.append(message)

    whole = {"headers": [], "root_path": "", "scheme": "http", "http_version": "1.1", "server": ("t", 80)}
    await app(whole | scope, receive, send)
    return sent


NO_IDS = ["\0", "%00", "x" * 10_000, "...", "0", "-1", "null", "é", "' OR ''='", "%ed%a0%80"]


async def test_an_id_that_is_none_is_no_video(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard) as t:
        for rest, video_id in itertools.product(["", "/file", "/submissions", "/retry", "/cancel"], NO_IDS):
            method = "POST" if rest in ("/retry", "/cancel") else "GET"
            refused(await t.api.request(method, f"/videos/{quote(video_id, safe='%')}{rest}"), 404)


# What may be in it.

TEXTS = [
    "\0",
    "a\0b",
    "\ud800",
    "a\udfff\ud800b",
    "\u202e\ufeff",
    "'; DROP TABLE taxiway.videos; --",
    "%s%n%x",
    "${jndi:ldap://x/a}",
    "{{7*7}}",
    "../../etc/passwd",
    "\r\nSet-Cookie: a=b",
    "x" * 20_000,
    "😀" * 2_000,
    "",
    " ",
    "NaN",
    "null",
    "<script>",
    "\x7f\x1b[2J",
]
NUMBERS = [
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "9" * 400,
    "9" * 5_000,
    "-" + "9" * 400,
    "1.0000000000000001",
    "9223372036854775808",
    "-0",
    "1e-400",
    "0.1",
    "true",
    "[]",
    "{}",
    '"5"',
]
TIMES = [
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "2026-01-01T00:00:00",
    "2026-13-01T00:00:00Z",
    "infinity",
    "-infinity",
    "now",
    "epoch",
    "\0",
    "",
    "1e18",
    "99999999999999999999",
]


def places(value: str) -> list[str]:
    """Bodies of POST /videos, as JSON texts, with this JSON text in each place where a value can be."""
    fine = json.dumps(ordinary())[:-1]
    texts = [
        f'{fine}, "{name}": {value}}}'
        for name in ("operation", "priority", "run_after", "expires_at", "metadata", "user_id", "unknown", "input")
    ]
    texts += [f'{fine}, "{name}": {{"k": {value}}}}}' for name in ("metadata", "user_id")]
    names = ("model", "promptText", "promptImage", "ratio", "duration", "seed", "contentModeration", "unknown")
    for name in names:
        rest = {"promptText": "a boat", "promptImage": IMAGE} | {name: "VALUE"}
        texts.append(json.dumps({"input": rest}).replace('"VALUE"', value))
    nested = {"input": {"promptText": "a", "promptImage": [{"uri": "VALUE", "position": "first"}]}}
    texts.append(json.dumps(nested).replace('"VALUE"', value))
    if value.startswith('"'):
        texts += [
            f"{fine}, {value}: 1}}",
            f'{fine}, "metadata": {{{value}: {value}}}}}',
        ]
        texts.append(
            json.dumps({"input": {"promptText": "a boat", "promptImage": IMAGE, "KEY": 1}}).replace('"KEY"', value)
        )
    return texts


async def attack_everywhere(t: Target, value: str) -> None:
    for body in places(value):
        response = await t.api.post("/videos", content=body.encode())
        if response.status_code != 202:
            refused(response, 400, 422)


@pytest.mark.parametrize("value", [*NUMBERS, *map(json.dumps, TEXTS + TIMES)], ids=lambda value: value[:20])
async def test_any_value_anywhere_in_a_request(database_url: str, heard: Heard, value: str) -> None:
    async with target(database_url, heard) as t:
        await attack_everywhere(t, value)
        await t.still_works()


NO_REQUESTS = [
    b"",
    b"\xff",
    b"\0",
    b"nul",
    b"[]",
    b"1",
    b"{",
    b"[" * 200_000,
    b'{"a":' * 50_000,
    b"{" + b" " * 100_000,
    b'{"input": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
    b'{"metadata": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"input": {}, "input": {}}',
    b"\xef\xbb\xbf{}",
    '{"input": {}}'.encode("utf-16"),
]


async def test_a_body_that_is_no_request(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard) as t:
        for raw in NO_REQUESTS:
            refused(await t.api.post("/videos", content=raw), 400, 422)
            video_id = await t.world.enqueue()
            refused(await t.api.post(f"/videos/{video_id}/retry", content=raw), 400, 409, 413, 422)


async def test_metadata_that_is_nested_deeply_comes_back(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard) as t:
        for depth, status in ((10, 202), (bodies.DEEPEST - 1, 202), (bodies.DEEPEST, 400), (300, 400), (900, 400)):
            for opening, closing in (('{"a":', "}"), ("[", "]")):
                inner = opening * (depth - 1) + "1" + closing * (depth - 1)
                raw = json.dumps(ordinary())[:-1] + f', "metadata": {{"a": {inner}}}}}'
                response = await t.api.post("/videos", content=raw.encode())
                assert response.status_code == status, (depth, response.text)
        await t.still_works()


async def test_a_body_that_is_too_large_or_lies_about_it(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard, max_body_bytes=10_000) as t:
        raw = json.dumps(ordinary(metadata={"a": "x" * 10_000})).encode()
        refused(await t.api.post("/videos", content=raw), 413)
        refused(await t.api.post("/videos", content=b"{}", headers={"content-length": "9" * 30}), 413)

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b" " * 1_000

        refused(await t.api.post("/videos", content=endless()), 413)
        for lie in (b"-1", b"\xb2", b"1e3", b"0x10"):
            refused(await t.api.post("/videos", content=b"{}", headers=[(b"content-length", lie)]), 422)


@pytest.mark.parametrize("value", [*TEXTS, "9" * 400, "1,2", "😀"], ids=lambda value: repr(value)[:20])
async def test_any_value_in_a_query_or_a_header(database_url: str, heard: Heard, value: str) -> None:
    raw = value.encode("utf-8", "surrogatepass")
    async with target(database_url, heard) as t:
        await t.world.enqueue()
        for name in ("status", "model", "error_code", "cursor", "limit", "unknown"):
            response = await t.api.get(f"/videos?{name}={quote(raw)}")
            if response.status_code != 200:
                refused(response, 422)
        for path in ("/process-queued", "/poll-processing"):
            response = await t.cron.get(f"{path}?budget={quote(raw)}")
            if response.status_code != 200:
                refused(response, 422)
        for name in (
            "idempotency-key",
            "content-type",
            "content-encoding",
            "accept",
            "if-none-match",
            "x-forwarded-for",
            "host",
        ):
            response = await t.api.post("/videos", json=ordinary(), headers=[(name.encode(), raw)])
            if response.status_code != 202:
                refused(response, 400, 422)
        await t.still_works()


CURSORS = [
    "",
    "|",
    "9999-12-31T23:59:59-14:00|{id}",
    "0001-01-01T00:00:00+14:00|{id}",
    "2026-01-01|{id}",
    "2026-01-01T00:00:00+00:00|x",
    "\0|{id}",
    "2026-01-01T00:00:00+23:59|{id}",
]


async def test_a_cursor_that_was_made_up(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard) as t:
        await t.world.enqueue()
        for cursor in CURSORS:
            text = base64.urlsafe_b64encode(cursor.replace("{id}", str(uuid4())).encode()).decode()
            response = await t.api.get("/videos", params={"cursor": text})
            if response.status_code != 200:
                refused(response, 422)


async def test_a_flood_of_headers(database_url: str, heard: Heard) -> None:
    async with target(database_url, heard) as t:
        app = heard.recorded(create_app(t.world.ctx))
        flood = [(f"x-{number}".encode(), b"x" * 100) for number in range(5_000)]
        secret = (b"authorization", f"Bearer {API_KEY}".encode())
        for headers, status in (([*flood, secret], 200), (flood, 401), ([secret] * 5_000, 401)):
            # Without a client between: httpx takes seconds for them.
            scope = {"type": "http", "method": "GET", "path": "/videos", "query_string": b"", "headers": headers}
            assert (await raw_call(app, scope))[0]["status"] == status
        keys = [("idempotency-key", str(number)) for number in range(100)]
        assert (await t.api.post("/videos", json=ordinary(), headers=keys)).status_code in (202, 422)


async def test_floods_on_a_socket_do_not_reach_the_app(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    for flood in (
        b"GET /videos HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 1_000_000,
        b"\0" * 1_000,
        b"GET " + b"/a" * 500_000,
        b"POST /videos HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(flood)
        async with asyncio.timeout(10):
            answer = await reader.read(100)
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 401")), answer
        writer.close()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{address}/health/live")).status_code == 200


# What goes out.


async def test_nothing_fetches_what_a_caller_names(database_url: str, heard: Heard) -> None:
    fetched: list[bytes] = []

    async def trap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fetched.append(await reader.read(100))
        writer.close()

    async with await asyncio.start_server(trap, "127.0.0.1", 0) as server, target(database_url, heard) as t:
        port = server.sockets[0].getsockname()[1]
        accepted = []
        for image in (
            f"http://127.0.0.1:{port}/a.jpg",
            f"https://127.0.0.1:{port}/a.jpg",
            f"https://localhost:{port}/a.jpg",
            f"https://localhost.localdomain:{port}/a.jpg",
            f"https://user:pass@localhost:{port}/a.jpg",
            f"https://0x7f.1:{port}/a",
            f"https://2130706433:{port}/a",
            f"https://[::1]:{port}/a",
            "file:///etc/passwd",
            f"https://127.0.0.1.nip.io:{port}/a.jpg",
            "https://169.254.169.254/latest/meta-data",
            f"gopher://127.0.0.1:{port}/",
            f"https://ⓛocalhost:{port}/a.jpg",
            f"//localhost:{port}/a.jpg",
            f"HTTPS://LOCALHOST:{port}/a.jpg",
        ):
            response = await t.api.post("/videos", json={"input": {"promptText": "a", "promptImage": image}})
            if response.status_code == 202:
                accepted.append(response.json()["id"])
            else:
                refused(response, 422)
        await t.still_works()
        for video_id in accepted:
            task_id = (await t.world.row(video_id))["runway_video_id"]
            lie = {"task_id": task_id, "webhook": f"http://127.0.0.1:{port}/", "output": [f"https://localhost:{port}/"]}
            raw = json.dumps(lie).encode()
            headers = webhooks.headers(CALLBACK_SECRET, f"msg_{task_id}", int(t.world.clock()), raw)
            assert (await t.anyone.post("/callbacks/runway", content=raw, headers=headers)).status_code == 202
        await t.world.finish()
        for video_id in accepted:
            response = await t.api.get(f"/videos/{video_id}/file")
            assert response.headers["location"].startswith("http://runway.test/")
        assert fetched == []


async def test_an_image_in_the_request_is_seen_by_runway_alone(database_url: str, heard: Heard) -> None:
    image = f"data:image/png;base64,{PIXELS}"
    async with target(database_url, heard) as t:
        body = {"input": {"promptText": "a", "promptImage": image}}
        video = (await t.api.post("/videos", json=body)).json()
        assert video["input"]["promptImage"] == "data:image/png;base64,[…]"
        refused(await t.api.post("/videos", json=body | {"priority": "high"}), 422)
        refused(
            await t.api.post("/videos", json={"input": {"promptImage": image, "ratio": image, "model": image}}), 422
        )
        refused(await t.api.post("/videos", json={"input": {image: image}, image: image, "operation": image}), 422)
        refused(await t.api.post("/videos", json=body | {"user_id": image}), 422)
        refused(await t.api.get("/videos", params={"status": image}), 422)
        refused(await t.api.get(f"/videos/{quote(image, safe='')}"), 404)
        t.world.faults("status=500")
        await t.still_works()
        t.world.faults("status=400")
        await t.still_works()
        await t.world.later(minutes=3)
        await t.still_works()
        row = await t.world.row(video["id"])
        assert row["image_url"] is None


@pytest.mark.parametrize("away", ["refused", "unknown database", "no schema"])
async def test_with_the_database_away_the_answers_say_no_more_than_that(
    database_url: str, empty_database_url: str, heard: Heard, away: str
) -> None:
    urls = {
        "refused": "postgresql://the-user:the-password@127.0.0.1:1/the-database",
        "unknown database": renamed(database_url, "the-database"),
        "no schema": empty_database_url,
    }
    async with target(urls[away], heard) as t:
        for method, path in paths():
            client = t.cron if path.startswith(("/process", "/poll")) else t.api
            response = await client.request(method, path, content=json.dumps(ordinary()) if method == "POST" else None)
            if path.startswith(("/health/live", "/openapi.json", "/docs")) or response.status_code == 204:
                continue
            assert response.status_code in (401, 422, 503) or (away, path) == ("no schema", "/health/ready"), (
                path,
                response.text,
            )
            assert not re.search("the-|127\\.0|No such file|Connect call", response.text), response.text


async def test_a_key_that_runway_repeats_does_not_get_through(database_url: str, heard: Heard) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401, json={"error": f"{request.headers['authorization']} is disabled"})

    async with target(database_url, heard) as t:
        await t.world.enqueue()
        await tick(replace(t.world.ctx, transport=lambda: httpx.MockTransport(echo)))
        detail = (await t.api.get("/health")).json()["models_paused"][0]["detail"]
        assert "[secret] is disabled" in detail
