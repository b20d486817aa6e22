"""`videos`, `show`, `retry`, `cancel`: what a new user would try."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.commands import ids as commands_ids
from service.commands import list_videos, output
from tests.commands import command
from tests.database import execute
from tests.invoking import complaint, printed, taxiway, terminal
from tests.world import RUNWAY_KEY, World

pytestmark = pytest.mark.anyio


async def some(w: World) -> dict[str, UUID]:
    """A video of every kind."""
    ids = {"completed": await w.enqueue()}
    await w.finish()
    w.faults("status=400, body=runway")
    ids["failed"] = await w.enqueue(input={"promptText": "a red boat", "model": "gen4.5"}, operation="text_to_video")
    await w.tick()
    w.faults("drop_after")
    ids["unknown"] = await w.enqueue()
    await w.tick()
    ids["processing"] = await w.enqueue()
    await w.tick()
    ids["queued"] = await w.enqueue(
        input={"promptText": "[red]a\x1b[2J boat", "promptImage": "https://a.example/b.jpg"}
    )
    return ids


def ids_of(videos: dict[str, UUID]) -> list[str]:
    """As a list shows them."""
    return list(commands_ids.shortened([str(one) for one in videos.values()]).values())


async def test_videos_are_listed_newest_first_and_filtered(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_videos, "PAGE", 2)  # and so in several pages
    ids = await some(w)
    names = {str(video_id): name for name, video_id in ids.items()}

    async def listed(*arguments: object) -> list[str]:
        return [names[row["id"]] for row in printed(await taxiway(w.url, "videos", *arguments))]

    assert await listed() == ["queued", "processing", "unknown", "failed", "completed"]
    assert await listed("--limit", 3) == ["queued", "processing", "unknown"]
    assert await listed("--status", "failed") == ["unknown", "failed"]
    assert await listed("--status", "queued", "--status", "completed") == ["queued", "completed"]
    assert await listed("--model", "gen4.5") == ["failed"]
    assert await listed("--error-code", "SUBMISSION_UNKNOWN") == ["unknown"]
    assert await listed("--status", "cancelled") == []
    assert await listed("--q", "red boat") == ["queued", "failed"]
    assert await listed("--q", ids["completed"]) == ["completed"]
    wrong = await taxiway(w.url, "videos", "--status", "done")
    assert (wrong.exit_code, "'done' is not one of 'queued'" in wrong.stderr) == (2, True)


async def test_a_table_for_people_survives_hostile_prompts(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await some(w)
    with terminal(monkeypatch):
        wide = await taxiway(w.url, "videos")
        narrow = await taxiway(w.url, "videos", COLUMNS="80")
        piped = await taxiway(w.url, "videos", "--json", "--limit", 1)
        none = await taxiway(w.url, "videos", "--status", "cancelled")
        colourful = await taxiway(w.url, "videos", NO_COLOR="", FORCE_COLOR="1", TERM="xterm")
    assert wide.exit_code == narrow.exit_code == 0
    short = ids_of(ids)
    assert len(set(short)) == len(ids)
    assert all(f"{one} " in wide.stdout for one in short)
    assert "[red]a\\x1b[2J boat" in wide.stdout
    assert "SUBMISSION_UNKNOWN: " in wide.stdout
    assert "max 60" in wide.stdout
    assert "\x1b" not in wide.stdout
    assert "\x1b[2J" not in colourful.stdout
    assert "\x1b[31mfailed" in colourful.stdout
    assert max(map(len, narrow.stdout.splitlines())) <= 80
    assert short[1] in narrow.stdout
    assert json.loads(piped.stdout)["id"] == str(ids["queued"])
    assert none.stdout == "no videos\n"


async def test_show_tells_all_of_one_video(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await some(w)
    await execute(w.url, "UPDATE taxiway.videos SET poll_after = taxiway.now() + interval '1 hour', progress = 0.4")
    [completed] = printed(await taxiway(w.url, "show", ids["completed"]))
    assert completed["video"]["status"] == "completed"
    assert completed["verdict"] == "paid once (25 credits)"
    assert (completed["paid_credits"], completed["most_credits"]) == (25, 25)
    assert [entry["outcome"] for entry in completed["submissions"]] == ["accepted"]
    assert completed["events"][0]["event"] == "enqueued"
    with terminal(monkeypatch):
        pages = {name: (await taxiway(w.url, "show", video_id)).stdout for name, video_id in ids.items()}
    assert "paid once (25 credits)" in pages["completed"]
    assert ".mp4" in pages["completed"]
    assert "SUBMISSION_UNKNOWN" in pages["unknown"]
    assert "unknown (at most 25 credits)" in pages["unknown"]
    assert "40%" in pages["processing"]
    assert "rejected" in pages["failed"]
    assert "run after" in pages["queued"]
    assert "opened (UTC)" not in pages["queued"]
    assert "Attempt 1: sending to Runway (gen4_turbo)" in pages["completed"]
    missing = uuid4()
    assert str(missing) in complaint(await taxiway(w.url, "show", missing))
    assert (await taxiway(w.url, "show", "x")).exit_code == 2


async def test_retry_and_cancel_one(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await some(w)
    [again] = printed(await taxiway(w.url, "retry", ids["failed"]))
    assert (again["id"], again["status"]) == (str(ids["failed"]), "queued")
    refused = complaint(await taxiway(w.url, "retry", ids["unknown"]))
    assert f"taxiway attach {ids['unknown']} TASK" in refused
    assert "--accept-double-charge" in refused
    with terminal(monkeypatch):
        done = await taxiway(w.url, "retry", ids["unknown"], "--accept-double-charge")
        assert done.stdout == f"{ids['unknown']} is queued again\n"
        gone = await taxiway(w.url, "cancel", ids["processing"])
        assert gone.stdout == f"{ids['processing']} is cancelled\n"
    assert "only a failed video" in complaint(await taxiway(w.url, "retry", ids["completed"]))
    assert "has ended" in complaint(await taxiway(w.url, "cancel", ids["completed"]))
    [entry] = await w.ledger(ids["processing"])
    assert entry["cancel_due"] is not None


async def test_watch_prints_what_changes_until_ctrl_c(w: World, tmp_path: Path) -> None:
    first = await w.enqueue()
    with command(tmp_path, "videos", "--watch", "--every", 0.2, DATABASE_URL=w.url) as watch:
        await asyncio.to_thread(watch.wait_for, str(first))
        second = await w.enqueue()
        await asyncio.to_thread(watch.wait_for, str(second))
        assert await asyncio.to_thread(watch.end, signal.SIGINT) == 130
        assert watch.log == ""
    lines = [json.loads(line)["id"] for line in watch.said.splitlines()]
    assert lines == [str(first), str(second)]


async def test_watch_at_a_terminal_keeps_a_table(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await w.enqueue()
    looks: list[float] = []

    async def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    ctx = replace(w.ctx, sleep=sleep)
    with terminal(monkeypatch):
        monkeypatch.setattr("service.commands.console.open_context", lambda: ctx)
        result = await taxiway(w.url, "videos", "--watch", "--every", 0.2, FORCE_COLOR="1")
    assert result.exit_code == 130
    assert str(video_id)[:13] in result.stdout
    assert "Traceback" not in result.output


async def test_show_is_watched_until_the_video_has_ended(w: World, tmp_path: Path) -> None:
    video_id = await w.enqueue()
    words = ("show", str(video_id)[:13], "--watch", "--every", 0.2)
    with command(tmp_path, *words, DATABASE_URL=w.url) as watch:
        await asyncio.to_thread(watch.wait_for, "No tick has run yet")
        await w.api.post(f"/videos/{video_id}/cancel")
        assert await asyncio.to_thread(watch.process.wait, 30) == 0
    shown = [json.loads(line)["video"]["status"] for line in watch.said.splitlines()]
    assert shown == ["queued", "cancelled"]


async def test_show_is_watched_at_a_terminal(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await w.enqueue()

    async def sleep(_seconds: float) -> None:
        await w.api.post(f"/videos/{video_id}/cancel")

    with terminal(monkeypatch):
        monkeypatch.setattr("service.commands.console.open_context", lambda: replace(w.ctx, sleep=sleep))
        result = await taxiway(w.url, "show", video_id, "--watch")
    assert result.exit_code == 0, result.output
    assert "Cancelled" in result.stdout


@pytest.mark.parametrize("seconds", [0, 59, 60, 3_599, 86_400])
def test_spans_have_one_unit(seconds: float) -> None:
    words = {0: "0 s", 59: "59 s", 60: "1 min", 3_599: "60 min", 86_400: "1 d"}
    assert output.span(seconds) == words[int(seconds)]


COMMANDS = [("videos",), ("show", uuid4()), ("retry", uuid4()), ("cancel", uuid4()), ("enqueue", "--prompt", "a boat"),
            ("pause", "gen4.5"), ("resume", "gen4.5"), ("ticks",), ("models",), ("retry", "--status", "failed"),
            ("cancel", "--q", "boat")]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
class TestBroken:
    """Without a database that works, each says in one line what to do."""

    async def test_nothing_listens(self, words: tuple[object, ...]) -> None:
        line = complaint(await taxiway("postgresql://someone:a-secret-password@127.0.0.1:9/videos", *words))
        assert "does not answer" in line
        assert "check DATABASE_URL" in line
        assert "a-secret-password" not in line

    async def test_no_url(self, words: tuple[object, ...]) -> None:
        assert "set DATABASE_URL in the environment" in complaint(await taxiway(None, *words))

    async def test_a_url_that_is_none(self, words: tuple[object, ...]) -> None:
        assert "DATABASE_URL" in complaint(await taxiway("mysql://someone:a-secret-password@127.0.0.1/x", *words))

    async def test_not_migrated(self, words: tuple[object, ...], empty_database_url: str) -> None:
        assert "run `taxiway migrate`" in complaint(await taxiway(empty_database_url, *words))

    async def test_there_is_no_such_database(self, words: tuple[object, ...], server_url: str) -> None:
        line = complaint(await taxiway(server_url.replace("/postgres", "/nowhere"), *words))
        assert "nowhere" in line

    async def test_the_key_never_shows(self, words: tuple[object, ...], database_url: str) -> None:
        assert RUNWAY_KEY not in (await taxiway(database_url, *words, "--help")).output

    async def test_the_password_is_wrong(self, words: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        async def refuse(*_: object, **__: object) -> None:
            raise asyncpg.InvalidPasswordError('password authentication failed for user "someone"')

        monkeypatch.setattr("service.store.database._Pool.acquire", refuse)
        line = complaint(await taxiway("postgresql://someone:a-secret-password@127.0.0.1:9/videos", *words))
        assert "password authentication failed" in line
        assert "a-secret-password" not in line
