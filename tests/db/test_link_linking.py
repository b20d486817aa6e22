"""Linking, linking again, and the way back: what is recorded, and what becomes of rows that are there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from service.context import build
from service.errors import Conflict, NotFound
from service.installer.check import fit
from service.installer.inspect import Connection, LinkRefused
from service.installer.linking import Linked, apply, find, links, unlink
from service.installer.plan import Wishes
from service.installer.plan_answers import Answers
from service.operations.linked_rows import Intake
from service.steps import mirror
from service.store.link_closing import close_finished
from service.store.links import open_links
from tests.database import connected, execute
from tests.linked import BASE, PRISMA, ROW, SETTINGS, SUPABASE, keys, plan
from tests.world import settings

pytestmark = pytest.mark.anyio

TAKE, IGNORE = Answers(existing="take"), Answers(existing="ignore")
# What intake would take: rows that say queued, and of which nothing is known with that word.
NEW = """
    SELECT count(*) FROM videos a WHERE a.status = 'queued' AND NOT EXISTS (
        SELECT FROM taxiway.rows r LEFT JOIN taxiway.videos v ON v.id = r.video_id
         WHERE r.app_id = a.id::text AND (r.app_word = a.status OR v.status IN ('queued', 'processing')))
"""


async def link(
    connection: Connection, table: str = "videos", answers: Answers | None = None, wishes: Wishes | None = None
) -> Linked:
    """Plan and apply."""
    return await apply(connection, await plan(connection, table, answers, wishes=wishes), SETTINGS)


async def row_of(connection: Connection, sql: str, *arguments: object) -> dict[str, Any]:
    """The only row."""
    [row] = await connection.fetch(sql, *arguments)
    return dict(row)


async def taken(connection: Connection, status: str = "queued", prompt: str = "a cat") -> str:
    """A row of the app that intake has taken, and its video."""
    app_id = await connection.fetchval("INSERT INTO videos (prompt) VALUES ($1) RETURNING id::text", prompt)
    return str(
        await connection.fetchval(
            """
            WITH v AS (INSERT INTO taxiway.videos (prompt, status, link_id, origin)
                       SELECT $2, 'queued', id, 'link' FROM taxiway.links RETURNING id, link_id),
                 r AS (INSERT INTO taxiway.rows (link_id, app_id, video_id, app_word)
                       SELECT link_id, $1, id, 'queued' FROM v)
            SELECT id FROM v
            """,
            app_id, prompt,
        )
    )  # fmt: skip


async def test_a_link_records_the_table_its_columns_and_the_mapping(database_url: str) -> None:
    url = database_url
    await execute(url, PRISMA)
    async with connected(url) as connection:
        done = await link(connection, "Video", Answers(zone="UTC"))
        row = await row_of(connection, "SELECT *, table_oid = 'public.\"Video\"'::regclass AS same FROM taxiway.links")
        assert (row["schema_name"], row["table_name"], row["same"], row["state"]) == ("public", "Video", True, "open")
        columns = json.loads(row["columns"])
        assert columns["id"] == {"name": "id", "attnum": 1, "type": "text"}
        assert columns["status"] == {"name": "status", "attnum": 4, "type": 'public."VideoStatus"'}
        assert columns["created_at"]["type"] == "timestamp(3) without time zone"
        assert json.loads(row["mapping"])["words"]["queued"] == ["PENDING"]
        assert (done.name, done.link_id, json.loads(row["made"])) == ("public.Video", row["id"], [])
        [state] = await links(connection)
        assert not (await fit(connection, state.link)).reasons


async def test_open_questions_are_refused_and_nothing_is_done(database_url: str) -> None:
    url = database_url
    await execute(url, SUPABASE)
    async with connected(url) as connection:
        with pytest.raises(LinkRefused, match="--column image=original_image_url"):
            await link(connection)
        assert await links(connection) == []


async def test_rows_that_were_queued_before_are_left_alone_and_later_ones_are_new(database_url: str) -> None:
    url = database_url
    await execute(url, BASE.replace(", created_at timestamptz DEFAULT now()", ""), ROW, ROW)
    async with connected(url) as connection, connected(url) as other:
        # Inserted before, committed after: it was not there when the table was linked.
        late = other.transaction()
        await late.start()
        await other.execute(ROW)
        done = await link(connection, answers=IGNORE)
        await late.commit()
        assert done.left_alone == 2
        assert await connection.fetchval(NEW) == 1
        await connection.execute(ROW)
        assert await connection.fetchval(NEW) == 2
        [state] = await links(connection)
        assert state.left_alone == 2
        # Consent later makes them new.
        assert keys(await plan(connection)) == []
        await link(connection, answers=TAKE)
        assert await connection.fetchval(NEW) == 4


async def test_with_consent_they_are_new_to_intake(database_url: str) -> None:
    await execute(database_url, BASE, ROW, ROW)
    async with connected(database_url) as connection:
        assert (await link(connection, answers=TAKE)).left_alone == 0
        assert await connection.fetchval(NEW) == 2


async def test_the_filter_bounds_what_is_left_alone_and_widening_it_asks_again(database_url: str) -> None:
    await execute(
        database_url, BASE, "ALTER TABLE videos ADD kind text",
        "INSERT INTO videos (prompt, kind) VALUES ('a', 'x'), ('b', 'y')",
    )  # fmt: skip
    async with connected(database_url) as connection:
        done = await link(connection, answers=Answers(where="kind = 'x' -- ours", existing="ignore"))
        assert done.left_alone == 1
        same = await plan(connection)
        assert (keys(same), same.asks_existing) == ([], False)
        wider = await plan(connection, answers=Answers(where=""))
        assert (keys(wider), wider.asks_existing) == (["existing"], True)
        assert (await link(connection, answers=Answers(where="", existing="ignore"))).left_alone == 1
        assert await connection.fetchval(NEW) == 0


async def test_a_table_that_is_linked_again_remembers_its_rows(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, ROW)
    async with connected(url) as connection:
        first = await link(connection, answers=IGNORE)
        ended, running = await taken(connection), await taken(connection)
        await connection.execute(
            "UPDATE taxiway.videos SET status = 'failed', finished_at = now() WHERE id = $1::uuid", ended
        )
        assert (await unlink(connection, "videos", cancel=False)).state == "closing"
        await connection.execute("UPDATE taxiway.videos SET status = 'cancelled' WHERE id = $1::uuid", running)
        await connection.execute(
            "UPDATE taxiway.rows r SET mirrored_version = v.version, app_word = v.status "
            "FROM taxiway.videos v WHERE v.id = r.video_id"
        )
        await connection.execute("DELETE FROM taxiway.mirror_queue")
        assert await close_finished(connection) == [first.link_id]
        # Queued again while nothing was linked, and new ones: without consent none of them is taken.
        await connection.execute(ROW)
        again = await plan(connection)
        assert (keys(again), again.survey and again.survey.queued.rows) == (["existing"], 4)
        second = await link(connection, answers=IGNORE)
        assert second.link_id == first.link_id
        assert await connection.fetchval("SELECT count(*) FROM taxiway.rows") == 4
        assert await connection.fetchval(NEW) == 0
        assert (await find(connection, "public.videos")).link.state == "open"


async def test_another_key_is_refused_while_rows_are_known_by_the_old(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, "ALTER TABLE videos ADD number bigint GENERATED ALWAYS AS IDENTITY UNIQUE")
    async with connected(url) as connection:
        await link(connection)
        await link(connection, answers=Answers(columns={"id": "number"}))
        await link(connection, answers=Answers(columns={"id": "id"}))
        await taken(connection)
        with pytest.raises(LinkRefused, match="--column id=id"):
            await link(connection, answers=Answers(columns={"id": "number"}))
        # The same column under another name is the same key.
        await connection.execute("ALTER TABLE videos RENAME id TO uid")
        await link(connection, answers=Answers(columns={"id": "uid"}))
        assert (await find(connection, "videos")).link.mapping.id == "uid"


async def test_a_changed_table_is_linked_again_with_the_fix_that_the_check_names(database_url: str) -> None:
    url = database_url
    await execute(url, BASE)
    async with connected(url) as connection:
        await link(connection)

        async def reasons() -> list[str]:
            [state] = await links(connection)
            return [str(reason) for reason in (await fit(connection, state.link)).reasons]

        assert await reasons() == []
        await connection.execute("ALTER TABLE videos RENAME prompt TO text; ALTER TABLE videos DROP video_url")
        assert await reasons() == [
            "link public.videos: the column prompt (prompt) is called text now: "
            "`taxiway link public.videos --column prompt=text`",
            "link public.videos: the column video_url (video_url) was dropped: name another: "
            "`taxiway link public.videos --column video_url=NAME`, or go on without it: "
            "`taxiway link public.videos --column video_url=`",
        ]
        with pytest.raises(LinkRefused, match="--column prompt=text"):
            await link(connection)
        with pytest.raises(LinkRefused, match="--column video_url=NAME"):
            await link(connection, answers=Answers(columns={"prompt": "text"}))
        await link(connection, answers=Answers(columns={"prompt": "text", "video_url": ""}))
        assert await reasons() == []
        await connection.execute("ALTER TABLE videos RENAME TO films")
        assert await reasons() == [
            "the linked table public.videos is called public.films now: `taxiway link public.films`"
        ]
        await link(connection, "films")
        assert (await reasons(), [state.link.name for state in await links(connection)]) == ([], ["public.films"])
        await connection.execute("DROP TABLE films")
        [state] = await links(connection)
        assert [one.kind for one in (await fit(connection, state.link)).reasons] == ["table_gone"]
        assert await reasons() == [
            "the linked table public.films is gone: restore it, or `taxiway unlink public.films`"
        ]


async def test_the_check_tells_types_words_and_rights_apart(database_url: str) -> None:
    url = database_url
    await execute(url, PRISMA)
    async with connected(url) as connection:
        await link(connection, "Video", Answers(zone="UTC"))
        [state] = await links(connection)

        async def kinds() -> list[tuple[str, str | None, str | None]]:
            return [(one.kind, one.key, one.column) for one in (await fit(connection, state.link)).reasons]

        async def when(*statements: str) -> list[tuple[str, str | None, str | None]]:
            transaction = connection.transaction()
            await transaction.start()
            for statement in statements:
                await connection.execute(statement)
            try:
                return await kinds()
            finally:
                await transaction.rollback()

        alter = 'ALTER TABLE "Video" ALTER'
        assert await when("ALTER TYPE \"VideoStatus\" RENAME VALUE 'PENDING' TO 'QUEUED'") == [
            ("words", "status", "status")
        ]
        # An enum that became text, a longer text, and an enum of the same words under another name go on.
        assert await when(f"{alter} status DROP DEFAULT, ALTER status TYPE text") == []
        assert await when(f'{alter} "imageUrl" TYPE varchar(500)') == []
        assert await when('ALTER TYPE "VideoStatus" RENAME TO "Renamed"') == []
        assert await when(f'{alter} "imageUrl" TYPE jsonb USING to_jsonb("imageUrl")') == [
            ("type", "image", "imageUrl")
        ]
        assert await when(f'{alter} "videoUrl" TYPE text[] USING ARRAY["videoUrl"]') == [
            ("type", "video_url", "videoUrl")
        ]
        assert await when('ALTER TABLE "Video" DROP "imageUrl", ADD "imageUrl" text') == []
        assert await when(
            'ALTER TABLE "Video" DROP "videoUrl", ADD "videoUrl" text GENERATED ALWAYS AS (prompt) STORED'
        ) == [("type", "video_url", "videoUrl")]
        assert await when('ALTER TABLE "Video" RENAME prompt TO old; ALTER TABLE "Video" ADD prompt text') == []
        # A copy of a dump has another oid: the name counts.
        assert await when('ALTER TABLE "Video" RENAME TO old', 'CREATE TABLE "Video" (LIKE old)') == []
        [gone] = await when(
            'ALTER TABLE "Video" RENAME TO old', 'CREATE MATERIALIZED VIEW "Video" AS SELECT * FROM old'
        )
        assert gone[0] == "kind"
        result = await when(
            "CREATE ROLE taxi_checked", 'GRANT SELECT ON "Video" TO taxi_checked',
            'GRANT UPDATE (status) ON "Video" TO taxi_checked', "SET LOCAL ROLE taxi_checked",
        )  # fmt: skip
        assert {key for kind, key, _ in result if kind == "rights"} == {
            "runway_video_id", "error_message", "video_url", "updated_at",
        }  # fmt: skip
        blind = await when("CREATE ROLE taxi_checked", "SET LOCAL ROLE taxi_checked")
        assert ("rights", "prompt", "prompt") in blind
        fresh = await fit(connection, state.link)
        assert fresh.columns == state.link.columns


async def test_a_link_whose_table_is_gone_can_be_undone(database_url: str) -> None:
    await execute(database_url, BASE)
    async with connected(database_url) as connection:
        await link(connection)
        await connection.execute("DROP TABLE videos")
        assert (await unlink(connection, "videos", cancel=False)).state == "closed"


@pytest.mark.parametrize(
    ("word", "role"),
    [("PENDING", "queued"), ("PROCESSING", "processing"), ("STOP", "cancel"), ("CANCELLED", "cancelled")],
)  # fmt: skip
async def test_a_word_that_left_is_named_with_what_it_meant(database_url: str, word: str, role: str) -> None:
    url = database_url
    await execute(url, PRISMA.replace("'CANCELLED'", "'CANCELLED', 'STOP'"))
    async with connected(url) as connection:
        await link(connection, "Video", Answers(zone="UTC", words={"cancel": ("CANCELLED", "STOP")}))
        await connection.execute(f"ALTER TYPE \"VideoStatus\" RENAME VALUE '{word}' TO 'ELSE'")
        [state] = await links(connection)
        [reason] = (await fit(connection, state.link)).reasons
        assert (reason.kind, f"--word {role}=WORD" in reason.fix, "'ELSE'" in reason.fix) == ("words", True, True)


async def test_words_that_were_renamed_are_named_again(database_url: str) -> None:
    url = database_url
    await execute(url, PRISMA)
    async with connected(url) as connection:
        await link(connection, "Video", Answers(zone="UTC"))
        await connection.execute("ALTER TYPE \"VideoStatus\" RENAME VALUE 'COMPLETED' TO 'DONE'")
        with pytest.raises(LinkRefused, match=r"has no 'COMPLETED' any more: .* --word completed=WORD"):
            await link(connection, "Video")
        await link(connection, "Video", Answers(words={"completed": ("DONE",)}))
        [state] = await links(connection)
        assert state.link.mapping.words.completed == "DONE"
        assert not (await fit(connection, state.link)).reasons


async def test_columns_and_an_index_are_added_with_consent_and_remembered(database_url: str) -> None:
    url = database_url
    await execute(
        url, "CREATE TABLE videos (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), prompt text, "
        "status text DEFAULT 'queued', created_at timestamptz DEFAULT now())",
    )  # fmt: skip
    async with connected(url) as connection:
        done = await link(connection, wishes=Wishes(add_columns=True, index=True))
        assert (len(done.added), done.index_error) == (4, None)
        [state] = await links(connection)
        assert state.made_columns == ["runway_video_id", "error_message", "video_url"]
        assert state.made_indexes == ['public."videos_taxiway_look"']
        assert state.link.mapping.columns["video_url"] == "video_url"
        assert {key: column.type for key, column in state.link.columns.items()}["video_url"] == "text"
        definition = await connection.fetchval("SELECT pg_get_indexdef('videos_taxiway_look'::regclass)")
        assert definition.endswith("(status, created_at)")
        # Again: the columns are there, and so is the index, which stays.
        again = await link(connection, wishes=Wishes(add_columns=True, index=True))
        assert (again.added, again.index_error) == ((), None)
        await connection.execute("DROP INDEX videos_taxiway_look")  # as drizzle-kit push does
        again = await link(connection, wishes=Wishes(add_columns=True, index=True))
        assert [each.name for each in again.added] == ["videos_taxiway_look"]
        await connection.execute("DROP INDEX videos_taxiway_look; CREATE TABLE videos_taxiway_look ()")
        again = await link(connection, wishes=Wishes(index=True))
        assert "already exists" in (again.index_error or "")
        await connection.execute("DROP TABLE videos_taxiway_look")
        await link(connection, wishes=Wishes(index=True))
        undone = await unlink(connection, "videos", cancel=False)
        assert (undone.state, undone.dropped) == ("closed", ('public."videos_taxiway_look"',))
        assert undone.columns == ("runway_video_id", "error_message", "video_url")
        assert await connection.fetchval("SELECT to_regclass('videos_taxiway_look') IS NULL")
        assert await connection.fetchval("SELECT count(video_url) FROM videos") == 0


async def test_an_index_that_fails_leaves_nothing_and_the_link_works(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, ROW)
    async with connected(url) as connection:
        await connection.execute("SET statement_timeout = '300ms'")
        async with connected(url) as other, other.transaction():
            await other.execute("LOCK TABLE videos IN ROW EXCLUSIVE MODE")  # the index waits for its end
            done = await link(connection, answers=IGNORE, wishes=Wishes(index=True))
        assert 'DROP INDEX CONCURRENTLY public."videos_taxiway_look"' in (done.index_error or "")
        [state] = await links(connection)
        assert (state.link.state, state.made_indexes) == ("open", ['public."videos_taxiway_look"'])
        assert (await unlink(connection, "videos", cancel=False)).dropped == ('public."videos_taxiway_look"',)
        assert await connection.fetchval("SELECT to_regclass('videos_taxiway_look') IS NULL")
        # A word that fits into no index: what is left of it is dropped at once.
        await connection.execute(
            "INSERT INTO videos (prompt, status) "
            "SELECT 'a', string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 200)"
        )
        done = await link(connection, answers=IGNORE, wishes=Wishes(index=True))
        assert "index row" in (done.index_error or "")
        [state] = await links(connection)
        assert (state.link.state, state.made) == ("open", [])
        assert await connection.fetchval("SELECT to_regclass('videos_taxiway_look') IS NULL")


async def test_a_table_that_is_held_is_not_waited_for_long(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.installer.linking.LOCK_SECONDS", 0.2)
    url = database_url
    await execute(url, BASE.replace("video_url text,", ""))
    async with connected(url) as connection, connected(url) as other, other.transaction():
        await other.execute("SELECT FROM videos")
        with pytest.raises(Conflict, match="another transaction holds the table, and nothing was changed"):
            await link(connection, wishes=Wishes(add_columns=True))
        assert await links(connection) == []


async def stuck_rows(url: str) -> None:
    """Rows at processing: two without a task, one of them no request; two with one, of which one is a double."""
    await execute(
        url, BASE, "INSERT INTO videos (prompt, status, image_url, user_id, created_at) "
        "VALUES ('stuck', 'processing', 'https://example.com/a.png', 7, now() - interval '2 hours')",
        "INSERT INTO videos (prompt, status) VALUES (' ', 'processing')",
        "INSERT INTO videos (prompt, status, runway_video_id) VALUES ('sent', 'processing', 'task-1')",
        "INSERT INTO videos (prompt, status, runway_video_id) VALUES ('double', 'processing', 'task-1')",
        "INSERT INTO videos (prompt, status) VALUES ('done', 'completed')",
    )  # fmt: skip


async def test_stuck_rows_are_left_alone_unless_asked(database_url: str) -> None:
    await stuck_rows(database_url)
    async with connected(database_url) as connection:
        await link(connection)
        assert await connection.fetchval("SELECT count(*) FROM taxiway.videos") == 0


async def test_stuck_rows_fail_as_unknown_and_tasks_are_followed(database_url: str) -> None:
    url = database_url
    await stuck_rows(url)
    async with connected(url) as connection:
        done = await link(connection, wishes=Wishes("fail"))
        assert vars(done.stuck) == {"failed": 2, "requeued": 0, "followed": 1}
        video = await row_of(
            connection, "SELECT v.*, r.app_word, r.mirrored_version, s.outcome, s.settled_at, s.consent, "
            "s.opened_at, s.closed_at - s.opened_at AS age, s.quoted_credits AS price FROM taxiway.videos v "
            "JOIN taxiway.rows r ON r.video_id = v.id JOIN taxiway.submissions s ON s.video_id = v.id "
            "WHERE v.input ->> 'promptText' = 'stuck'",
        )  # fmt: skip
        assert (video["status"], video["error_code"], video["model"]) == ("failed", "SUBMISSION_UNKNOWN", "gen4_turbo")
        assert (video["outcome"], video["settled_at"], video["consent"]) == ("unknown", None, None)
        assert (video["age"].total_seconds() // 3600, float(video["price"]), video["user_id"]) == (2, 25, "7")
        assert video["submitted_at"] == video["opened_at"], "it may have been sent"
        # Its row is behind: the mirror writes the failure.
        assert (video["app_word"], video["version"], video["mirrored_version"]) == ("processing", 1, 0)
        assert (
            await connection.fetchval("SELECT count(*) FROM taxiway.mirror_queue WHERE video_id = $1", video["id"]) == 1
        )
        followed = await row_of(connection, "SELECT * FROM taxiway.videos WHERE status = 'processing'")
        assert (followed["runway_video_id"], followed["poll_after"] is not None) == ("task-1", True)
        ledger = await row_of(connection, "SELECT * FROM taxiway.submissions WHERE task_id = 'task-1'")
        assert (ledger["outcome"], ledger["settled_at"]) == ("accepted", None)
        assert await connection.fetchval("SELECT count(*) FROM taxiway.search") == 3
        # Once: the others are known now, and the double is left alone.
        again = await link(connection, wishes=Wishes("fail"))
        assert vars(again.stuck) == {"failed": 0, "requeued": 0, "followed": 0}
        assert (await plan(connection)).survey is not None


async def test_stuck_rows_are_queued_again_with_the_operators_consent(database_url: str) -> None:
    url = database_url
    await stuck_rows(url)
    async with connected(url) as connection:
        made = await plan(connection, wishes=Wishes("requeue"))
        done = await apply(connection, made, SETTINGS)
        # What makes no request cannot be sent: it fails.
        assert vars(done.stuck) == {"failed": 1, "requeued": 1, "followed": 1}
        video = await row_of(connection, "SELECT * FROM taxiway.videos WHERE status = 'queued'")
        assert (video["round"], video["error_code"], video["finished_at"]) == (2, None, None)
        assert json.loads(video["input"])["promptImage"] == "https://example.com/a.png"
        ledger = await row_of(connection, "SELECT * FROM taxiway.submissions WHERE video_id = $1", video["id"])
        assert (ledger["outcome"], ledger["consent"], ledger["settled_at"]) == ("unknown", "operator", None)
        assert ledger["consented_at"] is not None
        failed = await row_of(connection, "SELECT * FROM taxiway.videos WHERE status = 'failed'")
        consent = await connection.fetchval("SELECT consent FROM taxiway.submissions WHERE video_id = $1", failed["id"])
        assert consent is None
        assert await connection.fetchval("SELECT count(*) FROM taxiway.models WHERE model = 'gen4_turbo'") == 1


async def test_more_stuck_rows_than_one_chunk(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, "INSERT INTO videos (prompt, status) SELECT 'p', 'processing' FROM generate_series(1, 41)")
    async with connected(url) as connection:
        done = await link(connection, wishes=Wishes("requeue"))
        assert done.stuck.requeued == 41
        assert await connection.fetchval("SELECT count(DISTINCT video_id) FROM taxiway.rows") == 41


async def test_stuck_rows_of_other_providers_are_not_touched(database_url: str) -> None:
    url = database_url
    await execute(
        url, BASE, "ALTER TABLE videos ADD provider text",
        "INSERT INTO videos (prompt, status, provider, runway_video_id) VALUES ('a', 'processing', 'kling', 'theirs'), "
        "('b', 'processing', 'runway', NULL), ('c', 'processing', NULL, NULL)",
    )  # fmt: skip
    async with connected(url) as connection:
        done = await link(connection, answers=Answers(where="provider = 'runway'"), wishes=Wishes("fail"))
        assert vars(done.stuck) == {"failed": 1, "requeued": 0, "followed": 0}


async def test_unlink_finishes_what_is_under_way_and_then_closes(database_url: str) -> None:
    url = database_url
    await execute(url, BASE)
    async with connected(url) as connection:
        done = await link(connection)
        video = await taken(connection)
        undone = await unlink(connection, "public.videos", cancel=False)
        assert (undone.state, undone.cancelled, undone.left.queued) == ("closing", 0, 1)
        assert await close_finished(connection) == []
        await connection.execute("UPDATE taxiway.videos SET status = 'completed' WHERE id = $1::uuid", video)
        assert await close_finished(connection) == []  # its row does not show that yet
        await connection.execute("UPDATE taxiway.rows SET mirrored_version = 1")
        assert await close_finished(connection) == []
        await connection.execute("DELETE FROM taxiway.mirror_queue")
        assert await close_finished(connection) == [done.link_id]
        assert await close_finished(connection) == []
        with pytest.raises(Conflict, match="is not linked any more"):
            await unlink(connection, "videos", cancel=False)
        assert await connection.fetchval("SELECT count(*) FROM taxiway.rows") == 1


async def test_unlink_can_cancel_what_is_under_way(database_url: str) -> None:
    url = database_url
    await stuck_rows(url)
    async with connected(url) as connection:
        await link(connection, wishes=Wishes("requeue"))
        undone = await unlink(connection, "videos", cancel=True)
        assert (undone.state, undone.cancelled, undone.left.queued, undone.left.processing) == ("closing", 2, 0, 0)
        assert undone.left.behind == 3
        due = await row_of(
            connection, "SELECT cancel_reason, task_id FROM taxiway.submissions WHERE cancel_due <= now()"
        )
        assert due == {"cancel_reason": "cancelled", "task_id": "task-1"}


async def test_names_of_links(database_url: str) -> None:
    url = database_url
    await execute(url, "CREATE SCHEMA app", BASE, BASE.replace("TABLE videos", "TABLE app.videos"), PRISMA)
    async with connected(url) as connection:
        for table in ("public.videos", "app.videos", "Video"):
            await link(connection, table, Answers(zone="UTC"))
        assert [state.link.name for state in await links(connection)] == ["app.videos", "public.Video", "public.videos"]
        for name in ("Video", 'public."Video"', "public.Video"):
            assert (await find(connection, name)).link.table_name == "Video"
        assert (await find(connection, "app.videos")).link.schema_name == "app"
        for name in ("videos", "films"):
            with pytest.raises(NotFound, match=r"there is app.videos, public.Video, public.videos"):
                await find(connection, name)


async def intake(url: str) -> int:
    """What one run of intake takes from all linked tables."""
    ctx = build(settings(url))
    try:
        return (await Intake(ctx).run(await open_links(ctx.database)))["taken"]
    finally:
        await ctx.database.close()


async def test_intake_takes_what_was_consented_to_and_nothing_else(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, ROW, ROW)
    async with connected(url) as connection:
        await link(connection, answers=IGNORE)
        assert await intake(url) == 0
        await connection.execute(ROW)
        assert (await intake(url), await intake(url)) == (1, 0)
        await unlink(connection, "videos", cancel=False)
        await connection.execute(ROW)
        assert await intake(url) == 0
        await link(connection, answers=IGNORE)
        assert await intake(url) == 0
        await link(connection, answers=TAKE)
        assert (await intake(url), await intake(url)) == (3, 0)
        assert await connection.fetchval("SELECT count(*) FROM taxiway.videos") == 4


@pytest.mark.parametrize(
    ("table", "insert", "answers"),
    [
        (PRISMA, 'INSERT INTO "Video" (id, prompt, "userId", "updatedAt") VALUES (\'c1\', \'a\', \'u\', now())',
         Answers(zone="UTC")),
        (SUPABASE, ROW, Answers(columns={"image": "original_image_url", "runway_video_id": "task_id",
                                         "error_message": "error", "video_url": "output_url"},
                                where="deleted_at IS NULL -- ours")),
        (BASE.replace("TABLE videos", "TABLE app.videos"), "INSERT INTO app.videos (prompt) VALUES ('a')", None),
        (BASE + "; ALTER TABLE videos RENAME TO base; CREATE VIEW videos AS "
         "SELECT * FROM base WHERE user_id IS NULL", ROW, None),
        ("CREATE TABLE videos (id bigint GENERATED ALWAYS AS IDENTITY, day date DEFAULT '2026-01-01', prompt text, "
         "status text DEFAULT 'queued', PRIMARY KEY (id, day)) PARTITION BY RANGE (day); "
         "CREATE TABLE p PARTITION OF videos DEFAULT", ROW, None),
    ],
)  # fmt: skip
async def test_each_shape_is_taken_as_it_was_linked(
    database_url: str, table: str, insert: str, answers: Answers | None
) -> None:
    url = database_url
    await execute(url, "CREATE SCHEMA app", table)
    async with connected(url) as connection:
        await link(connection, "Video" if "Video" in table else "videos", answers)
        await connection.execute(insert)
        assert (await intake(url), await intake(url)) == (1, 0)
        [state] = await links(connection)
        assert (state.link.state, state.link.reason, state.queued) == ("open", None, 1)


async def test_stuck_rows_show_what_became_of_them_and_a_link_that_is_undone_closes(database_url: str) -> None:
    url = database_url
    await execute(
        url, BASE, "INSERT INTO videos (prompt, status) VALUES ('a', 'processing'), (' ', 'processing')",
        "INSERT INTO videos (prompt, status, runway_video_id) VALUES ('sent', 'processing', 'task-1')",
    )  # fmt: skip
    ctx = build(settings(url))
    try:
        async with connected(url) as connection:
            await link(connection, wishes=Wishes("requeue"))
            await mirror.run_once(ctx, await open_links(ctx.database))
            rows = await connection.fetch("SELECT status, error_message FROM videos ORDER BY prompt")
            assert [row["status"] for row in rows] == ["failed", "queued", "processing"]
            assert "accept_double_charge" in rows[0]["error_message"]
            assert (await unlink(connection, "videos", cancel=True)).state == "closing"
            await mirror.run_once(ctx, await open_links(ctx.database))
            assert await connection.fetchval("SELECT count(*) FROM videos WHERE status = 'cancelled'") == 2
            [state] = await links(connection)
            assert (state.link.state, state.behind) == ("closed", 0)
    finally:
        await ctx.database.close()


async def test_two_links_at_once_are_one(database_url: str) -> None:
    url = database_url
    await execute(url, BASE, ROW)
    async with connected(url) as connection, connected(url) as other:
        done = await asyncio.gather(link(connection, answers=IGNORE), link(other, answers=IGNORE))
        assert len({each.link_id for each in done}) == 1
        assert await connection.fetchval("SELECT count(*) FROM taxiway.rows") == 1


async def test_a_table_made_again_between_plan_and_consent_is_not_linked(database_url: str) -> None:
    url = database_url
    await execute(url, BASE)
    async with connected(url) as connection:
        made = await plan(connection)
        await connection.execute("DROP TABLE videos")
        await connection.execute(BASE)
        with pytest.raises(Conflict, match="was made again meanwhile"):
            await apply(connection, made, SETTINGS)
        assert await links(connection) == []
