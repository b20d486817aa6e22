"""The mirror: rows show how their videos stand; one that refuses holds up no other, and none goes backwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.steps import mirror as step
from service.store import mirror_rows
from service.store.links import ROLE, TableTrouble, open_links
from tests.app_tables import BASE, link, linked, number_links_apart
from tests.database import connected, execute
from tests.db.test_link_gate import SWALLOW, app_row, insert, intake_only
from tests.db.test_link_intake import PRISMA, PRISMA_COLUMNS, PRISMA_WORDS, context, intake
from tests.world import World, world

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def plain(url: str, **mapping: Any) -> AsyncIterator[World]:
    """A world with the usual table, linked."""
    await execute(url, BASE)
    await link(url, **mapping)
    async with world(url) as w:
        yield w


async def behind(w: World) -> int:
    [row] = await w.rows(
        "SELECT count(*) FROM taxiway.rows r JOIN taxiway.videos v ON v.id = r.video_id "
        "WHERE v.version > r.mirrored_version"
    )
    return int(row["count"])


async def test_a_row_follows_its_video_from_queued_to_completed(database_url: str) -> None:
    async with plain(database_url) as w:
        key = await insert(w)
        await w.tick()
        row = await app_row(w, key)
        [video] = await w.rows("SELECT * FROM taxiway.videos")
        assert (row["status"], row["runway_video_id"]) == ("processing", video["runway_video_id"])
        await w.finish()
        row = await app_row(w, key)
        [video] = await w.rows("SELECT * FROM taxiway.videos")
        assert (row["status"], row["video_url"]) == ("completed", video["video_url"])
        assert row["video_url"]
        assert row["updated_at"] > row["created_at"]
        assert await behind(w) == 0
        assert await w.rows("SELECT FROM taxiway.mirror_queue") == []


async def test_a_prismas_table_is_shown_in_its_own_words(w: World) -> None:
    await execute(w.url, PRISMA)
    await link(w.url, 'public."Video"', columns=PRISMA_COLUMNS, words=PRISMA_WORDS, search_path="pg_catalog")
    await w.rows("""INSERT INTO public."Video" (id, prompt, "updatedAt") VALUES ('cm1', 'a', '2020-01-01')""")
    await w.rows("""INSERT INTO public."Video" (id, prompt, "updatedAt") VALUES ('cm2', '', '2020-01-01')""")
    await w.finish()
    [good, bad] = await w.rows("""SELECT *, "updatedAt" > '2021-01-01' AS is_new FROM public."Video" ORDER BY id""")
    assert (good["status"], good["is_new"]) == ("COMPLETED", True)
    assert good["videoUrl"]
    assert bad["status"] == "FAILED"
    assert "no valid request" in bad["errorMessage"]


async def test_a_row_that_refuses_is_reported_and_tried_again_and_others_go_on(database_url: str) -> None:
    async with plain(database_url) as w:
        await execute(
            database_url, "ALTER TABLE public.videos ADD thumbnail text, "
            "ADD CHECK (status <> 'completed' OR thumbnail IS NOT NULL OR prompt <> 'bad')",
        )  # fmt: skip
        bad, good = await insert(w, prompt="bad"), await insert(w, prompt="good")
        await w.finish()
        assert (await app_row(w, good))["status"] == "completed"
        assert (await app_row(w, bad))["status"] == "processing"
        [refused] = await w.rows("SELECT r.*, v.status FROM taxiway.rows r JOIN taxiway.videos v ON v.id = r.video_id "
                                 "WHERE r.error IS NOT NULL")  # fmt: skip
        assert (refused["status"], refused["sqlstate"], refused["app_id"]) == ("completed", "23514", bad)
        assert "violates check constraint" in refused["error"]
        await w.later(hours=1)
        assert (await w.tick())["mirror"] == {"mirrored": 0, "locked": 0, "refused": 1}
        assert len(await w.rows("SELECT FROM taxiway.events WHERE kind = 'mirror_refused'")) == 1
        await execute(database_url, "UPDATE public.videos SET thumbnail = 'x'")
        await w.later(hours=2)
        await w.tick()
        assert (await app_row(w, bad))["status"] == "completed"
        assert await w.rows("SELECT FROM taxiway.rows WHERE error IS NOT NULL OR tries > 0 OR due_at IS NOT NULL") == []


@pytest.mark.parametrize(("tries", "days", "wanted"), [(0, 0, 5), (3, 0, 40), (30, 0, 3600), (40, 8, 86_400)])
async def test_a_refused_row_waits_longer_and_longer(database_url: str, tries: int, days: int, wanted: int) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    async with context(database_url) as ctx:
        await execute(database_url, "INSERT INTO public.videos (prompt) VALUES ('a')")
        await intake(ctx)
        database = ctx.database
        await database.execute(
            "UPDATE taxiway.rows SET tries = $1, refused_at = taxiway.now() - make_interval(days => $2)", tries, days
        )
        [row] = await database.fetch("SELECT video_id FROM taxiway.rows")
        note = mirror_rows.Note(row["video_id"], ())
        assert await mirror_rows.refused(database, await linked(database), note, TableTrouble("no", "P0001"))
        seconds = await database.fetchval("SELECT extract(epoch FROM due_at - taxiway.now())::float8 FROM taxiway.rows")
        assert wanted - 2 < seconds <= wanted


OTHER_TABLES = {
    "swallowed by a trigger": (SWALLOW, mirror_rows.SWALLOWED),
    "raised by a trigger": (
        """CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql
           AS $$ BEGIN RAISE 'not today' USING ERRCODE = 'U0001'; END $$;
           CREATE TRIGGER no BEFORE UPDATE ON public.videos FOR EACH ROW EXECUTE FUNCTION public.no()""",
        "not today",
    ),
    "refused at the end": (
        """CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql
           AS $$ BEGIN RAISE 'not today' USING ERRCODE = 'U0001'; END $$;
           CREATE CONSTRAINT TRIGGER no AFTER UPDATE ON public.videos DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION public.no()""",
        "not today",
    ),
    "no primary key with a publication": (
        "ALTER TABLE public.videos DROP CONSTRAINT videos_pkey; CREATE UNIQUE INDEX ON public.videos (id); "
        "CREATE PUBLICATION everything FOR TABLE public.videos",
        "does not have a replica identity",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_TABLES)
async def test_a_table_that_cannot_be_written_does_not_keep_its_videos(database_url: str, case: str) -> None:
    sql, words = OTHER_TABLES[case]
    async with plain(database_url) as w:
        key = await insert(w)
        await execute(database_url, sql)
        await w.finish()
        assert (await app_row(w, key))["status"] == "queued"
        [video] = await w.rows("SELECT status FROM taxiway.videos")
        assert video["status"] == "completed"
        [row] = await w.rows("SELECT error FROM taxiway.rows")
        assert words in row["error"]
        assert (await w.tick())["intake"]["mapped"] == 0
        assert len(w.creates) == 1


VIEW = """
    CREATE TABLE public.base (key int PRIMARY KEY, text text, state text NOT NULL, url text);
    CREATE VIEW public.jobs AS SELECT key AS id, text AS prompt, state AS status, url AS video_url FROM public.base;
"""
INSTEAD = """
    CREATE VIEW public.jobs AS
    SELECT key AS id, max(text) AS prompt, max(state) AS status, max(url) AS video_url FROM public.base GROUP BY key;
    CREATE FUNCTION public.instead() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN UPDATE base SET state = NEW.status, url = NEW.video_url WHERE key = NEW.id; RETURN NEW; END $$;
    CREATE TRIGGER instead INSTEAD OF UPDATE ON public.jobs FOR EACH ROW EXECUTE FUNCTION public.instead();
"""


@pytest.mark.parametrize("sql", [VIEW, VIEW.split("CREATE VIEW")[0] + INSTEAD], ids=["updatable", "instead of"])
@pytest.mark.parametrize("gated", [False, True])
async def test_a_view_is_written_as_a_table(w: World, sql: str, gated: bool) -> None:
    await execute(w.url, sql)
    columns = dict.fromkeys(("image", "user_id", "created_at", "runway_video_id", "error_message", "updated_at"))
    await link(w.url, "public.jobs", columns=columns, gate=gated)
    await w.rows("INSERT INTO public.base VALUES (1, 'a', 'queued'), (2, '', 'queued'), (3, 'c', 'draft')")
    await w.finish()
    rows = await w.rows("SELECT * FROM public.base ORDER BY key")
    assert [row["state"] for row in rows] == ["completed", "failed", "draft"]
    assert rows[0]["url"]


@pytest.mark.parametrize("by", ["RANGE (created_at)", "LIST (status)"])
async def test_a_partitioned_table_is_written(w: World, by: str) -> None:
    key = "created_at" if "created" in by else "status"
    await execute(
        w.url,
        BASE.replace("id uuid PRIMARY KEY", "id uuid").rstrip().rstrip(")")
        + f"), PRIMARY KEY (id, {key})) PARTITION BY {by}",
        "CREATE TABLE public.videos_all PARTITION OF public.videos DEFAULT",
    )
    if key == "status":
        await execute(w.url, "CREATE TABLE public.done PARTITION OF public.videos FOR VALUES IN ('completed')")
    await link(w.url)
    row = await insert(w)
    await w.finish()
    assert (await app_row(w, row))["status"] == "completed"


async def test_lengths_and_values_that_do_not_fit(w: World) -> None:
    await execute(
        w.url,
        BASE.replace("error_message text", "error_message varchar(20)").replace(
            "video_url text", "video_url varchar(9)"
        ),
    )
    await link(w.url)
    refused, fine = await insert(w, prompt=""), await insert(w)
    await w.finish()
    row = await app_row(w, refused)
    assert (row["status"], len(row["error_message"])) == ("failed", 20)
    assert (await app_row(w, fine))["status"] == "processing"  # an address that is cut leads nowhere
    [bad] = await w.rows("SELECT sqlstate FROM taxiway.rows WHERE error IS NOT NULL")
    assert bad["sqlstate"] == "22001"


async def test_a_row_that_another_transaction_holds_is_passed_over(database_url: str) -> None:
    async with plain(database_url) as w, connected(database_url) as app:
        held, free = await insert(w), await insert(w)
        async with app.transaction():
            await app.execute("UPDATE public.videos SET prompt = 'mine' WHERE id = $1::text::uuid", held)
            counts = await w.tick()
            assert counts["mirror"] == {"mirrored": 1, "locked": 1, "refused": 0}
            assert (await app_row(w, free))["status"] == "processing"
        await w.tick()
        assert (await app_row(w, held))["status"] == "processing"


async def test_a_word_that_is_not_taxiways_is_never_overwritten(database_url: str) -> None:
    async with plain(database_url) as w:
        key = await insert(w)
        await w.tick()
        await execute(database_url, "UPDATE public.videos SET status = 'archived'")
        await w.finish()
        row = await app_row(w, key)
        assert row["status"] == "archived"
        assert row["video_url"]


async def test_what_a_row_shows_already_is_not_written_again(database_url: str) -> None:
    """A note may be left behind, as by a mirror that was killed: what the app wrote since is the app's."""
    async with plain(database_url) as w:
        key = await insert(w)
        await w.finish()
        await execute(
            database_url,
            "UPDATE public.videos SET video_url = 'https://example.com/own.mp4'",
            "INSERT INTO taxiway.mirror_queue (link_id, video_id) SELECT link_id, id FROM taxiway.videos",
        )
        await w.tick()
        assert (await app_row(w, key))["video_url"] == "https://example.com/own.mp4"
        assert await w.rows("SELECT FROM taxiway.mirror_queue") == []


async def test_a_row_the_app_sets_to_processing_itself_is_its_own(database_url: str) -> None:
    async with plain(database_url) as w:
        await insert(w)
        mine = await insert(w, prompt="the app's own")
        await execute(
            database_url, f"UPDATE public.videos SET status = 'processing', runway_video_id = 'own' WHERE id = '{mine}'"
        )
        await w.finish()
        row = await app_row(w, mine)
        assert (row["status"], row["runway_video_id"]) == ("processing", "own")
        assert len(w.creates) == 1


async def test_a_row_queued_again_without_consent_is_put_back_with_the_reason(database_url: str) -> None:
    async with plain(database_url) as w:
        w.faults("drop_after")
        key = await insert(w)
        await w.tick()
        assert (await app_row(w, key))["status"] == "failed"
        for _ in range(2):
            await execute(database_url, "UPDATE public.videos SET status = 'queued', error_message = NULL")
            await w.tick()
            row = await app_row(w, key)
            assert row["status"] == "failed"
            assert "may have been taken and charged" in row["error_message"]
        assert len(w.creates) == 1


async def test_a_removed_row_leaves_nothing_to_show(database_url: str) -> None:
    async with plain(database_url) as w:
        await insert(w)
        await intake_only(w)
        await execute(database_url, "UPDATE taxiway.videos SET status = 'failed'", "DELETE FROM public.videos")
        await w.tick()
        assert await behind(w) == 0
        assert await w.rows("SELECT FROM taxiway.mirror_queue") == []


async def test_a_video_is_kept_until_its_row_shows_it(database_url: str) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    async with world(database_url, video_retention=86_400) as w:
        await insert(w)
        await intake_only(w)
        await execute(
            database_url, SWALLOW,
            "UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now() - interval '9 days'",
        )  # fmt: skip
        await w.later(days=2)
        assert (await w.tick())["prune"]["removed"] == 0
        await execute(database_url, "DROP TRIGGER swallow ON public.videos")
        await w.later(days=2)
        await w.tick()
        assert await w.rows("SELECT FROM taxiway.videos") == []
        assert (await w.tick())["intake"]["mapped"] == 0


@pytest.mark.parametrize("gated", [False, True])
async def test_a_role_of_its_own_keeps_the_apps_triggers_from_taxiways_tables(database_url: str, gated: bool) -> None:
    await execute(
        database_url, BASE,
        """CREATE FUNCTION public.steal() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN UPDATE taxiway.videos SET quoted_credits = 0; RETURN NEW; END $$;
           CREATE TRIGGER steal BEFORE UPDATE ON public.videos FOR EACH ROW WHEN (NEW.prompt = 'steal')
           EXECUTE FUNCTION public.steal()""",
    )  # fmt: skip
    await number_links_apart(database_url)
    role = ROLE.format(id=await link(database_url, gate=gated))
    async with connected(database_url) as owner:
        await owner.execute(f"CREATE ROLE {role}; GRANT SELECT, UPDATE ON public.videos TO {role}")
    try:
        async with world(database_url) as w:
            await insert(w, prompt="steal")
            fine = await insert(w)
            for _ in range(4):
                await w.tick()
                await w.later(minutes=1)
            assert (await app_row(w, fine))["status"] == "completed"
            assert await w.rows("SELECT FROM taxiway.videos WHERE quoted_credits = 0") == []
            [words] = await w.rows("SELECT COALESCE(r.error, v.error_message) AS words FROM taxiway.rows r "
                                   "JOIN taxiway.videos v ON v.id = r.video_id WHERE r.app_id <> $1", fine)  # fmt: skip
            assert "permission denied for schema taxiway" in words["words"]
    finally:
        async with connected(database_url) as owner:
            await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_rows_never_go_backwards_beside_writers_that_hold_locks(database_url: str) -> None:
    """Three mirrors, two that change videos, an app that locks rows, and an intake."""
    await execute(
        database_url, BASE,
        """CREATE TABLE public.seen (n bigserial, id uuid, progress int);
           CREATE FUNCTION public.watch() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN INSERT INTO seen (id, progress) VALUES (NEW.id, NEW.error_message::int); RETURN NEW; END $$;
           CREATE TRIGGER watch AFTER UPDATE ON public.videos FOR EACH ROW
           WHEN (NEW.error_message IS DISTINCT FROM OLD.error_message) EXECUTE FUNCTION public.watch();
           CREATE SEQUENCE public.steps""",
    )  # fmt: skip
    await link(database_url)
    await execute(database_url, "INSERT INTO public.videos (prompt) SELECT 'p' FROM generate_series(1, 30)")
    done = asyncio.Event()

    async def change() -> None:
        async with connected(database_url) as connection:
            for _ in range(40):
                await connection.execute(
                    """UPDATE taxiway.videos SET error_message = nextval('public.steps')::text
                       WHERE id = ANY(ARRAY(SELECT id FROM taxiway.videos ORDER BY random() LIMIT 8
                                            FOR UPDATE SKIP LOCKED))"""
                )

    async def hold() -> None:
        async with connected(database_url) as app:
            while not done.is_set():
                async with app.transaction():
                    await app.execute("SELECT FROM public.videos ORDER BY random() LIMIT 5 FOR UPDATE")
                    await asyncio.sleep(0)

    async def show() -> None:
        async with context(database_url) as ctx:
            while not done.is_set():
                tables = await open_links(ctx.database)
                await step.run_once(ctx, tables)
                await intake(ctx)

    async with context(database_url) as ctx:
        await intake(ctx)
        others = [asyncio.create_task(show()) for _ in range(3)] + [asyncio.create_task(hold())]
        await asyncio.gather(change(), change())
        done.set()
        await asyncio.gather(*others)
        await step.run_once(ctx, await open_links(ctx.database))
        rows = await ctx.database.fetch("SELECT progress FROM public.seen")
        backwards = await ctx.database.fetchval(
            """SELECT count(*) FROM (SELECT progress, lag(progress) OVER (PARTITION BY id ORDER BY n) AS before
               FROM public.seen) s WHERE progress < before"""
        )
        wrong = await ctx.database.fetchval(
            """SELECT count(*) FROM public.videos a JOIN taxiway.rows r ON r.app_id = a.id::text
               JOIN taxiway.videos v ON v.id = r.video_id WHERE a.error_message IS DISTINCT FROM v.error_message"""
        )
        assert (backwards, wrong, await ctx.database.fetchval("SELECT count(*) FROM taxiway.mirror_queue")) == (0, 0, 0)
    assert rows
