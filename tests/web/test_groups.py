"""POST /videos with a count: several videos of one request, all or none, and one key for all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from service.operations.groups import LARGEST_GROUP
from service.webhooks import new_secret
from tests.app_tables import BASE, link
from tests.database import execute
from tests.world import IMAGE, World, world

pytestmark = pytest.mark.anyio

INPUT = {"promptText": "a boat", "promptImage": IMAGE}
GOOD: dict[str, Any] = {"input": INPUT, "metadata": {"order": 7}}


async def post(w: World, count: int, key: str | None = None, **changes: Any) -> Any:
    headers = {} if key is None else {"idempotency-key": key}
    return await w.api.post("/videos", json=GOOD | {"count": count} | changes, headers=headers)


async def stored(w: World) -> int:
    return len(await w.rows("SELECT FROM taxiway.videos"))


@pytest.mark.parametrize("count", [2, LARGEST_GROUP])
async def test_a_count_makes_a_group(w: World, count: int) -> None:
    response = await post(w, count)
    assert response.status_code == 202
    group = response.json()
    assert response.headers["location"] == f"/videos?group={group['group']}"
    assert (group.keys(), group["size"]) == ({"group", "size", "videos"}, count)
    assert len({video["id"] for video in group["videos"]}) == count
    for video in group["videos"]:
        assert (video["group"], video["input"]["promptText"]) == (group["group"], "a boat")
        assert (video["metadata"], video["quoted_credits"], video["warnings"]) == ({"order": 7}, 25, [])
    await post(w, 2)
    await w.enqueue()
    listed = (await w.api.get(response.headers["location"])).json()
    assert [video["id"] for video in listed["videos"]] == [video["id"] for video in group["videos"]][::-1]
    rows = await w.rows("SELECT group_size FROM taxiway.videos WHERE group_id = $1", UUID(group["group"]))
    assert [row["group_size"] for row in rows] == [count] * count
    await w.finish()
    listed = (await w.api.get(response.headers["location"])).json()
    assert Counter(video["status"] for video in listed["videos"]) == {"completed": count}


async def test_one_alone_has_no_group(w: World) -> None:
    for response in (await post(w, 1), await w.api.post("/videos", json=GOOD)):
        video = response.json()
        assert (video["group"], response.headers["location"]) == (None, f"/videos/{video['id']}")
    assert (await w.api.get(f"/videos?group={uuid4()}")).json()["videos"] == []


@pytest.mark.parametrize("count", [0, 11, -1, 1.5, "2", True, None])
async def test_another_count_is_refused(w: World, count: Any) -> None:
    response = await post(w, count)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/count")


async def test_one_key_stands_for_the_group(w: World) -> None:
    answers = await asyncio.gather(*(post(w, 3, "order-7") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["group"] for answer in answers}) == 1
    ids = [[video["id"] for video in answer.json()["videos"]] for answer in answers]
    assert ids == [ids[0]] * 6
    assert await stored(w) == 3
    for other in (await post(w, 2, "order-7"), await post(w, 1, "order-7"), await post(w, 3, "order-7", priority=1)):
        assert (other.status_code, other.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key")
    assert await stored(w) == 3


async def test_a_repeat_shows_what_is_left_of_the_group(w: World) -> None:
    group = (await post(w, 3, "order-7")).json()
    first, second, third = (video["id"] for video in group["videos"])
    assert (await w.api.delete(f"/videos/{second}")).status_code == 204
    again = (await post(w, 3, "order-7")).json()
    assert [video["id"] for video in again["videos"]] == [first, third]
    assert (again["group"], again["size"]) == (group["group"], 3)
    assert (await w.api.delete(f"/videos/{first}")).status_code == 204
    assert (await post(w, 3, "order-7")).status_code == 410


async def test_all_of_them_or_none(w: World) -> None:
    await execute(
        w.url, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF (SELECT count(*) FROM taxiway.videos) >= 2 THEN RAISE 'no more than two'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON taxiway.videos FOR EACH ROW EXECUTE FUNCTION refuse()",
    )  # fmt: skip
    with pytest.raises(asyncpg.RaiseError, match="no more than two"):
        await post(w, 3, "order-7")
    assert await stored(w) == 0
    assert (await post(w, 2, "order-7")).status_code == 202


async def test_the_limits_count_all(database_url: str) -> None:
    async with world(database_url, max_queued=4, max_credits_per_day_by_key={"api-key-1": 100}) as w:
        first = (await post(w, 3, "order-7")).json()
        full = await post(w, 2)
        assert (full.status_code, await stored(w)) == (429, 3)
        assert "3 videos are queued, and MAX_QUEUED is 4: there is no room for 2 more" in full.json()["detail"]
        assert (await post(w, 3, "order-7")).json()["group"] == first["group"], "a repeat adds nothing"
        await w.enqueue()
    async with world(database_url, max_credits_per_day_by_key={"api-key-1": 149}) as w:
        dear = await post(w, 2)
        assert (dear.status_code, "100 of its 149 credits" in dear.json()["detail"]) == (429, True)
    async with world(database_url, max_credits_per_day_by_key={"api-key-1": 150}) as w:
        assert (await post(w, 2)).status_code == 202


async def test_each_has_a_seed_of_its_own(w: World) -> None:
    videos = (await post(w, 3, input=INPUT | {"seed": 7})).json()["videos"]
    assert [video["input"]["seed"] for video in videos] == [7, 8, 9]
    message = "each video of a group has a seed of its own: this one has that of the first plus 1"
    assert videos[0]["warnings"] == []
    assert videos[1]["warnings"] == [{"type": "other", "feature": "seed", "message": message}]
    largest = 4294967295
    assert (await post(w, 3, input=INPUT | {"seed": largest - 2})).status_code == 202
    refused = await post(w, 3, input=INPUT | {"seed": largest - 1})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/input/seed")


async def test_a_row_shows_one_video(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    refused = await post(w, 2, row={"link": "public.videos", "id": "1"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/count")


async def test_a_quote_is_for_all_of_them(w: World) -> None:
    quote = (await w.api.post("/quotes", json=GOOD | {"count": 3})).json()
    assert quote["quoted_credits"] == 75


async def test_a_repeat_with_another_address_is_reported_there(database_url: str) -> None:
    addresses = ["https://hooks.example.com/1", "https://hooks.example.com/2"]
    async with world(database_url, webhook_secrets=(new_secret(),)) as w:
        answers = [(await post(w, 2, "order-7", webhook_url=url)).json() for url in addresses]
        assert answers[0]["group"] == answers[1]["group"]
        rows = await w.rows("SELECT webhook_url FROM taxiway.videos")
        assert [row["webhook_url"] for row in rows] == [addresses[1]] * 2


async def test_a_whole_group_is_cancelled(w: World) -> None:
    group, other = (await post(w, 3)).json()["group"], await w.enqueue()
    counts = (await w.api.post("/bulk/cancel", json={"filter": {"group": group}})).json()
    assert (counts["done"], counts["left"]) == (3, 0)
    assert (await w.row(other))["status"] == "queued"


async def test_a_key_that_sees_its_own_alone_sees_no_other_group(database_url: str) -> None:
    keys = ("shop+own:shop-key-0123456789abc", "blog+own:blog-key-0123456789abc")
    async with world(database_url, api_keys=keys) as w:
        mine, theirs = ({"authorization": f"Bearer {key.partition(':')[2]}"} for key in keys)
        group = (await w.anyone.post("/videos", json=GOOD | {"count": 2}, headers=mine)).json()["group"]
        seen = [(await w.anyone.get(f"/videos?group={group}", headers=who)).json() for who in (mine, theirs)]
        assert [len(page["videos"]) for page in seen] == [2, 0]
