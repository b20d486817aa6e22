"""`retry` and `cancel` of all that match; `ticks`, `models`, `pause`, `resume`; what the shell completes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.__main__ import cli
from service.commands import change, completion
from service.logs import one_line
from tests.commands import ROOT, command
from tests.database import execute
from tests.invoking import complaint, printed, taxiway, terminal
from tests.world import World

pytestmark = pytest.mark.anyio


async def failures(w: World, count: int) -> None:
    """Videos that Runway refused, and one of which nobody knows what became."""
    for _ in range(count):
        w.faults("status=400, body=runway")
        await w.enqueue()
        await w.tick()
    w.faults("drop_after")
    await w.enqueue()
    await w.tick()


async def statuses(w: World) -> dict[str, int]:
    return {
        row["status"]: row["n"] for row in await w.rows("SELECT status, count(*) AS n FROM taxiway.videos GROUP BY 1")
    }


async def test_all_that_match_are_retried_after_a_question(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "BATCH", 2)  # and so in several batches
    await failures(w, 5)
    with terminal(monkeypatch):
        no = await taxiway(w.url, "retry", "--status", "failed", answers="no\n")
        assert no.exit_code == 1
        question = "Retry 5 videos (1 more may be paid for already, and are left out)? [y/N] "
        assert no.stderr == f"{question}taxiway: nothing was done\n"
        counted = await taxiway(w.url, "retry", "--status", "failed", "--dry-run")
        assert counted.stdout == "5 videos would be queued again, 1 left out\n"
        assert await statuses(w) == {"failed": 6}
        done = await taxiway(w.url, "retry", "--error-code", "REJECTED", answers="y\n")
    assert (done.exit_code, done.stdout) == (0, "5 videos queued again, 0 left out\n")
    assert await statuses(w) == {"failed": 1, "queued": 5}
    [cancelled] = printed(await taxiway(w.url, "cancel", "--status", "queued", "--yes"))
    assert cancelled == {"matched": 5, "done": 5, "skipped": 0}
    assert await statuses(w) == {"failed": 1, "cancelled": 5}
    [nothing] = printed(await taxiway(w.url, "cancel", "--q", "boat"))
    assert nothing == {"matched": 0, "done": 0, "skipped": 0}
    [unknown] = printed(await taxiway(w.url, "retry", "--status", "failed"))
    assert unknown == {"matched": 1, "done": 0, "skipped": 1}


async def test_a_row_that_is_held_ends_no_loop(w: World) -> None:
    await w.enqueue()
    held = await w.enqueue()
    async with w.ctx.database.transaction() as raw:
        await raw.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", held)
        [counts] = printed(await taxiway(w.url, "cancel", "--model", "gen4_turbo", "--yes"))
    assert counts == {"matched": 2, "done": 1, "skipped": 1}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("retry",), "name a video, or at least one filter"),
        (("cancel", "--yes"), "name a video, or at least one filter"),
        (("retry", "a11ce000-0000-4000-8000-000000000000", "--model", "gen4.5"), "but not both"),
        (("retry", "--status", "failed", "--accept-double-charge"), "is for one VIDEO"),
        (("retry", "--status", "done"), "is not one of"),
    ],
)
async def test_what_is_not_understood_ends_with_2(words: tuple[str, ...], expected: str) -> None:
    result = await taxiway(None, *words)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())


async def test_the_last_ticks(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch):
        assert "no tick has run yet" in (await taxiway(w.url, "ticks")).stdout
    await w.enqueue()
    await w.tick()
    await w.tick(kind="worker")
    await execute(w.url, "UPDATE taxiway.ticks SET error = 'poll: it \x1b[2J broke' WHERE kind = 'worker'")
    rows = printed(await taxiway(w.url, "ticks"))
    assert [row["kind"] for row in rows] == ["worker", "tick"]
    assert rows[1]["counts"]["submit"]["accepted"] == 1
    assert len(printed(await taxiway(w.url, "ticks", "--limit", 1))) == 1
    with terminal(monkeypatch):
        table = (await taxiway(w.url, "ticks")).stdout
    assert one_line("poll: it \x1b[2J broke") in table
    assert "accepted=1" in table


async def test_ticks_are_watched(w: World, tmp_path: Path) -> None:
    await w.tick()
    with command(tmp_path, "ticks", "--watch", "--every", 0.2, DATABASE_URL=w.url) as watch:
        await asyncio.to_thread(watch.wait_for, '"kind": "tick"')
        await w.tick(kind="worker")
        await asyncio.to_thread(watch.wait_for, '"kind": "worker"')
        assert await asyncio.to_thread(watch.end, signal.SIGINT) == 130
    assert len(watch.said.splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "seconds"), [("90", 90), ("90s", 90), ("1.5h", 5_400), ("30min", 1_800), ("5m", 300), ("2 d", 172_800)]
)
async def test_a_pause_lasts_as_long_as_it_says(database_url: str, given: str, seconds: int) -> None:
    for option in ("--for", "--seconds"):
        [paused] = printed(await taxiway(database_url, "pause", "gen4_turbo", option, given))
        assert paused["seconds"] == seconds


@pytest.mark.parametrize("given", ["0", "an hour", "-5", "1y", "900d", "", "1e9"])
async def test_a_pause_that_is_no_time(given: str) -> None:
    refused = await taxiway(None, "pause", "gen4_turbo", "--for", given)
    assert refused.exit_code == 2
    assert "90s, 30min, 1h or 2d" in " ".join(refused.stderr.split())


async def test_models_at_a_terminal_and_in_a_pipe(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await w.enqueue()
    with terminal(monkeypatch):
        paused = await taxiway(w.url, "pause", "gen4_turbo", "--for", "2h", "--why", "lunch")
        assert paused.stdout == "gen4_turbo is paused for 2 h\n"
        table = (await taxiway(w.url, "models")).stdout
        assert "lunch" in table
        assert "2 h" in table
        assert (await taxiway(w.url, "resume", "gen4_turbo")).stdout == "gen4_turbo is open\n"
    rows = {row["model"]: row for row in printed(await taxiway(w.url, "models"))}
    assert (rows["gen4_turbo"]["paused"], rows["gen4_turbo"]["queued"]) == (False, 1)
    assert "all" in rows
    assert "there is no model 'gen4-turbo'" in complaint(await taxiway(w.url, "pause", "gen4-turbo"))
    looks: list[float] = []

    async def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    ctx = replace(w.ctx, sleep=sleep)
    with terminal(monkeypatch):
        monkeypatch.setattr("service.commands.console.open_context", lambda: ctx)
        watched = await taxiway(w.url, "models", "--watch", FORCE_COLOR="1")
    assert (watched.exit_code, "gen4_turbo" in watched.stdout) == (130, True)


async def test_statistics(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch):
        nothing = await taxiway(w.url, "stats")
    assert nothing.stdout == "nothing entered and nothing ended\nat Runway now: nothing\n"
    await w.enqueue()
    await w.finish()
    await w.enqueue()
    await w.tick()
    buckets = printed(await taxiway(w.url, "stats"))
    assert len(buckets) == 60
    assert sum(bucket["completed"] for bucket in buckets) == 1
    assert len(printed(await taxiway(w.url, "stats", "--window", "week"))) == 168
    with terminal(monkeypatch):
        table = (await taxiway(w.url, "stats", "--window", "day")).stdout
    assert "at Runway now: gen4_turbo: 1" in table
    assert "taken p50" in table
    assert (await taxiway(w.url, "stats", "--window", "year")).exit_code == 2


def test_completions() -> None:
    assert "gen4_turbo" in completion.models("gen4")
    assert completion.models_or_all("all") == ["all"]
    assert completion.operations("text_to") == ["text_to_image", "text_to_speech", "text_to_video"]
    assert completion.reasons("TASK_V") == ["TASK_VANISHED"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("taxiway vid", "videos"), ("taxiway videos --status fa", "failed"),
        ("taxiway videos --model gen4_", "gen4_turbo"), ("taxiway resume gen4_", "gen4_turbo"),
        ("taxiway retry --error-code EXP", "EXPIRED"),
    ],
)  # fmt: skip
def test_the_shell_completes(line: str, word: str) -> None:
    result = CliRunner().invoke(cli, [], prog_name="taxiway", env=asked_of_bash(line))
    assert word in result.stdout.split()


def test_the_shell_completes_in_a_process_of_its_own() -> None:
    words = [sys.executable, "-c", "from service.__main__ import main; main()"]
    environment = os.environ | asked_of_bash("taxiway vid")
    result = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "videos" in result.stdout.split()


def asked_of_bash(line: str) -> dict[str, str]:
    """What bash asks with when TAB is pressed after this."""
    return {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_TAXIWAY_COMPLETE": "complete_bash"}


def test_nothing_of_ours_needs_rich_to_start() -> None:
    """httpx imports it for a command of its own, if it is there; `tick` and `web` do without."""
    program = "import sys; sys.modules['rich'] = None; from service.__main__ import main; main()"
    words = [sys.executable, "-c", program, "tick", "--help"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
