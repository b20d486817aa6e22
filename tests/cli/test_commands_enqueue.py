"""`enqueue`: from the options to the file on disk."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from typer.testing import Result

from service.context import Context
from service.errors import DatabaseUnavailable
from service.operations.outputs import Output
from service.operations.reading import live_outputs
from service.simulator.app import SimulatorOptions, create_simulator
from service.videos import Video
from tests.commands import command
from tests.database import execute
from tests.invoking import complaint, printed, taxiway, terminal
from tests.simulator_server import on_socket
from tests.world import IMAGE, World

pytestmark = pytest.mark.anyio

BOAT = ("--prompt", "a boat", "--image", IMAGE)


async def price(*arguments: object, **environment: str) -> dict[str, Any]:
    [one] = printed(await taxiway(None, "enqueue", "--dry-run", *arguments, **environment))
    assert isinstance(one, dict)
    return one


@asynccontextmanager
async def at_work(w: World, ctx: Context | None = None) -> AsyncIterator[list[int]]:
    """Ticks elsewhere, while a command waits."""
    ticks: list[int] = []

    async def go_on() -> None:
        while True:
            await w.tick()
            await w.later(seconds=20)
            ticks.append(1)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(go_on())
    try:
        yield ticks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Callable[[World], None]:
    """Commands wait on the world's own context, whose Runway is in this process."""

    def use(w: World) -> None:
        looks = iter(range(1_000))

        async def sleep(_seconds: float) -> None:
            next(looks)  # a test that hangs would tell less
            await asyncio.sleep(0.02)

        monkeypatch.setattr("service.commands.console.open_context", lambda: replace(w.ctx, sleep=sleep))

    return use


class TestRequest:
    """What is made of the options, without a database."""

    async def test_the_operation_follows_the_image(self) -> None:
        assert await price(*BOAT) == {
            "operation": "image_to_video",
            "model": "gen4_turbo",
            "input": {"model": "gen4_turbo", "promptText": "a boat", "promptImage": IMAGE, "ratio": "1280:720",
                      "duration": 5},
            "quoted_credits": 25,
        }  # fmt: skip
        text = await price("--prompt", "a boat")
        assert (text["operation"], text["model"]) == ("text_to_video", "gen4.5")
        named = await price(
            "--prompt", "a boat", "--image", IMAGE, "--operation", "image_to_video", "--model", "gen4.5"
        )
        assert named["model"] == "gen4.5"

    async def test_single_options_come_last(self, tmp_path: Path) -> None:
        whole = {"promptText": "a ship", "promptImage": IMAGE, "duration": 10, "seed": 7}
        (tmp_path / "input.json").write_text(json.dumps(whole), encoding="utf-8")
        for given in (f"@{tmp_path / 'input.json'}", json.dumps(whole)):
            priced = await price("--input", given, "--prompt", "a boat", "--ratio", "720:1280")
            assert priced["input"]["promptText"] == "a boat"
            assert (priced["input"]["ratio"], priced["input"]["seed"]) == ("720:1280", 7)
            assert priced["quoted_credits"] == 50

    async def test_a_file_becomes_a_data_uri(self, tmp_path: Path) -> None:
        (tmp_path / "boat.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        priced = await price("--prompt", "a boat", "--image", tmp_path / "boat.png")
        assert priced["input"]["promptImage"].startswith("data:image/png;base64,")

    async def test_a_price_for_people(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with terminal(monkeypatch):
            said = await taxiway(None, "enqueue", "--dry-run", *BOAT, "--duration", 10)
        assert said.stdout == "image_to_video with gen4_turbo: at most 50 credits\n"

    async def test_a_price_of_several(self) -> None:
        assert (await price(*BOAT, "--count", 3))["quoted_credits"] == 75

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("--image", "nowhere.png"), 2, "neither an address nor a file"),
            (("--image", "{folder}/notes.txt"), 2, "does not have the name of an image"),
            (("--input", "{{"), 2, "this is not JSON"),
            (("--input", "[1]"), 2, "this must be a JSON object"),
            (("--metadata", "@{folder}/none.json"), 2, "cannot be read: No such file"),
            (("--no-wait", "-o", "x.mp4"), 2, "leave out --no-wait"),
            (("-o", "{folder}/none/x.mp4"), 2, "there is no folder"),
            (("--count", "2", "-o", "x.mp4"), 2, "goes with neither"),
            (("--count", "2", "--from", "0" * 8), 2, "goes with neither"),
            (("--count", "11"), 1, "/count"),
            (("--duration", 99), 1, "/input/duration"),
            (("--model", "gen9"), 1, "/input/model: must be one of"),
            (("--priority", 200), 1, "/priority"),
            (("--idempotency-key", ""), 1, "Idempotency-Key: must have 1 to 255"),
        ],
    )
    async def test_what_is_wrong_is_named(
        self, arguments: tuple[object, ...], code: int, words: str, tmp_path: Path
    ) -> None:
        (tmp_path / "notes.txt").write_text("a note", encoding="utf-8")
        given = [str(word).replace("{folder}", str(tmp_path)) for word in arguments]
        result = await taxiway(None, "enqueue", "--dry-run", "--prompt", "a boat", *given)
        assert result.exit_code == code, result.output
        assert words in " ".join(result.stderr.split())
        assert "Traceback" not in result.output


async def test_a_video_is_queued_as_by_the_api(w: World) -> None:
    arguments = ("enqueue", "--no-wait", *BOAT, "--metadata", '{"order": 7}', "--priority", 5,
                 "--user", "7", "--idempotency-key", "order-7")  # fmt: skip
    [first] = printed(await taxiway(w.url, *arguments))
    assert (first["status"], first["priority"], first["metadata"]) == ("queued", 5, {"order": 7})
    row = await w.row(UUID(first["id"]))
    assert (row["user_id"], row["prompt"], row["origin"]) == ("7", "a boat", "api")
    again = await taxiway(w.url, *arguments)
    assert printed(again)[0]["id"] == first["id"]
    assert first["id"] in again.stderr
    body = {"input": {"promptText": "a boat", "promptImage": IMAGE}, "priority": 5, "metadata": {"order": 7},
            "user_id": "7"}  # fmt: skip
    over_http = await w.api.post("/videos", json=body, headers={"idempotency-key": "order-7"})
    assert over_http.json()["id"] == first["id"]
    other = await taxiway(w.url, *arguments, "--duration", 10)
    assert "used before with another body" in complaint(other)


async def test_several_of_one_request(
    w: World, hurried: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("enqueue", *BOAT, "--count", 2, "--input", '{"seed": 7}', "--idempotency-key", "order-7")
    made = await taxiway(w.url, *arguments, "--no-wait")
    first, second = printed(made)
    assert (first["group"], first["status"], first["input"]["seed"]) == (second["group"], "queued", 7)
    assert "warning: each video of a group has a seed of its own: this one has that of the first plus 1" in made.stderr
    again = await taxiway(w.url, *arguments, "--no-wait")
    assert [video["id"] for video in printed(again)] == [first["id"], second["id"]]
    assert second["id"] in again.stderr
    hurried(w)
    async with at_work(w):
        ended = printed(await taxiway(w.url, *arguments))
    assert [(video["id"], video["status"]) for video in ended] == [
        (first["id"], "completed"), (second["id"], "completed"),
    ]  # fmt: skip


async def test_from_edits_and_resubmits(w: World) -> None:
    source = await w.enqueue(metadata={"order": 7}, priority=3)
    [edited] = printed(await taxiway(w.url, "enqueue", "--no-wait", "--from", source, "--duration", 10))
    assert edited["id"] != str(source)
    assert edited["input"]["duration"] == 10
    assert edited["input"]["promptImage"] == IMAGE
    assert (edited["metadata"], edited["priority"], edited["quoted_credits"]) == ({"order": 7}, 3, 50)
    [row] = await w.rows("INSERT INTO taxiway.videos (prompt, status) VALUES ('a ship', 'cancelled') RETURNING id")
    [other] = printed(await taxiway(w.url, "enqueue", "--no-wait", "--from", row["id"]))
    assert (other["operation"], other["input"]["promptText"]) == ("text_to_video", "a ship")
    missing = uuid4()
    assert str(missing) in complaint(await taxiway(w.url, "enqueue", "--from", missing))


async def made(w: World, path: Path, *arguments: object) -> Result:
    async with at_work(w):
        return await taxiway(w.url, "enqueue", *BOAT, "-o", path, *arguments)


async def test_it_waits_until_the_file_is_on_disk(
    w: World, tmp_path: Path, hurried: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried(w)
    [done] = printed(await made(w, tmp_path / "boat.mp4"))
    assert (done["status"], [one["path"] for one in done["saved"]]) == ("completed", [str(tmp_path / "boat.mp4")])
    assert (tmp_path / "boat.mp4").stat().st_size == done["saved"][0]["bytes"] > 1000
    with terminal(monkeypatch):
        seen = await made(w, tmp_path / "again.mp4")
    assert seen.exit_code == 0
    assert seen.stdout.strip().endswith(f"is completed for 25 credits: {tmp_path / 'again.mp4'}")
    assert "for at most 25 credits" in seen.stderr
    assert sorted(os.listdir(tmp_path)) == ["again.mp4", "boat.mp4"]


async def test_a_video_that_fails_ends_with_1(
    w: World, tmp_path: Path, hurried: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried(w)
    w.faults("fail=SAFETY.INPUT.TEXT")
    with terminal(monkeypatch):
        result = await made(w, tmp_path / "boat.mp4")
    assert result.exit_code == 1
    assert "is failed: SAFETY.INPUT.TEXT: " in result.stdout
    assert os.listdir(tmp_path) == []


async def test_further_outputs_go_beside_the_first(
    w: World, tmp_path: Path, hurried: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def twice(ctx: Context, video: Video) -> list[Output]:
        [first] = await live_outputs(ctx, video)
        return [first, replace(first, name="x-2.wav")]

    hurried(w)
    monkeypatch.setattr("service.operations.reading.live_outputs", twice)
    [done] = printed(await made(w, tmp_path / "boat.mp4"))
    assert [one["path"] for one in done["saved"]] == [str(tmp_path / "boat.mp4"), str(tmp_path / "boat-2.wav")]
    assert sorted(os.listdir(tmp_path)) == ["boat-2.wav", "boat.mp4"]


class Unreachable(httpx.AsyncBaseTransport):
    """The world's Runway, beside a host of files that refuses every connection."""

    def __init__(self, w: World) -> None:
        self.runway = httpx.ASGITransport(app=w.runway)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "files.test":
            raise httpx.ConnectError("refused")
        return await self.runway.handle_async_request(request)


@pytest.mark.parametrize(
    ("url", "words"), [("http://files.test/x.mp4", "ConnectError"), ("http://runway.test/none.mp4", "answers 404")]
)
async def test_a_file_that_cannot_be_fetched_leaves_nothing(
    w: World, tmp_path: Path, hurried: Callable[[World], None], monkeypatch: pytest.MonkeyPatch, url: str,
    words: str,
) -> None:  # fmt: skip
    async def elsewhere(*_: object) -> list[Output]:
        return [Output(url, "video/mp4", "x.mp4", None, None)]

    hurried(replace(w, ctx=replace(w.ctx, transport=lambda: Unreachable(w))))
    monkeypatch.setattr("service.operations.reading.live_outputs", elsewhere)
    result = await made(w, tmp_path / "boat.mp4")
    assert result.exit_code == 1
    assert words in result.stderr
    assert "is completed, but its file was not fetched" in result.stderr
    assert os.listdir(tmp_path) == []


async def test_it_says_that_nobody_ticks(
    w: World, hurried: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def sleep(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            await w.api.post(f"/videos/{(await w.rows('SELECT id FROM taxiway.videos'))[0]['id']}/cancel")

    monkeypatch.setattr("service.commands.console.open_context", lambda: replace(w.ctx, sleep=sleep))
    result = await taxiway(w.url, "enqueue", *BOAT)
    assert result.exit_code == 1
    assert result.stderr.count("the video waits. No tick has run yet: start `taxiway worker`") == 1
    assert json.loads(result.stdout)["status"] == "cancelled"
    await w.tick()
    await w.later(hours=2)
    looks = 0
    await execute(w.url, "DELETE FROM taxiway.videos")
    again = await taxiway(w.url, "enqueue", *BOAT)
    assert "the video waits. No tick for 2 h: start" in again.stderr


async def test_a_database_that_is_away_is_waited_for_but_not_for_ever(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0

    async def sleep(_seconds: float) -> None:
        nonlocal seconds
        seconds += 25

    async def away(*_: object) -> None:
        raise DatabaseUnavailable("it is restarting")

    ctx = replace(w.ctx, sleep=sleep, monotonic=lambda: seconds)
    monkeypatch.setattr("service.commands.console.open_context", lambda: ctx)
    monkeypatch.setattr("service.operations.reading.poll_now", away)
    result = await taxiway(w.url, "enqueue", *BOAT)
    assert result.exit_code == 1
    assert "it is restarting" in result.stderr
    assert seconds == 100


async def test_ctrl_c_leaves_the_video_alone(database_url: str, tmp_path: Path) -> None:
    async with on_socket(create_simulator(SimulatorOptions())) as url:
        values = {"DATABASE_URL": database_url, "RUNWAYML_API_SECRET": "key_test", "RUNWAYML_BASE_URL": url}
        with command(tmp_path, "enqueue", *BOAT, **values) as waiting:
            await asyncio.to_thread(waiting.wait_for, "No tick has run yet")
            assert await asyncio.to_thread(waiting.end, signal.SIGINT) == 130
        assert "the video goes on without you: `taxiway show " in waiting.log
        assert "Traceback" not in waiting.log


class TestBatch:
    """`enqueue --batch FILE`: one request a line."""

    async def test_all_are_queued_once(self, w: World, tmp_path: Path) -> None:
        request = {"input": {"promptText": "a boat", "promptImage": IMAGE}, "user_id": "ada"}
        file = tmp_path / "requests.jsonl"
        file.write_text(f"{json.dumps(request)}\n\n{json.dumps(request)}\n", encoding="utf-8")
        first = printed(await taxiway(w.url, "enqueue", "--batch", file, "--idempotency-key", "k"))
        again = printed(await taxiway(w.url, "enqueue", "--batch", file, "--idempotency-key", "k"))
        assert [one["id"] for one in first] == [one["id"] for one in again] != []
        assert len(await w.rows("SELECT FROM taxiway.videos WHERE user_id = 'ada'")) == 2

    async def test_or_none_with_the_place_of_what_is_wrong(self, w: World, tmp_path: Path) -> None:
        file = tmp_path / "requests.jsonl"
        file.write_text('{"input": {"promptText": "a boat"}}\n{"input": {}, "count": 2}\n', encoding="utf-8")
        assert "/requests/1/" in complaint(await taxiway(w.url, "enqueue", "--batch", file))
        assert await w.rows("SELECT FROM taxiway.videos") == []

    async def test_what_does_not_go_with_it(self, w: World, tmp_path: Path) -> None:
        for more in ((tmp_path / "none",), (tmp_path, "--prompt", "a boat"), (tmp_path, "--dry-run")):
            refused = await taxiway(w.url, "enqueue", "--batch", *more)
            assert refused.exit_code == 2
            assert "--batch" in refused.stderr
