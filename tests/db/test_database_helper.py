"""Time travel, on which the tests of everything that waits rely."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.database import connected, later

pytestmark = pytest.mark.anyio

THEN = datetime(2026, 1, 1, tzinfo=UTC)


async def test_every_time_in_every_table_moves_and_nothing_else(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await connection.execute(
            """
            CREATE SCHEMA taxiway;
            CREATE TABLE taxiway."Odd one" (a timestamptz CHECK (a < b), b timestamptz, plain timestamp, day date);
            CREATE TABLE taxiway.other (at timestamptz, copy timestamptz GENERATED ALWAYS AS (at) STORED);
            CREATE TABLE taxiway.timeless (n integer);
            CREATE VIEW taxiway.seen AS SELECT at FROM taxiway.other;
            """
        )
        await connection.execute(
            """INSERT INTO taxiway."Odd one" VALUES ($1, $2, '2026-01-01', '2026-01-01')""",
            THEN,
            THEN + timedelta(seconds=1),
        )
        await connection.execute("INSERT INTO taxiway.other VALUES (NULL), ($1), ('infinity')", THEN)

        await later(connection, hours=2)

        earlier = THEN - timedelta(hours=2)
        odd = await connection.fetchrow('SELECT * FROM taxiway."Odd one"')
        assert odd is not None
        assert (odd["a"], odd["b"]) == (earlier, earlier + timedelta(seconds=1))
        assert (odd["plain"], odd["day"]) == (datetime(2026, 1, 1), datetime(2026, 1, 1).date())  # noqa: DTZ001
        assert await connection.fetchval("SELECT count(*) FROM taxiway.other WHERE at = $1 AND copy = at", earlier) == 1


async def test_it_takes_a_url_and_a_whole_life(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("INSERT INTO taxiway.videos (prompt) VALUES ('a cat')")
        before = await connection.fetchval("SELECT run_after FROM taxiway.videos")
        await later(database_url, days=8)
        assert before - await connection.fetchval("SELECT run_after FROM taxiway.videos") == timedelta(days=8)


async def test_databases_are_separate(database_url: str, empty_database_url: str) -> None:
    async with connected(database_url) as migrated, connected(empty_database_url) as empty:
        assert await migrated.fetchval("SELECT count(*) FROM taxiway.videos") == 0
        with pytest.raises(asyncpg.UndefinedTableError):
            await empty.fetchval("SELECT count(*) FROM taxiway.videos")
