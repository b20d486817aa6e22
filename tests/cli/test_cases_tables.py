"""Tables of real apps, from `taxiway link --yes` to the last tick, by the number of the case.

Others of these cases are tested where they belong:

* T3, columns of a user's choice: test_grants.test_a_user_of_the_app_cannot_set_what_costs,
  test_link_intake.test_columns_that_are_not_mapped_mean_nothing
* T4, a new model: test_table.test_a_row_with_a_model_that_was_never_seen_is_sent
* T5, 60 images of 5 MB: test_memory.test_sixty_images_of_five_megabytes_fit_into_little_memory
* T6, drizzle-kit push: test_drizzle.test_a_push_touches_nothing_of_taxiways
* T7, a dump of one schema, restored elsewhere: test_identity.test_a_copy_of_one_schema_sends_nothing
* T8, other providers: test_link_plan.test_rows_of_other_providers_are_counted_and_left_alone,
  test_link_intake.test_rows_of_other_providers_are_left_alone
* T11, times without a zone: test_link_plan.test_times_without_a_zone
* T12, another schema: below, and test_link_inspect.test_a_table_is_found_as_an_app_names_it
* T13, a renamed column: test_doctor_links.test_a_paused_link
* T14, a trigger that raises: test_link_intake.test_a_row_that_postgresql_cannot_read_costs_only_itself,
  test_link_enqueue.test_a_row_that_is_not_there_is_a_problem_of_the_request
* T15, no connections allowed: test_driver_errors.test_a_database_that_takes_no_connections_is_waited_for
* T16, secrets in quotes: test_doctor.TestSettings.test_a_value_in_quotes
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.doctor.linked_tables import run
from service.tick import tick
from tests.app_tables import CREDITS
from tests.database import execute
from tests.invoking import complaint, taxiway
from tests.linked import BASE, PRISMA, SUPABASE
from tests.world import IMAGE, World, world

pytestmark = pytest.mark.anyio

SUPABASE_ANSWERS = (
    "--column", "image=original_image_url", "--column", "runway_video_id=task_id", "--column", "error_message=error",
    "--column", "video_url=output_url",
)  # fmt: skip


async def link(url: str, table: str, *answers: str) -> None:
    """What the operator types; it succeeds."""
    result = await taxiway(url, "link", table, "--yes", *answers)
    assert result.exit_code == 0, result.output


@asynccontextmanager
async def linked(
    url: str, *schema: str, table: str = "videos", answers: tuple[str, ...] = (), **changes: Any
) -> AsyncIterator[World]:
    """An app with this schema, linked, and a Taxiway that ticks."""
    await execute(url, *schema)
    await link(url, table, *answers)
    async with world(url, **changes) as w:
        yield w


async def messages(w: World) -> str:
    """What doctor says of linked tables."""
    return "\n".join(f"{one.message}. {one.fix}" for one in await run(w.ctx))


async def test_a_trigger_that_takes_credits_refuses_one_user_and_stops_no_other(database_url: str) -> None:
    """T1."""
    users = "INSERT INTO users VALUES (1, 25), (2, 0), (3, 25)"
    async with linked(database_url, BASE, CREDITS, users) as w:
        await w.rows("INSERT INTO videos (user_id, prompt, image_url) SELECT n, 'p', $1 FROM generate_series(1, 3) n",
                     IMAGE)  # fmt: skip
        await w.finish()
        rows = await w.rows("SELECT * FROM videos ORDER BY user_id")
        assert [row["status"] for row in rows] == ["completed", "failed", "completed"]
        assert "users_credits_check" in rows[1]["error_message"]
        assert len(w.creates) == 2
        assert [row["credits"] for row in await w.rows("SELECT credits FROM users ORDER BY id")] == [0, 0, 0]
        assert "users_credits_check" in await messages(w)


async def test_a_create_that_bounces_three_times_is_charged_to_its_user_once(database_url: str) -> None:
    """T1b."""
    async with linked(
        database_url, BASE, CREDITS, "INSERT INTO users VALUES (1, 75)", runway_url="http://127.0.0.1:9"
    ) as w:
        w.faults("status=429, body=runway", "status=503, body=runway")
        await w.rows("INSERT INTO videos (user_id, prompt) VALUES (1, 'p')")
        refused = replace(w.ctx, transport=None)  # a port at which nothing listens
        for n in range(8):
            await tick(refused if n == 2 else w.ctx)
            await execute(
                database_url, "UPDATE taxiway.models SET paused_until = taxiway.now() WHERE paused_until IS NOT NULL"
            )
            await w.later(minutes=1)
        [video] = await w.rows("SELECT id FROM taxiway.videos")
        assert len(await w.ledger(video["id"])) == 4
        assert [row["status"] for row in await w.rows("SELECT status FROM videos")] == ["completed"]
        assert [row["credits"] for row in await w.rows("SELECT credits FROM users")] == [50]
        assert len([one for one in w.creates if one.task_id]) == 1


async def test_a_check_that_keeps_completed_away_is_reported_and_tried_again(database_url: str) -> None:
    """T2."""
    check = "ALTER TABLE videos ADD thumbnail_url text, ADD CHECK (status <> 'completed' OR thumbnail_url IS NOT NULL)"
    async with linked(database_url, BASE, check) as w:
        await w.rows("INSERT INTO videos (prompt, thumbnail_url) VALUES ('bad', NULL), ('good', 'https://e.com/a.jpg')")
        await w.finish()
        videos = await w.rows("SELECT status, video_url FROM taxiway.videos")
        assert [(row["status"], bool(row["video_url"])) for row in videos] == [("completed", True)] * 2
        rows = await w.rows("SELECT prompt, status FROM videos ORDER BY prompt")
        assert [row["status"] for row in rows] == ["processing", "completed"]
        said = await messages(w)
        assert "rows that refuse to show their videos: 1" in said
        assert "SQLSTATE 23514" in said
        [event] = await w.rows("SELECT detail FROM taxiway.events WHERE kind = 'mirror_refused'")
        assert json.loads(event["detail"]) == {"link": "public.videos", "sqlstate": "23514"}
        assert (await w.api.get("/health")).json()["links"][0]["refusing_rows"] == 1
        await w.later(hours=1)
        assert (await w.tick())["mirror"]["refused"] == 1
        await execute(database_url, "UPDATE videos SET thumbnail_url = 'https://e.com/b.jpg'")
        await w.later(hours=1)
        await w.tick()
        [row] = await w.rows("SELECT status, video_url FROM videos WHERE prompt = 'bad'")
        assert (row["status"], bool(row["video_url"])) == ("completed", True)
        assert "refuse to show" not in await messages(w)
        assert len(w.creates) == 2


async def test_a_prismas_table_is_mapped_and_works(database_url: str) -> None:
    """T9."""
    async with linked(database_url, PRISMA, table='"Video"', answers=("--zone", "UTC")) as w:
        await w.rows(
            """INSERT INTO "Video" (id, prompt, "imageUrl", "userId", "updatedAt")
               VALUES ('cm4x0', 'p', $1, 'u1', '2020-01-01')""",
            IMAGE,
        )
        await w.finish()
        [row] = await w.rows("""SELECT * FROM "Video" """)
        [video] = await w.rows("SELECT operation, user_id, runway_video_id FROM taxiway.videos")
        assert (row["status"], row["runwayVideoId"]) == ("COMPLETED", video["runway_video_id"])
        assert (video["operation"], video["user_id"]) == ("image_to_video", "u1")
        assert row["videoUrl"]
        assert row["updatedAt"].year > 2020
        columns = await w.rows("SELECT column_name AS name FROM information_schema.columns WHERE table_name = 'Video'")
        assert not any("_" in one["name"] for one in columns)


@pytest.mark.parametrize("word", ["pending", "PENDING"])
async def test_pending_means_queued(database_url: str, word: str) -> None:
    """T9. An empty table of texts does not say in which words the rest is meant: they are proposed, and asked for."""
    schema = BASE.replace("'queued'", f"'{word}'")
    rest = ("processing", "completed", "failed", "cancelled")
    said = [each if word.islower() else each.upper() for each in rest]
    answers = tuple(part for pair in zip(rest, said, strict=True) for part in ("--word", "=".join(pair)))
    async with linked(database_url, schema, answers=answers) as w:
        await w.rows("INSERT INTO videos (prompt) VALUES ('p')")
        await w.finish()
        [row] = await w.rows("SELECT status, video_url FROM videos")
        assert (row["status"].lower(), bool(row["video_url"])) == ("completed", True)


async def test_a_look_alike_of_the_image_is_asked_for_and_its_row_costs_what_it_should(w: World) -> None:
    """T10."""
    await execute(w.url, SUPABASE)
    asked = await taxiway(w.url, "link", "videos", "--yes")
    assert asked.exit_code == 1
    assert "--column image=original_image_url" in asked.stderr
    await link(w.url, "videos", *SUPABASE_ANSWERS, "--where", "deleted_at IS NULL")
    await w.rows(
        "INSERT INTO videos (prompt, original_image_url, duration, ratio) VALUES ('p', $1, 10, '720:1280')", IMAGE
    )
    await w.finish()
    [video] = await w.rows("SELECT operation, input, quoted_credits FROM taxiway.videos")
    assert (video["operation"], video["quoted_credits"]) == ("image_to_video", 50)
    assert '"duration": 10' in video["input"]
    assert '"ratio": "720:1280"' in video["input"]
    [row] = await w.rows("SELECT status, task_id, output_url FROM videos")
    assert (row["status"], bool(row["task_id"]), bool(row["output_url"])) == ("succeeded", True, True)


async def test_a_table_in_another_schema_is_found_and_works(database_url: str) -> None:
    """T12."""
    schema = BASE.replace("CREATE TABLE videos", "CREATE TABLE app.videos")
    async with linked(database_url, "CREATE SCHEMA app", schema, table="app.videos") as w:
        await w.rows("INSERT INTO app.videos (prompt) VALUES ('p')")
        await w.finish()
        assert [row["status"] for row in await w.rows("SELECT status FROM app.videos")] == ["completed"]
    assert "public.videos" in complaint(await taxiway(database_url, "link", "public.videos", "--yes"))


async def test_a_row_that_was_deleted_softly_is_not_sent(database_url: str) -> None:
    """T17."""
    answers = (*SUPABASE_ANSWERS, "--where", "deleted_at IS NULL")
    async with linked(database_url, SUPABASE, answers=answers) as w:
        await w.rows("INSERT INTO videos (prompt, deleted_at) VALUES ('kept', NULL), ('deleted', taxiway.now())")
        await w.finish()
        rows = await w.rows("SELECT status FROM videos ORDER BY prompt")
        assert [row["status"] for row in rows] == ["pending", "succeeded"]
        assert len(w.creates) == 1


async def test_an_image_whose_signature_has_ended_is_refused_with_the_reason(database_url: str) -> None:
    """T17."""
    signed = datetime.now(UTC) - timedelta(hours=2)
    image = f"https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires=3600"
    async with linked(database_url, BASE) as w:
        await w.rows("INSERT INTO videos (prompt, image_url) VALUES ('p', $1)", image)
        await w.finish()
        [row] = await w.rows("SELECT status, error_message FROM videos")
        assert row["status"] == "failed"
        assert "promptImage" in row["error_message"]
        assert w.creates == []


async def test_an_apps_own_write_of_processing_is_never_refused(database_url: str) -> None:
    """T18: the row is the app's, and is neither sent nor written; doctor counts what the app leaves there."""
    async with linked(database_url, BASE, "ALTER TABLE videos ADD updated_at timestamptz DEFAULT now()") as w:
        await w.rows("INSERT INTO videos (prompt, status) VALUES ('p', 'draft')")
        await w.rows("UPDATE videos SET status = 'processing', updated_at = taxiway.now() - interval '2 hours'")
        for _ in range(3):
            await w.tick()
        assert w.creates == []
        [row] = await w.rows("SELECT status, error_message FROM videos")
        assert (row["status"], row["error_message"]) == ("processing", None)
        assert "1 rows that Taxiway does not know say processing" in await messages(w)
        await w.rows("UPDATE videos SET status = 'completed', runway_video_id = 'own', video_url = 'https://e.com/a'")
        await w.tick()
        assert [row["status"] for row in await w.rows("SELECT status FROM videos")] == ["completed"]
        assert await w.rows("SELECT FROM taxiway.videos") == []
