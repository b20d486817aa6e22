from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from service.errors import MigrationBlocked
from service.installer.migrate import migrate, plan, scripts
from service.store.adoption import explain, record
from service.store.adoption.mend import EXPLANATION
from service.store.adoption.table import Connection, Footprint, literal
from tests.adopted import ALICE, ROWS, fill, role, shape
from tests.database import connected, execute

pytestmark = pytest.mark.anyio

NAMES = list(scripts())
MENDED = {"stuck", "stuck-blank"}
UNDER_WAY = {"under-way", "under-way-twice", "under-way-too"}
OLD_COLUMNS = "id, user_id, prompt, image_url, status, error_message, runway_video_id, created_at, updated_at"
USERS_QUERY = (
    "SELECT id, status, error_message, runway_video_id, created_at, updated_at "
    "FROM videos ORDER BY created_at DESC LIMIT 5;"
)


async def old_values(connection: Connection) -> dict[str, dict[str, Any]]:
    rows = await connection.fetch(f"SELECT {OLD_COLUMNS}, team, seconds FROM videos ORDER BY team")
    return {row["team"]: dict(row) for row in rows}


async def ledger(connection: Connection) -> dict[str, asyncpg.Record]:
    rows = await connection.fetch("SELECT v.team, s.* FROM submissions s JOIN videos v ON v.id = s.video_id")
    assert len({row["team"] for row in rows}) == len(rows)
    return {row["team"]: row for row in rows}


async def test_only_stuck_rows_change(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        before = await old_values(connection)
        assert await migrate(empty_database_url) == NAMES
        after = await old_values(connection)
        assert len(after) == len(ROWS)
        assert {team: after[team] for team in before.keys() - MENDED - UNDER_WAY} == {
            team: before[team] for team in before.keys() - MENDED - UNDER_WAY
        }
        for team in MENDED | UNDER_WAY:
            changed = {name for name in after[team] if after[team][name] != before[team][name]}
            # The app's own trigger moves updated_at of every row that is written.
            written = {"status", "error_message", "updated_at", "runway_video_id"} if team in MENDED else {"updated_at"}
            assert changed <= written
        assert len(await connection.fetch(USERS_QUERY)) == 5


async def test_stuck_rows_fail_with_words_and_an_entry_that_forbids_another_create(
    empty_database_url: str,
) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        await migrate(empty_database_url)
        rows = await connection.fetch(
            "SELECT *, finished_at = updated_at AS now FROM videos WHERE error_code IS NOT NULL"
        )
        assert {row["team"] for row in rows} == MENDED
        for row in rows:
            assert (row["status"], row["error_code"]) == ("failed", "SUBMISSION_UNKNOWN")
            assert (row["error_message"], row["runway_video_id"]) == (EXPLANATION, None)
            assert row["finished_at"] is not None
        entries = await ledger(connection)
        for team in MENDED:
            entry = entries[team]
            assert (entry["outcome"], entry["model"]) == ("unknown", "unknown")
            assert (entry["settled_at"], entry["consent"], entry["task_id"]) == (None, None, None)
            # The task, if there is one, was made after the row and before now.
            [row] = [row for row in rows if row["team"] == team]
            assert entry["opened_at"] == row["created_at"]
            assert entry["call_deadline"] == row["finished_at"]


async def test_stuck_rows_are_queued_again_on_the_operators_word(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        await migrate(empty_database_url, requeue_stuck=True)
        rows = await connection.fetch("SELECT * FROM videos WHERE team = ANY($1::text[])", list(MENDED))
        for row in rows:
            assert (row["status"], row["error_code"], row["runway_video_id"]) == ("queued", None, None)
            assert row["finished_at"] is None
        entries = await ledger(connection)
        assert {entries[team]["consent"] for team in MENDED} == {"operator"}
        blocking = "SELECT count(*) FROM submissions WHERE outcome = 'unknown' AND consent IS NULL"
        assert await connection.fetchval(blocking) == 0


async def test_tasks_under_way_go_on(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        before = await old_values(connection)
        await migrate(empty_database_url)
        rows = await connection.fetch("SELECT * FROM videos WHERE status = 'processing'")
        assert {row["team"] for row in rows} == UNDER_WAY
        for row in rows:
            assert row["submitted_at"] == row["poll_after"]
            assert row["poll_after"] is not None
            assert row["open_submission_id"] is None
        accepted = {team: entry for team, entry in (await ledger(connection)).items() if entry["task_id"]}
        assert sorted(entry["task_id"] for entry in accepted.values()) == ["task-1", "task-2"]
        assert all(entry["opened_at"] == before[team]["updated_at"] for team, entry in accepted.items())
        assert {entry["outcome"] for entry in accepted.values()} == {"accepted"}
        assert len(await connection.fetch("SELECT FROM submissions")) == len(MENDED) + 2


async def test_the_app_goes_on_writing_rows_but_not_stuck_ones(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        await migrate(empty_database_url)
        insert = (
            "INSERT INTO videos (user_id, prompt, image_url, status, team, seconds) "
            "VALUES ($1, 'A plane', 'https://example.com/a.png', $2, 'new', 5)"
        )
        await connection.execute(insert, ALICE, "queued")
        with pytest.raises(asyncpg.CheckViolationError, match="videos_never_stuck"):
            await connection.execute(insert, ALICE, "processing")


async def test_the_second_run_changes_nothing(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        assert sorted(await asyncio.gather(*(migrate(empty_database_url) for _ in range(3)))) == [
            [],
            [],
            NAMES,
        ]
        everything = "SELECT v::text, s::text FROM videos v LEFT JOIN submissions s ON s.video_id = v.id ORDER BY 1, 2"
        before, rows = await shape(connection), await connection.fetch(everything)
        assert await migrate(empty_database_url, requeue_stuck=True) == []
        assert (await shape(connection), await connection.fetch(everything)) == (before, rows)


async def test_a_trigger_of_the_apps_that_refuses_stops_it_all(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        await connection.execute(
            "CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE EXCEPTION 'not on a Sunday'; END $$"
        )
        before, values = await shape(connection), await old_values(connection)
        with pytest.raises(MigrationBlocked, match="not on a Sunday"):
            await migrate(empty_database_url)
        assert (await shape(connection), await old_values(connection)) == (before, values)


PLAIN = "CREATE TABLE videos (id uuid PRIMARY KEY, status text, {})"

# What hinders, how it is said, and whether the SQL that is printed can be enough.
OBSTACLES: dict[str, tuple[str, str]] = {
    "check": (
        PLAIN.format("CONSTRAINT c CHECK (status IN ('queued', 'processing', 'completed', 'error'))"),
        "constraint c on public.videos refuses what Taxiway writes: failed, cancelled",
    ),
    "check-like": (
        PLAIN.format("CHECK (status ~ '^(queued|processing|done)$')"),
        "completed, failed, cancelled",
    ),
    "check-not-valid": (
        PLAIN.format("user_id text")
        + "; INSERT INTO videos VALUES (gen_random_uuid(), 'weird')"
        + "; ALTER TABLE videos ADD CHECK (status ~ '^(queued|processing|completed|failed)$') NOT VALID",
        "videos_status_check on public.videos refuses what Taxiway writes: cancelled",
    ),
    "check-two-columns": (
        PLAIN.format("runway_video_id text, CHECK (status <> 'processing' OR runway_video_id IS NOT NULL)"),
        "videos_check on public.videos refuses what Taxiway writes: processing",
    ),
    "check-short-error": (
        PLAIN.format("error_message text CHECK (length(error_message) < 200)"),
        "videos_error_message_check on public.videos refuses what Taxiway writes: failed",
    ),
    "enum": (
        "CREATE TYPE state AS ENUM ('queued', 'processing', 'done');"
        "CREATE TABLE videos (id uuid PRIMARY KEY, status state)",
        "cannot hold completed, failed, cancelled",
    ),
    "enum-elsewhere": (
        "CREATE SCHEMA app;"
        "CREATE TYPE app.\"State\" AS ENUM ('queued', 'processing', 'completed', 'failed');"
        'CREATE TABLE videos (id uuid PRIMARY KEY, status app."State")',
        "cannot hold cancelled",
    ),
    "domain": (
        "CREATE DOMAIN state AS text CHECK (VALUE IN ('queued', 'processing', 'completed'));"
        "CREATE TABLE videos (id uuid PRIMARY KEY, status state)",
        "cannot hold failed, cancelled",
    ),
    "domain-narrow": (
        "CREATE DOMAIN state AS varchar(8); CREATE TABLE videos (id uuid PRIMARY KEY, status state)",
        "cannot hold processing, completed, cancelled",
    ),
    "domain-of-an-enum": (
        "CREATE TYPE base AS ENUM ('queued', 'processing', 'completed', 'failed', 'cancelled');"
        "CREATE DOMAIN state AS base; CREATE TABLE videos (id uuid PRIMARY KEY, status state)",
        "cannot hold queued",
    ),
    "status-narrow": (
        "CREATE TABLE videos (id uuid PRIMARY KEY, status varchar(9))",
        "status is character varying\\(9\\), which cannot hold processing",
    ),
    "status-padded": ("CREATE TABLE videos (id uuid PRIMARY KEY, status char(20))", "pads what it holds"),
    "status-number": ("CREATE TABLE videos (id uuid PRIMARY KEY, status smallint)", "cannot hold queued"),
    "error-narrow": (
        PLAIN.format("error_message varchar(255)"),
        "error_message is character varying\\(255\\)",
    ),
    "error-required": (PLAIN.format("error_message text NOT NULL"), "error_message is NOT NULL"),
    "task-uuid": (PLAIN.format("runway_video_id uuid"), "runway_video_id is uuid"),
    "task-narrow-and-required": (
        PLAIN.format("runway_video_id varchar(20) NOT NULL DEFAULT ''"),
        "runway_video_id is character varying\\(20\\).*runway_video_id is NOT NULL",
    ),
    "task-number": (PLAIN.format("runway_video_id bigint"), "runway_video_id is bigint"),
    "created-date": (
        PLAIN.format("created_at date, updated_at text"),
        "created_at is date.*updated_at is text",
    ),
    "created-number": (PLAIN.format("created_at bigint"), "created_at is bigint"),
    "own-column": (PLAIN.format("origin text, priority text"), "column origin.*column priority"),
    "model-number": (PLAIN.format("model integer"), "model is integer"),
    "metadata-json": (PLAIN.format("metadata json"), "metadata is json,"),
    "metadata-text": (PLAIN.format("metadata text"), "metadata is text"),
    "progress-number": (PLAIN.format("progress integer"), "progress is integer"),
    "url-narrow": (PLAIN.format("video_url varchar(500)"), "video_url is character varying\\(500\\)"),
    "id-missing": ("CREATE TABLE videos (status text)", "no column id"),
    "id-number": ("CREATE TABLE videos (id bigserial PRIMARY KEY, status text)", "id is bigint"),
    "id-text": (
        "CREATE TABLE videos (id text PRIMARY KEY DEFAULT gen_random_uuid()::text, status text);"
        "INSERT INTO videos DEFAULT VALUES",
        "its values allow it",
    ),
    "id-text-no-uuid": (
        "CREATE TABLE videos (id text PRIMARY KEY, status text); INSERT INTO videos VALUES ('a7', 'queued')",
        "id is text.*called something else",
    ),
    "id-not-unique": (
        "CREATE TABLE videos (id uuid, status text, UNIQUE (id, status));"
        "INSERT INTO videos VALUES (NULL, 'queued'), (NULL, 'queued');"
        "CREATE UNIQUE INDEX queued_ones ON videos (id) WHERE status = 'queued'",
        "id may be NULL.*nothing makes the column id unique",
    ),
    "index-name": (
        PLAIN.format("n int") + "; CREATE INDEX videos_newest ON videos (n)",
        "index public.videos_newest",
    ),
    "constraint-name": (
        PLAIN.format("CONSTRAINT videos_never_stuck CHECK (true)"),
        "constraint videos_never_stuck",
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
async def test_an_obstacle_is_named_and_its_sql_removes_it(empty_database_url: str, name: str) -> None:
    ddl, words = OBSTACLES[name]
    await execute(empty_database_url, ddl)
    async with connected(empty_database_url) as connection:
        before = await shape(connection)
        with pytest.raises(MigrationBlocked, match=words) as caught:
            await migrate(empty_database_url)
        assert await shape(connection) == before
        for _, sql in caught.value.obstacles:
            await connection.execute(sql)
    assert await migrate(empty_database_url) == NAMES


HARMLESS: dict[str, str] = {
    "enum": "CREATE TYPE s AS ENUM ('draft', 'queued', 'processing', 'completed', 'failed', 'cancelled');"
    "CREATE TABLE videos (id uuid PRIMARY KEY, status s NOT NULL);"
    "INSERT INTO videos VALUES (gen_random_uuid(), 'processing')",
    "domain": "CREATE DOMAIN s AS varchar(20) CHECK (VALUE <> '');CREATE TABLE videos (id uuid PRIMARY KEY, status s)",
    "exactly-wide-enough": PLAIN.format(
        "error_message varchar(1000), runway_video_id varchar(36), model varchar(40), video_url varchar(2000)"
    ).replace("status text", "status varchar(10)"),
    "unique-not-primary": "CREATE TABLE videos (n serial PRIMARY KEY, id uuid NOT NULL UNIQUE, status text)",
    "no-status": "CREATE TABLE videos (id uuid PRIMARY KEY); INSERT INTO videos VALUES (gen_random_uuid())",
    "status-null": PLAIN.format("n int") + "; INSERT INTO videos VALUES (gen_random_uuid(), NULL)",
    "checks": PLAIN.format(
        "seconds int NOT NULL, error_message text, runway_video_id text UNIQUE, "
        "CHECK (seconds > 0 OR status = 'draft'), CHECK (length(status) / length(error_message) < 99), "
        "CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled', 'draft')), "
        "CHECK (status <> 'completed' OR runway_video_id IS NOT NULL), CHECK (true), "
        "CHECK (status <> 'failed' OR error_message IS NOT NULL)"
    ),
    "check-that-cannot-be-tried": PLAIN.format("CHECK (length(status) / (length(status) - 6) IS NOT NULL)"),
    "times-without-zone": PLAIN.format("created_at timestamp, updated_at timestamp(3)")
    + "; INSERT INTO videos VALUES (gen_random_uuid(), 'processing', now(), now() + interval '5 hours')",
    "shared": PLAIN.format(
        "model text, metadata jsonb NOT NULL DEFAULT '{}', video_url text, progress numeric"
    ).replace("{{", "{")
    + "; INSERT INTO videos (id, status, model) VALUES (gen_random_uuid(), 'processing', ' gen4.5')",
    "security-of-the-owners-own": PLAIN.format("n int") + "; ALTER TABLE videos ENABLE ROW LEVEL SECURITY",
    "deferred-trigger": PLAIN.format("n int")
    + "; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
    "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON videos DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION f(); INSERT INTO videos VALUES (gen_random_uuid(), 'processing')",
    "dropped-column": PLAIN.format("origin int") + "; ALTER TABLE videos DROP COLUMN origin",
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_does_not_hinder_is_let_be(empty_database_url: str, name: str) -> None:
    await execute(empty_database_url, HARMLESS[name])
    assert await migrate(empty_database_url) == NAMES
    async with connected(empty_database_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM videos WHERE status::text = 'processing'") == 0
        wrong = "SELECT count(*) FROM videos WHERE status::text = 'queued' AND finished_at IS NULL"
        assert await connection.fetchval(wrong) == 0


async def test_the_ledger_keeps_the_model_that_the_app_named(empty_database_url: str) -> None:
    await execute(
        empty_database_url,
        PLAIN.format("model text"),
        "INSERT INTO videos VALUES (gen_random_uuid(), 'processing', 'gen4.5')",
    )
    await migrate(empty_database_url)
    async with connected(empty_database_url) as connection:
        assert await connection.fetchval("SELECT model FROM submissions") == "gen4.5"


async def test_text_can_be_written_into_an_enum(empty_database_url: str) -> None:
    await execute(
        empty_database_url,
        "CREATE TYPE state AS ENUM ('queued', 'processing', 'completed', 'failed', 'cancelled')",
        "CREATE TABLE videos (id uuid PRIMARY KEY, status state)",
        "INSERT INTO videos VALUES (gen_random_uuid(), 'queued')",
    )
    await migrate(empty_database_url)
    async with connected(empty_database_url) as connection:
        await connection.execute("UPDATE videos SET status = next FROM (SELECT $1::text AS next) n", "failed")
        assert await connection.fetchval("SELECT status::text FROM videos") == "failed"


@pytest.mark.parametrize(
    ("ddl", "words"),
    [
        ("CREATE VIEW videos AS SELECT gen_random_uuid() AS id", "public.videos is a view"),
        (
            "CREATE TABLE videos (id uuid, status text) PARTITION BY LIST (status)",
            "public.videos is a partitioned table",
        ),
        ("CREATE SEQUENCE videos", "public.videos is no table"),
    ],
)
async def test_what_is_no_ordinary_table_cannot_be_taken_over(empty_database_url: str, ddl: str, words: str) -> None:
    await execute(empty_database_url, ddl)
    with pytest.raises(MigrationBlocked, match=words):
        await migrate(empty_database_url)


async def test_all_obstacles_are_named_at_once_and_explained(empty_database_url: str) -> None:
    await execute(
        empty_database_url,
        "CREATE TYPE state AS ENUM ('queued', 'processing', 'done');"
        "CREATE TABLE videos (id bigint, status state, error_message varchar(100), output text);"
        "CREATE TABLE ticks (n int)",
    )
    with pytest.raises(MigrationBlocked) as caught:
        await migrate(empty_database_url)
    text = explain(caught.value)
    assert text.startswith("The migration stopped and changed nothing. 5 things stand in the way:\n\n1. ")
    for line in (
        "       ALTER TYPE state ADD VALUE IF NOT EXISTS 'cancelled';",
        "       ALTER TABLE public.videos RENAME COLUMN id TO app_id;",
        "       ALTER TABLE public.videos ALTER COLUMN error_message TYPE text USING error_message::text;",
        "       ALTER TABLE public.videos RENAME COLUMN output TO app_output;",
        "migrate again.",
    ):
        assert line in text
    alone = explain(MigrationBlocked([("the moon is in the way", "")]))
    assert alone.splitlines() == [
        "The migration stopped and changed nothing. One thing stands in the way:",
        "",
        "1. the moon is in the way",
    ]


async def test_tables_of_the_apps_with_our_names_are_passed_by_in_a_schema_of_our_own(
    empty_database_url: str,
) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        await connection.execute("CREATE TABLE submissions (form text); CREATE TABLE models (n int)")
        with pytest.raises(MigrationBlocked, match=r"has public.models, public.submissions of its own") as caught:
            await migrate(empty_database_url)
        [(why, sql)] = caught.value.obstacles
        assert "search_path=taxiway,public" in why
        await connection.execute(sql)
        join = "&" if "?" in empty_database_url else "?"
        url = f"{empty_database_url}{join}search_path=taxiway,public"
        assert await migrate(url) == NAMES
        assert await migrate(url) == []
        tables = "SELECT relname FROM pg_class WHERE relnamespace = 'taxiway'::regnamespace AND relkind = 'r'"
        made = {row["relname"] for row in await connection.fetch(tables)}
        ours = {*Footprint.of(*scripts().values()).tables, "taxiway_migrations", *record.TABLES}
        assert made == ours - {"videos"}
        assert await connection.fetchval("SELECT count(*) FROM public.videos WHERE error_code IS NOT NULL") == 2
        assert await connection.fetchval("SELECT count(*) FROM public.submissions") == 0


async def test_a_role_without_rights_is_told_everything_that_it_lacks(empty_database_url: str) -> None:
    async with connected(empty_database_url) as owner, role(empty_database_url) as (name, url):
        await fill(owner)
        await owner.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC")
        before = await shape(owner)
        with pytest.raises(MigrationBlocked, match=r"does not own public.videos.*may not create tables") as caught:
            await migrate(url)
        assert await shape(owner) == before
        assert (await plan(url)).rows == {}
        # The tests' own user is a superuser, so it is another role that owns the table and is granted.
        async with role(empty_database_url) as (other, _):
            await owner.execute(
                f"ALTER TABLE videos OWNER TO {other};"
                "CREATE TYPE state AS ENUM"
                " ('queued', 'processing', 'completed', 'failed', 'cancelled', 'draft');"
                "ALTER TABLE videos ALTER status DROP DEFAULT, ALTER status TYPE state USING status::state"
            )
            with pytest.raises(MigrationBlocked, match="state of the column status belongs to another") as caught:
                await migrate(url)
            for _, sql in caught.value.obstacles:
                await owner.execute(sql)
            assert any(sql == f"GRANT {other} TO {name};" for _, sql in caught.value.obstacles)
            assert await migrate(url) == NAMES


@pytest.mark.parametrize("restrictive", [False, True])
async def test_row_security_that_hides_rows_stops_it(empty_database_url: str, restrictive: bool) -> None:
    async with connected(empty_database_url) as admin, role(empty_database_url) as (name, url):
        await admin.execute(f"GRANT ALL ON SCHEMA public TO {name}")
        await fill(admin)
        await admin.execute(
            f"ALTER TABLE videos OWNER TO {name}; ALTER TABLE users OWNER TO {name};"
            "ALTER TABLE videos ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
            "CREATE POLICY own ON videos USING (team = current_user::text)"
        )
        if restrictive:
            await admin.execute("CREATE POLICY never ON videos AS RESTRICTIVE USING (status <> 'processing')")
        with pytest.raises(
            MigrationBlocked, match=f"row-level security on public.videos is in force for {name}"
        ) as caught:
            await migrate(url)
        [(_, sql)] = caught.value.obstacles
        assert sql.startswith("ALTER ROLE" if restrictive else "CREATE POLICY")
        await admin.execute(sql)
        assert await migrate(url) == NAMES
        assert await admin.fetchval("SELECT count(*) FROM videos WHERE error_code IS NOT NULL") == len(MENDED)


async def test_the_plan_says_what_would_happen_and_changes_nothing(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        before, values = await shape(connection), await old_values(connection)
        would = await plan(empty_database_url)
        assert (await shape(connection), await old_values(connection)) == (before, values)
        assert would.table == "public.videos"
        assert would.obstacles == ()
        assert {"error_message", "created_at"} <= set(would.shares)
        assert {"open_submission_id", "model"} <= set(would.adds)
        assert would.rows["processing"] == 5
        assert would.rows["draft"] == 1
        assert would.stuck == len(MENDED)
        assert {row.id for row in would.stuck_rows} == {values[team]["id"] for team in MENDED}
        assert {row.since for row in would.stuck_rows} == {values[team]["created_at"] for team in MENDED}
        assert {row.becomes for row in would.stuck_rows} == {"failed"}
        again = await plan(empty_database_url, requeue_stuck=True)
        assert {row.becomes for row in again.stuck_rows} == {"queued"}


async def test_the_plan_of_an_empty_database_and_of_odd_tables(empty_database_url: str) -> None:
    nothing = await plan(empty_database_url)
    assert (nothing.table, nothing.rows, nothing.stuck, nothing.obstacles) == (None, {}, 0, ())
    await execute(empty_database_url, "CREATE TABLE videos (name text); INSERT INTO videos VALUES ('a')")
    odd = await plan(empty_database_url)
    assert (odd.rows, odd.stuck, len(odd.obstacles)) == ({"": 1}, 0, 1)
    await execute(
        empty_database_url,
        "ALTER TABLE videos ADD COLUMN id uuid PRIMARY KEY DEFAULT gen_random_uuid(), ADD COLUMN status text",
        "UPDATE videos SET status = 'processing'",
    )
    bare = await plan(empty_database_url)
    assert (bare.rows, bare.stuck, bare.stuck_rows[0].since) == ({"processing": 1}, 1, None)


def test_literals_survive_quotes() -> None:
    assert literal("it's") == "'it''s'"
