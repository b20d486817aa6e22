"""Short ids: the beginning of one id is taken wherever an id is, and the beginning of several is explained."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from service.commands import ids
from tests.database import execute
from tests.invoking import complaint, printed, taxiway, terminal
from tests.world import World, world

pytestmark = pytest.mark.anyio

FIRST = UUID("0192abcd-1111-7000-8000-000000000001")
SECOND = UUID("0192abcd-2222-7000-8000-000000000002")
IMAGE = "https://a.example/b.jpg"


async def named(w: World, video_id: UUID) -> None:
    """A video that has this id."""
    made = await w.enqueue()
    await execute(w.url, f"UPDATE taxiway.videos SET id = '{video_id}' WHERE id = '{made}'")


async def test_every_command_takes_the_beginning_of_an_id(w: World) -> None:
    await named(w, FIRST)
    await named(w, SECOND)
    short = "0192ABCD-1"
    [shown] = printed(await taxiway(w.url, "show", short))
    assert shown["video"]["id"] == str(FIRST)
    copied = ("enqueue", "--from", short, "--prompt", "another", "--image", IMAGE, "--dry-run")
    [quote] = printed(await taxiway(w.url, *copied))
    assert quote["input"]["promptText"] == "another"
    [gone] = printed(await taxiway(w.url, "cancel", short))
    assert (gone["id"], gone["status"]) == (str(FIRST), "cancelled")
    assert "only a failed video" in complaint(await taxiway(w.url, "retry", short))
    assert "paid nothing" in (await taxiway(w.url, "audit", short)).stdout
    w.faults("drop_after")
    await w.tick()
    audited = await taxiway(w.url, "audit", "0192abcd2222")
    assert audited.stdout.startswith(str(SECOND))
    refused = complaint(await taxiway(w.url, "retry", "0192abcd22"))
    assert f"taxiway attach {SECOND} TASK" in refused
    assert "no video" not in (await taxiway(w.url, "attach", "0192abcd22", "a-task")).stderr


async def test_a_deleted_video_is_found_in_the_ledger(w: World) -> None:
    video_id = await w.enqueue()
    await w.finish()
    await execute(w.url, "DELETE FROM taxiway.videos")
    audited = await taxiway(w.url, "audit", str(video_id)[:18])
    assert audited.stdout.startswith(str(video_id))


async def test_what_several_begin_with_is_explained(w: World) -> None:
    await named(w, FIRST)
    await named(w, SECOND)
    line = complaint(await taxiway(w.url, "show", "0192abcd"))
    assert "several videos have an id that begins with 0192abcd: give more of it" in line
    assert str(FIRST) in line
    assert str(SECOND) in line
    assert "no video has an id that begins with fffffff" in complaint(await taxiway(w.url, "show", "fffffff"))


@pytest.mark.parametrize("text", ["0192a", "", "not-an-id", "0192abcd-1111-7000-8000-0000000000012", "0192abc%"])
async def test_what_is_no_id_is_refused_before_anything_is_asked(text: str) -> None:
    refused = await taxiway(None, "show", text)
    assert refused.exit_code == 2
    assert "give at least the first 6 of its characters" in " ".join(refused.stderr.replace("│", " ").split())


def test_a_list_shows_them_as_short_as_they_differ() -> None:
    far, near, same = (
        ("0192abcd-1111-7000", "0192abcd-1112-7000"),
        ("0192abcd-1111-7000", "0192abcd-1111-7001"),
        uuid4(),
    )
    tail = "-8000-000000000001"
    assert list(ids.shortened([one + tail for one in far]).values()) == ["0192abcd-1111", "0192abcd-1112"]
    assert list(ids.shortened([one + tail for one in near]).values()) == list(near)
    twins = [f"{near[0]}-8000-00000000000{number}" for number in (1, 2)]
    assert list(ids.shortened(twins).values()) == twins
    assert ids.shortened([str(same)] * 2) == {str(same): str(same)[:13]}
    assert ids.shortened([]) == {}


@pytest.mark.parametrize(
    "words", [("videos",), ("ticks",), ("models",), ("stats",), ("show", "ID")], ids=lambda w: w[0]
)
async def test_no_column_vanishes_at_80_columns(
    database_url: str, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    async with world(database_url) as w:
        w.faults("drop_after")
        await w.enqueue()
        await w.tick()
        video_id = await w.enqueue()
        await w.finish()
        await taxiway(
            database_url, "pause", "all", "--why", "a very long reason that takes more room than there is left"
        )
        asked = [str(video_id)[:18] if word == "ID" else word for word in words]
        with terminal(monkeypatch):
            wide = (await taxiway(database_url, *asked, COLUMNS="300")).stdout
            narrow = (await taxiway(database_url, *asked, COLUMNS="80")).stdout
        [headings, *_] = [line.split("  ") for line in wide.splitlines() if line.split()[:1] in HEADINGS]
        shown = [line for line in narrow.splitlines() if line.split()[:1] in HEADINGS]
        for heading in filter(None, (one.strip() for one in headings)):
            assert heading in shown[0], narrow
        assert max(map(len, narrow.splitlines())) <= 80


HEADINGS = (["video"], ["ago"], ["model"], ["from"], ["submission"])
