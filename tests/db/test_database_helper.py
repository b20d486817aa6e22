"""Time travel, on which the tests of everything that waits rely; and time as the product has it."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from service.installer.grants import grant
from tests.database import connected, later
from tests.roles import role

pytestmark = pytest.mark.anyio


async def test_time_is_that_of_postgresql_until_a_test_says_otherwise(database_url: str) -> None:
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT taxiway.now() = pg_catalog.now()")
        body = await connection.fetchval("SELECT prosrc FROM pg_proc WHERE oid = 'taxiway.now()'::regprocedure")
        assert body == "SELECT pg_catalog.now()"


async def test_time_passes_for_every_connection_and_nothing_stored_changes(database_url: str) -> None:
    async with connected(database_url) as connection, connected(database_url) as other:
        await connection.execute("INSERT INTO taxiway.videos (prompt) VALUES ('a cat')")
        age = "SELECT taxiway.now() - created_at FROM taxiway.videos"
        stored = await connection.fetchval("SELECT created_at FROM taxiway.videos")
        assert await other.fetchval(age) < timedelta(hours=1)
        await later(database_url, days=8)
        await later(connection, hours=2)
        for one in (connection, other):
            assert timedelta(days=8, hours=2) < await one.fetchval(age) < timedelta(days=8, hours=3)
        assert await connection.fetchval("SELECT created_at FROM taxiway.videos") == stored
        await connection.execute("INSERT INTO taxiway.videos (prompt) VALUES ('a dog')")
        assert await connection.fetchval(
            "SELECT max(created_at) - min(created_at) > interval '8 days' FROM taxiway.videos"
        )


async def test_an_app_role_reads_the_time_too_and_it_costs_no_call(database_url: str) -> None:
    async with role(database_url) as (name, url):
        await grant(database_url, name)
        async with connected(url) as connection:
            question = "EXPLAIN SELECT id FROM taxiway.videos WHERE created_at <= taxiway.now() - interval '1 hour'"
            plan = "\n".join(line for (line,) in await connection.fetch(question))
    assert "<= (now() - '01:00:00'::interval)" in plan


async def test_databases_are_separate(database_url: str, empty_database_url: str) -> None:
    async with connected(database_url) as migrated, connected(empty_database_url) as empty:
        assert await migrated.fetchval("SELECT count(*) FROM taxiway.videos") == 0
        with pytest.raises(asyncpg.UndefinedTableError):
            await empty.fetchval("SELECT count(*) FROM taxiway.videos")
