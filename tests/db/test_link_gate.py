"""The gate: a trigger or a constraint of the app's decides whether its video is sent, and is asked once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.store import gate
from service.store.audit import audits
from service.store.linked_table import LinkedTable
from service.store.links import TableTrouble
from service.store.timeline import timeline as timeline_of
from service.tick import tick
from tests.app_tables import BASE, CREDITS, link
from tests.database import connected, execute
from tests.world import World, world

pytestmark = pytest.mark.anyio

INSERT = "INSERT INTO public.videos (user_id, prompt) VALUES ($1, $2) RETURNING id::text"


async def insert(w: World, user_id: int = 1, prompt: str = "a boat") -> str:
    """One row of the app's; its key."""
    [row] = await w.rows(INSERT, user_id, prompt)
    return str(row["id"])


async def app_row(w: World, key: str) -> Any:
    return (await w.rows("SELECT * FROM public.videos WHERE id = $1::text::uuid", key))[0]


async def charging(url: str, **mapping: Any) -> None:
    """T1: two users with credits for two videos, and one without."""
    await execute(url, BASE, CREDITS, "INSERT INTO public.users VALUES (1, 50), (2, 0), (3, 100)")
    await link(url, gate=True, **mapping)


async def test_a_user_without_credits_is_refused_and_stops_no_other(w: World) -> None:
    await charging(w.url)
    keys = [await insert(w, user) for user in (1, 2, 3)]
    await w.finish()
    rows = [await app_row(w, key) for key in keys]
    assert [row["status"] for row in rows] == ["completed", "failed", "completed"]
    assert "users_credits_check" in rows[1]["error_message"]
    assert rows[1]["runway_video_id"] is None
    assert len(w.creates) == 2
    assert [row["credits"] for row in await w.rows("SELECT credits FROM public.users ORDER BY id")] == [25, 0, 75]
    [failed] = await w.rows("SELECT * FROM taxiway.videos WHERE status = 'failed'")
    assert failed["error_code"] == "REFUSED_BY_TABLE"
    [entry] = await w.ledger(failed["id"])
    assert (entry["outcome"], entry["settled_at"] is not None) == ("not_sent", True)
    [event] = await w.rows("SELECT * FROM taxiway.events WHERE kind = 'gate_refused'")
    assert event["video_id"] == failed["id"]


async def test_a_round_that_bounces_three_times_is_charged_once(database_url: str) -> None:
    await charging(database_url)
    async with world(database_url, runway_url="http://127.0.0.1:9") as w:
        w.faults("status=429, body=runway", "status=503, body=runway")
        key = await insert(w, 1)
        closed = replace(w.ctx, transport=None)  # nobody listens there, and the refusal is the proof
        for n in range(8):
            await tick(closed if n == 2 else w.ctx)
            await execute(
                database_url, "UPDATE taxiway.models SET paused_until = taxiway.now() WHERE paused_until IS NOT NULL"
            )
            await w.later(minutes=1)
        row = await app_row(w, key)
        assert row["status"] == "completed"
        assert len([entry for entry in w.creates if entry.task_id]) == 1
        assert [one["credits"] for one in await w.rows("SELECT credits FROM public.users WHERE id = 1")] == [25]
        [video] = await w.rows("SELECT id FROM taxiway.videos")
        assert len(await w.ledger(video["id"])) == 4


async def test_an_apps_row_that_is_queued_again_is_charged_again(w: World) -> None:
    await charging(w.url)
    w.faults("fail=SAFETY.INPUT.TEXT")
    key = await insert(w, 3)
    await w.finish()
    assert (await app_row(w, key))["status"] == "failed"
    await execute(w.url, "UPDATE public.videos SET status = 'queued'")
    await w.finish()
    assert (await app_row(w, key))["status"] == "completed"
    assert [one["credits"] for one in await w.rows("SELECT credits FROM public.users WHERE id = 3")] == [50]


async def test_a_finished_row_that_is_queued_again_is_paid_again_by_the_apps_consent(w: World) -> None:
    await charging(w.url)
    key = await insert(w, 3)
    await w.finish()
    await execute(w.url, "UPDATE public.videos SET status = 'queued'")
    await w.finish()
    assert (await app_row(w, key))["status"] == "completed"
    [video] = await w.rows("SELECT id FROM taxiway.videos")
    assert [entry["consent"] for entry in await w.ledger(video["id"])] == ["app", None]
    [account] = [one async for one in audits(w.ctx.database)]
    assert (account.twice > 0, account.consented) == (True, True)
    shown = (await w.api.get(f"/videos/{video['id']}/submissions")).json()["submissions"]
    assert sorted(str(one["consent"]) for one in shown) == ["None", "app"]
    history = [(entry.event, entry.actor) for entry in await timeline_of(w.ctx.database, video["id"])]
    assert history.count(("consented", "linked table")) == history.count(("retried", "linked table")) == 1


async def test_a_retry_through_the_api_asks_the_gate_again_at_once(w: World) -> None:
    await charging(w.url)
    w.faults("fail=SAFETY.INPUT.TEXT")
    key = await insert(w, 3)
    await w.finish()
    [video] = await w.rows("SELECT id FROM taxiway.videos")
    assert (await w.api.post(f"/videos/{video['id']}/retry")).status_code == 202
    counts = await w.tick()
    assert counts["submit"]["accepted"] == 1
    await w.finish()
    assert (await app_row(w, key))["status"] == "completed"
    assert [one["credits"] for one in await w.rows("SELECT credits FROM public.users WHERE id = 3")] == [50]


async def test_a_row_that_says_processing_already_passes_without_a_write(w: World) -> None:
    await charging(w.url)
    key = await insert(w, 1)
    [table] = await intake_only(w)
    await execute(w.url, "UPDATE public.videos SET status = 'processing'")
    [video] = await w.rows("SELECT id FROM taxiway.videos")
    for _ in range(2):
        passage = await gate.pass_gate(w.ctx.database, table, video["id"])
        assert passage.verdict is gate.Verdict.OPEN
    assert [one["credits"] for one in await w.rows("SELECT credits FROM public.users WHERE id = 1")] == [25]
    assert (await app_row(w, key))["status"] == "processing"


async def intake_only(w: World) -> list[LinkedTable]:
    """Take what is queued, and send nothing."""
    from service.operations.linked_rows import Intake
    from service.store.links import open_links

    tables = await open_links(w.ctx.database)
    await Intake(w.ctx).run(tables)
    return tables


SWALLOW = """
    CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER swallow BEFORE UPDATE ON public.videos FOR EACH ROW EXECUTE FUNCTION public.swallow();
"""
KEEP = """
    CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN NEW.status := OLD.status; RETURN NEW; END $$;
    CREATE TRIGGER keep BEFORE UPDATE ON public.videos FOR EACH ROW EXECUTE FUNCTION public.keep();
"""


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (SWALLOW, "changed nothing"),
        (KEEP, "made 'queued' of the status"),
        ("CREATE UNIQUE INDEX one ON public.videos (user_id) WHERE status = 'processing'", "duplicate key"),
        ("UPDATE public.videos SET status = 'draft'", "its row says draft"),
    ],
)
async def test_what_may_pass_keeps_the_video_waiting(w: World, sql: str, words: str) -> None:
    await execute(w.url, BASE)
    await link(w.url, gate=True)
    await w.rows("INSERT INTO public.videos (user_id, prompt, status) VALUES (1, 'x', 'processing')")
    key = await insert(w)
    await intake_only(w)
    await execute(w.url, sql.replace("SET status = 'draft'", f"SET status = 'draft' WHERE id = '{key}'"))
    counts = await w.tick()
    assert (counts["submit"]["not_sent"], len(w.creates)) == (1, 0)
    [video] = await w.rows("SELECT * FROM taxiway.videos")
    assert video["status"] == "queued"
    assert words in video["error_message"]
    assert video["retries"] == 1


async def test_a_row_that_another_transaction_holds_is_tried_again_and_others_go_on(database_url: str) -> None:
    await execute(database_url, BASE)
    await link(database_url, gate=True)
    async with world(database_url) as w, connected(database_url) as app:
        held, free = await insert(w, prompt="held"), await insert(w, prompt="free")
        async with app.transaction():
            await app.execute("UPDATE public.videos SET prompt = 'mine' WHERE id = $1::text::uuid", held)
            counts = await w.tick()
            assert (counts["submit"]["accepted"], counts["submit"]["not_sent"]) == (1, 1)
        await w.finish()
        assert {(await app_row(w, key))["status"] for key in (held, free)} == {"completed"}
        assert len(w.creates) == 2


async def test_a_trigger_that_hangs_costs_only_its_own_video(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_BEGIN", gate._BEGIN.replace("'3000'", "'300'"))
    await execute(
        w.url, BASE,
        """CREATE FUNCTION public.hang() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN PERFORM pg_sleep(CASE WHEN NEW.prompt = 'hang' THEN 2 ELSE 0 END); RETURN NEW; END $$;
           CREATE TRIGGER hang BEFORE UPDATE ON public.videos FOR EACH ROW EXECUTE FUNCTION public.hang()""",
    )  # fmt: skip
    await link(w.url, gate=True)
    await insert(w, prompt="hang")
    await insert(w, prompt="go")
    api = await w.enqueue()
    counts = await w.tick()
    assert (counts["submit"]["accepted"], counts["submit"]["not_sent"]) == (2, 1)
    assert (await w.row(api))["status"] == "processing"


async def test_without_a_gate_nothing_is_written_before_the_post(w: World) -> None:
    await execute(w.url, BASE, CREDITS, "INSERT INTO public.users VALUES (1, 50)")
    await link(w.url)
    await insert(w, 1)
    await w.finish()
    assert len(w.creates) == 1
    # Taken when the mirror shows it, and only then.
    assert [one["credits"] for one in await w.rows("SELECT credits FROM public.users")] in ([25], [50])


async def test_a_gate_whose_table_does_not_fit_keeps_its_videos_waiting(w: World) -> None:
    await charging(w.url)
    await insert(w, 1)
    await intake_only(w)
    await execute(w.url, "ALTER TABLE public.videos RENAME error_message TO problem")
    counts = await w.tick()
    assert counts["submit"]["not_sent"] == 1
    await execute(
        w.url, "ALTER TABLE public.videos RENAME problem TO error_message",
        "UPDATE taxiway.links SET look_due = taxiway.now() - interval '1 second'",
    )  # fmt: skip
    await w.later(minutes=1)
    await w.finish()
    assert len(w.creates) == 1


@pytest.mark.parametrize(
    ("sqlstate", "is_apps", "refused"),
    [
        ("23514", False, True), ("23514", True, True), ("23503", False, True), ("P0001", True, True),
        ("22012", True, True), ("42703", True, True), ("U0001", True, True), ("44000", False, True),
        ("23505", False, False), ("23P01", True, False), ("55P03", True, False), ("57014", False, False),
        ("40P01", True, False), ("42501", True, False), ("42703", False, False), ("22P02", False, False),
        (None, False, False),
    ],
)  # fmt: skip
async def test_which_errors_refuse(database_url: str, sqlstate: str | None, is_apps: bool, refused: bool) -> None:
    await execute(database_url, BASE)
    await link(database_url, gate=True)
    async with world(database_url) as w:
        [table] = await intake_only(w)
    passage = gate.judge(TableTrouble("words", sqlstate, is_apps=is_apps), table)
    assert passage.verdict is (gate.Verdict.REFUSED if refused else gate.Verdict.WAITS)
    assert "words" in passage.words
