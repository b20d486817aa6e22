"""The way back from an adoption: what Taxiway added goes, and everything else is as it was."""

from __future__ import annotations

from typing import Any

import pytest

from service.errors import MigrationBlocked
from service.installer.migrate import migrate, undo, undo_plan
from service.store.adoption.table import Connection
from tests.adopted import ALICE, fill
from tests.database import connected, execute
from tests.world import IMAGE, world

pytestmark = pytest.mark.anyio

# The schema as pg_dump would tell it: tables, columns in order, constraints, indexes, triggers, types, casts,
# functions, policies.
CATALOGUE = """
    WITH mine AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)')
    SELECT format('%s %s.%s', c.relkind, n.nspname, c.relname)
      FROM pg_class c JOIN mine n ON n.oid = c.relnamespace
    UNION ALL
    SELECT format('column %s.%s %s %s not null %s default %s %s', n.nspname, c.relname, a.attname,
                  format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
                  row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum))
      FROM pg_class c JOIN mine n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT format('constraint %s on %s %s %s', conname, conrelid::regclass, pg_get_constraintdef(k.oid), convalidated)
      FROM pg_constraint k JOIN mine n ON n.oid = k.connamespace
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(c.oid)) FROM pg_class c JOIN mine n ON n.oid = c.relnamespace
     WHERE c.relkind = 'i'
    UNION ALL
    SELECT format('trigger %s %s', pg_get_triggerdef(t.oid), tgenabled) FROM pg_trigger t WHERE NOT tgisinternal
    UNION ALL
    SELECT format('type %s %s', t.typname, (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder)
                                              FROM pg_enum WHERE enumtypid = t.oid))
      FROM pg_type t JOIN mine n ON n.oid = t.typnamespace
    UNION ALL
    SELECT format('cast %s %s', castsource::regtype, casttarget::regtype) FROM pg_cast WHERE oid >= 16384
    UNION ALL
    SELECT format('function %s', p.oid::regprocedure) FROM pg_proc p JOIN mine n ON n.oid = p.pronamespace
    UNION ALL
    SELECT format('policy %s on %s', polname, polrelid::regclass) FROM pg_policy
    UNION ALL
    SELECT format('options %s %s', c.relname, c.reloptions) FROM pg_class c JOIN mine n ON n.oid = c.relnamespace
    ORDER BY 1
"""
FIVE = "'queued', 'processing', 'completed', 'failed', 'cancelled'"


async def schema(connection: Connection) -> list[str]:
    return [row[0] for row in await connection.fetch(CATALOGUE)]


async def rows(connection: Connection) -> dict[str, dict[str, Any]]:
    return {str(row["id"]): dict(row) for row in await connection.fetch("SELECT * FROM videos")}


# Tables of apps: each with some of Taxiway's columns of its own, and a row of every kind.
APPS: dict[str, str] = {
    "plain": """
        CREATE TABLE videos (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id text, prompt text, image_url text,
            status text NOT NULL DEFAULT 'queued', error_message text, runway_video_id text,
            created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now());
        INSERT INTO videos (status, runway_video_id) VALUES
            ('processing', NULL), ('processing', ' '), ('completed', 'task-9'), ('failed', NULL), ('draft', NULL)
    """,
    "enum with columns of the same name": f"""
        CREATE TYPE state AS ENUM ({FIVE}, 'draft');
        CREATE TABLE videos (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), status state NOT NULL DEFAULT 'draft',
            model varchar(60), metadata jsonb NOT NULL DEFAULT '{{}}', video_url text, progress numeric,
            updated_at timestamp(3) NOT NULL DEFAULT now());
        CREATE INDEX by_state ON videos (status) WHERE status = 'processing';
        INSERT INTO videos (status, model) VALUES ('processing', 'gen4.5'), ('processing', NULL), ('draft', 'own')
    """,
    "nothing but a key": "CREATE TABLE videos (id uuid PRIMARY KEY); INSERT INTO videos VALUES (gen_random_uuid())",
    "triggers that may not fire, and must stay as they are": """
        CREATE TABLE videos (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), status text, n int DEFAULT 0,
            updated_at timestamptz DEFAULT now(), seconds int CHECK (seconds > 0));
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;
        CREATE TRIGGER a BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER b BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER c BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION touch();
        ALTER TABLE videos DISABLE TRIGGER b;
        ALTER TABLE videos ENABLE ALWAYS TRIGGER c;
        INSERT INTO videos (status, updated_at) VALUES ('processing', now() - interval '3 days')
    """,
}


@pytest.mark.parametrize("name", APPS)
@pytest.mark.parametrize("requeue_stuck", [False, True])
async def test_there_and_back_changes_nothing(empty_database_url: str, name: str, requeue_stuck: bool) -> None:
    async with connected(empty_database_url) as connection:
        await connection.execute(APPS[name])
        before, values = await schema(connection), await rows(connection)
        await migrate(empty_database_url, requeue_stuck=requeue_stuck)
        assert await schema(connection) != before
        await undo(empty_database_url)
    async with connected(empty_database_url) as connection:  # with no plan kept from before
        assert await schema(connection) == before
        assert await rows(connection) == values


async def test_it_can_be_done_again(empty_database_url: str) -> None:
    await execute(empty_database_url, APPS["plain"])
    for _ in range(2):
        await migrate(empty_database_url)
        await undo(empty_database_url)
    with pytest.raises(MigrationBlocked, match="has not taken over this database"):
        await undo(empty_database_url)


async def test_what_became_of_videos_in_between_stays(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await fill(connection)
        await connection.execute("DELETE FROM videos WHERE team ~ 'under-way'")
        before, values = await schema(connection), await rows(connection)
        await migrate(empty_database_url)
        async with world(empty_database_url, task_timeout=1e6) as w:
            ids = {row["team"]: row["id"] for row in values.values()}
            answer = await w.api.post(f"/videos/{ids['stuck']}/retry", json={"accept_double_charge": True})
            assert answer.status_code == 202
            new = await w.enqueue(columns={"user_id": str(ALICE), "team": "new", "seconds": 5})
            await w.finish()
        plan = await undo_plan(empty_database_url)
        assert (plan.restored, plan.moved_on) == (1, 1)
        assert (plan.submissions, plan.open, plan.under_way) == (5, 0, 0)
        assert plan.columns["video_url"] == 3
        assert await undo(empty_database_url) == plan
        assert await schema(connection) == before
        after = await rows(connection)
        for row in (*values.values(), *after.values()):  # the world has moved all times
            del row["created_at"], row["updated_at"]
        changed = {key for key in values if after[key] != values[key]}
        assert changed == {str(ids["waiting"]), str(ids["stuck"])}
        assert {after[key]["status"] for key in changed} == {"completed"}
        assert after[str(new)]["status"] == "completed"
        assert after[str(new)]["runway_video_id"]
        assert len(after) == len(values) + 1


async def test_what_is_going_on_is_in_the_way_unless_forced(empty_database_url: str) -> None:
    await execute(empty_database_url, APPS["plain"])
    async with connected(empty_database_url) as connection:
        before = await schema(connection)
        await migrate(empty_database_url)
        async with world(empty_database_url) as w:
            await w.enqueue()
            await w.tick()
        await connection.execute(
            "INSERT INTO videos (id, status, open_submission_id) SELECT gen_random_uuid(), 'queued', NULL;"
            "WITH v AS (SELECT id FROM videos WHERE status = 'queued'), s AS ("
            " INSERT INTO submissions (video_id, model, call_deadline, deadline)"
            " SELECT id, 'gen4.5', now() + interval '1 minute', now() + interval '2 minutes' FROM v RETURNING id)"
            "UPDATE videos SET status = 'processing', open_submission_id = s.id FROM s"
            " WHERE videos.id IN (SELECT id FROM v)"
        )
        taken = await schema(connection)
        with pytest.raises(MigrationBlocked) as caught:
            await undo(empty_database_url)
        assert [why.partition(":")[0] for why, _ in caught.value.obstacles] == [
            "1 requests to Runway are open",
            "1 tasks are under way at Runway",
        ]
        assert await schema(connection) == taken
        await undo(empty_database_url, force=True)
        assert await schema(connection) == before


async def test_tables_elsewhere_on_the_path_are_found_by_what_was_written_down(empty_database_url: str) -> None:
    join = "&" if "?" in empty_database_url else "?"
    async with connected(empty_database_url) as connection:
        await connection.execute(APPS["plain"] + "; CREATE TABLE submissions (form text); CREATE SCHEMA taxiway")
        before, values = await schema(connection), await rows(connection)
        url = f"{empty_database_url}{join}search_path=taxiway,public"
        await migrate(url)
        with pytest.raises(MigrationBlocked, match="has not taken over"):
            await undo(empty_database_url)
        await undo(url)
        assert (await schema(connection), await rows(connection)) == (before, values)


async def test_a_view_of_the_apps_on_a_column_of_ours_stops_it(empty_database_url: str) -> None:
    await execute(empty_database_url, APPS["plain"])
    await migrate(empty_database_url)
    async with connected(empty_database_url) as connection:
        await connection.execute("CREATE VIEW dear AS SELECT id FROM videos WHERE cost_credits > 100")
        before = await schema(connection)
        with pytest.raises(MigrationBlocked, match="view dear depends on column cost_credits"):
            await undo(empty_database_url)
        assert await schema(connection) == before


async def test_a_table_that_taxiway_made_goes_only_while_it_is_empty(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        before = await schema(connection)
        await migrate(empty_database_url)
        await connection.execute(f"INSERT INTO videos (prompt, image_url) VALUES ('a boat', '{IMAGE}')")
        with pytest.raises(MigrationBlocked, match=r"made public\.videos itself, and it has 1 videos"):
            await undo(empty_database_url)
        await connection.execute("DELETE FROM videos")
        assert (await undo_plan(empty_database_url)).drops_table
        await undo(empty_database_url)
        assert await schema(connection) == before


async def test_without_a_record_there_is_no_way_back(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    await execute(empty_database_url, "DROP TABLE taxiway_adoption")
    with pytest.raises(MigrationBlocked, match="wrote down nothing"):
        await undo(empty_database_url)


async def test_a_newer_database_is_left_alone(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    await execute(empty_database_url, "INSERT INTO taxiway_migrations (name) VALUES ('9999_tomorrow')")
    with pytest.raises(MigrationBlocked, match="newer than this version"):
        await undo(empty_database_url)
