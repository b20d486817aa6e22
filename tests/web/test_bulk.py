"""/bulk: one action for all that match, a batch at a time, with the same meaning as one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from tests.database import connected, execute
from tests.world import World

pytestmark = pytest.mark.anyio


async def batch(w: World, action: str, filter: dict[str, Any] | None = None, **options: Any) -> dict[str, int]:
    response = await w.api.post(f"/bulk/{action}", json={"filter": filter or {}} | options)
    assert response.status_code == 200, response.text
    counts: dict[str, int] = response.json()
    return counts


def counts(matched: int, done: int, skipped: int = 0, left: int = 0) -> dict[str, int]:
    return {"matched": matched, "done": done, "skipped": skipped, "left": left}


async def fail(w: World, code: str, count: int) -> list[UUID]:
    """Videos that failed for this reason."""
    ids = [await w.enqueue() for _ in range(count)]
    await w.rows(
        """UPDATE taxiway.videos
           SET status = 'failed', error_code = $1, error_message = 'no', finished_at = now(), retries = 3
           WHERE status = 'queued' AND id IN (SELECT CAST(value AS uuid) FROM jsonb_array_elements_text($2::jsonb))""",
        code, "[" + ",".join(f'"{one}"' for one in ids) + "]",
    )  # fmt: skip
    return ids


async def statuses(w: World) -> dict[str, int]:
    return {row[0]: row[1] for row in await w.rows("SELECT status, count(*) FROM taxiway.videos GROUP BY 1")}


async def test_a_retry_goes_batch_by_batch_until_none_is_left(w: World) -> None:
    await fail(w, "INTERNAL", 5)
    await fail(w, "EXPIRED", 2)
    await w.enqueue()
    wanted = {"error_code": "INTERNAL"}
    assert await batch(w, "retry", wanted, dry_run=True, limit=2) == counts(5, 0, left=5)
    assert await statuses(w) == {"failed": 7, "queued": 1}
    assert await batch(w, "retry", wanted, limit=2) == counts(5, 2, left=3)
    assert await batch(w, "retry", wanted, limit=2) == counts(3, 2, left=1)
    assert await batch(w, "retry", wanted, limit=2) == counts(1, 1)
    assert await batch(w, "retry", wanted, limit=2) == counts(0, 0)
    assert await statuses(w) == {"failed": 2, "queued": 6}
    rows = await w.rows("SELECT error_message, finished_at, retries FROM taxiway.videos WHERE status = 'queued'")
    assert {tuple(row) for row in rows} == {(None, None, 0)}


async def test_a_retry_leaves_out_what_needs_consent(w: World) -> None:
    w.faults("drop_after")
    unknown = await w.enqueue()
    await w.tick()
    await fail(w, "INTERNAL", 1)
    assert await batch(w, "retry", dry_run=True) == counts(2, 0, skipped=1, left=1)
    assert await batch(w, "retry") == counts(2, 1, skipped=1)
    assert (await w.row(unknown))["error_code"] == "SUBMISSION_UNKNOWN"
    assert len(await w.ledger(unknown)) == 1
    assert await batch(w, "retry") == counts(1, 0, skipped=1)


async def test_what_somebody_holds_is_skipped_and_ends_the_round(w: World) -> None:
    held, *_ = await fail(w, "INTERNAL", 3)
    async with connected(w.url) as app, app.transaction():
        await app.execute("SELECT FROM taxiway.videos WHERE id = $1 FOR UPDATE", held)
        assert await batch(w, "retry") == counts(3, 2, skipped=1)
    assert await batch(w, "retry") == counts(1, 1)


async def test_what_fails_again_meanwhile_is_not_retried_for_ever(w: World) -> None:
    await fail(w, "INTERNAL", 2)
    begin = datetime.now(UTC).isoformat()
    wanted = {"finished_before": begin}
    assert (await batch(w, "retry", wanted, limit=1))["left"] == 1
    await execute(w.url, "UPDATE taxiway.videos SET status = 'failed', finished_at = now() WHERE status = 'queued'")
    assert await batch(w, "retry", wanted) == counts(1, 1)
    assert await batch(w, "retry", wanted) == counts(0, 0)
    assert await batch(w, "retry") == counts(1, 1)


async def test_a_cancel_ends_what_waits_and_deletes_what_is_under_way(w: World) -> None:
    under_way = await w.enqueue()
    await w.tick()
    await w.enqueue(input={"promptText": "a ship", "promptImage": "https://example.com/ship.jpg"})
    await fail(w, "INTERNAL", 1)
    assert await batch(w, "cancel", {"q": "ship"}, dry_run=True) == counts(1, 0, left=1)
    assert await batch(w, "cancel", {"status": "processing"}, limit=1) == counts(1, 1)
    [entry] = await w.ledger(under_way)
    assert entry["cancel_due"] is not None
    assert (await w.tick())["cancel"] == {"deleted": 1, "erased": 0}
    assert await batch(w, "cancel") == counts(1, 1)
    assert await batch(w, "cancel") == counts(0, 0)
    assert await statuses(w) == {"cancelled": 2, "failed": 1}


async def test_only_the_videos_that_are_named(w: World) -> None:
    ids = [str(one) for one in await fail(w, "INTERNAL", 3)]
    waiting = str(await w.enqueue())
    assert await batch(w, "retry", {"ids": [*ids[:2], waiting]}) == counts(2, 2)
    assert await batch(w, "retry", {"ids": []}) == counts(0, 0)
    assert await batch(w, "cancel", {"ids": [waiting], "q": "nothing of this"}) == counts(0, 0)
    [left] = await w.rows("SELECT id FROM taxiway.videos WHERE status = 'failed'")
    assert str(left["id"]) == ids[2]


async def test_filters(w: World) -> None:
    first, second = await w.enqueue(), await w.enqueue()
    await w.enqueue(operation="text_to_video", input={"promptText": "a zebra"})

    async def matched(**wanted: Any) -> int:
        return (await batch(w, "cancel", wanted, dry_run=True))["matched"]

    assert await matched() == 3
    assert await matched(q=str(first)) == 1
    assert await matched(q="zebra") == 1
    assert await matched(q="nothing") == 0
    assert await matched(model="gen4.5") == 1
    assert await matched(status=["queued", "failed"]) == 3
    assert await matched(status="failed") == 0
    created = (await w.row(second))["created_at"].isoformat()
    assert await matched(created_after=created) == 2
    assert await matched(created_before=created) == 1
    bad = await w.api.post("/bulk/cancel", json={"filter": {"stat": "x", "status": "done"}, "limit": 501})
    assert bad.status_code == 422
    assert {"/filter/stat", "/limit"} <= {error["pointer"] for error in bad.json()["errors"]}
    assert (await w.api.post("/bulk/retry", json={})).status_code == 422
    assert (await w.anyone.post("/bulk/retry", json={"filter": {}})).status_code == 401
