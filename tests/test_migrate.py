from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from service.errors import DatabaseUnavailable, MigrationBlocked
from service.installer import migrate as module
from service.installer.migrate import directory, migrate, pending, scripts
from service.store.adoption import Footprint
from service.store.adoption.table import Connection
from tests.adopted import role, shape
from tests.database import connected, execute

pytestmark = pytest.mark.anyio

NAMES = list(scripts())
BOOK = "SELECT name FROM taxiway_migrations ORDER BY name"


async def names(connection: Connection) -> list[str]:
    return [row["name"] for row in await connection.fetch(BOOK)]


async def test_an_empty_database_gets_everything_once(empty_database_url: str) -> None:
    assert await migrate(empty_database_url) == NAMES
    async with connected(empty_database_url) as connection:
        before = await shape(connection)
        assert await names(connection) == NAMES
        assert await migrate(empty_database_url) == []
        assert await migrate(empty_database_url, requeue_stuck=True) == []
        assert await shape(connection) == before
        assert await connection.fetchval("SELECT count(*) FROM submissions") == 0


async def test_many_replicas_at_once_migrate_once(empty_database_url: str) -> None:
    results = await asyncio.gather(*(migrate(empty_database_url) for _ in range(6)))
    assert sorted(results) == [[]] * 5 + [NAMES]


async def test_pending_names_what_is_missing(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        assert await pending(connection) == NAMES
        await migrate(empty_database_url)
        assert await pending(connection) == []


async def test_an_older_version_beside_a_newer_database_is_ready_but_does_not_migrate(
    empty_database_url: str,
) -> None:
    await migrate(empty_database_url)
    await execute(empty_database_url, "INSERT INTO taxiway_migrations (name) VALUES ('9999_tomorrow')")
    async with connected(empty_database_url) as connection:
        assert await pending(connection) == []
    with pytest.raises(MigrationBlocked, match=r"newer than this version of Taxiway.*9999_tomorrow"):
        await migrate(empty_database_url)


async def test_a_later_migration_that_is_missing_is_applied(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_migrations(tmp_path, monkeypatch, second="CREATE TABLE hangars (id bigint);")
    monkeypatch.setattr(module, "scripts", lambda: dict(list(scripts().items())[:1]))
    assert await migrate(empty_database_url) == NAMES[:1]
    monkeypatch.setattr(module, "scripts", scripts)
    assert await migrate(empty_database_url) == ["0002_second"]


async def test_a_failure_in_the_middle_leaves_nothing(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_migrations(tmp_path, monkeypatch, second="CREATE TABLE hangars (id bigint); SELECT 1 / 0;")
    async with connected(empty_database_url) as connection:
        before = await shape(connection)
        with pytest.raises(MigrationBlocked, match="division by zero"):
            await migrate(empty_database_url)
        assert await shape(connection) == before


async def test_a_gap_in_the_history_is_refused(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_migrations(tmp_path, monkeypatch, second="CREATE TABLE hangars (id bigint);")
    await migrate(empty_database_url)
    await execute(empty_database_url, f"DELETE FROM taxiway_migrations WHERE name = '{NAMES[0]}'")
    with pytest.raises(MigrationBlocked, match=f"without {NAMES[0]}"):
        await migrate(empty_database_url)


def _two_migrations(folder: Path, monkeypatch: pytest.MonkeyPatch, *, second: str) -> None:
    (folder / f"{NAMES[0]}.sql").write_text(scripts()[NAMES[0]], encoding="utf-8")
    (folder / "0002_second.sql").write_text(second, encoding="utf-8")
    (folder / "notes.sql").write_text("no migration", encoding="utf-8")
    monkeypatch.setattr(module, "directory", lambda: folder)


async def test_a_table_in_use_stops_the_migration_and_says_who(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.2)
    await execute(empty_database_url, "CREATE TABLE videos (id uuid PRIMARY KEY, status text)")
    async with connected(empty_database_url) as app, connected(empty_database_url) as connection:
        before = await shape(connection)
        async with app.transaction():
            await app.execute("SET LOCAL application_name = 'the app'; SELECT FROM videos")
            with pytest.raises(MigrationBlocked, match=r"the app, idle in transaction") as caught:
                await migrate(empty_database_url)
        [(_, sql)] = caught.value.obstacles
        assert sql == f"SELECT pg_terminate_backend({app.get_server_pid()});"
        assert await shape(connection) == before
    assert await migrate(empty_database_url) == NAMES


async def test_a_turn_that_never_comes_is_given_up(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_SECONDS", 0.2)
    async with connected(empty_database_url) as other, other.transaction():
        await other.execute(f"SELECT pg_advisory_xact_lock({module.TURN_KEY})")
        with pytest.raises(MigrationBlocked, match="try again"):
            await migrate(empty_database_url)


async def test_a_database_that_is_not_there_is_named_as_such(empty_database_url: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable, match="does not exist"):
        await migrate(empty_database_url.replace("/taxiway_", "/no_taxiway_"))


async def test_a_connection_that_is_ended_is_the_databases_absence(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CREATE_BOOK", "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(DatabaseUnavailable):
        await migrate(empty_database_url)


async def test_on_a_read_only_database_it_says_so(empty_database_url: str) -> None:
    database = empty_database_url.partition("?")[0].rpartition("/")[2]
    await execute(empty_database_url, f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')
    with pytest.raises(MigrationBlocked, match="read-only transaction"):
        await migrate(empty_database_url)


async def test_a_role_that_may_not_create_tables_is_told_what_to_run(empty_database_url: str) -> None:
    await execute(empty_database_url, "REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC")
    async with role(empty_database_url) as (name, url):
        with pytest.raises(MigrationBlocked, match="may not create tables in the schema public") as caught:
            await migrate(url)
        await execute(empty_database_url, *(sql for _, sql in caught.value.obstacles))
        assert await migrate(url) == NAMES
        assert f"TO {name};" in caught.value.obstacles[0][1]


async def test_a_search_path_that_leads_nowhere_is_told_what_to_run(empty_database_url: str) -> None:
    async with role(empty_database_url) as (name, url):
        await execute(empty_database_url, f"ALTER ROLE {name} SET search_path = nowhere")
        with pytest.raises(MigrationBlocked, match="search_path \\(nowhere\\)") as caught:
            await migrate(url)
        await execute(empty_database_url, *(sql for _, sql in caught.value.obstacles))
        assert await migrate(url) == NAMES


async def test_web_pages_get_no_rights_on_new_tables(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with role(empty_database_url) as (browser, _):
        monkeypatch.setattr(module, "BROWSER_ROLES", [browser, "nobody-has-this-role"])
        await execute(
            empty_database_url,
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {browser}",
            "CREATE TABLE others (id bigint)",
        )
        await migrate(empty_database_url)
        async with connected(empty_database_url) as connection:
            granted = await connection.fetch(
                "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND has_table_privilege($1, oid, 'INSERT')",
                browser,
            )
        assert [row["relname"] for row in granted] == ["others"]


async def test_the_footprint_is_what_the_migration_does(empty_database_url: str) -> None:
    await execute(empty_database_url, "CREATE TABLE videos (id uuid PRIMARY KEY)")
    await migrate(empty_database_url)
    footprint = Footprint.of("\n".join(scripts().values()))
    async with connected(empty_database_url) as connection:
        columns = await connection.fetch(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'videos'::regclass AND attnum > 1"
        )
        assert {row["attname"] for row in columns} == set(footprint.columns)
        relations = await connection.fetch(
            "SELECT relname::text FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')"
            " AND relname !~ '_pkey$|^taxiway_(migrations|adoption|adopted_rows)$'"
        )
        dropped = set(re.findall(r"DROP INDEX IF EXISTS (\w+)", "".join(scripts().values())))
        assert {row["relname"] for row in relations} == {*footprint.tables, *footprint.indexes} - dropped
        constraints = await connection.fetch(
            "SELECT conname::text FROM pg_constraint WHERE conrelid = 'videos'::regclass AND contype IN ('c', 'f')"
        )
        assert {row["conname"] for row in constraints} == set(footprint.constraints)


def test_an_installed_package_brings_its_own_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert directory() == Path(__file__).parents[1] / "migrations"
    (tmp_path / "service/store").mkdir(parents=True)
    (tmp_path / "service/migrations").mkdir()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "service/installer/migrate.py"))
    assert directory() == tmp_path / "service/migrations"
