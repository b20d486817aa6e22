"""What strangers send, and what of our secrets comes out, by the number of the case.

Others of these cases are tested where they belong:

* S1 and S2, any body to any route: test_bounds.test_four_megabytes_of_anything
* S3, half a head: test_connections.test_half_a_head_is_waited_for_only_so_long
* S6, a logout: test_page.TestSession.test_after_the_logout_its_cookie_is_worth_nothing
* S7, any header: test_bounds.test_anything_in_any_header
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from service.app import ENDPOINTS, KINDS, create_app
from service.doctor.report import run_checks
from service.logs import ConsoleFormatter, JsonFormatter
from service.redaction import Redactor
from service.tick import tick
from service.web import health, page, request_limits
from service.web.page import login, media
from tests.commands import running
from tests.database import connected
from tests.pages import ADMIN_TOKEN, SITE, browser, check, control
from tests.ports import free_port
from tests.roles import role
from tests.system.test_commands import environment
from tests.world import API_KEY, IMAGE, RUNWAY_KEY, World, world

pytestmark = pytest.mark.anyio

MEGABYTES = 4_400_000


async def test_s1_a_million_wrong_entries(w: World) -> None:
    body = b'{"filter": {"status": [' + b'"x",' * 1_100_000 + b'"x"]}}'
    response = await w.api.post("/bulk/cancel", content=body)
    assert (response.status_code, len(response.content) < 1_000) == (413, True)
    few = json.dumps({"filter": {"status": ["x"] * 5_000}}).encode()
    response = await w.api.post("/bulk/cancel", content=few)
    assert (response.status_code, len(response.content) < 64_000) == (422, True)
    problem = response.json()
    assert len(problem["errors"]) == 21
    assert problem["errors"][-1]["detail"].startswith("and ")
    assert problem["errors"][-1]["detail"].endswith(" more")


async def test_s2_a_login_takes_four_kilobytes_and_five_seconds(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (login.LARGEST_LOGIN_BYTES, login.SLOWEST_LOGIN_SECONDS) == (4_000, 5)
    monkeypatch.setattr(login, "SLOWEST_LOGIN_SECONDS", 0.05)
    asked = []

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MEGABYTES // 1_000):
            asked.append(1_000)
            yield b"%41" * 333 + b"A"

    async def trickle() -> AsyncIterator[bytes]:
        yield b"token="
        await asyncio.Event().wait()

    async with control(database_url) as site:
        assert (await site.anonymous.client.post("/login", content=endless())).status_code == 413
        assert sum(asked) <= login.LARGEST_LOGIN_BYTES + 2_000
        assert (await site.anonymous.client.post("/login", content=trickle())).status_code == 408


SERVER = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from service import connections
connections.HEAD_SECONDS = 1.0
from service.__main__ import main
sys.argv = ["taxiway", "web", "--port", sys.argv[1]]
main()
"""


async def test_s3_half_sent_heads_do_not_kill_a_server_with_few_descriptors(database_url: str, tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, [sys.executable, "-c", SERVER, str(port)], **environment(database_url)) as server:
        await asyncio.to_thread(server.wait_for, "listening on")
        async with asyncio.timeout(30):
            halves = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(140)))
            for _, writer in halves:
                writer.write(b"GET /health HTTP/1.1\r\nhost: a\r\nx-half: ")
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                for _ in range(3):
                    assert (await client.get("/health/ready")).status_code == 200
                await asyncio.gather(*(_gone(reader) for reader, _ in halves))
                assert (await client.get("/health/ready")).status_code == 200
        for _, writer in halves:
            writer.close()
        assert await asyncio.to_thread(server.end) == 0
        assert "Too many open files" not in server.log


async def _gone(reader: asyncio.StreamReader) -> None:
    try:
        await reader.read()
    except ConnectionError:
        return


async def test_s3_sixty_clients_of_health_share_one_report(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now, made = [0.0], []
    real, shown = health._facts, frozenset({"status", "counts", "counted_at"})

    async def counted(database: Any, settings: Any) -> Any:
        made.append(now[0])
        return await real(database, settings)

    monkeypatch.setattr(health, "_facts", counted)
    ctx = replace(w.ctx, monotonic=lambda: now[0], report_seconds=2.0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app(ctx)), base_url=SITE) as client:
        for seconds in (0.0, 1.9, 2.0):
            now[0] = seconds
            answers = await asyncio.gather(*(client.get("/health") for _ in range(60)))
            assert {answer.status_code for answer in answers} == {200}
            assert {frozenset(answer.json()) for answer in answers} == {shown}
        assert made == [0.0, 2.0]
        with_token = await client.get("/health", headers={"authorization": f"Bearer {API_KEY}"})
        assert {"concerns", "models_paused", "last_tick", "missing_settings"} <= with_token.json().keys()
        assert "doctor" not in with_token.json()


async def test_a_report_that_could_not_be_made_is_shared_as_well() -> None:
    async with (
        world("postgresql://nobody@127.0.0.1:9/nothing") as w,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=create_app(replace(w.ctx, report_seconds=60.0))), base_url=SITE
        ) as client,
    ):
        for path in ("/health", "/health/ready"):
            answers = await asyncio.gather(*(client.get(path) for _ in range(20)))
            assert {answer.status_code for answer in answers} == {503}
        assert answers[0].json().keys() == {"type", "title", "status", "detail"}
        assert (await client.get("/health")).json() == {"status": "down"}


TABLE = (*ENDPOINTS, *page.SCREENS)
ONE_OF_EACH = {"/videos", "/process-queued", "/health", "/login", "/callbacks/runway", "/ui/videos/events"}


@pytest.mark.parametrize("path", sorted(ONE_OF_EACH))
async def test_each_kind_of_request_has_its_own_limit_and_keeps_no_other_out(path: str) -> None:
    started, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == path:
            started.release()
            await go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    limited = request_limits.Limits(app, request_limits.Kinds(KINDS), dict.fromkeys(request_limits.MOST, 2))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=limited), base_url=SITE) as client:
        async with asyncio.TaskGroup() as group:
            two = [group.create_task(client.get(path)) for _ in range(2)]
            for _ in range(2):
                await started.acquire()
            refused = await client.get(path)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["type"] == "urn:taxiway:problem:busy"
            others = ONE_OF_EACH - {path}
            assert {(await client.get(other)).status_code for other in others} == {204}
            go_on.set()
        assert [task.result().status_code for task in two] == [204, 204]
        assert (await client.get(path)).status_code == 204


async def test_s3_there_is_a_reserve_for_cron_and_health() -> None:
    kinds = request_limits.Kinds(KINDS)
    for template in KINDS:
        path = template.replace("{id}", str(uuid4()))
        kind = kinds.of(path)
        is_reserved = path.startswith(("/process", "/poll", "/health"))
        assert (kind in (request_limits.CRON, request_limits.HEALTH)) == is_reserved, path
        is_streaming = path.startswith("/ui/") and path.endswith(("/events", "/media", "/image", "/thumbnail"))
        assert (kind == request_limits.STREAM) == is_streaming, path


# Each secret is a marker, in no other text.
MARKS: dict[str, str] = {
    "api_keys": "marker-api-key-abc-0123456789",
    "cron_secret": "marker-cron-secret-0123456789",
    "admin_tokens": "marker-admin-token-0123456789",
    "viewer_tokens": "marker-viewer-token-0123456789",
    "callback_secrets": "whsec_bWFya2VyLWNhbGxiYWNrLXNlY3JldC0wMTIz",
    "runway_key": "marker-runway-key-0123456789",
    "header": "marker-custom-header/&+\"0123456789",
    "bearer": "marker-custom-bearer-0123456789",
    "password": "marker-p@ssword-0123456789",
    "heartbeat": "marker-heartbeat-0123456789",
}  # fmt: skip
ALL_ROWS = "SELECT relname FROM pg_class WHERE relnamespace = 'taxiway'::regnamespace AND relkind = 'r'"


def marked(url: str) -> dict[str, Any]:
    """Settings in which every secret is a marker. `url`: as a role whose password is one."""
    return {
        **{name: (MARKS[name],) for name in ("api_keys", "cron_secret", "admin_tokens", "viewer_tokens")},
        "callback_secrets": (MARKS["callback_secrets"],),
        "runway_key": MARKS["runway_key"],
        "runway_headers": f"X-Gateway: {MARKS['header']}\nX-Other: Bearer {MARKS['bearer']}",
        "heartbeat_url": f"https://hc.example.com/{MARKS['heartbeat']}",
        "database_url": url,
    }


def echo(request: httpx.Request) -> str:
    """Everything that was sent, and every other secret too, in the ways in which gateways repeat them."""
    everything = [f"{name}: {value}" for name, value in request.headers.items()]
    everything += [
        form for mark in MARKS.values() for form in (mark, quote(mark, safe=""), json.dumps(mark), repr(mark))
    ]
    return f"{request.method} {request.url} " + " ".join(everything) + request.content.decode("utf-8", "replace")


def gateway(number: int, request: httpx.Request) -> httpx.Response:
    """One of the answers in which a gateway repeats what it got."""
    said, headers = echo(request), {"apigw-requestid": echo(request).encode("ascii", "replace")[:3_000].decode()}
    task = "17f20503-6c24-4c16-946b-35dbbce2af2f"
    if request.url.path.endswith("/organization"):
        return httpx.Response((200, 401, 500)[number % 3], json={"error": said, "creditBalance": said, "tier": said})
    if request.method == "GET":
        body = {"id": task, "status": said if number % 2 else "FAILED", "failure": said, "failureCode": said}
        return httpx.Response(200 if number % 3 else 502, json=body, headers=headers)
    match number % 6:
        case 0:
            return httpx.Response(
                400, json={"error": said, "issues": [{"path": [said], "message": said}]}, headers=headers
            )
        case 1:
            return httpx.Response(200, json={"id": task, "said": said}, headers=headers)
        case 2:
            return httpx.Response(500, text=f"<html>{said}", headers=headers)
        case 3:
            raise httpx.ReadError(said, request=request)
        case 4:
            return httpx.Response(429, json={"error": said}, headers=headers)
        case _:
            return httpx.Response(401, json={"error": said}, headers=headers)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[io.StringIO]:
    """Every line of the log, raw: not even a formatter that forgets to redact would show anything."""
    out = io.StringIO()
    handler, root = logging.StreamHandler(out), logging.getLogger()
    handler.addFilter(lambda record: record.name.startswith("service"))
    caplog.set_level(logging.DEBUG)
    root.addHandler(handler)
    yield out
    root.removeHandler(handler)


async def everywhere(w: World, out: io.StringIO) -> AsyncIterator[tuple[str, str]]:
    """Each place in which a text is kept or shown, with what stands there."""
    yield "log", out.getvalue()
    async with connected(w.url) as connection:
        for (table,) in await connection.fetch(ALL_ROWS):
            rows = await connection.fetch(f"SELECT t::text FROM taxiway.{table} t")
            yield f"table {table}", "\n".join(row[0] for row in rows)
    yield "doctor", str(await run_checks(w.ctx, {}))
    one = browser(w.ctx)
    await one.login(MARKS["admin_tokens"])
    video_ids = [row["id"] for row in await w.rows("SELECT id FROM taxiway.videos")]
    for route in TABLE:
        if "GET" not in route.method or route.path.endswith("/events"):
            continue
        for video_id in video_ids if "{id}" in route.path else video_ids[:1]:
            path = route.path.replace("{id}", str(video_id)).replace("{path}", "app.css").replace("{name}", "security")
            token = MARKS["cron_secret"] if path.startswith(("/process", "/poll")) else MARKS["admin_tokens"]
            headers = {"authorization": f"Bearer {token}"}
            answer = await (one.client if route in page.SCREENS else w.anyone).get(path, headers=headers)
            yield path, answer.text + str(answer.headers.get("location", ""))


async def test_s4_what_runway_repeats_is_nowhere(database_url: str, lines: io.StringIO) -> None:
    async with (
        role(database_url, options="SUPERUSER", password=MARKS["password"]) as (_, url),
        world(database_url, **(marked(url) | {"max_credits_per_day": 10_000})) as w,
    ):
        numbers = iter(range(1_000))
        ctx = replace(w.ctx, transport=lambda: httpx.MockTransport(lambda request: gateway(next(numbers), request)))
        w.ctx = ctx
        key = {"authorization": f"Bearer {MARKS['api_keys']}"}
        w.api.headers.update(key)
        for _ in range(6):
            await w.enqueue()
            await tick(ctx)
            await w.later(minutes=20)
        await w.rows("UPDATE taxiway.models SET paused_until = NULL, reason = NULL")
        await tick(ctx)
        seen = [(place, text) async for place, text in everywhere(w, lines)]
    assert len(seen) > 40
    assert any("[secret]" in text for _, text in seen)
    for place, text in seen:
        for name, mark in MARKS.items():
            for form in (mark, quote(mark, safe=""), json.dumps(mark)[1:-1], mark[:16]):
                assert form not in text, (name, place, text[max(0, text.find(form) - 200) :][:400])


SIGNED = f"{IMAGE}?X-Amz-Signature=c0ffee01c0ffee&X-Amz-Credential=c0ffee02&sig=c0ffee03&token=c0ffee04&width=5"


async def test_s5_a_user_in_an_image_address_is_refused_and_a_signature_is_shown_nowhere(
    w: World, lines: io.StringIO
) -> None:
    for image in ("https://user:c0ffee@example.com/x.jpg", "https://c0ffee@example.com/x.jpg"):
        for uri in (image, [{"uri": image, "position": "first"}]):
            response = await w.api.post("/videos", json={"input": {"promptText": "a", "promptImage": uri}})
            assert (response.status_code, "c0ffee" in response.text) == (422, False)
            assert "user or a password" in response.json()["detail"]

    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": f"cannot fetch {json.loads(request.content)['promptImage']}"})

    video_id = await w.enqueue(input={"promptText": "a boat", "promptImage": SIGNED})
    await tick(replace(w.ctx, transport=lambda: httpx.MockTransport(refuse)))
    row = await w.row(video_id)
    assert row["error_message"].count("[secret]") == 4
    assert "width=5" in row["error_message"]
    shown = [(await w.api.get(f"/videos/{video_id}/{part}")).text for part in ("events", "submissions")]
    shown += [lines.getvalue(), *(line["error"] for line in await w.ledger(video_id))]
    assert [text for text in shown if "c0ffee" in text] == []
    assert (await w.api.get(f"/videos/{video_id}")).json()["error"]["message"] == row["error_message"]


def test_s5_a_log_line_names_no_signature() -> None:
    for formatter in (ConsoleFormatter, JsonFormatter):
        made = formatter(Redactor([RUNWAY_KEY])).format(
            logging.LogRecord("service.x", logging.INFO, "", 1, f"Fetching {SIGNED}", (), None)
        )
        assert "c0ffee" not in made
        assert "width=5" in made


async def test_s7_an_address_that_is_none(database_url: str) -> None:
    async with control(database_url) as site:
        for headers in ({"hx-current-url": "http://[", "hx-request": "true"}, {"origin": "http://["}, {"host": "["}):
            for method, path in (("GET", "/"), ("POST", "/login"), ("POST", "/logout"), ("POST", "/ui/ticks/run")):
                response = await site.anonymous.client.request(method, path, headers=headers)
                assert response.status_code in (200, 303, 401, 403), (headers, path)
        refused = await site.admin.client.post("/login", data={"token": ADMIN_TOKEN}, headers={"origin": "http://["})
        assert refused.status_code == 403
        assert "another site" in check(refused)


async def test_images_are_fetched_a_few_at_a_time_and_not_for_long(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "IMAGE_SECONDS", 0.1)
    now = [0, 0]

    async def trickle(*_: object, **__: object) -> tuple[bytes, str]:
        now[0] += 1
        now[1] = max(now)
        try:
            await asyncio.Event().wait()
        finally:
            now[0] -= 1
        return b"", "image/png"

    monkeypatch.setattr(media, "_image", trickle)
    async with control(database_url) as site:
        video_id = await site.world.enqueue()
        shown = await asyncio.gather(*(site.viewer.get(f"/ui/videos/{video_id}/image") for _ in range(20)))
        assert {(one.status_code, one.headers["content-type"]) for one in shown} == {(200, "image/svg+xml")}
    assert now == [0, 8]
