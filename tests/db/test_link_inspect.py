"""What can be linked, and what is refused with words: the catalogue of each shape of table."""

from __future__ import annotations

import pytest

from service.installer.inspect import LinkRefused, inspect, likely
from tests.database import connected, execute
from tests.linked import BASE, CREDITS, PRISMA

pytestmark = pytest.mark.anyio


async def test_a_table_is_found_as_an_app_names_it(empty_database_url: str) -> None:
    url = empty_database_url
    await execute(
        url, 'CREATE SCHEMA app; CREATE SCHEMA "Other"',
        "CREATE TABLE app.clips (id int PRIMARY KEY)", 'CREATE TABLE "Clip" (id int PRIMARY KEY)',
        'CREATE TABLE "Other"."My.Table" (id int PRIMARY KEY)', "CREATE TABLE lone (id int PRIMARY KEY)",
    )  # fmt: skip
    async with connected(url) as connection:
        for name, found in {
            "clips": "app.clips", "app.clips": "app.clips", "CLIPS": "app.clips", "Clip": 'public."Clip"',
            '"Clip"': 'public."Clip"', "clip": 'public."Clip"', 'public."Clip"': 'public."Clip"',
            '"Other"."My.Table"': '"Other"."My.Table"', "lone": "public.lone",
        }.items():  # fmt: skip
            assert (await inspect(connection, name)).sql_name == found, name


async def test_the_search_path_decides_between_two_and_none_of_two_hidden_ones_is_guessed(
    empty_database_url: str,
) -> None:
    url = empty_database_url
    await execute(url, "CREATE SCHEMA a", "CREATE SCHEMA b", BASE, "CREATE TABLE a.videos (id int PRIMARY KEY)")
    await execute(url, "CREATE TABLE a.films (id int PRIMARY KEY)", "CREATE TABLE b.films (id int PRIMARY KEY)")
    async with connected(url) as connection:
        assert (await inspect(connection, "videos")).name == "public.videos"
        with pytest.raises(LinkRefused, match=r"films may be a.films or b.films: name one with its schema"):
            await inspect(connection, "films")
        assert (await inspect(connection, "b.films")).name == "b.films"


async def test_what_is_not_there_is_named_with_what_is(empty_database_url: str) -> None:
    url = empty_database_url
    await execute(url, "CREATE SCHEMA app", BASE.replace("TABLE videos", "TABLE app.clips"))
    async with connected(url) as connection:
        with pytest.raises(
            LinkRefused, match=r"no table or view videos; with a status and a prompt there is app.clips"
        ):
            await inspect(connection, "videos")
        for name in ("a.b.c", "", "x.", "pg_class", "taxiway.videos"):
            with pytest.raises(LinkRefused):
                await inspect(connection, name)
        assert await likely(connection) == ["app.clips"]


async def test_kinds_that_cannot_be_written_are_refused(empty_database_url: str) -> None:
    url = empty_database_url
    await execute(
        url, BASE, "CREATE MATERIALIZED VIEW m AS SELECT * FROM videos",
        "CREATE VIEW grouped AS SELECT status, count(*) AS n FROM videos GROUP BY 1",
        "CREATE FOREIGN DATA WRAPPER far",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER far",
        "CREATE FOREIGN TABLE f (id int) SERVER elsewhere",
    )  # fmt: skip
    async with connected(url) as connection:
        for name, words in {
            "m": "is a materialized view", "f": "is a foreign table", "grouped": "INSTEAD OF UPDATE trigger",
        }.items():  # fmt: skip
            with pytest.raises(LinkRefused, match=words):
                await inspect(connection, name)


async def test_a_view_of_taxiways_own_is_no_table_of_the_app(database_url: str) -> None:
    url = database_url
    await execute(url, "CREATE VIEW videos AS SELECT id, prompt, status FROM taxiway.videos")
    async with connected(url) as connection:
        with pytest.raises(LinkRefused, match="its rows are videos already"):
            await inspect(connection, "videos")
        assert await likely(connection) == []


async def test_columns_are_read_with_all_that_matters(empty_database_url: str) -> None:
    url = empty_database_url
    await execute(
        url, "CREATE TYPE mood AS ENUM ('b', 'a')", "CREATE DOMAIN word AS varchar(9) CHECK (VALUE IN ('x', 'y'))",
        "CREATE DOMAIN deeper AS word",
        """CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone int, short varchar(20) NOT NULL,
            mood mood DEFAULT 'a', domain_word deeper DEFAULT 'it''s', list text[], "camelCase" jsonb,
            doubled int GENERATED ALWAYS AS (gone * 2) STORED)""",
    )  # fmt: skip
    async with connected(url) as connection:
        columns = (await inspect(connection, "t")).columns
    assert (columns["id"].is_identity, columns["id"].is_required, columns["id"].base) == (True, True, "int8")
    assert (columns["short"].width, columns["short"].type, columns["short"].is_required) == (
        20, "character varying(20)", True,
    )  # fmt: skip
    assert (columns["mood"].labels, columns["mood"].default_word) == (("b", "a"), "a")
    assert (columns["domain_word"].base, columns["domain_word"].labels) == ("varchar", None)
    assert columns["domain_word"].default_word == "it's"
    assert (columns["list"].is_array, columns["mood"].is_array) == (True, False)
    assert columns["camelCase"].sql_name == '"camelCase"'
    assert (columns["doubled"].is_generated, columns["gone"].is_generated) == (True, False)
    assert columns["id"].default_word is None


async def test_keys_that_tell_rows_apart(empty_database_url: str) -> None:
    url = empty_database_url
    await execute(
        url,
        "CREATE TABLE primary_first (a int NOT NULL UNIQUE, b int PRIMARY KEY, id int NOT NULL UNIQUE)",
        "CREATE TABLE nullable (id int UNIQUE)",
        "CREATE TABLE composite (a int, b int, PRIMARY KEY (a, b))",
        "CREATE TABLE partial (id int NOT NULL); CREATE UNIQUE INDEX ON partial (id) WHERE id > 0",
        "CREATE TABLE expression (id text NOT NULL); CREATE UNIQUE INDEX ON expression (lower(id))",
        "CREATE TABLE deferred (id int NOT NULL UNIQUE DEFERRABLE)",
        "CREATE TABLE included (id int NOT NULL, b int); CREATE UNIQUE INDEX ON included (id) INCLUDE (b)",
        "CREATE TABLE by_day (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
        "CREATE TABLE by_id (id int PRIMARY KEY, b int) PARTITION BY RANGE (id)",
        "CREATE VIEW seen AS SELECT b, id FROM primary_first",
    )  # fmt: skip
    async with connected(url) as connection:
        found = {}
        for name in ("primary_first", "nullable", "composite", "partial", "expression", "deferred", "included",
                     "by_day", "by_id", "seen"):  # fmt: skip
            table = await inspect(connection, name)
            found[name] = [(key, table.is_guaranteed(key)) for key in table.unique_columns()]
    assert found == {
        "primary_first": [("b", True), ("id", True), ("a", True)], "nullable": [], "composite": [], "partial": [],
        "expression": [], "deferred": [], "included": [("id", True)], "by_day": [("id", False)],
        "by_id": [("id", True)], "seen": [("b", False), ("id", False)],
    }  # fmt: skip


async def test_rules_of_the_app_on_its_table_and_under_its_view(empty_database_url: str) -> None:
    url = empty_database_url
    await execute(
        url, BASE, CREDITS,
        "ALTER TABLE videos ADD CONSTRAINT shown CHECK (status <> 'completed' OR video_url IS NOT NULL)",
        "CREATE UNIQUE INDEX one_at_a_time ON videos (user_id) WHERE status = 'processing'",
        "CREATE TRIGGER on_insert AFTER INSERT ON videos FOR EACH ROW EXECUTE FUNCTION charge()",
        "CREATE TRIGGER of_prompt AFTER UPDATE OF prompt ON videos FOR EACH ROW EXECUTE FUNCTION charge()",
        "CREATE TRIGGER off AFTER UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION charge()",
        "ALTER TABLE videos DISABLE TRIGGER off",
        "CREATE VIEW mine AS SELECT * FROM videos",
    )  # fmt: skip
    async with connected(url) as connection:
        for name, bases in {"videos": (), "mine": ("public.videos",)}.items():
            table = await inspect(connection, name)
            assert [(each.name, set(each.columns)) for each in table.triggers] == [
                ("charge", set()), ("of_prompt", {"prompt"}),
            ]  # fmt: skip
            assert [(each.name, set(each.columns)) for each in table.checks] == [("shown", {"status", "video_url"})]
            [index] = [each for each in table.indexes if each.name == "one_at_a_time"]
            assert (index.keys, set(index.uses), index.is_whole) == (("user_id",), {"user_id", "status"}, False)
            assert table.bases == bases


async def test_rights_row_security_and_publications(database_url: str, server_url: str) -> None:
    url = database_url
    await execute(
        url, BASE, "CREATE TABLE bare (id int NOT NULL UNIQUE, prompt text, status text)",
        "CREATE PUBLICATION everything FOR TABLE videos, bare",
        "DROP ROLE IF EXISTS taxi_reader", "CREATE ROLE taxi_reader",
        "GRANT SELECT ON videos TO taxi_reader", "GRANT UPDATE (status, video_url) ON videos TO taxi_reader",
        "ALTER TABLE videos ENABLE ROW LEVEL SECURITY",
    )  # fmt: skip
    try:
        async with connected(url) as connection:
            assert not (await inspect(connection, "videos")).lacks_identity
            assert (await inspect(connection, "bare")).lacks_identity
            assert not (await inspect(connection, "videos")).is_secured
            await connection.execute("SET ROLE taxi_reader")
            table = await inspect(connection, "videos")
            assert (table.is_secured, table.has_policies, table.role) == (True, True, "taxi_reader")
            writable = {name for name, column in table.columns.items() if column.writable}
            assert writable == {"status", "video_url"}
            assert table.columns["prompt"].readable
    finally:
        await execute(url, "DROP OWNED BY taxi_reader", "DROP ROLE taxi_reader")


async def test_prismas_table(empty_database_url: str) -> None:
    await execute(empty_database_url, PRISMA)
    async with connected(empty_database_url) as connection:
        table = await inspect(connection, "Video")
    assert table.columns["status"].labels == ("PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED")
    assert (table.columns["status"].type, table.columns["status"].default_word) == ('public."VideoStatus"', "PENDING")
    assert (table.schema_sql, table.unique_columns(), table.triggers) == ("public", ["id"], ())
