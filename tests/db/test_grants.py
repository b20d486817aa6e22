"""`taxiway grant`: exactly what an app needs, and what web and worker need, and nothing beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from service.errors import MigrationBlocked
from service.installer.grants import grant
from service.installer.migrate import migrate
from service.installer.turn import Connection
from service.installer.view import make_view
from tests.database import connected, execute
from tests.db.test_view import INSERT, LAST_FIVE
from tests.roles import role, shape
from tests.world import world

pytestmark = pytest.mark.anyio

# What a role that only has rows cannot do.
CHANGES = (
    "CREATE TABLE taxiway.mine (id int)", "ALTER TABLE taxiway.videos ADD mine int", "DROP TABLE taxiway.inbox",
    "TRUNCATE taxiway.videos", "DELETE FROM taxiway.migrations",
)  # fmt: skip


@asynccontextmanager
async def granted(url: str, **how: bool) -> AsyncIterator[tuple[str, str]]:
    async with role(url) as (name, as_it):
        await grant(url, name, **how)
        yield name, as_it


async def rights(connection: Connection, name: str) -> dict[str, set[str]]:
    """What the role may do with each column of taxiway.videos, by right."""
    rows = await connection.fetch(
        "SELECT attname::text, privilege FROM pg_attribute,"
        " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS privilege"
        " WHERE attrelid = 'taxiway.videos'::regclass AND attnum > 0"
        " AND has_column_privilege($1, attrelid, attnum, privilege)",
        name,
    )
    return {right: {row["attname"] for row in rows if row["privilege"] == right} for right in
            ("SELECT", "INSERT", "UPDATE", "REFERENCES")}  # fmt: skip


async def test_an_app_inserts_and_reads_through_the_view(database_url: str) -> None:
    await make_view(database_url)
    async with granted(database_url) as (_, url), connected(url) as app:
        assert await app.fetchval(f"{INSERT} RETURNING id")
        assert [row["status"] for row in await app.fetch(LAST_FIVE)] == ["queued"]
        assert await app.fetchval("SELECT status FROM taxiway.video_status") == "queued"
        for sql in ("UPDATE videos SET status = 'cancelled'", "DELETE FROM videos", "SELECT * FROM taxiway.submissions",
                    "SELECT input FROM taxiway.videos", "CREATE TABLE taxiway.mine (id int)"):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute(sql)


@pytest.mark.parametrize(("column", "value"), [("input", "'{}'"), ("quoted_credits", "0"),
    ("operation", "'../organization/usage'"), ("priority", "100"), ("metadata", "'{}'"), ("origin", "'api'"),
    ("run_after", "now()"), ("idempotency_key", "'x'")])  # fmt: skip
async def test_a_user_of_the_app_cannot_set_what_costs(database_url: str, column: str, value: str) -> None:
    await make_view(database_url)
    async with granted(database_url) as (_, url), connected(url) as app:
        values = f"(prompt, status, {column}) VALUES ('a boat', 'queued', {value})"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(f"INSERT INTO taxiway.videos {values}")
        with pytest.raises(asyncpg.UndefinedColumnError):
            await app.execute(f"INSERT INTO videos {values}")


async def test_an_app_gets_exactly_that_also_if_it_had_more(database_url: str) -> None:
    async with role(database_url) as (name, _), connected(database_url) as owner:
        await owner.execute(
            f"GRANT ALL ON ALL TABLES IN SCHEMA taxiway TO {name}; GRANT ALL ON SCHEMA taxiway TO {name}"
        )
        await grant(database_url, name)
        found = await rights(owner, name)
        assert found["INSERT"] == {"user_id", "prompt", "image_url", "status"}
        assert found["UPDATE"] == found["REFERENCES"] == set()
        assert found["SELECT"] >= {"id", "status", "error_message", "runway_video_id", "created_at", "updated_at"}
        assert not found["SELECT"] & {"input", "quoted_credits", "metadata", "idempotency_key", "open_submission_id"}
        assert not await owner.fetchval("SELECT has_schema_privilege($1, 'taxiway', 'CREATE')", name)
        assert not await owner.fetchval("SELECT has_table_privilege($1, 'taxiway.submissions', 'SELECT')", name)


async def test_the_rights_on_the_view_outlast_a_new_version_of_it(database_url: str) -> None:
    await make_view(database_url)
    async with granted(database_url) as (_, url), connected(url) as app:
        await make_view(database_url)
        assert await app.execute(INSERT) == "INSERT 0 1"


async def test_web_and_worker_run_with_rows_alone(database_url: str) -> None:
    async with granted(database_url, service=True) as (name, url), world(url) as w:
        first, second = await w.enqueue(), await w.enqueue()
        assert (await w.api.post(f"/videos/{second}/cancel")).status_code == 200
        await w.tick()
        await execute(database_url, "INSERT INTO taxiway.videos (prompt) VALUES ('a boat')")
        async with connected(database_url) as owner:
            w.url = database_url  # time passes by the owner's hand: `later` writes to every table
            await w.finish()
            before = await shape(owner)
        assert (await w.row(first))["status"] == "completed"
        for path in ("/health", "/health/ready", "/videos", f"/videos/{first}/events"):
            assert (await w.api.get(path)).status_code == 200, path
        async with connected(url) as service, connected(database_url) as owner:
            for sql in CHANGES:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await service.execute(sql)
            assert await shape(owner) == before
            assert not await owner.fetchval("SELECT has_schema_privilege($1, 'taxiway', 'CREATE')", name)


async def test_what_a_later_migration_makes_is_webs_and_workers_too(database_url: str) -> None:
    async with granted(database_url, service=True) as (_, url), connected(url) as service:
        await execute(database_url, "CREATE TABLE taxiway.hangars (id int)")
        assert await service.execute("INSERT INTO taxiway.hangars VALUES (1)") == "INSERT 0 1"


async def test_migrate_leaves_rights_as_they_are(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    async with granted(empty_database_url, service=True) as (name, _), connected(empty_database_url) as owner:
        await execute(empty_database_url, "DELETE FROM taxiway.migrations WHERE false")
        await migrate(empty_database_url)
        assert await owner.fetchval("SELECT has_table_privilege($1, 'taxiway.videos', 'UPDATE')", name)


async def test_a_role_without_sense_is_refused(database_url: str) -> None:
    refused = {
        "nobody-has-this": "no role",
        "anon": "every browser",
        "public": "every browser",
        "postgres": "superuser",
    }
    for name, words in refused.items():
        with pytest.raises(MigrationBlocked, match=words):
            await grant(database_url, name)


async def test_before_the_schema_there_is_nothing_to_grant(empty_database_url: str) -> None:
    with pytest.raises(MigrationBlocked, match="run `taxiway migrate` first"):
        await grant(empty_database_url, "anyone")


async def test_the_name_of_a_role_is_quoted(database_url: str) -> None:
    async with role(database_url, '"An App; --"') as (_, url):
        statements = await grant(database_url, "An App; --")
    assert all('"An App; --"' in one for one in statements)
    assert url
