"""The view `public.videos`: the statements that an app has, word for word, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.errors import MigrationBlocked
from service.installer import closing
from service.installer.migrate import migrate
from service.installer.turn import Connection
from service.installer.view import SHOWN, make_view, remove_view
from tests.database import connected, execute
from tests.kept import PATIENCE_SECONDS
from tests.roles import role

pytestmark = pytest.mark.anyio

BLOCKED = "SELECT cardinality(pg_blocking_pids($1)) > 0"
LAST_FIVE = (
    "SELECT id, status, error_message, runway_video_id, created_at, updated_at FROM videos "
    "ORDER BY created_at DESC LIMIT 5;"
)
INSERT = (
    "INSERT INTO videos (user_id, prompt, image_url, status) "
    "VALUES ('u-1', 'a boat', 'https://example.com/boat.jpg', 'queued')"
)
# What no statement of a view can make: the other states, with what each of them has.
STATES = {
    "completed": "status = 'completed', finished_at = now(), runway_video_id = 'task-1', video_url = 'https://x/y.mp4'",
    "failed": "status = 'failed', finished_at = now(), error_code = 'REJECTED', error_message = 'no'",
    "cancelled": "status = 'cancelled', finished_at = now()",
    "processing": "status = 'processing', runway_video_id = 'task-1'",
    "queued": "status = 'queued'",
}


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Connection]:
    """A connection to a database that has the view."""
    await make_view(database_url)
    async with connected(database_url) as connection:
        yield connection


async def insert(app: Connection) -> UUID:
    video_id: UUID = await app.fetchval(f"{INSERT} RETURNING id")
    return video_id


async def in_state(app: Connection, status: str) -> UUID:
    video_id = await insert(app)
    await app.execute(f"UPDATE taxiway.videos SET {STATES[status]} WHERE id = $1", video_id)
    return video_id


async def test_the_query_and_the_insert_work_word_for_word(app: Connection) -> None:
    assert await app.execute(INSERT) == "INSERT 0 1"
    [row] = await app.fetch(LAST_FIVE)
    assert (row["status"], row["error_message"], row["runway_video_id"]) == ("queued", None, None)
    assert row["created_at"] == row["updated_at"]
    [kept] = await app.fetch("SELECT * FROM taxiway.videos")
    assert (kept["id"], kept["user_id"], kept["prompt"]) == (row["id"], "u-1", "a boat")
    assert kept["input"] is None, "the next tick's intake makes the request"


async def test_an_insert_in_the_apps_own_transaction_goes_with_it(app: Connection) -> None:
    mine = app.transaction()
    await mine.start()
    await app.execute(INSERT)
    await mine.rollback()
    assert await app.fetchval("SELECT count(*) FROM videos") == 0


async def test_an_insert_returns_what_was_made(app: Connection) -> None:
    row = await app.fetchrow(f"{INSERT} RETURNING id, status, created_at")
    assert row is not None
    assert row["status"] == "queued"
    kept = await app.fetchrow("SELECT created_at FROM taxiway.videos WHERE id = $1", row["id"])
    assert kept is not None
    assert kept["created_at"] == row["created_at"]


async def test_status_may_be_left_out_and_the_id_may_be_the_apps_own(app: Connection) -> None:
    mine = uuid4()
    await app.execute("INSERT INTO videos (user_id, prompt) VALUES ('u-1', 'a boat')")
    sql = "INSERT INTO videos (id, prompt, model) VALUES ($1, 'a boat', 'gen4_turbo') RETURNING id, status"
    assert tuple(await app.fetchrow(sql, mine) or ()) == (mine, "queued")
    assert await app.fetchval("SELECT count(*) FROM videos WHERE status = 'queued'") == 2
    with pytest.raises(asyncpg.UniqueViolationError):
        await app.fetchrow(sql, mine)


async def test_many_rows_at_once(app: Connection) -> None:
    sql = "INSERT INTO videos (user_id, prompt) SELECT 'u-1', 'boat ' || n FROM generate_series(1, 50) AS n"
    assert await app.execute(sql) == "INSERT 0 50"


@pytest.mark.parametrize("sql", ["INSERT INTO videos (prompt, status) VALUES ('a boat', 'processing')",
    "INSERT INTO videos (prompt, runway_video_id) VALUES ('a boat', 'task-1')",
    "INSERT INTO videos (prompt, progress) VALUES ('a boat', 0)"])  # fmt: skip
async def test_an_insert_cannot_say_what_is_taxiways_to_say(app: Connection, sql: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await app.execute(sql)
    assert caught.value.hint


@pytest.mark.parametrize("status", ["failed", "cancelled", "completed"])
async def test_what_has_ended_is_queued_again(app: Connection, status: str) -> None:
    video_id = await in_state(app, status)
    sql = "UPDATE videos SET status = 'queued', error_message = NULL, updated_at = now() WHERE id = $1"
    assert await app.execute(sql, video_id) == "UPDATE 1"
    row = await app.fetchrow("SELECT status, finished_at FROM taxiway.videos")
    assert row is not None
    assert row["status"] == "queued"
    assert row["finished_at"] is not None, "by which intake knows that it was put back"


@pytest.mark.parametrize("status", ["queued", "processing"])
async def test_what_has_not_ended_is_cancelled(app: Connection, status: str) -> None:
    video_id = await in_state(app, status)
    assert await app.execute("UPDATE videos SET status = 'cancelled' WHERE id = $1", video_id) == "UPDATE 1"
    row = await app.fetchrow("SELECT status, finished_at IS NOT NULL AS ended FROM taxiway.videos")
    assert tuple(row or ()) == ("cancelled", True)


@pytest.mark.parametrize(("before", "after"), [("queued", "processing"), ("queued", "completed"), ("queued", "draft"),
    ("processing", "queued"), ("processing", "failed"), ("completed", "cancelled"), ("failed", "completed"),
    ("queued", None)])  # fmt: skip
async def test_every_other_change_of_status_is_refused_with_words(
    app: Connection, before: str, after: str | None
) -> None:
    await in_state(app, before)
    with pytest.raises(asyncpg.CheckViolationError, match=f"'{before}' cannot be set to") as caught:
        await app.execute("UPDATE videos SET status = $1", after)
    assert "Set 'queued'" in (caught.value.hint or "")


@pytest.mark.parametrize("change", ["prompt = 'other'", "id = gen_random_uuid()", "user_id = NULL", "model = 'x'",
    "runway_video_id = 'task-2'", "video_url = NULL", "status = 'queued', error_message = 'mine'",
    "status = 'queued', progress = 0.5", "created_at = 'epoch'"])  # fmt: skip
async def test_nothing_else_can_be_changed(app: Connection, change: str) -> None:
    await in_state(app, "completed")
    with pytest.raises(asyncpg.CheckViolationError, match="only the status"):
        await app.execute(f"UPDATE videos SET {change}")


async def test_an_update_that_changes_nothing_is_none(app: Connection) -> None:
    await in_state(app, "processing")
    assert await app.execute("UPDATE videos SET status = status, updated_at = now()") == "UPDATE 1"


async def test_a_delete_passes_through(app: Connection) -> None:
    video_id = await insert(app)
    assert await app.execute("DELETE FROM videos WHERE id = $1", video_id) == "DELETE 1"
    assert await app.fetchval("SELECT count(*) FROM taxiway.videos") == 0


async def test_two_that_decide_at_once_are_not_both_right(app: Connection, database_url: str) -> None:
    await in_state(app, "failed")
    async with connected(database_url) as other:
        change = app.transaction()
        await change.start()
        await app.execute("UPDATE videos SET status = 'queued'")
        task = asyncio.create_task(other.execute("UPDATE videos SET status = 'queued'"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await app.fetchval(BLOCKED, other.get_server_pid()):  # noqa: ASYNC110  # no event says so
                await asyncio.sleep(0)
        await change.commit()
        with pytest.raises(asyncpg.SerializationError, match="changed meanwhile"):
            await task


async def test_the_columns_are_those_that_a_role_is_granted(app: Connection) -> None:
    columns = await app.fetch("SELECT attname::text FROM pg_attribute WHERE attrelid = 'public.videos'::regclass")
    assert {row["attname"] for row in columns} == set(SHOWN)


async def test_a_name_that_is_taken_is_left_alone(database_url: str) -> None:
    for made in ("TABLE videos (id int)", "VIEW videos AS SELECT 1 AS id"):
        await execute(database_url, f"CREATE {made}")
        with pytest.raises(MigrationBlocked, match="of the app's own, and stays as it is"):
            await make_view(database_url)
        assert not await remove_view(database_url)
        await execute(database_url, f"DROP {made.partition(' ')[0]} videos")
    await make_view(database_url)


async def test_it_is_removed_and_made_again(database_url: str) -> None:
    await make_view(database_url)
    await make_view(database_url)
    async with connected(database_url) as connection:
        await insert(connection)
        assert await remove_view(database_url)
        assert not await remove_view(database_url)
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.fetch(LAST_FIVE)
        await make_view(database_url)
        assert len(await connection.fetch(LAST_FIVE)) == 1, "a video is no less for it"


async def test_before_the_schema_there_is_no_view(empty_database_url: str) -> None:
    with pytest.raises(MigrationBlocked, match="no schema taxiway yet"):
        await make_view(empty_database_url)


async def test_a_role_that_may_not_make_it_is_given_the_grant(empty_database_url: str) -> None:
    async with role(empty_database_url) as (name, url):
        await execute(empty_database_url, f"CREATE SCHEMA taxiway AUTHORIZATION {name}")
        await migrate(url)
        with pytest.raises(MigrationBlocked) as caught:
            await make_view(url)
        assert caught.value.obstacles[0][1] == f"GRANT CREATE ON SCHEMA public TO {name};"
        await execute(empty_database_url, caught.value.obstacles[0][1])
        await make_view(url)
        await execute(empty_database_url, "DROP SCHEMA public CASCADE")
        with pytest.raises(MigrationBlocked, match="no schema public"):
            await make_view(url)


async def test_browsers_get_nothing_of_it_whatever_the_defaults(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with role(database_url) as (browser, url):
        monkeypatch.setattr(closing, "BROWSER_ROLES", (browser,))
        await execute(
            database_url,
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {browser}",
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON ROUTINES TO {browser}",
        )
        await make_view(database_url)
        async with connected(url) as connection:
            for sql in (LAST_FIVE, INSERT, "SELECT * FROM taxiway.videos"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch(sql)
