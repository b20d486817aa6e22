"""`link`, `links` and `unlink`: what they show, what they ask, what they do, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import pytest
from typer.testing import CliRunner, Result

from service.commands.link import cli
from tests.database import connected, execute
from tests.invoking import complaint, printed, terminal
from tests.linked import BASE, CREDITS, PRISMA, ROW, SUPABASE

pytestmark = pytest.mark.anyio


async def taxiway(url: str | None, *arguments: object, answers: str | None = None, **environment: str) -> Result:
    """Run a command to its end in a thread: it has a loop of its own."""
    env: dict[str, str | None] = {"DATABASE_URL": url, "COLUMNS": "200", "NO_COLOR": "1", **environment}
    words = [str(word) for word in arguments]
    return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, words, env=env, input=answers))


async def links_of(url: str) -> list[dict[str, Any]]:
    """The links, as the command lists them."""
    listed: list[dict[str, Any]] = printed(await taxiway(url, "links", "--json"))
    return listed


def one_line(text: str) -> str:
    """Without the breaks of a table."""
    return " ".join(text.split())


async def test_it_shows_then_asks_then_links_and_there_is_a_way_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = database_url
    await execute(
        url, BASE, CREDITS, ROW,
        "INSERT INTO videos (prompt, status) VALUES ('b', 'processing'), ('c', 'draft'), ('d', 'completed')",
        "UPDATE videos SET created_at = now() - interval '190 minutes'",
    )  # fmt: skip
    with terminal(monkeypatch):
        shown = await taxiway(url, "link", "videos", "--dry-run")
        no = await taxiway(url, "link", "videos", answers="\nn\n")
        silent = await taxiway(url, "link", "videos", answers="")
        assert await links_of(url) == []
        done = await taxiway(url, "link", "videos", answers="take\ny\n")
    assert shown.exit_code == 0
    for words in (
        "What linking public.videos (table) does", "reads prompt, image_url (image), user_id, created_at",
        "writes status, runway_video_id, error_message, video_url", "nothing is added to your table",
        "on, because of the trigger charge (public.charge)",
        "queued already 1 rows, the oldest 3 h ago: at most 60 credits ($0.60); left alone",
        "unknown to Taxiway: left alone", "completed: left as they are", "text_to_video with gen4.5: promptText a cat",
        "1 rows say processing, and Taxiway did not send them (0 with a task)", "--requeue-stuck makes them again",
        "first tick costs at most 0 credits ($0.00)", "Open: 1 rows say queued already",
        "--existing take or --existing ignore", "a new row may wait 10 s once the table is large",
    ):  # fmt: skip
        assert words in one_line(shown.stdout), words
    assert (no.exit_code, "Link public.videos? [y/N] taxiway: nothing was done" in no.stderr) == (1, True)
    assert "(take), or leave them (ignore)? [ignore]" in no.stderr
    assert (silent.exit_code, "there was no answer, and nothing was done" in silent.stderr) == (1, True)
    assert (done.exit_code, "public.videos is linked; `taxiway unlink public.videos` undoes it" in done.stderr) == (
        0,
        True,
    )
    [link] = await links_of(url)
    assert (link["link"], link["state"], link["left_alone"]) == ("public.videos", "open", 0)
    with terminal(monkeypatch):
        listed = await taxiway(url, "links")
        plan = await taxiway(url, "unlink", "videos", "--dry-run")
        kept = await taxiway(url, "unlink", "videos", answers="n\n")
        back = await taxiway(url, "unlink", "videos", answers="y\n")
    assert "public.videos" in listed.stdout
    assert "takes no new rows of public.videos" in one_line(plan.stdout)
    assert "remembers its rows, so that none is paid for twice" in one_line(plan.stdout)
    assert kept.exit_code == 1
    assert (back.exit_code, "public.videos is unlinked" in back.stderr) == (0, True)
    assert [link["state"] for link in await links_of(url)] == ["closed"]


async def test_yes_takes_what_is_safe_and_ends_with_one_otherwise(database_url: str) -> None:
    url = database_url
    await execute(url, SUPABASE)
    refused = await taxiway(url, "link", "videos", "--yes")
    assert refused.exit_code == 1
    lines = refused.stderr.splitlines()
    assert [line.rpartition("Answer with ")[2] for line in lines] == [
        "--column image=original_image_url.", "--column runway_video_id=task_id.", "--column error_message=error.",
        "--column video_url=output_url.", "--where 'deleted_at IS NULL'.",
    ]  # fmt: skip
    assert all(line.startswith("taxiway: Which ") for line in lines)
    assert await links_of(url) == []
    [plan] = [json.loads(line) for line in refused.stdout.splitlines()]
    assert [question["key"] for question in plan["questions"]] == [
        "column.image", "column.runway_video_id", "column.error_message", "column.video_url", "where",
    ]  # fmt: skip
    done = await taxiway(
        url, "link", "videos", "--yes", "--column", "image=original_image_url", "--column", "runway_video_id=task_id",
        "--column", "error_message=", "--column", "video_url=output_url", "--where", "deleted_at IS NULL",
    )  # fmt: skip
    plan, linked = printed(done)
    assert linked == {
        "link": "public.videos", "left_alone": 0, "failed": 0, "requeued": 0, "followed": 0, "added": [],
        "index_error": None,
    }  # fmt: skip
    [link] = await links_of(url)
    assert link["mapping"]["filter"] == "deleted_at IS NULL"
    assert "error_message" not in link["mapping"]["columns"]


async def test_yes_is_enough_for_the_plain_table(database_url: str) -> None:
    await execute(database_url, BASE)
    assert (await taxiway(database_url, "link", "videos", "--yes")).exit_code == 0
    assert (await taxiway(database_url, "link", "--yes")).exit_code == 0
    assert len(await links_of(database_url)) == 1


async def test_a_mapping_is_printed_and_read_for_repeatable_deploys(database_url: str, tmp_path: Path) -> None:
    url = database_url
    await execute(
        url, PRISMA, "INSERT INTO \"Video\" (id, prompt, \"userId\", \"updatedAt\") VALUES ('c1', 'a', 'u', now())"
    )
    file = tmp_path / "mapping.json"
    open_ones = await taxiway(url, "link", "Video", "--print", "--zone", "UTC")
    assert (open_ones.exit_code, "--existing take or --existing ignore" in open_ones.stderr) == (1, True)
    result = await taxiway(url, "link", "Video", "--print", "--zone", "UTC", "--existing", "ignore")
    assert result.exit_code == 0
    file.write_text(result.stdout, encoding="utf-8")
    mapping = json.loads(result.stdout)
    assert (mapping["table"], mapping["words"]["queued"]) == ('public."Video"', ["PENDING"])
    assert await links_of(url) == []
    assert (await taxiway(url, "link", "--file", file, "--yes")).exit_code == 0
    [link] = await links_of(url)
    assert (link["mapping"], link["left_alone"]) == (mapping, 1)
    # Flags go before the file, and the file before what is linked already.
    assert (await taxiway(url, "link", "--file", file, "--yes", "--word", "cancelled=", "--gate")).exit_code == 0
    [link] = await links_of(url)
    assert (link["mapping"]["words"]["cancelled"], link["mapping"]["gate"]) == (None, True)
    assert (await taxiway(url, "link", "Video", "--yes")).exit_code == 0
    [link] = await links_of(url)
    assert (link["mapping"]["words"]["cancelled"], link["mapping"]["gate"]) == (None, True)
    assert (await taxiway(url, "link", "--file", file, "--yes")).exit_code == 0
    assert (await links_of(url))[0]["mapping"] == mapping


async def test_what_is_not_understood_ends_with_two(database_url: str, tmp_path: Path) -> None:
    url = database_url
    await execute(url, BASE)
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"table": "videos", "id": 1, "surplus": 2}', encoding="utf-8")
    for words, said in {
        ("--column", "picture=x"): "with one of the keys", ("--column", "image"): "write it as key=name",
        ("--word", "done=x"): "with one of queued", ("--existing", "maybe"): "'maybe'",
        ("--requeue-stuck", "--fail-stuck"): "either --requeue-stuck or --fail-stuck",
        ("--file", str(tmp_path / "none.json")): "cannot be read", ("--file", str(wrong)): "surplus",
        ("--odd",): "--odd",
    }.items():  # fmt: skip
        result = await taxiway(url, "link", "videos", *words)
        assert (result.exit_code, said in one_line(result.stderr.replace("│", ""))) == (2, True), result.stderr
    assert (await taxiway(url, "unlink")).exit_code == 2


async def test_what_fails_ends_with_one_line_that_quotes_postgresql(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, "CREATE TABLE other (id int)")
    for words, said in {
        ("link", "films"): "taxiway: This table cannot be linked like this: there is no table or view films",
        ("link", "other"): "no single column that is unique and NOT NULL",
        ("link", "videos", "--where", "status ="): 'syntax error at or near ")"',
        ("link", "videos", "--zone", "Mars"): 'time zone "Mars" not recognized',
        ("link", "videos", "--column", "image=user_id"): "the column user_id (image) is integer",
        ("unlink", "videos"): "no link is called videos; there is none",
    }.items():  # fmt: skip
        assert said in complaint(await taxiway(url, *words, "--yes"))
    away = await taxiway("postgresql://someone:a-secret-password@127.0.0.1:9/x", "link", "videos")
    assert "check DATABASE_URL" in complaint(away)
    assert "a-secret-password" not in away.output
    for words in (("link", "videos"), ("links",), ("unlink", "videos")):
        assert "set DATABASE_URL" in complaint(await taxiway(None, *words))


async def test_without_the_schema_each_names_the_command_that_makes_it(empty_database_url: str) -> None:
    await execute(empty_database_url, BASE)
    for words in (("link", "videos"), ("links",), ("unlink", "videos")):
        assert "run `taxiway migrate`" in complaint(await taxiway(empty_database_url, *words))


async def test_a_right_that_lacks_is_quoted(database_url: str) -> None:
    url = database_url
    await execute(
        url, BASE.replace("video_url text,", ""), "DROP ROLE IF EXISTS taxi_guest",
        "CREATE ROLE taxi_guest LOGIN PASSWORD 'guest'",
        "GRANT SELECT, UPDATE ON videos TO taxi_guest", "GRANT USAGE ON SCHEMA taxiway TO taxi_guest",
        "GRANT ALL ON ALL TABLES IN SCHEMA taxiway TO taxi_guest",
        "GRANT EXECUTE ON FUNCTION taxiway.now() TO taxi_guest",
    )  # fmt: skip
    try:
        server = urlsplit(url)
        guest = server._replace(netloc=f"taxi_guest:guest@{server.netloc.rpartition('@')[2]}").geturl()
        result = await taxiway(guest, "link", "videos", "--yes", "--add-columns")
        assert "PostgreSQL refused it: must be owner of table videos" in complaint(result)
        assert await links_of(url) == []
        assert (await taxiway(guest, "link", "videos", "--yes")).exit_code == 0
    finally:
        await execute(url, "DROP OWNED BY taxi_guest", "DROP ROLE taxi_guest")


async def test_without_a_name_the_only_table_with_a_status_and_a_prompt(database_url: str) -> None:
    url = database_url
    assert "no table has a status and a prompt" in complaint(await taxiway(url, "link", "--yes"))
    await execute(url, BASE)
    assert printed(await taxiway(url, "link", "--dry-run"))[0]["table"] == "public.videos"
    await execute(url, BASE.replace("TABLE videos", "TABLE films"))
    assert "there are several: public.films, public.videos" in complaint(await taxiway(url, "link", "--yes"))


async def test_questions_are_answered_at_a_terminal(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = database_url
    await execute(
        url, "CREATE TABLE clips (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), prompt text, photo_url text, "
        "status text DEFAULT 'pending', task_id text)", "INSERT INTO clips (prompt) VALUES ('a')",
    )  # fmt: skip
    with terminal(monkeypatch):
        # The image and the task as proposed; words: one answered otherwise, the others as proposed; the row ignored.
        result = await taxiway(url, "link", "clips", answers="\n\n\nsucceeded\n\n\nnonsense\n")
        assert "the answer is take or ignore, not nonsense" in result.stderr
        result = await taxiway(url, "link", "clips", answers="\n\n\nsucceeded\n\n\n\ny\n")
    assert result.exit_code == 0, result.stderr
    [link] = await links_of(url)
    assert link["mapping"]["columns"]["image"] == "photo_url"
    assert link["mapping"]["words"] == {
        "queued": ["pending"], "processing": "processing", "completed": "succeeded", "failed": "failed",
        "cancelled": "cancelled", "cancel": ["cancelled"],
    }  # fmt: skip
    assert link["left_alone"] == 1


async def test_a_condition_and_a_zone_are_answered_at_a_terminal(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = database_url
    await execute(
        url, BASE.replace("created_at timestamptz", "created_at timestamp"), "ALTER TABLE videos ADD provider text",
        "INSERT INTO videos (prompt, status, provider, created_at) "
        "VALUES ('a', 'completed', 'kling', now() AT TIME ZONE 'UTC' + interval '9 hours')",
    )  # fmt: skip
    with terminal(monkeypatch):
        result = await taxiway(url, "link", "videos", answers="provider = 'mine'\nAsia/Tokyo\ny\n", PGTZ="UTC")
    assert result.exit_code == 0, result.stderr
    [link] = await links_of(url)
    assert (link["mapping"]["filter"], link["mapping"]["zone"]) == ("provider = 'mine'", "Asia/Tokyo")


async def test_an_example_shows_no_signature(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = database_url
    await execute(
        url, BASE, "INSERT INTO videos (prompt, image_url, status) "
        "VALUES ('a', 'https://example.com/a.png?X-Amz-Signature=secret', 'completed'), (' ', NULL, 'failed')",
    )  # fmt: skip
    with terminal(monkeypatch):
        people = await taxiway(url, "link", "videos", "--dry-run")
    programs = await taxiway(url, "link", "videos", "--dry-run")
    for shown in (people.stdout, programs.stdout):
        assert "https://example.com/a.png?" in shown
        assert "secret" not in shown
    assert "none: /input/promptText" in one_line(people.stdout)


async def test_stuck_rows_and_additions(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = database_url
    await execute(
        url, BASE.replace("video_url text,", ""),
        "INSERT INTO videos (prompt, status) SELECT 'p', 'processing' FROM generate_series(1, 25)",
    )  # fmt: skip
    with terminal(monkeypatch):
        shown = await taxiway(url, "link", "videos", "--dry-run", "--requeue-stuck", "--add-columns", "--index")
    for words in (
        "queued again, and may be paid twice", "... and 5 more", 'ADD COLUMN "video_url" text',
        'CREATE INDEX CONCURRENTLY "videos_taxiway_look"', 'schema.ts (videoUrl: text("video_url"))',
        '@@index([status, createdAt], map: "videos_taxiway_look")',
    ):  # fmt: skip
        assert words in one_line(shown.stdout), words
    _, linked = printed(await taxiway(url, "link", "videos", "--yes", "--requeue-stuck", "--add-columns", "--index"))
    assert (linked["requeued"], linked["added"]) == (25, ["video_url", "videos_taxiway_look"])
    [link] = await links_of(url)
    assert (link["queued"], link["behind"], [each["name"] for each in link["made"]]) == (
        25, 25, ["video_url", "videos_taxiway_look"],
    )  # fmt: skip
    with terminal(monkeypatch):
        odd = await taxiway(url, "unlink", "videos", answers="perhaps\n")
        assert (odd.exit_code, "finish or cancel; nothing was done" in odd.stderr) == (1, True)
        plan = await taxiway(url, "unlink", "videos", "--dry-run")
        assert "25 queued, 0 processing: finished" in one_line(plan.stdout)
        assert 'drops the index public."videos_taxiway_look"' in one_line(plan.stdout)
        done = await taxiway(url, "unlink", "videos", answers="cancel\ny\n")
    assert "25 videos cancelled; the columns video_url stay, drop them yourself" in done.stderr
    assert "public.videos takes no new rows" in done.stderr
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM taxiway.videos WHERE status = 'cancelled'") == 25
        assert await connection.fetchval("SELECT to_regclass('videos_taxiway_look') IS NULL")


async def test_an_index_that_fails_is_said_although_the_link_is_made(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, "CREATE TABLE videos_taxiway_look ()")
    result = await taxiway(url, "link", "videos", "--yes", "--index")
    assert result.exit_code == 1
    assert "public.videos is linked, but the index was not made" in result.stderr
    assert len(await links_of(url)) == 1


async def test_row_security_publications_and_text_without_an_image_are_remarked(database_url: str) -> None:
    url = database_url
    await execute(
        url, "CREATE TABLE videos (id int NOT NULL UNIQUE, prompt text, status text DEFAULT 'queued', provider text)",
        "CREATE PUBLICATION p FOR TABLE videos", "CREATE VIEW seen AS SELECT * FROM videos",
        "INSERT INTO videos VALUES (1, 'a', 'completed', 'runway'), (2, 'b', 'completed', 'kling')",
    )  # fmt: skip
    [plan] = printed(await taxiway(url, "link", "videos", "--dry-run"))
    notes = " ".join(plan["notes"])
    for words in ("REPLICA IDENTITY FULL", "each row becomes a text_to_video", "no column shows runway_video_id"):
        assert words in notes
    assert plan["others"] == 1
    [plan] = printed(await taxiway(url, "link", "seen", "--dry-run"))
    assert "nothing guarantees that id stays unique" in " ".join(plan["notes"])
