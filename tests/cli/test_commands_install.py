"""`migrate`, `grant`, and `resume all` of a database that was restored."""

from __future__ import annotations

import anyio.to_thread
import pytest
from typer.testing import CliRunner, Result

from service.__main__ import cli
from tests.database import connected, execute
from tests.roles import role

pytestmark = pytest.mark.anyio


async def taxiway(*arguments: str, **environment: str) -> Result:
    """The command as its own process would run it, in a thread, since it runs a loop of its own."""
    return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, arguments, env=environment))


async def test_migrate_says_what_it_did(empty_database_url: str) -> None:
    first = await taxiway("migrate", DATABASE_URL=empty_database_url)
    assert (first.exit_code, first.stdout) == (0, "applied 0001_taxiway\n")
    second = await taxiway("migrate", DATABASE_URL=empty_database_url)
    assert (second.exit_code, second.stdout) == (0, "the schema is up to date\n")


async def test_migrate_uses_a_url_of_its_own(empty_database_url: str) -> None:
    named = {"DATABASE_URL": "postgresql://127.0.0.1:9/nowhere", "MIGRATE_DATABASE_URL": empty_database_url}
    assert (await taxiway("migrate", **named)).exit_code == 0
    nothing = await taxiway("migrate")
    assert (nothing.exit_code, "set DATABASE_URL" in nothing.stderr) == (1, True)


async def test_migrate_makes_the_view_and_removes_it(database_url: str) -> None:
    for option, words in [("--view", "made the view"), ("--no-view", "removed the view"), ("--no-view", "no view")]:
        told = await taxiway("migrate", option, DATABASE_URL=database_url)
        assert told.exit_code == 0
        assert words in told.stdout


async def test_migrate_of_a_version_that_is_older_than_the_schema(database_url: str) -> None:
    later = "INSERT INTO taxiway.migrations (name, sha256, works_with) VALUES ('9999_more', 'x', '{}')"
    await execute(database_url, later.format("0001"))
    told = await taxiway("migrate", DATABASE_URL=database_url)
    assert told.exit_code == 0
    assert "newer than this version, which can work with it: 9999_more" in told.stderr
    await execute(database_url, "UPDATE taxiway.migrations SET works_with = '9999' WHERE name = '9999_more'")
    told = await taxiway("migrate", DATABASE_URL=database_url)
    assert told.exit_code == 1
    assert "cannot work with it: 9999_more" in told.stderr


async def test_migrate_prints_the_grant_that_it_lacks(empty_database_url: str) -> None:
    async with role(empty_database_url) as (name, url):
        told = await taxiway("migrate", DATABASE_URL=url)
    assert told.exit_code == 1
    assert "GRANT CREATE ON DATABASE taxiway_" in told.stderr
    assert f"TO {name};" in told.stderr


async def test_grant_prints_what_it_ran(database_url: str) -> None:
    async with role(database_url) as (name, _):
        app = await taxiway("grant", name, DATABASE_URL=database_url)
        service = await taxiway("grant", name, "--service", DATABASE_URL=database_url)
    assert app.exit_code == service.exit_code == 0
    assert "INSERT (user_id, prompt, image_url, status) ON taxiway.videos" in app.stdout
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA taxiway" in service.stdout
    missing = await taxiway("grant", "nobody_has_this", DATABASE_URL=database_url)
    assert (missing.exit_code, "there is no role nobody_has_this" in missing.stderr) == (1, True)


async def test_resume_all_of_a_restored_database_says_why_and_asks(database_url: str) -> None:
    await execute(
        database_url,
        "INSERT INTO taxiway.models (model, paused_until, reason, detail, paused_at)"
        " VALUES ('all', 'infinity', 'restored', 'It went back in time. Nothing is sent', now())",
        "INSERT INTO taxiway.videos (prompt, quoted_credits, created_at) VALUES ('x', 25, now() - interval '1 day')",
    )
    listed = await taxiway("models", "--json", DATABASE_URL=database_url)
    assert (listed.exit_code, '"reason": "restored"' in listed.stdout) == (0, True)
    unanswered = await taxiway("resume", "all", DATABASE_URL=database_url)
    assert unanswered.exit_code == 1
    assert "It went back in time. 1 videos were queued before that (at most 25 credits)" in unanswered.stderr
    done = await taxiway("resume", "all", "--yes", DATABASE_URL=database_url)
    assert done.exit_code == 0
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT reason FROM taxiway.models WHERE model = 'all'") is None
        assert await connection.fetchval("SELECT kind FROM taxiway.events") == "resumed"
