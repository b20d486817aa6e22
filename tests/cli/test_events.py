"""Who did what: actors, what an event may hold, the list of decisions, and for how long it is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import service
from service.actors import cli_user
from service.events import ACTIONS, ORDER, Kind, words_of
from service.operations import pausing
from service.store import event_log, many_videos, video_rows
from service.store.search import Wanted
from tests.invoking import printed, taxiway, terminal
from tests.pages import check, control
from tests.world import IMAGE, World, world

pytestmark = pytest.mark.anyio

TEXT = "Xylophone7"  # stands in everything that a user writes


async def done_by(w: World) -> list[tuple[str, str]]:
    return [(one.kind, one.actor) for one in await event_log.actions(w.ctx.database)]


def test_every_kind_that_a_statement_appends_is_known() -> None:
    root = Path(service.__file__).parent
    sql = "\n".join(path.read_text() for path in root.rglob("*.py"))
    inserted = [
        kind
        for part in re.findall(r"INSERT INTO taxiway\.events(.*?)FROM", sql, re.DOTALL)
        for kind in re.findall(r"'([a-z_]+)'", part)
    ]
    others = {"submit", "poll", "intake", "rescue", "cancel", "callback", "unlinked", "model", "seconds", "videos",
              "linked", "orphan", "link", "bulk", "row", "statement", "key", "http_status", "queued",
              "prune", "data_uri", "input"}  # fmt: skip
    assert set(inserted) - others <= set(Kind)
    assert {"enqueued", "completed", "paused", "cancelled"} <= set(inserted) | {"completed", "paused"}
    assert set(Kind) <= set(ORDER)
    index = (
        (root.parent / "migrations/0001_taxiway.sql").read_text().partition("INDEX events_actions")[2].partition(";")[0]
    )
    assert set(re.findall(r"'([a-z_]+)'", index)) == set(ACTIONS)


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_is_a_sentence(kind: Kind) -> None:
    for code in (None, "EXPIRED", "bulk"):
        words = words_of(kind, code, {}, "gen4_turbo")
        assert words.strip()
        assert "{" not in words


async def test_an_event_holds_no_text_of_a_user(w: World) -> None:
    w.faults("status=503", "fail=INTERNAL", "drop_after", "status=400")
    body: dict[str, Any] = {
        "input": {"promptText": f"a boat {TEXT}", "promptImage": f"{IMAGE}?{TEXT}"}, "user_id": TEXT,
        "metadata": {"order": TEXT},
    }  # fmt: skip
    ids = [await w.enqueue(**body) for _ in range(5)]
    for _ in range(3):
        await w.finish()
    await w.api.post(f"/videos/{ids[0]}/cancel")
    await w.api.post("/bulk/retry", json={"filter": {"q": TEXT}})
    await w.api.post("/bulk/cancel", json={"filter": {"q": TEXT}})
    await pausing.pause(w.ctx, "gen4_turbo", 60, f"because of {TEXT}")
    kept = await w.rows("SELECT to_jsonb(e)::text AS line FROM taxiway.events e")
    assert len(kept) > 15
    assert not [row["line"] for row in kept if TEXT in row["line"]]
    seen = {json.loads(row["line"])["kind"] for row in kept}
    assert {"enqueued", "completed", "unknown", "failed", "paused"} <= seen


async def test_decisions_name_who_made_them(w: World) -> None:
    first, second, third = await w.enqueue_many(3)
    await video_rows.cancel(w.ctx.database, first, "shop")
    await w.rows("UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now() WHERE id = $1", second)
    await video_rows.retry(w.ctx.database, second, consent=False, timeout_seconds=60, actor="blog")
    await many_videos.cancel(w.ctx.database, Wanted(), limit=10, dry_run=False, actor="ops")
    await pausing.pause(w.ctx, "gen4_turbo", 60, "a test")
    assert await pausing.resume(w.ctx, "gen4_turbo")
    assert await done_by(w) == [
        ("resumed", "taxiway"), ("paused", "taxiway"), ("bulk_cancelled", "ops"), ("retried", "blog"),
        ("cancelled", "shop"),
    ]  # fmt: skip
    [one] = await event_log.actions(w.ctx.database, actor="ops")
    assert one.words == "2 videos cancelled"
    assert await event_log.actors(w.ctx.database) == ["blog", "ops", "shop", "taxiway"]
    of_bulk = await w.rows("SELECT actor, code FROM taxiway.events WHERE video_id = $1 AND kind = 'cancelled'", third)
    assert [tuple(row) for row in of_bulk] == [("ops", "bulk")]


async def old(w: World, days: int) -> None:
    await w.later(days=days)
    await w.rows("UPDATE taxiway.maintenance SET due_at = taxiway.now() WHERE name = 'event_walk'")
    await w.tick()


async def test_old_events_go_but_not_those_of_a_video_that_goes_on(database_url: str) -> None:
    async with world(database_url, event_retention=30 * 86_400) as w:
        w.faults("drop_after")
        unknown = await w.enqueue()
        await w.tick()
        ended = await w.enqueue()
        await w.finish()
        waiting = await w.enqueue(run_after="2040-01-01T00:00:00Z")
        await old(w, 29)
        assert await of(w, ended)
        await old(w, 2)
        assert not await of(w, ended)
        assert await of(w, waiting), "it has not ended"
        assert await of(w, unknown), "it may still cost something"
        assert (await w.row(ended))["status"] == "completed"


async def of(w: World, video_id: UUID) -> list[Any]:
    return list(await w.rows("SELECT FROM taxiway.events WHERE video_id = $1", video_id))


def test_a_user_of_the_command_line_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "anna")
    assert cli_user() == "CLI user anna"


async def test_the_command_line_lists_who_did_what(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await w.enqueue_many(2)
    await w.api.post(f"/videos/{first}/cancel")
    await taxiway(w.url, "cancel", second)
    rows = printed(await taxiway(w.url, "audit", "--actions"))
    assert [(row["kind"], row["actor"], row["video_id"]) for row in rows] == [
        ("cancelled", cli_user(), str(second)), ("cancelled", "api-key-1", str(first)),
    ]  # fmt: skip
    rows = printed(await taxiway(w.url, "audit", "--actions", "--actor", "api-key-1"))
    assert [row["video_id"] for row in rows] == [str(first)]
    with terminal(monkeypatch):
        assert "api-key-1" in (await taxiway(w.url, "audit", "--actions")).stdout
    for wrong in (("--actions", first), ("--actor", "shop")):
        assert (await taxiway(w.url, "audit", *wrong)).exit_code == 2


async def test_the_page_lists_who_did_what(database_url: str) -> None:
    async with control(database_url) as c:
        video_id = await c.world.enqueue()
        await c.admin.post(f"/ui/videos/{video_id}/cancel")
        text = check(await c.admin.get("/ui/activity"))
        assert "admin-token-1" in text
        assert str(video_id) in text
        assert str(video_id) not in check(await c.admin.get("/ui/activity?actor=nobody&before=yesterday"))
        assert "by admin-token-1" in check(await c.admin.get(f"/ui/videos/{video_id}"))
