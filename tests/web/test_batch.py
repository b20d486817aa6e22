"""POST /videos/batch: many requests at once, each a video of its own."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from tests.world import API_KEY, IMAGE, World, world

pytestmark = pytest.mark.anyio

GOOD = {"input": {"promptText": "a boat", "promptImage": IMAGE}, "user_id": "ada", "metadata": {"n": 1}}
BAD = {"input": {"promptText": "a boat", "promptImage": IMAGE, "duration": 7_000}}
COUNT = "SELECT count(*) AS n FROM taxiway.videos"


async def send(w: World, requests: list[Any], *, key: str | None = None, **more: Any) -> Any:
    """The answer to a batch of these."""
    headers = {"idempotency-key": key} if key else {}
    return await w.api.post("/videos/batch", json={"requests": requests} | more, headers=headers)


async def count(w: World) -> int:
    """How many videos there are."""
    found: int = (await w.rows(COUNT))[0]["n"]
    return found


async def test_a_thousand_are_queued_by_few_statements_and_completed(w: World) -> None:
    requests = [GOOD | {"metadata": {"n": n}, "priority": n % 3} for n in range(1_000)]
    response = await send(w, requests)
    assert response.status_code == 202, response.text
    body = response.json()
    assert body["queued"] == 1_000
    assert [one["video"]["metadata"]["n"] for one in body["results"]] == list(range(1_000))
    ids = [one["video"]["id"] for one in body["results"]]
    assert ids == sorted(ids), "a list shows them in their order"
    [stored] = await w.rows("SELECT count(DISTINCT xmin::text) AS by FROM taxiway.videos")
    assert stored["by"] <= 10, "a few statements store them all"
    assert len(await w.rows("SELECT FROM taxiway.search WHERE user_id = 'ada'")) == 1_000
    assert len(await w.rows("SELECT FROM taxiway.events WHERE kind = 'enqueued' AND credits = 25")) == 1_000
    await w.rows("DELETE FROM taxiway.videos WHERE (metadata ->> 'n')::int >= 3")
    await w.finish()
    assert len(w.creates) == 3


async def test_all_or_none(w: World) -> None:
    refused = await send(w, [GOOD, BAD, GOOD | {"count": 2}, 5])
    assert refused.status_code == 422
    pointers = {one["pointer"] for one in refused.json()["errors"]}
    assert {"/requests/1/input/duration", "/requests/2/count", "/requests/3"} <= pointers
    assert await count(w) == 0


async def test_each_for_itself(w: World) -> None:
    response = await send(w, [BAD, GOOD, GOOD | {"unknown": 1}], atomic=False)
    assert response.status_code == 202
    body = response.json()
    assert body["queued"] == 1
    assert [bool(one["video"]) for one in body["results"]] == [False, True, False]
    first = body["results"][0]["error"]
    assert (first["status"], first["errors"][0]["pointer"]) == (422, "/input/duration")
    assert await count(w) == 1


async def test_a_batch_that_is_sent_again_returns_the_same_videos(w: World) -> None:
    requests = [GOOD, BAD, GOOD]
    answers = await asyncio.gather(*(send(w, requests, key="k1", atomic=False) for _ in range(3)))
    answers.append(await send(w, requests, key="k1", atomic=False))
    ids = [[one["video"] and one["video"]["id"] for one in answer.json()["results"]] for answer in answers]
    assert all(one == ids[0] for one in ids)
    assert await count(w) == 2
    assert answers[-1].headers["idempotent-replayed"] == "true"
    other = await send(w, [GOOD, GOOD], key="k1")
    assert other.status_code == 422
    assert other.json()["errors"][0]["pointer"] == "Idempotency-Key"
    assert "idempotent-replayed" not in (await send(w, [BAD], key="k2", atomic=False)).headers
    erased = ids[0][0]
    await w.rows("DELETE FROM taxiway.search")
    assert (await w.api.delete(f"/videos/{erased}")).status_code == 204
    again = (await send(w, requests, key="k1", atomic=False)).json()["results"]
    assert [(one["error"] or {}).get("status") for one in again] == [410, 422, None]
    assert await count(w) == 2


async def test_the_limits_say_what_to_do(database_url: str) -> None:
    limits: dict[str, Any] = {
        "max_queued": 5,
        "max_credits_per_day_by_key": {"shop": Decimal(60)},
        "max_body_bytes": 2_000,
    }
    async with world(database_url, api_keys=(API_KEY, "shop:another-key-for-tests-1"), **limits) as w:
        many = await send(w, [GOOD] * 6)
        assert many.status_code == 429
        assert "MAX_QUEUED is 5" in many.json()["detail"]
        w.api.headers["authorization"] = "Bearer another-key-for-tests-1"
        dear = await send(w, [GOOD] * 3, key="k")
        assert dear.status_code == 429
        assert "MAX_CREDITS_PER_DAY_BY_KEY" in dear.json()["detail"]
        assert (await send(w, [GOOD] * 2, key="k")).status_code == 202
        assert (await send(w, [GOOD] * 2, key="k")).status_code == 202, "a repeat adds nothing"
        assert await count(w) == 2
        large = await send(w, [GOOD | {"metadata": {"text": "x" * 2_000}}])
        assert large.status_code == 413
        assert "2000 bytes" in large.json()["detail"]
        assert (await send(w, [])).status_code == 422
