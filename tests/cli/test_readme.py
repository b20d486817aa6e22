"""The README fits on a page, and what it says to do works. The other documents: tests/unit/test_documents.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.docs import NAMES
from tests.database import execute
from tests.invoking import taxiway
from tests.world import world

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES, MOST_WORDS = 200, 2_000
LARGEST_PICTURE_BYTES = 150_000
LONGEST_LINK_LINES = 20  # to link an app's own table
TEST_LINE = "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/pytest"
RUN_LINE = "python3 -m venv .venv && .venv/bin/pip install -e '.[local]' && .venv/bin/taxiway dev"


def section(title: str) -> str:
    """What stands under a heading."""
    return re.split(r"^## ", TEXT.partition(f"## {title}\n")[2], flags=re.MULTILINE)[0]


def sql(text: str) -> list[str]:
    """The blocks of SQL in a text."""
    return re.findall(r"```sql\n(.*?)```", text, re.DOTALL)


def test_it_fits_on_a_page() -> None:
    assert len(TEXT.splitlines()) <= MOST_LINES
    assert len(TEXT.split()) <= MOST_WORDS


def test_it_opens_with_the_problem_the_promise_and_the_two_lines() -> None:
    opening = TEXT.partition("\n## ")[0]
    order = ["frozen", "never stuck", "paid at most once", "no work after a response", RUN_LINE, TEST_LINE]
    places = [re.search(re.escape(words), opening, re.IGNORECASE) for words in order]
    assert all(places)
    assert [place.start() for place in places if place] == sorted(place.start() for place in places if place)


def test_the_gate_runs_the_test_line() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    places = [gate.find(part) for part in TEST_LINE.split(" && ")]
    assert -1 not in places


def test_it_leads_to_every_page() -> None:
    assert re.findall(r"\]\(service/docs/([\w-]+)\.md\)", TEXT.partition("## Read on")[2]) == list(NAMES)


def test_every_picture_is_there_and_small() -> None:
    shown = set(re.findall(r"\.pictures/[\w.-]+", TEXT))
    assert shown
    for path in sorted(shown):
        content = (ROOT / path).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < LARGEST_PICTURE_BYTES, path
    kept = {f".pictures/{path.name}" for path in (ROOT / ".pictures").iterdir()}
    assert kept == shown  # the repository keeps every version of a picture


@pytest.mark.anyio
async def test_its_table_is_linked_as_it_says(database_url: str) -> None:
    said = section("Use your own table")
    [create] = sql(said)
    [commands] = re.findall(r"```bash\n(.*?)```", said, re.DOTALL)
    assert len([line for line in said.splitlines() if line]) <= LONGEST_LINK_LINES
    lines = [line.partition(" #")[0].split()[1:] for line in commands.splitlines()]
    async with world(database_url) as w:
        await execute(database_url, "CREATE SCHEMA app", create)
        for arguments in lines:
            done = await taxiway(database_url, *arguments, *(["--yes"] if arguments == ["link", "app.clips"] else []))
            assert done.exit_code == 0, done.output
        await execute(database_url, "INSERT INTO app.clips (prompt) VALUES ('A small boat leaves the harbour')")
        await w.finish()
        await w.tick()
        [row] = await w.rows("SELECT status, error_message, video_url FROM app.clips")
    assert (row["status"], row["error_message"]) == ("completed", None)
    assert row["video_url"]


@pytest.mark.anyio
async def test_its_insert_is_a_video(database_url: str) -> None:
    [insert] = sql(section("Queue a video"))
    async with world(database_url) as w:
        assert (await taxiway(database_url, "migrate", "--view")).exit_code == 0
        await execute(database_url, insert)
        await w.finish()
        [row] = await w.rows("SELECT status FROM public.videos")
    assert row["status"] == "completed"
