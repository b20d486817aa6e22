"""Rows of a linked table become videos: once, whoever takes them, and one bad row costs only itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.context import Context, build
from service.operations.linked_rows import Intake
from service.steps import mirror
from service.store import link_intake, links
from service.store.link_queries import left_at_processing
from service.store.links import open_links
from tests.app_tables import BASE, link, linked
from tests.database import connected, execute
from tests.world import IMAGE, settings

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def context(url: str, **changes: Any) -> AsyncIterator[Context]:
    ctx = build(settings(url, **changes))
    try:
        yield ctx
    finally:
        await ctx.database.close()


async def intake(ctx: Context) -> dict[str, int]:
    """One run over all links; what it did."""
    counts = await Intake(ctx).run(await open_links(ctx.database))
    return {name: value for name, value in counts.items() if value}


async def videos(url: str) -> list[Any]:
    async with connected(url) as connection:
        return await connection.fetch("SELECT * FROM taxiway.videos ORDER BY created_at, id")


async def test_a_row_that_says_queued_becomes_a_video(database_url: str) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    await execute(
        database_url,
        f"INSERT INTO public.videos (user_id, prompt, image_url) VALUES (7, ' a boat ', '{IMAGE}'), (8, 'a car', NULL)",
        "INSERT INTO public.videos (prompt, status) VALUES ('done', 'completed'), ('mine', 'draft')",
    )
    async with context(database_url) as ctx:
        assert await intake(ctx) == {"taken": 2}
        assert await intake(ctx) == {}
    first, second = sorted(await videos(database_url), key=lambda row: row["user_id"])
    assert (first["operation"], first["model"], first["status"]) == ("image_to_video", "gen4_turbo", "queued")
    assert (second["operation"], second["user_id"], second["origin"]) == ("text_to_video", "8", "link")
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM taxiway.search WHERE words @@ 'boat'") == 1
        assert await connection.fetchval("SELECT count(*) FROM taxiway.models WHERE model = 'gen4_turbo'") == 1
        assert await connection.fetchval("SELECT count(*) FROM taxiway.rows WHERE app_word = 'queued'") == 2
        assert await connection.fetchval("SELECT count(*) FROM public.videos WHERE status = 'queued'") == 2
        assert await connection.fetchval("SELECT count(*) FROM taxiway.mirror_queue") == 0


async def test_a_row_without_a_valid_request_is_a_video_that_has_failed(database_url: str) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    await execute(database_url, "INSERT INTO public.videos (prompt, image_url) VALUES ('', ''), ('a', NULL)")
    async with context(database_url) as ctx:
        assert await intake(ctx) == {"taken": 1, "refused": 1}
        assert await intake(ctx) == {}
    [failed] = [row for row in await videos(database_url) if row["status"] == "failed"]
    assert (failed["error_code"], failed["version"]) == ("INVALID_REQUEST", 1)
    assert failed["error_message"].startswith("The row makes no valid request: /input/promptText")


async def test_columns_that_are_not_mapped_mean_nothing(database_url: str) -> None:
    await execute(
        database_url, BASE,
        "ALTER TABLE public.videos ADD input jsonb, ADD quoted_credits numeric, ADD operation text, ADD priority int",
    )  # fmt: skip
    await link(database_url)
    await execute(
        database_url,
        "INSERT INTO public.videos (prompt, input, quoted_credits, operation, priority) "
        """VALUES ('a', '{"promptText": "b"}', 0, '../organization/usage', 100)""",
    )
    async with context(database_url) as ctx:
        assert await intake(ctx) == {"taken": 1}
    [video] = await videos(database_url)
    assert (video["operation"], video["priority"], video["quoted_credits"]) == ("text_to_video", 0, 60)
    assert '"promptText": "a"' in video["input"]


async def test_model_ratio_duration_and_more_input_are_taken_from_mapped_columns(database_url: str) -> None:
    await execute(
        database_url, BASE, "ALTER TABLE public.videos ADD m text, ADD r text, ADD seconds int, ADD more jsonb"
    )
    await link(database_url, columns={"model": "m", "ratio": "r", "duration": "seconds", "input": "more"})
    await execute(
        database_url,
        "INSERT INTO public.videos (prompt, m, r, seconds, more) "
        "VALUES ('a', 'gen4.5', '720:1280', 8, '{\"seed\": 5}')",
    )
    async with context(database_url) as ctx:
        assert await intake(ctx) == {"taken": 1}
    [video] = await videos(database_url)
    for part in ('"ratio": "720:1280"', '"duration": 8', '"seed": 5', '"model": "gen4.5"'):
        assert part in video["input"]


async def test_rows_of_other_providers_are_left_alone(database_url: str) -> None:
    await execute(database_url, BASE, "ALTER TABLE public.videos ADD provider text, ADD link_id int, ADD error text")
    await link(database_url, filter="provider = 'runway' AND error IS NULL -- and no more")
    await execute(
        database_url, "INSERT INTO public.videos (prompt, provider) VALUES ('a', 'runway'), ('b', 'luma'), ('c', NULL)"
    )
    async with context(database_url) as ctx:
        assert await intake(ctx) == {"taken": 1}


PRISMA = """
    CREATE TYPE public."VideoStatus" AS ENUM ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED');
    CREATE TABLE public."Video" (id text PRIMARY KEY, prompt text NOT NULL, "imageUrl" text,
        status public."VideoStatus" NOT NULL DEFAULT 'PENDING', "runwayVideoId" text, "errorMessage" text,
        "videoUrl" text, "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "updatedAt" timestamp(3) NOT NULL)
"""
PRISMA_COLUMNS = {
    "prompt": "prompt", "image": "imageUrl", "status": "status", "runway_video_id": "runwayVideoId", "user_id": None,
    "error_message": "errorMessage", "video_url": "videoUrl", "created_at": "createdAt", "updated_at": "updatedAt",
}  # fmt: skip
PRISMA_WORDS = {
    "queued": ["PENDING"], "processing": "PROCESSING", "completed": "COMPLETED", "failed": "FAILED",
    "cancelled": "CANCELLED", "cancel": ["CANCELLED"],
}  # fmt: skip


async def test_quoted_names_an_enum_and_times_without_a_zone(database_url: str) -> None:
    await execute(database_url, PRISMA)
    await link(database_url, 'public."Video"', columns=PRISMA_COLUMNS, words=PRISMA_WORDS, zone="Asia/Tokyo")
    await execute(
        database_url,
        'INSERT INTO public."Video" (id, prompt, "updatedAt", "createdAt") '
        "VALUES ('cm1', 'a', now(), '2026-01-01 09:00:00')",
    )
    async with context(database_url) as ctx:
        assert await intake(ctx) == {"taken": 1}
    [video] = await videos(database_url)
    assert video["created_at"].isoformat() == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bigint GENERATED ALWAYS AS IDENTITY", None), ("text", "'it''s'"), ("varchar(40)", "'a\\b'"),
        ("character(12)", "'abc'"), ("numeric(20,4)", "1.5"), ("smallint", "5"),
    ],
)  # fmt: skip
async def test_a_key_of_any_type(database_url: str, key: str, value: str | None) -> None:
    table = BASE.replace("id uuid PRIMARY KEY DEFAULT gen_random_uuid()", f"id {key} PRIMARY KEY")
    await execute(database_url, table)
    await link(database_url)
    names, values = ("id, ", f"{value}, ") if value else ("", "")
    await execute(database_url, f"INSERT INTO public.videos ({names}prompt) VALUES ({values}'a')")
    async with context(database_url) as ctx:
        assert await intake(ctx) == {"taken": 1}
        assert await intake(ctx) == {}


async def test_a_view_and_a_partitioned_table(database_url: str) -> None:
    await execute(
        database_url, BASE, "CREATE VIEW public.jobs AS SELECT * FROM public.videos WHERE user_id = 1",
        """CREATE TABLE public.parts (LIKE public.videos INCLUDING DEFAULTS, PRIMARY KEY (id, created_at))
           PARTITION BY RANGE (created_at)""",
        "CREATE TABLE public.parts_all PARTITION OF public.parts DEFAULT",
    )  # fmt: skip
    await link(database_url, "public.jobs")
    await link(database_url, "public.parts")
    await execute(
        database_url, "INSERT INTO public.videos (user_id, prompt) VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO public.parts (prompt) VALUES ('c')",
    )  # fmt: skip
    async with context(database_url) as ctx:
        assert await intake(ctx) == {"taken": 2}


async def test_a_row_that_postgresql_cannot_read_costs_only_itself(database_url: str) -> None:
    await execute(
        database_url, BASE,
        "CREATE VIEW public.jobs AS SELECT *, 'https://e.com/' || (1 / user_id) AS image FROM public.videos",
    )  # fmt: skip
    await link(database_url, "public.jobs", columns={"image": None, "model": "image"})
    await execute(
        database_url,
        "INSERT INTO public.videos (user_id, prompt) SELECT n % 9, 'p' FROM generate_series(1, 9) n",
    )
    async with context(database_url) as ctx:
        await intake(ctx)
        assert await intake(ctx) == {}
    rows = await videos(database_url)
    words = [row["error_message"] for row in rows]
    assert len(rows) == 9
    assert sum("division by zero" in text for text in words) == 1
    async with connected(database_url) as connection:
        [event] = await connection.fetch("SELECT * FROM taxiway.events WHERE kind = 'refused_row'")
    assert (event["kind"], event["actor"]) == ("refused_row", "intake")


async def test_a_table_that_changed_pauses_its_link_alone_until_it_fits_again(database_url: str) -> None:
    await execute(database_url, BASE, BASE.replace("public.videos", "public.others"))
    await link(database_url)
    await link(database_url, "public.others")
    await execute(
        database_url, "ALTER TABLE public.videos RENAME prompt TO words",
        "INSERT INTO public.videos (words) VALUES ('a')",
        "INSERT INTO public.others (prompt) VALUES ('a')",
    )  # fmt: skip
    async with context(database_url) as ctx:
        assert await intake(ctx) == {"taken": 1}
        [row] = await ctx.database.fetch("SELECT state, reason FROM taxiway.links WHERE table_name = 'videos'")
        assert row["state"] == "paused"
        assert "public.videos" in row["reason"]
        assert "prompt" in row["reason"]
        assert "taxiway link" in row["reason"]
        await execute(
            database_url, "ALTER TABLE public.videos RENAME words TO prompt",
            "UPDATE taxiway.links SET look_due = now() - interval '1 second'",
        )  # fmt: skip
        assert await intake(ctx) == {"taken": 1}
        assert await ctx.database.fetchval("SELECT count(*) FROM taxiway.links WHERE state = 'open'") == 2


async def test_a_table_that_another_transaction_holds_costs_only_itself(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(database_url, BASE, BASE.replace("public.videos", "public.others"))
    await link(database_url)
    await link(database_url, "public.others")
    await execute(database_url, "INSERT INTO public.others (prompt) VALUES ('a')")
    monkeypatch.setattr(links.ask, "__kwdefaults__", {"seconds": 0.2})
    async with context(database_url) as ctx, connected(database_url) as app, app.transaction():
        await app.execute("LOCK TABLE public.videos IN ACCESS EXCLUSIVE MODE")
        assert await intake(ctx) == {"taken": 1}
        [row] = await ctx.database.fetch("SELECT reason FROM taxiway.links WHERE table_name = 'videos'")
        assert "another transaction may hold the table" in row["reason"]


async def test_rows_are_taken_once_by_three_intakes_beside_an_app_that_inserts(database_url: str) -> None:
    await execute(database_url, BASE)
    await link(database_url)

    async def insert() -> None:
        async with connected(database_url) as app:
            for _ in range(30):
                await app.execute("INSERT INTO public.videos (prompt) SELECT 'p' FROM generate_series(1, 20)")

    async def take(ctx: Context) -> int:
        taken = 0
        for _ in range(25):
            taken += (await intake(ctx)).get("taken", 0)
        return taken

    async with context(database_url) as one, context(database_url) as two, context(database_url) as three:
        *taken, _ = await asyncio.gather(take(one), take(two), take(three), insert())
        last = (await intake(one)).get("taken", 0)
    assert sum(n for n in taken if n) + last == 600
    assert len(await videos(database_url)) == 600


async def test_a_row_queued_again_after_its_end_begins_another_round(database_url: str) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    await execute(database_url, "INSERT INTO public.videos (prompt) VALUES ('a')")
    async with context(database_url) as ctx:
        await intake(ctx)
        await execute(
            database_url,
            "UPDATE taxiway.videos SET status = 'failed', finished_at = now(), error_message = 'no'",
            "UPDATE taxiway.rows SET app_word = 'failed'",
            "UPDATE public.videos SET prompt = 'b'",
        )
        assert await intake(ctx) == {"taken_again": 1}
        assert await intake(ctx) == {}
    [video] = await videos(database_url)
    assert (video["status"], video["round"], video["finished_at"]) == ("queued", 2, None)
    assert '"promptText": "b"' in video["input"]


UNKNOWN = """
    INSERT INTO taxiway.submissions (video_id, model, opened_at, call_deadline, deadline, outcome, closed_at)
    SELECT id, model, now() - interval '9 min', now() - interval '8 min', now() - interval '7 min', 'unknown', now()
    FROM taxiway.videos
"""


@pytest.mark.parametrize("is_pruned", [False, True])
async def test_a_row_queued_again_is_not_paid_for_twice_without_consent(database_url: str, is_pruned: bool) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    await execute(database_url, "INSERT INTO public.videos (prompt) VALUES ('a')")
    async with context(database_url) as ctx:
        await intake(ctx)
        await execute(
            database_url, UNKNOWN,
            "UPDATE taxiway.videos SET status = 'failed', finished_at = now(), error_code = 'SUBMISSION_UNKNOWN'",
            "UPDATE taxiway.rows SET app_word = 'failed', mirrored_version = 9",
            "DELETE FROM taxiway.mirror_queue",
            "DELETE FROM taxiway.videos" if is_pruned else "SELECT 1",
        )  # fmt: skip
        assert await intake(ctx) == {"refused": 1}
        assert await intake(ctx) == {}
    [video] = await videos(database_url)
    assert (video["status"], video["error_code"]) == ("failed", "SUBMISSION_UNKNOWN")
    assert video["error_message"] == link_intake.DRAGGED
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM taxiway.mirror_queue") >= 1
        assert await connection.fetchval("SELECT mirrored_version FROM taxiway.rows") == 0


async def test_a_video_that_was_pruned_while_its_row_says_queued_is_not_taken_again(database_url: str) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    await execute(database_url, "INSERT INTO public.videos (prompt) VALUES ('a')")
    async with context(database_url) as ctx:
        await intake(ctx)
        await execute(database_url, "DELETE FROM taxiway.videos")
        assert await intake(ctx) == {}
    assert await videos(database_url) == []


async def test_a_row_that_was_left_alone_is_taken_once_its_word_was_another(database_url: str) -> None:
    await execute(database_url, BASE)
    link_id = await link(database_url)
    await execute(
        database_url, "INSERT INTO public.videos (prompt) VALUES ('a')",
        f"INSERT INTO taxiway.rows (link_id, app_id, app_word) SELECT {link_id}, id::text, 'queued' FROM public.videos",
    )  # fmt: skip
    async with context(database_url) as ctx:
        assert await intake(ctx) == {}
        await execute(database_url, "UPDATE taxiway.rows SET app_word = 'failed'")
        assert await intake(ctx) == {"taken_again": 1}
    [video] = await videos(database_url)
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT video_id FROM taxiway.rows") == video["id"]


@pytest.mark.parametrize("how", ["small", "large"])
async def test_a_row_that_was_left_alone_is_taken_when_the_app_queues_it_again(database_url: str, how: str) -> None:
    """`existing: ignore`: the operator did not consent to pay for it, and the app's own later wish counts."""
    await execute(database_url, BASE)
    link_id = await link(database_url)
    if how == "large":
        await execute(
            database_url, "CREATE INDEX ON public.videos (created_at)",
            """INSERT INTO public.videos (prompt, status, created_at)
               SELECT repeat('p', 400), 'completed', now() - interval '1 day' FROM generate_series(1, 30000)""",
            "ANALYZE public.videos",
        )  # fmt: skip
    await execute(
        database_url, "INSERT INTO public.videos (prompt) VALUES ('again'), ('gone'), ('left')",
        f"INSERT INTO taxiway.rows (link_id, app_id, app_word) SELECT {link_id}, id::text, 'queued' FROM public.videos "
        "WHERE status = 'queued'",
    )  # fmt: skip
    sweep = "UPDATE taxiway.links SET sweep_due = now()"
    async with context(database_url) as ctx:
        assert await intake(ctx) == {}
        await execute(
            database_url, "UPDATE public.videos SET status = 'draft' WHERE prompt = 'again'",
            "DELETE FROM public.videos WHERE prompt = 'gone'", sweep,
        )  # fmt: skip
        assert await intake(ctx) == {}
        words = await ctx.database.fetch("SELECT app_word FROM taxiway.rows ORDER BY 1")
        assert [row["app_word"] for row in words] == ["draft", "queued", "queued"]
        await execute(database_url, "UPDATE public.videos SET status = 'queued' WHERE prompt = 'again'", sweep)
        assert await intake(ctx) == {"taken_again": 1}
        assert await intake(ctx) == {}
    [video] = await videos(database_url)
    assert (video["status"], "again" in video["input"]) == ("queued", True)


async def test_a_look_beside_many_finished_rows_goes_by_an_index(database_url: str) -> None:
    await execute(
        database_url, BASE, "CREATE INDEX ON public.videos (created_at)",
        """INSERT INTO public.videos (prompt, status, created_at)
           SELECT repeat('p', 400), 'completed', now() - n * interval '1 minute' FROM generate_series(1, 30000) n""",
        "ANALYZE public.videos",
    )  # fmt: skip
    await link(database_url)
    async with context(database_url) as ctx:
        assert await intake(ctx) == {}
        table = await linked(ctx.database)
        assert not table.is_cheap
        assert table.window_key == "created_at"
        assert table.since is not None
        await execute(database_url, "INSERT INTO public.videos (prompt) VALUES ('a')")
        from service.store.link_statements import look

        plan = await ctx.database.fetch("EXPLAIN " + look(table, window=True), table.since)
        text = "\n".join(row[0] for row in plan)
        assert "Seq Scan on videos a" not in text, text
        assert await intake(ctx) == {"taken": 1}


async def test_a_large_table_without_an_index_is_read_now_and_then(database_url: str) -> None:
    await execute(
        database_url, BASE,
        """INSERT INTO public.videos (prompt, status)
           SELECT repeat('p', 400), 'completed' FROM generate_series(1, 30000)""",
        "ANALYZE public.videos",
    )  # fmt: skip
    await link(database_url)
    async with context(database_url) as ctx:
        assert await intake(ctx) == {}
        await execute(database_url, "INSERT INTO public.videos (prompt) VALUES ('a')")
        assert await intake(ctx) == {}
        await execute(database_url, "UPDATE taxiway.links SET look_due = look_due - interval '11 seconds'")
        assert await intake(ctx) == {"taken": 1}


@pytest.mark.parametrize("after", [None, 600.0])
async def test_rows_that_the_app_left_at_processing_are_taken_over_if_asked(
    database_url: str, after: float | None
) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    await execute(
        database_url,
        """INSERT INTO public.videos (prompt, status, runway_video_id, updated_at) VALUES
           ('died', 'processing', NULL, now() - interval '1 hour'), ('works', 'processing', NULL, now()),
           ('sent', 'processing', 'task', now() - interval '1 hour')""",
    )
    async with context(database_url, link_rescue_after=after) as ctx:
        found = await left_at_processing(ctx.database, await linked(ctx.database), 600)
        assert found is not None
        assert (found.rows, found.link) == (1, "public.videos")
        assert await intake(ctx) == ({} if after is None else {"taken_over": 1})
        assert await intake(ctx) == {}
        if after is None:
            return
        [video] = await videos(database_url)
        assert (video["status"], video["error_code"]) == ("failed", "SUBMISSION_UNKNOWN")
        [entry] = await ctx.database.fetch("SELECT * FROM taxiway.submissions")
        assert (entry["outcome"], entry["settled_at"], entry["quoted_credits"]) == ("unknown", None, 60)
        assert await left_at_processing(ctx.database, await linked(ctx.database), 600) is None


async def test_rows_queued_again_and_again_are_taken_once_each_time(database_url: str) -> None:
    """Three intakes with a mirror each, and an app that queues again what has ended: no deadlock, nothing lost."""
    await execute(database_url, BASE)
    await link(database_url)
    await execute(database_url, "INSERT INTO public.videos (prompt) SELECT 'p' FROM generate_series(1, 40)")
    ended = asyncio.Event()

    async def end_and_queue_again() -> int:
        again = 0
        async with connected(database_url) as app:
            while again < 100:
                await app.execute(
                    """UPDATE taxiway.videos SET status = 'failed', finished_at = now(), error_message = 'no'
                       WHERE id = ANY(ARRAY(SELECT id FROM taxiway.videos WHERE status = 'queued' LIMIT 20
                                            FOR UPDATE SKIP LOCKED))"""
                )
                status = await app.execute("UPDATE public.videos SET status = 'queued' WHERE status = 'failed'")
                again += int(status.split()[-1])
        ended.set()
        return again

    async def work(ctx: Context) -> int:
        taken = 0
        while True:
            last = ended.is_set()
            taken += (await intake(ctx)).get("taken_again", 0)
            await mirror.run_once(ctx, await open_links(ctx.database))
            if last:
                return taken

    async with context(database_url) as one, context(database_url) as two, context(database_url) as three:
        async with asyncio.timeout(60):
            again, *taken = await asyncio.gather(end_and_queue_again(), work(one), work(two), work(three))
        last = (await intake(one)).get("taken_again", 0)
        await mirror.run_once(one, await open_links(one.database))
    assert sum(taken) + last == again
    rounds = sum(row["round"] - 1 for row in await videos(database_url))
    assert rounds == again


async def test_a_column_bounds_what_a_row_may_cost(database_url: str) -> None:
    await execute(database_url, BASE, "ALTER TABLE public.videos ADD model text, ADD most numeric, ADD input jsonb")
    await link(database_url, columns={"model": "model", "max_credits": "most", "input": "input"})
    video = '{"videoUri": "https://videos.example.com/cat.mp4"}'
    await execute(
        database_url,
        "INSERT INTO public.videos (prompt, image_url, model, most, input) VALUES "
        f"('bounded', NULL, 'ruby', 300, '{video}'), ('not', NULL, 'ruby', NULL, '{video}'), "
        f"('cheap', '{IMAGE}', 'gen4_turbo', 24, NULL), ('none', '{IMAGE}', NULL, 0, NULL)",
    )
    async with context(database_url) as ctx:
        counts = await intake(ctx)
    found = {row["prompt"] or row["model"]: row for row in await videos(database_url)}
    assert counts == {"taken": 1, "refused": 3}, found
