"""What doctor, `/health`, the page and a video's history say of linked tables."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from service.doctor.checks import Check, CheckStatus
from service.doctor.linked_tables import AREA, run
from service.store.links import ROLE
from tests.app_tables import BASE, CREDITS, link, number_links_apart
from tests.database import execute
from tests.db.test_link_gate import insert
from tests.pages import TOKENS, VIEWER_TOKEN, browser
from tests.world import World, world

pytestmark = pytest.mark.anyio

THUMBNAIL = "ALTER TABLE public.videos ADD thumbnail_url text, ADD CHECK (status <> 'completed' OR thumbnail_url <> '')"
REFUSED = "ALTER TABLE public.videos ADD CHECK (status <> 'completed' OR prompt <> 'bad')"


async def checks(w: World) -> dict[str, Check]:
    """The checks of linked tables by name, each one line."""
    found = await run(w.ctx)
    assert {one.area for one in found} == {AREA}
    by_name = {one.name: one for one in found}
    assert len(by_name) == len(found)
    return by_name


async def story(w: World, video_id: UUID) -> dict[str, dict[str, Any]]:
    answer = await w.api.get(f"/videos/{video_id}/events")
    assert answer.status_code == 200, answer.text
    return {entry["event"]: entry for entry in answer.json()["events"]}


async def test_no_linked_table_needs_nothing(w: World) -> None:
    assert [(one.name, one.status, one.message) for one in (await checks(w)).values()] == [
        ("linked", CheckStatus.OK, "none")
    ]


async def test_a_row_that_refuses_to_show_its_video(w: World) -> None:
    await execute(w.url, BASE, REFUSED)
    await link(w.url)
    key = await insert(w, prompt="bad")
    await w.finish()
    found = (await checks(w))["public.videos, refused"]
    assert found.status is CheckStatus.WARNING
    for words in ("videos: 1, the first", key, "violates check constraint", "SQLSTATE 23514"):
        assert words in found.message
    assert "change the constraint" in found.fix
    health = await w.api.get("/health")
    assert health.status_code == 200
    assert health.json()["status"] == "attention"
    assert health.json()["links"][0]["refusing_rows"] == 1
    assert "public.videos, refused: `taxiway doctor` says why" in str(health.json())
    assert "violates" not in health.text  # what an app's table says is not for every caller
    [video] = await w.rows("SELECT id FROM taxiway.videos")
    refusal = (await story(w, video["id"]))["mirror_refused"]
    assert refusal["error"] == "23514: check violation"
    assert (await w.anyone.get("/health/live")).status_code == 200


async def test_a_video_that_the_gate_refused(w: World) -> None:
    await execute(w.url, CREDITS.replace("CREATE TABLE", BASE + "; CREATE TABLE", 1),
                  "INSERT INTO public.users VALUES (1, 0)")  # fmt: skip
    await link(w.url, gate=True)
    await insert(w, 1)
    await w.finish()
    found = (await checks(w))["public.videos, gate"]
    assert "not sent and not paid within a day: 1" in found.message
    assert "violates check constraint" in found.message
    [video] = await w.rows("SELECT id FROM taxiway.videos")
    assert str(video["id"]) in found.fix
    refusal = (await story(w, video["id"]))["gate_refused"]
    assert "nothing was sent" in refusal["words"]
    assert refusal["error"] == "23514: check violation"


async def test_a_row_that_cannot_be_read(w: World) -> None:
    from service.doctor.queue import refused_rows
    from service.store import parked

    await execute(w.url, BASE, "CREATE VIEW public.jobs AS SELECT *, 'm' || (1 / user_id) AS image FROM public.videos")
    await link(w.url, "public.jobs", columns={"image": None, "model": "image"})
    key = await insert(w, 0)
    await w.tick()
    [video] = await w.rows("SELECT id FROM taxiway.videos")
    refusal = (await story(w, video["id"]))["refused_row"]
    assert refusal["words"] == "The database cannot read or store its row of public.jobs"
    assert refusal["error"] == "22012: division by zero"  # the name of that SQLSTATE
    found = refused_rows(await parked.newest(w.ctx.database))
    assert "division by zero; the log has its words (public.jobs)" in found.message
    [event] = await w.rows("SELECT detail ->> 'key' AS key FROM taxiway.events WHERE kind = 'refused_row'")
    assert event["key"] == key


async def test_a_paused_link(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    await execute(w.url, "ALTER TABLE public.videos RENAME prompt TO text")
    await w.tick()
    found = (await checks(w))["public.videos, paused"]
    assert found.status is CheckStatus.ERROR
    assert "is called text now" in found.message
    assert "`taxiway link public.videos`" in found.fix
    health = (await w.api.get("/health")).json()
    assert health["links"] == [{"link": "public.videos", "is_paused": True, "refusing_rows": 0, "refusing_since": None}]
    assert "public.videos, paused: `taxiway doctor` says why" in health["concerns"]


@pytest.mark.parametrize("after", [None, 600.0])
async def test_rows_that_the_app_left_at_processing(database_url: str, after: float | None) -> None:
    await execute(database_url, BASE)
    await link(database_url)
    async with world(database_url, link_rescue_after=after) as w:
        await w.rows(
            "INSERT INTO public.videos (prompt, status, updated_at) VALUES ('a', 'processing', now() - interval '3 h')"
        )
        found = (await checks(w))["public.videos, left at processing"]
        assert "1 rows that Taxiway does not know say processing, the oldest for 3 h" in found.message
        assert ("LINK_RESCUE_AFTER" in found.fix) is (after is None)


async def test_a_role_of_its_own_is_made_by_the_sql_that_doctor_prints(w: World) -> None:
    await execute(w.url, BASE)
    await number_links_apart(w.url)
    role = ROLE.format(id=await link(w.url))
    assert "public.videos, role" not in await checks(w), "a table without triggers runs no code"
    trigger = "BEFORE UPDATE ON public.videos FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    await execute(w.url, f"CREATE TRIGGER own {trigger}")
    found = (await checks(w))["public.videos, role"]
    assert found.status is CheckStatus.WARNING
    made, _, rest = found.fix.rpartition("; and ")
    assert rest == f"what the table's triggers need, to {role}"
    await execute(w.url, *made.split("; "))
    try:
        assert "public.videos, role" not in await checks(w)
        await insert(w)
        await w.finish()
        [row] = await w.rows("SELECT status, video_url FROM public.videos")
        assert (row["status"], bool(row["video_url"])) == ("completed", True)
    finally:
        await execute(w.url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("made", "sql", "wanted"),
    [
        ('{"kind": "column", "name": "video_url", "sql_name": "public.video_url"}',
         "ALTER TABLE public.videos DROP video_url", "--add-columns"),
        ('{"kind": "index", "name": "look", "sql_name": "public.\\"look\\""}', "DROP INDEX public.look", "--index"),
    ],
)  # fmt: skip
async def test_what_was_added_with_consent_and_was_dropped_since(w: World, made: str, sql: str, wanted: str) -> None:
    await execute(w.url, BASE, "CREATE INDEX look ON public.videos (status)")
    await link(w.url)
    await execute(w.url, f"UPDATE taxiway.links SET made = '[{made}]'")
    assert not any("index" in name or "column" in name for name in await checks(w))
    await execute(w.url, sql)
    [found] = [one for name, one in (await checks(w)).items() if "index" in name or "column" in name]
    assert "was dropped since" in found.message
    assert wanted in found.fix


async def test_the_overview_shows_what_linked_tables_refuse(database_url: str) -> None:
    await execute(database_url, BASE, REFUSED)
    await link(database_url)
    async with world(database_url, **TOKENS) as w:
        page = browser(w.ctx)
        await page.login(VIEWER_TOKEN)
        await insert(w, prompt="bad")
        await w.finish()
        text = (await page.get("/ui/overview/state", part=True)).text
        assert "refuse to show their videos: 1" in text
        [video] = await w.rows("SELECT id FROM taxiway.videos")
        assert "public.videos refused to show this in its row" in (await page.get(f"/ui/videos/{video['id']}")).text
