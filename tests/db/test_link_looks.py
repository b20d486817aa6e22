"""What a look at a linked table costs: it grows with what is asked for, and one slow look changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from service.context import Context
from service.operations.linked_rows import Intake
from service.store import link_intake, links
from service.store import link_statements as statements
from service.store.database import Database
from service.store.links import open_links
from tests.app_tables import BASE, link, linked
from tests.database import connected, execute
from tests.db.test_link_intake import context, intake
from tests.world import World

pytestmark = pytest.mark.anyio

ROWS = 3_000
# Rows that one statement may touch for each row that it is asked for: in the entries, the app's table and the answer.
TOUCHED = 25


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


async def touched(connection: Any, sql: str, *arguments: object) -> int:
    """Rows that a statement read or compared, in all of its nodes."""
    [(text,)] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *arguments)
    counted = ("Actual Rows", "Rows Removed by Join Filter", "Rows Removed by Filter")
    return sum(
        int(sum(node.get(name, 0) for name in counted) * node["Actual Loops"])
        for node in nodes(json.loads(text)[0]["Plan"])
    )


@pytest.mark.parametrize("analyzed", [False, True])
async def test_what_is_read_and_written_grows_with_the_rows_that_are_asked_for(
    database_url: str, analyzed: bool
) -> None:
    """Right after many rows were inserted, PostgreSQL has no statistics, and takes each table for a small one."""
    await execute(
        database_url, BASE, *(f"ALTER TABLE {name} SET (autovacuum_enabled = off)"
                              for name in ("public.videos", "taxiway.videos", "taxiway.rows", "taxiway.mirror_queue")),
    )  # fmt: skip
    await link(database_url)
    async with context(database_url) as ctx, connected(database_url) as app:
        await app.execute("INSERT INTO public.videos (prompt) SELECT 'p' FROM generate_series(1, $1)", ROWS)
        assert await intake(ctx) == {"taken": ROWS}
        await app.execute("UPDATE taxiway.videos SET status = 'processing', runway_video_id = id::text")
        if analyzed:
            await app.execute("ANALYZE")
        table = await linked(ctx.database)
        assert await touched(app, statements.recall(table)) < TOUCHED * ROWS
        keys = [str(row["id"]) for row in await app.fetch("SELECT id FROM public.videos")]
        ids = [str(row["id"]) for row in await app.fetch("SELECT id FROM taxiway.videos")]
        assert await touched(app, statements.states(table), json.dumps(ids)) < TOUCHED * ROWS
        records = json.dumps([{"app_id": key, "word": "processing"} for key in keys])
        assert await touched(app, statements.hold(table), records) < TOUCHED * ROWS
        assert await touched(app, statements.show(table, status=True), records) < TOUCHED * ROWS
        assert await touched(app, statements.look(table, window=False)) < TOUCHED * ROWS


async def test_a_look_that_takes_too_long_costs_one_tick(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    recall = statements.recall
    monkeypatch.setattr(links.ask, "__kwdefaults__", {"seconds": 0.3})
    async with context(database_url) as ctx:
        await execute(database_url, "INSERT INTO public.videos (prompt) VALUES ('a')")
        monkeypatch.setattr(statements, "recall", lambda _: "SELECT pg_sleep(5)")
        assert await intake(ctx) == {}
        assert await ctx.database.fetchval("SELECT state FROM taxiway.links") == "open"
        monkeypatch.setattr(statements, "recall", recall)
        assert await intake(ctx) == {"taken": 1}


LARGE = """
    INSERT INTO public.videos (prompt, status) SELECT repeat('p', 400), 'completed' FROM generate_series(1, 30000)
"""


async def slow(ctx: Context, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """One run in which each look takes so long."""
    look, passed = link_intake.look, 0.0

    async def late(*arguments: Any, **options: Any) -> link_intake.Look:
        nonlocal passed
        found = await look(*arguments, **options)
        passed += seconds
        return found

    with monkeypatch.context() as patch:
        patch.setattr(link_intake, "look", late)
        await Intake(replace(ctx, monotonic=lambda: passed)).run(await open_links(ctx.database))


@pytest.mark.parametrize(("index", "looks"), [("(status, created_at)", 8), ("(user_id) WHERE status = 'queued'", 2)])
async def test_with_an_index_a_slow_look_keeps_no_new_row_waiting(
    database_url: str, index: str, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(database_url, BASE, LARGE, f"CREATE INDEX ON public.videos {index}", "ANALYZE public.videos")
    await link(database_url)
    async with context(database_url) as ctx:
        for _ in range(looks):
            await slow(ctx, monkeypatch, 4.0)
            await execute(database_url, "INSERT INTO public.videos (prompt) VALUES ('a')")
            assert not (await linked(ctx.database)).is_blind
            assert await intake(ctx) == {"taken": 1}


async def test_an_index_of_other_rows_is_found_out_by_three_slow_looks(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = "CREATE INDEX ON public.videos (user_id) WHERE status = 'failed'"
    await execute(database_url, BASE, LARGE, index, "ANALYZE public.videos")
    await link(database_url)
    async with context(database_url) as ctx:
        for is_blind in (False, False, True):
            await slow(ctx, monkeypatch, 4.0)
            assert (await linked(ctx.database)).is_blind is is_blind


async def test_one_slow_look_makes_no_table_slow_and_a_fast_one_ends_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    async with context(database_url) as ctx:
        for is_cheap in (True, True, False):
            await slow(ctx, monkeypatch, 0.6)
            assert (await linked(ctx.database)).is_cheap is is_cheap
        await execute(database_url, "UPDATE taxiway.links SET look_due = now(), sweep_due = now()")
        await intake(ctx)
        assert (await linked(ctx.database)).sweep_seconds == 0


async def test_an_idle_tick_after_a_slow_look_writes_nothing_of_the_link(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    seen: list[str] = []
    run, ask = Database._run, links.ask

    async def counting(self: Database, method: str, sql: str, arguments: tuple[object, ...]) -> object:
        seen.append(sql)
        return await run(self, method, sql, arguments)

    async def counted(database: Database, sql: str, *arguments: object, **options: float) -> object:
        seen.append(sql)
        return await ask(database, sql, *arguments, **options)

    monkeypatch.setattr(Database, "_run", counting)
    monkeypatch.setattr("service.store.link_intake.ask", counted)
    monkeypatch.setattr("service.store.link_recall.ask", counted)
    await w.tick()
    await slow(w.ctx, monkeypatch, 0.6)
    assert (await linked(w.ctx.database)).sweep_seconds > 0
    await w.tick()  # a fast look, of which is noted that it was
    for _ in range(2):
        seen.clear()
        await w.tick()
        assert len(seen) <= 4 + 2, seen
        assert not any("UPDATE taxiway.links" in sql for sql in seen)
