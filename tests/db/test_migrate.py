from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.errors import DatabaseUnavailable, MigrationBlocked
from service.installer import closing, history, turn
from service.installer import migrate as module
from service.installer import obstacles as in_the_way
from service.installer.history import compare, digest, directory, scripts, works_with
from service.installer.migrate import explain, migrate, pending
from service.installer.turn import Connection
from tests.database import connected, execute
from tests.roles import role, shape

pytestmark = pytest.mark.anyio

NAMES = tuple(scripts())
HISTORY = "SELECT name FROM taxiway.migrations ORDER BY name"
LATER = "INSERT INTO taxiway.migrations (name, sha256, works_with) VALUES ('9999_tomorrow', 'abc', '{}')"


async def names(connection: Connection) -> tuple[str, ...]:
    return tuple(row["name"] for row in await connection.fetch(HISTORY))


async def test_an_empty_database_gets_everything_once(empty_database_url: str) -> None:
    assert (await migrate(empty_database_url)).applied == NAMES
    async with connected(empty_database_url) as connection:
        before = await shape(connection)
        assert await names(connection) == NAMES
        assert (await migrate(empty_database_url)).applied == ()
        assert await shape(connection) == before
        assert await connection.fetchval("SELECT count(*) FROM taxiway.submissions") == 0


async def test_nothing_is_made_outside_the_schema(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        before = await shape(connection)
        await migrate(empty_database_url)
        made = set(await shape(connection)) - set(before)
        elsewhere = await connection.fetch(
            "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )
    assert made
    assert not elsewhere


async def test_many_replicas_at_once_migrate_once(empty_database_url: str) -> None:
    results = await asyncio.gather(*(migrate(empty_database_url) for _ in range(6)))
    assert sorted(one.applied for one in results) == [()] * 5 + [NAMES]


async def test_pending_names_what_is_missing(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        assert await pending(connection) == list(NAMES)
        await migrate(empty_database_url)
        assert await pending(connection) == []


async def test_an_older_version_works_with_a_newer_schema_that_allows_it(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    await execute(empty_database_url, LATER.format(NAMES[-1][:4]))
    found = await migrate(empty_database_url)
    assert (found.applied, found.newer) == ((), ("9999_tomorrow",))
    async with connected(empty_database_url) as connection:
        assert await pending(connection) == []


async def test_an_older_version_refuses_a_newer_schema_that_it_cannot_work_with(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    await execute(empty_database_url, LATER.format("9998"))
    with pytest.raises(MigrationBlocked, match=r"newer than this version of Taxiway.*9999_tomorrow"):
        await migrate(empty_database_url)


async def test_another_versions_script_beside_one_that_is_missing_is_refused(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(empty_database_url)
    await execute(empty_database_url, LATER.format("0001"))
    _two_migrations(tmp_path, monkeypatch, second="CREATE TABLE taxiway.hangars (id bigint);")
    with pytest.raises(MigrationBlocked, match="has had 9999_tomorrow of another version, but not 0002_second"):
        await migrate(empty_database_url)


def test_a_script_says_which_version_can_work_with_what_it_leaves() -> None:
    assert works_with("0003_more", "-- works with: 0002\nSELECT 1;") == "0002"
    assert works_with("0003_more", "SELECT 1;") == "0003"
    assert {name: works_with(name, script) for name, script in scripts().items()}[NAMES[0]] == "0001"


async def test_a_later_migration_that_is_missing_is_applied(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(empty_database_url)
    _two_migrations(tmp_path, monkeypatch, second="CREATE TABLE taxiway.hangars (id bigint);")
    assert (await migrate(empty_database_url)).applied == ("0002_second",)


async def test_a_failure_in_the_middle_leaves_nothing(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_migrations(tmp_path, monkeypatch, second="CREATE TABLE taxiway.hangars (id bigint); SELECT 1 / 0;")
    async with connected(empty_database_url) as connection:
        before = await shape(connection)
        with pytest.raises(MigrationBlocked, match="division by zero"):
            await migrate(empty_database_url)
        assert await shape(connection) == before


async def test_a_gap_in_the_history_is_refused(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_migrations(tmp_path, monkeypatch, second="CREATE TABLE taxiway.hangars (id bigint);")
    await migrate(empty_database_url)
    await execute(empty_database_url, f"DELETE FROM taxiway.migrations WHERE name = '{NAMES[0]}'")
    with pytest.raises(MigrationBlocked, match=f"without {NAMES[0]}"):
        await migrate(empty_database_url)


async def test_a_script_that_was_edited_since_is_refused_by_name(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(empty_database_url)
    edited = scripts()[NAMES[0]] + "-- a remark\n"
    (tmp_path / f"{NAMES[0]}.sql").write_text(edited, encoding="utf-8")
    monkeypatch.setattr(history, "directory", lambda: tmp_path)
    with pytest.raises(MigrationBlocked, match=f"edited since it was applied: {NAMES[0]}"):
        await migrate(empty_database_url)


async def test_the_ends_of_lines_do_not_count(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(empty_database_url)
    (tmp_path / f"{NAMES[0]}.sql").write_bytes(scripts()[NAMES[0]].replace("\n", "\r\n").encode())
    monkeypatch.setattr(history, "directory", lambda: tmp_path)
    assert (await migrate(empty_database_url)).applied == ()


def test_histories_are_compared_by_name_and_by_digest() -> None:
    known = {"0001_a": "A", "0002_b": "B", "0003_c": "C"}
    found = compare({"0001_a": (digest("A"), "0001"), "0003_c": ("other", "0003")}, known)
    assert (found.pending, found.skipped, found.edited) == (("0002_b",), ("0002_b",), ("0003_c",))
    found = compare({"0004_d": ("x", "0003"), "0005_e": ("x", "0004")}, known)
    assert (found.newer, found.unfit) == (("0004_d", "0005_e"), ("0005_e",))


def _two_migrations(folder: Path, monkeypatch: pytest.MonkeyPatch, *, second: str) -> None:
    (folder / f"{NAMES[0]}.sql").write_text(scripts()[NAMES[0]], encoding="utf-8")
    (folder / "0002_second.sql").write_text(second, encoding="utf-8")
    (folder / "notes.sql").write_text("no migration", encoding="utf-8")
    monkeypatch.setattr(history, "directory", lambda: folder)


@pytest.mark.parametrize("left", ["CREATE TABLE taxiway_migrations (name text)",
    "CREATE SCHEMA app; CREATE TABLE app.videos (id uuid, permit_id bigint, task_retries smallint)"])  # fmt: skip
async def test_a_database_of_an_older_checkout_is_refused_and_says_what_to_do(
    empty_database_url: str, left: str
) -> None:
    await execute(empty_database_url, left)
    async with connected(empty_database_url) as connection:
        before = await shape(connection)
        with pytest.raises(MigrationBlocked, match=r"made by an older version.*run `taxiway adopt --undo` there"):
            await migrate(empty_database_url)
        assert await shape(connection) == before


async def test_an_apps_own_table_of_that_name_is_no_obstacle(empty_database_url: str) -> None:
    await execute(empty_database_url, "CREATE TABLE videos (id uuid PRIMARY KEY, status text)")
    async with connected(empty_database_url) as app, app.transaction():
        await app.execute("LOCK TABLE videos")
        assert (await migrate(empty_database_url)).applied == NAMES


async def test_a_schema_that_holds_something_else_is_refused(empty_database_url: str) -> None:
    await execute(empty_database_url, "CREATE SCHEMA taxiway", "CREATE TABLE taxiway.planes (id bigint)")
    with pytest.raises(MigrationBlocked, match=r"holds what is not Taxiway's \(planes\)"):
        await migrate(empty_database_url)


async def test_a_postgresql_that_is_too_old_is_refused(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_the_way, "OLDEST_POSTGRES", 99)
    with pytest.raises(MigrationBlocked, match=r"this is PostgreSQL [\d.]+.*Taxiway needs 99 or newer"):
        await migrate(empty_database_url)


async def test_a_turn_that_never_comes_is_given_up(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "TURN_SECONDS", 0.2)
    async with connected(empty_database_url) as other, other.transaction():
        await other.execute(f"SELECT pg_advisory_xact_lock({turn.TURN_KEY})")
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
    monkeypatch.setattr(module, "WRITE_HISTORY", "SELECT pg_terminate_backend(pg_backend_pid()), $1, $2, $3")
    with pytest.raises(DatabaseUnavailable):
        await migrate(empty_database_url)


async def test_on_a_read_only_database_it_says_so(empty_database_url: str) -> None:
    database = empty_database_url.partition("?")[0].rpartition("/")[2]
    await execute(empty_database_url, f'ALTER DATABASE "{database}" SET default_transaction_read_only = on')
    with pytest.raises(MigrationBlocked, match="read-only transaction"):
        await migrate(empty_database_url)


async def test_a_role_that_may_not_make_the_schema_is_given_the_grant(empty_database_url: str) -> None:
    async with role(empty_database_url) as (_, url):
        with pytest.raises(MigrationBlocked, match="may not make the schema taxiway") as caught:
            await migrate(url)
        [(_, sql)] = caught.value.obstacles
        assert sql.startswith("GRANT CREATE ON DATABASE taxiway_")
        assert sql in explain(caught.value)
        await execute(empty_database_url, sql)
        assert (await migrate(url)).applied == NAMES


async def test_a_schema_of_its_own_is_enough(empty_database_url: str) -> None:
    async with role(empty_database_url) as (name, url):
        await execute(empty_database_url, f"CREATE SCHEMA taxiway AUTHORIZATION {name}")
        assert (await migrate(url)).applied == NAMES


async def test_a_schema_of_another_role_is_refused(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    await execute(empty_database_url, "DELETE FROM taxiway.migrations")
    async with role(empty_database_url) as (name, url):
        await execute(
            empty_database_url,
            f"GRANT USAGE ON SCHEMA taxiway TO {name}",
            f"GRANT SELECT ON taxiway.migrations TO {name}",
        )
        with pytest.raises(MigrationBlocked) as caught:
            await migrate(url)
    assert f"ALTER SCHEMA taxiway OWNER TO {name};" in [sql for _, sql in caught.value.obstacles]


async def test_a_search_path_leads_nowhere_else(empty_database_url: str) -> None:
    async with role(empty_database_url) as (name, url):
        await execute(
            empty_database_url,
            f"CREATE SCHEMA taxiway AUTHORIZATION {name}",
            f"ALTER ROLE {name} SET search_path = nowhere",
        )
        assert (await migrate(url)).applied == NAMES


async def test_default_privileges_open_nothing_to_browsers(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with role(empty_database_url) as (browser, _):
        monkeypatch.setattr(closing, "BROWSER_ROLES", (browser, "no-role-has-this-name"))
        await execute(
            empty_database_url,
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {browser}",
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO {browser}",
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON ROUTINES TO {browser}",
            "CREATE TABLE others (id bigint)",
        )
        await migrate(empty_database_url)
        async with connected(empty_database_url) as connection:
            granted = await connection.fetch(
                "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'v')"
                " AND relnamespace::regnamespace::text IN ('public', 'taxiway')"
                " AND has_any_column_privilege($1, oid, 'SELECT, INSERT')",
                browser,
            )
            assert [row["relname"] for row in granted] == ["others"]
            assert await closing.open_to(connection) == []
            await connection.execute(f"GRANT USAGE ON SCHEMA taxiway TO {browser}")
            assert await closing.open_to(connection) == []
            await connection.execute(f"GRANT SELECT (id) ON taxiway.videos TO {browser}")
            await connection.execute("GRANT USAGE ON SCHEMA taxiway TO PUBLIC")
            assert await closing.open_to(connection) == [browser, "PUBLIC"]


def test_an_installed_package_brings_its_own_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert directory() == Path(__file__).parents[2] / "migrations"
    (tmp_path / "service/store").mkdir(parents=True)
    (tmp_path / "service/migrations").mkdir()
    monkeypatch.setattr(history, "__file__", str(tmp_path / "service/installer/history.py"))
    assert directory() == tmp_path / "service/migrations"
