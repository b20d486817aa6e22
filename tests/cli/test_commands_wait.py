"""`taxiway wait`: a video without a tick, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.invoking import complaint, taxiway, terminal
from tests.world import World, world

pytestmark = pytest.mark.anyio


@contextmanager
def commands_of(w: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands have this world's context, and sleep by letting its time pass."""

    async def sleep(seconds: float) -> None:
        await w.later(seconds=seconds)

    with monkeypatch.context() as patch:
        ctx = replace(w.ctx, sleep=sleep, monotonic=w.clock)
        patch.setattr("service.commands.console.open_context", lambda: ctx)
        yield


async def test_it_submits_the_video_and_follows_it_to_its_end(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await w.enqueue()
    with commands_of(w, monkeypatch):
        result = await taxiway(w.url, "wait", str(video_id)[:13], "--every", 5)
    assert result.exit_code == 0, result.output
    shown = [json.loads(line)["video"]["status"] for line in result.stdout.splitlines()]
    assert (shown[0], shown[-1]) == ("processing", "completed")
    assert len(w.creates) == 1


async def test_it_waits_no_longer_than_it_is_asked_to(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await w.enqueue()
    with commands_of(w, monkeypatch):
        result = await taxiway(w.url, "wait", video_id, "--for", "4s")
    assert complaint(result) == "taxiway: the video is still processing: it goes on without you"
    assert json.loads(result.stdout.splitlines()[-1])["video"]["status"] == "processing"


async def test_at_a_terminal_the_last_table_stays(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    video_id = await w.enqueue()
    with terminal(monkeypatch), commands_of(w, monkeypatch):
        result = await taxiway(w.url, "wait", video_id, "--every", 5)
    assert result.exit_code == 0, result.output
    assert "completed" in result.stdout


async def test_one_that_fails_is_an_error(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.faults("status=400,body=runway")
    video_id = await w.enqueue()
    with commands_of(w, monkeypatch):
        result = await taxiway(w.url, "wait", video_id)
    assert result.exit_code == 1
    assert json.loads(result.stdout.splitlines()[-1])["video"]["status"] == "failed"


async def test_without_a_key_of_runway_it_says_what_is_missing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(database_url, runway_key=None) as w:
        video_id = await w.enqueue()
        with commands_of(w, monkeypatch):
            result = await taxiway(w.url, "wait", video_id)
    assert "set RUNWAYML_API_SECRET in the environment" in complaint(result)
