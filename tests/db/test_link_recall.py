"""Recall: what the app cancels or removes is cancelled, and what only looks removed is not."""

from __future__ import annotations

import pytest

from service.operations.admission import Admission
from service.store import claim as claims
from tests.app_tables import BASE, link
from tests.database import connected, execute
from tests.db.test_link_gate import insert, intake_only
from tests.world import World, world

pytestmark = pytest.mark.anyio


async def test_a_row_with_the_word_to_cancel_is_cancelled_with_its_task(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    await insert(w)
    await w.tick()
    assert len(w.creates) == 1
    await execute(w.url, "UPDATE public.videos SET status = 'cancelled'")
    counts = await w.tick()
    assert (counts["intake"]["recalled"], counts["cancel"]["deleted"]) == (1, 1)
    [video] = await w.rows("SELECT * FROM taxiway.videos")
    assert video["status"] == "cancelled"
    assert w.creates[0].deleted
    [event] = await w.rows("SELECT * FROM taxiway.events WHERE kind = 'cancelled'")
    assert (event["code"], event["video_id"], event["actor"]) == ("row cancelled", video["id"], "linked table")
    await w.tick()
    assert (await w.rows("SELECT status FROM public.videos"))[0]["status"] == "cancelled"


async def test_a_removed_row_cancels_at_the_second_look(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    await insert(w)
    await w.tick()
    await execute(w.url, "DELETE FROM public.videos")
    assert (await w.tick())["intake"]["recalled"] == 0
    assert (await w.tick())["intake"]["recalled"] == 1
    assert w.creates[0].deleted
    counts = await w.tick()
    assert not any(value for step in counts.values() if isinstance(step, dict) for value in step.values()), counts
    assert await w.rows("SELECT FROM taxiway.mirror_queue") == []


async def test_a_row_that_is_back_at_the_second_look_is_not_cancelled(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    await insert(w)
    await w.tick()
    await execute(w.url, "CREATE TABLE public.kept AS SELECT * FROM public.videos", "DELETE FROM public.videos")
    await w.tick()
    await execute(w.url, "INSERT INTO public.videos SELECT * FROM public.kept")
    for _ in range(2):
        assert (await w.tick())["intake"]["recalled"] == 0
    assert await w.rows("SELECT FROM taxiway.rows WHERE missing_since IS NOT NULL") == []


@pytest.mark.parametrize("how", ["view", "other table"])
async def test_absence_that_proves_nothing_cancels_nothing(w: World, how: str) -> None:
    await execute(
        w.url, BASE, "CREATE VIEW public.jobs AS SELECT * FROM public.videos WHERE user_id = 1",
    )  # fmt: skip
    await link(w.url, "public.jobs" if how == "view" else "public.videos")
    await insert(w, 1)
    await w.tick()
    if how == "view":
        await execute(w.url, "UPDATE public.videos SET user_id = 2")
    else:  # a copy took its place, without this row
        await execute(
            w.url, "DROP VIEW public.jobs", "ALTER TABLE public.videos RENAME TO before",
            BASE,
        )  # fmt: skip
    for _ in range(3):
        assert (await w.tick())["intake"]["recalled"] == 0
    [video] = await w.rows("SELECT status FROM taxiway.videos")
    assert video["status"] == "processing"


async def test_many_rows_gone_at_once_pause_the_link_and_ask(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    await w.rows("INSERT INTO public.videos (prompt) SELECT 'p' FROM generate_series(1, 60)")
    await intake_only(w)
    await execute(w.url, "TRUNCATE public.videos")
    await w.tick()
    [state] = await w.rows("SELECT state, reason, look_due FROM taxiway.links")
    assert state["state"] == "paused"
    assert "60 of 60 rows" in state["reason"]
    assert await w.rows("SELECT FROM taxiway.videos WHERE status = 'cancelled'") == []
    assert (await w.tick())["intake"]["recalled"] == 0


@pytest.mark.parametrize("sql", ["UPDATE public.videos SET status = 'cancelled'", "DELETE FROM public.videos"])
async def test_what_the_app_did_after_the_claim_is_seen_before_the_post(
    w: World, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    await insert(w)
    await intake_only(w)
    check = Admission.check

    def late(self: Admission, claimed: list[claims.OpenSubmission]) -> object:
        import asyncio

        if not claimed:
            return None

        async def then() -> object:
            await execute(w.url, sql)
            task = check(self, claimed)
            assert task is not None
            return await task

        return asyncio.create_task(then())

    monkeypatch.setattr(Admission, "check", late)
    # The app acts between the claim and this look.
    from service.deadline import Deadline
    from service.steps import submit

    counts = await submit.run_once(w.ctx, Deadline(w.ctx.monotonic, w.ctx.monotonic() + 20))
    assert (counts["claimed"], counts["not_sent"], len(w.creates)) == (1, 1, 0)
    [video] = await w.rows("SELECT status, finished_at FROM taxiway.videos")
    assert video["status"] == ("cancelled" if "cancelled" in sql else "queued")
    assert (video["finished_at"] is not None) is ("cancelled" in sql)


async def test_a_table_that_is_held_before_the_post_stops_no_other(database_url: str) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    async with world(database_url) as w, connected(database_url) as app:
        await insert(w)
        await intake_only(w)
        api = await w.enqueue()
        async with app.transaction():
            await app.execute("LOCK TABLE public.videos IN ACCESS EXCLUSIVE MODE")
            from service.deadline import Deadline
            from service.steps import submit

            counts = await submit.run_once(w.ctx, Deadline(w.ctx.monotonic, w.ctx.monotonic() + 20))
        assert counts["accepted"] == 2
        assert (await w.row(api))["status"] == "processing"


async def test_an_idle_tick_asks_two_things_of_each_link(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.store import links
    from service.store.database import Database

    await execute(database_url, BASE, BASE.replace("public.videos", "public.others"))
    seen: list[str] = []
    run = Database._run
    ask = links.ask

    async def counting(self: Database, method: str, sql: str, arguments: tuple[object, ...]) -> object:
        seen.append(sql)
        return await run(self, method, sql, arguments)

    async def counted(database: Database, sql: str, *arguments: object, **options: float) -> object:
        seen.append(sql)
        return await ask(database, sql, *arguments, **options)

    monkeypatch.setattr(Database, "_run", counting)
    monkeypatch.setattr("service.store.link_intake.ask", counted)
    monkeypatch.setattr("service.store.link_recall.ask", counted)
    async with world(database_url) as w:
        await w.tick()
        seen.clear()
        await w.tick()
        without = len(seen)
        await link(database_url)
        await link(database_url, "public.others")
        await w.tick()
        seen.clear()
        await w.tick()
    assert len(seen) - without <= 1 + 2 * 2, len(seen)
    assert len(seen) <= 4 + 2 * 2
