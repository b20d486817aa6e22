"""What a tick tells while it works: its id on every line, and the heartbeat at its end."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
from functools import cache
from pathlib import Path

import httpx
import pytest
import respx

from service import heartbeat, logs
from service.environment import load
from service.errors import BadSettings, DatabaseUnavailable
from service.logs import ConsoleFormatter, JsonFormatter, tick_ref
from service.redaction import Redactor
from service.tick import poll_only
from tests.world import warm, world

pytestmark = pytest.mark.anyio

SERVICE = Path(logs.__file__).parent
URL = "https://hc.example/ping/5b6a1c3e-2b47"


# Logs


class Lines(logging.Handler):
    """Every record, as JSON and as the console has it, written when it is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.json: list[dict[str, str]] = []
        self.console: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("service"):
            self.json.append(json.loads(JsonFormatter(Redactor()).format(record)))
            self.console.append(ConsoleFormatter(Redactor()).format(record))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    caplog.set_level(logging.INFO)
    handler = Lines()
    logging.getLogger().addHandler(handler)
    return handler


async def test_every_line_of_a_tick_bears_its_id(database_url: str, lines: Lines) -> None:
    async with world(database_url) as w:
        video_id = await w.enqueue()
        first = (await w.tick())["ref"]
        await w.later(minutes=1)
        second = (await w.tick())["ref"]
        rows = await w.rows("SELECT ref FROM taxiway.ticks ORDER BY id")
    assert [row["ref"] for row in rows] == [first, second]
    assert len(first) == 8
    about_it = [line for line in lines.json if line.get("video") == str(video_id)]
    assert {line["tick"] for line in about_it} == {first, second}
    assert next(line for line in about_it if line["event"] == "finished")["tick"] == second
    assert all(
        f" tick={line['tick']}" in text for line, text in zip(lines.json, lines.console, strict=True) if "tick" in line
    )
    assert tick_ref.get() is None


async def test_ticks_side_by_side_keep_their_ids_apart(database_url: str, lines: Lines) -> None:
    async with world(database_url) as w:
        await warm(w.url, 8)
        for _ in range(8):
            await w.enqueue()
        refs = {counts["ref"] for counts in await asyncio.gather(*(w.tick() for _ in range(4)))}
    assert len(refs) == 4
    by_video: dict[str, set[str]] = {}
    for line in lines.json:
        if "video" in line and "tick" in line:
            by_video.setdefault(line["video"], set()).add(line["tick"])
    assert len(by_video) == 8
    assert all(len(found) == 1 and found <= refs for found in by_video.values())


async def test_the_story_of_a_video_names_submission_and_task(database_url: str, lines: Lines) -> None:
    async with world(database_url) as w:
        video_id = await w.enqueue()
        await w.tick()
        [entry] = await w.ledger(video_id)
    by_event = {line["event"]: line for line in lines.json}
    for name in ("starting", "claimed", "accepted", "response", "row_updated"):
        assert by_event[name]["submission"] == entry["id"], name
    for name in ("accepted", "response", "row_updated"):
        assert by_event[name]["task"] == entry["task_id"], name


@cache
def calls_of_log() -> list[tuple[str, ast.Call]]:
    """Every `log.level(...)` and every `event(...)` of what works: with the module that has it."""
    return [
        (path.relative_to(SERVICE).as_posix(), node)
        for path in sorted(SERVICE.rglob("*.py"))
        if path.parent.name not in {"local", "simulator"}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def test_what_tells_of_work_is_an_event() -> None:
    plain = {
        module
        for module, call in calls_of_log()
        if isinstance(call.func, ast.Attribute)
        and getattr(call.func.value, "id", None) == "log"
        and call.func.attr in ("info", "warning", "error", "exception")
    }
    # What is told before there is any work, or for whoever sits at the terminal.
    assert plain <= {"context.py", "environment.py", "env_parsing.py", "serving.py", "installer/migrate.py"}


def test_each_event_has_one_name_that_is_a_word() -> None:
    names = [
        call.args[2].value
        for _, call in calls_of_log()
        if getattr(call.func, "id", None) == "event" and isinstance(call.args[2], ast.Constant)
    ]
    assert len(names) > 20
    assert all(isinstance(name, str) and name.replace("_", "").isalpha() and name.islower() for name in names)


# Heartbeat


async def test_every_tick_is_reported_and_a_poll_is_not(database_url: str) -> None:
    async with respx.mock(assert_all_called=False) as mock, world(database_url, heartbeat_url=URL) as w:
        route = mock.get(URL).respond(200)
        await w.tick()
        assert (await w.cron.get("/process-queued")).status_code == 200
        await poll_only(w.ctx)
        assert route.call_count == 2


async def test_a_step_that_failed_is_reported_as_a_failure(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr("service.steps.rescue.run_once", broken)
    monkeypatch.setattr("service.steps.submit.run_once", broken)
    async with respx.mock(assert_all_called=False) as mock, world(database_url, heartbeat_url=f"{URL}?rid=7") as w:
        await w.enqueue()
        fail = mock.get(f"{URL}/fail?rid=7").respond(200)
        assert "errors" in (await w.cron.get("/process-queued")).json()
        assert fail.call_count == 1


async def test_a_tick_that_could_not_run_is_reported_as_a_failure() -> None:
    async with respx.mock(assert_all_called=False) as mock:
        fail = mock.get(f"{URL}/fail").respond(200)
        async with world("postgresql://nobody@127.0.0.1:9/nothing", heartbeat_url=URL) as w:
            with pytest.raises(DatabaseUnavailable):
                await w.tick()
        assert fail.call_count == 1


@pytest.mark.parametrize(
    "trouble", [httpx.ConnectError("no"), httpx.Response(500), httpx.Response(302, headers={"location": URL})]
)
async def test_a_monitor_that_is_away_changes_nothing(
    database_url: str, trouble: httpx.Response | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with respx.mock(assert_all_called=False) as mock, world(database_url, heartbeat_url=URL) as w:
        mock.get(URL).mock(side_effect=[trouble])
        await w.enqueue()
        assert (await w.tick())["submit"]["accepted"] == 1
    assert "HEARTBEAT_URL" in caplog.text
    assert URL not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("service"))


async def test_a_monitor_that_hangs_is_not_waited_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(heartbeat, "LONGEST_SECONDS", 0.05)
    async with respx.mock(assert_all_called=False) as mock, world(database_url, heartbeat_url=URL) as w:
        mock.get(URL).mock(side_effect=hang)
        async with asyncio.timeout(20):
            await w.tick()


@pytest.mark.parametrize(
    "url",
    [
        "hc.example",
        "ftp://hc.example/x",
        "https://me:secret-word@hc.example/",
        "https://a b/",
        "https://a/#x",
        "https://[",
    ],
)
def test_a_url_that_cannot_be_called_stops_the_start(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HEARTBEAT_URL", url)
    with pytest.raises(BadSettings) as caught:
        load()
    assert str(caught.value).startswith("HEARTBEAT_URL must be a URL")
    assert "secret-word" not in str(caught.value)


def test_the_url_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEARTBEAT_URL", URL)
    assert "5b6a1c3e" not in Redactor(load().secrets)(f"GET {URL}/fail said 500")
