"""The pool of databases: what comes out of it is as it was made, whatever the test before did."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.database import connected, execute, later, run
from tests.pool import Pool
from tests.roles import shape
from tests.world import world


@pytest.fixture
def fresh(server_url: str, template_name: str, loop: asyncio.AbstractEventLoop) -> Iterator[Pool]:
    """A pool of this test's own."""
    pool = Pool(server_url, template_name, loop)
    yield pool
    pool.close()


class Seen(NamedTuple):
    """Of a database: its schema as text, and which of the server's processes a Taxiway speaks with."""

    shape: list[str]
    backend: int


async def seen(url: str) -> Seen:
    async with world(url) as w, connected(url) as connection:
        return Seen(await shape(connection), await w.ctx.database.fetchval("SELECT pg_backend_pid()"))


def test_what_a_test_has_stored_is_gone_and_the_database_is_used_again(
    fresh: Pool, loop: asyncio.AbstractEventLoop
) -> None:
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
    loop.run_until_complete(work(first))
    fresh.give_back(first)
    second = fresh.take()
    assert second == first
    loop.run_until_complete(check(second))
    fresh.give_back(second)


def test_rows_that_others_refer_to_are_gone_and_the_database_is_used_again(
    fresh: Pool, loop: asyncio.AbstractEventLoop
) -> None:
    async def work(url: str) -> None:
        async with world(url) as w:
            await w.enqueue()
            await w.rows(
                "INSERT INTO taxiway.links (schema_name, table_name, table_oid, mapping, columns) "
                "VALUES ('public', 'mine', 1, '{}', '{}')"
            )
            await w.rows("INSERT INTO taxiway.rows (link_id, app_id) SELECT id, 'a' FROM taxiway.links")
            await w.rows("UPDATE taxiway.videos SET link_id = (SELECT id FROM taxiway.links)")

    first = fresh.take()
    loop.run_until_complete(work(first))
    fresh.give_back(first)
    assert fresh.take() == first


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE public.mine (id int GENERATED ALWAYS AS IDENTITY, n serial PRIMARY KEY); "
        "CREATE VIEW public.of_mine AS SELECT n, prompt FROM public.mine, taxiway.videos",
        "CREATE FUNCTION public.mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
        "CREATE TRIGGER mine BEFORE INSERT ON taxiway.videos FOR EACH ROW EXECUTE FUNCTION public.mine()",
        "CREATE SCHEMA mine; CREATE TYPE mine.word AS ENUM ('a'); CREATE TABLE mine.words (word mine.word, parent int)",
        "CREATE TYPE public.word AS ENUM ('a'); CREATE DOMAIN public.short AS text CHECK (length(VALUE) < 9)",
    ],
)
def test_what_a_test_has_made_is_dropped_and_the_database_is_used_again(
    fresh: Pool, loop: asyncio.AbstractEventLoop, change: str
) -> None:
    first = fresh.take()
    before = loop.run_until_complete(seen(first))
    run(execute(first, change))
    assert loop.run_until_complete(seen(first)).shape != before.shape
    fresh.give_back(first)
    assert fresh.take() == first
    after = loop.run_until_complete(seen(first))
    assert after.shape == before.shape
    assert after.backend != before.backend, "a connection was kept whose plans may speak of what is gone"


def test_a_test_goes_on_with_the_connections_of_the_one_before(fresh: Pool, loop: asyncio.AbstractEventLoop) -> None:
    url = fresh.take()
    before = loop.run_until_complete(seen(url))
    fresh.give_back(url)
    assert (fresh.take(), loop.run_until_complete(seen(url))) == (url, before)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE RULE mine AS ON UPDATE TO taxiway.videos DO ALSO NOTHING",
        "CREATE TABLE public.mine (id int); GRANT CREATE ON SCHEMA public TO PUBLIC",
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
