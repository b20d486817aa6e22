"""Retry or cancel the selected videos of the page's list, or all that match."""

from __future__ import annotations

import re
from typing import Any

import pytest

from service.web.page import selection
from tests.pages import check, control

pytestmark = pytest.mark.anyio


async def test_bulk_counts_first_and_goes_on_until_none_is_left(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "BATCH", 2)
    async with control(database_url) as c:
        for _ in range(5):
            await c.world.enqueue()
        await c.world.rows(
            "UPDATE taxiway.videos SET status = 'failed', error_code = 'EXPIRED', finished_at = now() - interval '1 h'"
        )
        matching: dict[str, Any] = {"action": "retry", "all": "yes", "error_code": "EXPIRED"}
        page = await c.admin.post("/ui/videos/bulk/count", part=True, **matching)
        assert "Retry 5 videos? 5 videos of what you chose are failed." in check(page)
        assert (await c.world.rows("SELECT count(*) FROM taxiway.videos WHERE status = 'failed'"))[0][0] == 5
        rounds = []
        text = page.text
        while fields := dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text)):
            response = await c.admin.post("/ui/videos/bulk", part=True, **fields)
            text = response.text
            check(response)
            rounds.append(re.search(r'max="(\d+)" value="(\d+)"', text)[0])  # type: ignore[index]
        assert rounds == ['max="5" value="2"', 'max="5" value="4"', 'max="5" value="5"']
        assert "Done" in text
        assert "There is nothing to do" in check(await c.admin.post("/ui/videos/bulk/count", part=True, **matching))
        assert (await c.viewer.post("/ui/videos/bulk", action="cancel", all="yes")).status_code == 403
        assert (await c.admin.post("/ui/videos/bulk", action="burn", all="yes")).status_code == 422
        cancelled = await c.admin.post("/ui/videos/bulk", part=True, action="cancel", total="5", q="boat", all="yes")
        assert "2 of 5 videos cancelled" in check(cancelled)


async def test_bulk_takes_the_selected_videos_and_no_other(database_url: str) -> None:
    async with control(database_url) as c:
        ids = [str(await c.world.enqueue()) for _ in range(4)]
        chosen: dict[str, Any] = {"action": "cancel", "ids": ids[:2], "q": "nothing of this", "status": "failed"}
        counted = await c.admin.post("/ui/videos/bulk/count", part=True, **chosen)
        assert "Cancel 2 videos?" in check(counted)
        assert "2 of 2 videos cancelled" in check(await c.admin.post("/ui/videos/bulk", part=True, **chosen))
        rows = await c.world.rows("SELECT id FROM taxiway.videos WHERE status = 'cancelled'")
        assert {str(row["id"]) for row in rows} == set(ids[:2])
        for path in ("/ui/videos/bulk/count", "/ui/videos/bulk"):
            nothing = await c.admin.post(path, part=True, action="cancel", q="boat")
            assert nothing.status_code == 422
            assert "select the videos" in check(nothing)
            odd = await c.admin.post(path, part=True, action="cancel", ids="x")
            assert odd.status_code == 422
