"""The pool of databases: what comes out of it is as it was made, whatever the test before did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.database import execute, later, run
from tests.pool import Pool
from tests.world import world


@pytest.fixture
def fresh(server_url: str, template_name: str) -> Iterator[Pool]:
    """A pool of this test's own."""
    pool = Pool(server_url, template_name)
    yield pool
    pool.close()


def test_what_a_test_has_stored_is_gone_and_the_database_is_used_again(fresh: Pool) -> None:
    async def work(url: str) -> None:
        async with world(url) as w:
            await w.enqueue()
            await w.tick()
            await later(url, days=3)
            await w.rows("UPDATE taxiway.maintenance SET due_at = 'infinity', facts = '{}'")

    async def check(url: str) -> None:
        async with world(url) as w:
            for table in ("videos", "submissions", "events", "models", "ticks"):
                assert await w.rows(f"SELECT FROM taxiway.{table}") == [], table
            assert await w.rows("SELECT FROM taxiway.maintenance WHERE facts <> '{}' AND due_at < 'infinity'")
            assert await w.rows("SELECT FROM pg_proc WHERE prosrc = 'SELECT pg_catalog.now()'")

    first = fresh.take()
    run(work(first))
    fresh.give_back(first)
    second = fresh.take()
    assert second == first
    run(check(second))
    fresh.give_back(second)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE public.mine (id int)",
        "ALTER TABLE taxiway.videos ADD mine int",
        "CREATE INDEX ON taxiway.videos (prompt)",
        "ALTER TABLE taxiway.events RENAME TO gone",
        "CREATE OR REPLACE FUNCTION taxiway.note_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "GRANT SELECT ON taxiway.videos TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION taxiway.now() TO PUBLIC",
        "COMMENT ON SCHEMA taxiway IS 'mine'",
        "ANALYZE taxiway.videos",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''1MB''', current_database()); END $$",
        "DROP SCHEMA taxiway CASCADE",
        "INSERT INTO taxiway.videos (prompt) SELECT repeat('x', 500) FROM generate_series(1, 500)",
        "INSERT INTO taxiway.videos (prompt) SELECT string_agg(md5(n::text), '') FROM generate_series(1, 9999) AS n",
    ],
)
def test_a_database_in_which_anything_else_has_changed_is_dropped(fresh: Pool, change: str) -> None:
    first = fresh.take()
    run(execute(first, change))
    fresh.give_back(first)
    assert fresh.take() != first
