"""`adopt`: what it shows, what it asks, and what it does; and the way back."""

from __future__ import annotations

import json

import pytest

from tests.adopted import fill
from tests.cli import complaint, taxiway, terminal, told
from tests.database import connected, execute
from tests.test_undo import schema

pytestmark = pytest.mark.anyio


async def test_it_shows_then_asks_then_does_it_and_there_is_a_way_back(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = empty_database_url
    async with connected(url) as connection:
        await fill(connection)
        before = await schema(connection)
        with terminal(monkeypatch):
            shown = await taxiway(url, "adopt", "--dry-run")
            no = await taxiway(url, "adopt", answers="n\n")
            nobody = await taxiway(url, "adopt", answers="")
            assert await schema(connection) == before
            requeue = await taxiway(url, "adopt", "--dry-run", "--requeue-stuck")
            done = await taxiway(url, "adopt", answers="y\n")
        assert shown.exit_code == 0
        for words in ("What taking over public.videos does", "open_submission_id", "videos_never_stuck",
                      "taxiway_search",
                      "2 of them stand at processing without a Runway id", "failed as SUBMISSION_UNKNOWN",
                      "sent to Runway by the next tick, and paid for", "left as they are"):  # fmt: skip
            assert words in " ".join(shown.stdout.split()), words
        assert "queued again, and may be paid twice" in requeue.stdout
        assert (no.exit_code, no.stderr) == (1, "Take over public.videos? [y/N] taxiway: nothing was done\n")
        assert (nobody.exit_code, "nobody answered" in nobody.stderr) == (1, True)
        assert (done.exit_code, "public.videos is taken over" in done.stderr) == (0, True)
        again = await taxiway(url, "adopt", "--yes")
        assert (again.exit_code, "Taxiway's already" in again.stderr) == (0, True)
        blocked = await taxiway(url, "adopt", "--undo", "--yes")
        assert blocked.exit_code == 1
        assert "2 tasks are under way at Runway" in blocked.stderr
        assert "--force forgets them" in blocked.stderr
        with terminal(monkeypatch):
            plan = await taxiway(url, "adopt", "--undo", "--force", "--dry-run")
            back = await taxiway(url, "adopt", "--undo", "--force", answers="y\n")
        for words in ("drops columns", "open_submission_id", "5 rows that the takeover changed",
                      "the ledger of 4 submissions", "1 rows: nobody sends them any more"):  # fmt: skip
            assert words in " ".join(plan.stdout.split()), words
        assert back.exit_code == 0
        assert "public.videos is as it was" in back.stderr
        assert await schema(connection) == before


async def test_in_json_for_programs(empty_database_url: str) -> None:
    url = empty_database_url
    await execute(
        url, "CREATE TABLE videos (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), status text)",
        "INSERT INTO videos (status) SELECT 'processing' FROM generate_series(1, 30)",
    )  # fmt: skip
    [plan] = told(await taxiway(url, "adopt", "--yes", "--json"))
    assert (plan["stuck"], plan["rows"], plan["obstacles"]) == (30, {"processing": 30}, [])
    [back] = told(await taxiway(url, "adopt", "--undo", "--yes", "--json"))
    assert (back["restored"], back["table"]) == (30, "public.videos")
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM videos WHERE status = 'processing'") == 30


async def test_many_stuck_rows_are_not_all_listed(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = empty_database_url
    await execute(
        url, "CREATE TABLE videos (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), status text)",
        "INSERT INTO videos (status) SELECT 'processing' FROM generate_series(1, 30)",
    )  # fmt: skip
    with terminal(monkeypatch):
        assert "... and 10 more" in (await taxiway(url, "adopt", "--dry-run")).stdout


async def test_what_stands_in_the_way_is_named_with_its_sql(empty_database_url: str) -> None:
    url = empty_database_url
    await execute(url, "CREATE TABLE videos (id uuid PRIMARY KEY, status text, runway_video_id uuid)")
    result = await taxiway(url, "adopt", "--yes")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["obstacles"][0]["sql"].startswith("ALTER TABLE public.videos ALTER COLUMN")
    assert "1. the column runway_video_id is uuid" in result.stderr
    await execute(url, json.loads(result.stdout)["obstacles"][0]["sql"])
    assert (await taxiway(url, "adopt", "--yes")).exit_code == 0


async def test_without_a_table_or_a_database(empty_database_url: str) -> None:
    assert "no table videos to take over" in complaint(await taxiway(empty_database_url, "adopt"))
    nothing = await taxiway(empty_database_url, "adopt", "--undo")
    assert (nothing.exit_code, "there is nothing to undo" in nothing.stderr) == (1, True)
    for words in (("adopt",), ("adopt", "--undo")):
        away = await taxiway("postgresql://someone:a-secret-password@127.0.0.1:9/x", *words)
        assert "check DATABASE_URL" in complaint(away)
        assert "a-secret-password" not in away.output
        assert "set DATABASE_URL" in complaint(await taxiway(None, *words))


async def test_an_app_goes_on_after_the_way_back(empty_database_url: str) -> None:
    url = empty_database_url
    async with connected(url) as connection:
        await fill(connection)
        await connection.execute("DELETE FROM videos WHERE runway_video_id IS NOT NULL AND status = 'processing'")
        stuck = await connection.fetch("SELECT id, updated_at FROM videos WHERE team ~ '^stuck' ORDER BY id")
        assert (await taxiway(url, "adopt", "--yes")).exit_code == 0
        assert (await taxiway(url, "adopt", "--undo", "--yes")).exit_code == 0
        after = await connection.fetch("SELECT id, updated_at FROM videos WHERE status = 'processing' ORDER BY id")
        assert [tuple(row) for row in after] == [tuple(row) for row in stuck]
        await connection.execute("UPDATE videos SET status = 'processing', runway_video_id = NULL")
