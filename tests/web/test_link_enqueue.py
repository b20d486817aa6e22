"""POST /videos with a row of a linked table: one video for a row that has not ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.app_tables import BASE, link
from tests.database import execute
from tests.db.test_link_gate import app_row, charging, insert, intake_only
from tests.world import IMAGE, World

pytestmark = pytest.mark.anyio


def body(key: str, table: str = "public.videos") -> dict[str, Any]:
    return {"input": {"promptText": "a boat", "promptImage": IMAGE}, "row": {"link": table, "id": key}}


async def draft(w: World) -> str:
    [row] = await w.rows("INSERT INTO public.videos (prompt, status) VALUES ('a', 'processing') RETURNING id::text")
    return str(row["id"])


@pytest.mark.parametrize("name", ["public.videos", "videos"])
async def test_a_row_shows_the_video_that_was_made_through_the_api(w: World, name: str) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    key = await draft(w)
    response = await w.api.post("/videos", json=body(key.upper(), name))
    assert response.status_code == 202, response.text
    assert (await w.tick())["intake"]["mapped"] == 0
    await w.finish()
    row = await app_row(w, key)
    assert (row["status"], row["video_url"] is not None) == ("completed", True)
    assert len(w.creates) == 1


async def test_a_row_whose_video_has_not_ended_takes_no_other(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    key = await insert(w)
    await intake_only(w)
    [video] = await w.rows("SELECT id FROM taxiway.videos")
    response = await w.api.post("/videos", json=body(key))
    assert (response.status_code, response.json()["video_id"]) == (409, str(video["id"]))
    await w.finish()
    first = len(w.creates)
    assert (await w.api.post("/videos", json=body(key))).status_code == 202
    await w.finish()
    assert len(w.creates) == first + 1
    assert (await w.rows("SELECT count(*) AS n FROM taxiway.rows"))[0]["n"] == 1
    [before] = await w.rows("SELECT link_id FROM taxiway.videos WHERE id = $1", video["id"])
    assert before["link_id"] is None


async def test_the_same_idempotency_key_returns_the_same_video(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    key = await draft(w)
    answers = [await w.api.post("/videos", json=body(key), headers={"idempotency-key": "one"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(await w.rows("SELECT FROM taxiway.videos")) == 1


@pytest.mark.parametrize(
    ("row", "pointer"),
    [
        ({"link": "nothing", "id": "1"}, "/row/link"),
        ({"link": "videos", "id": "not a uuid"}, "/row/id"),
        ({"link": "videos", "id": "5b3a2f0e-0000-4000-8000-000000000001"}, "/row/id"),
        ({"link": "videos"}, "/row/id"),
    ],
)
async def test_a_row_that_is_not_there_is_a_problem_of_the_request(w: World, row: dict[str, str], pointer: str) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    response = await w.api.post("/videos", json=body("x") | {"row": row})
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == pointer


async def test_a_paused_link_takes_no_row_and_says_why(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    key = await draft(w)
    await execute(w.url, "ALTER TABLE public.videos DROP COLUMN prompt")
    response = await w.api.post("/videos", json=body(key))
    assert response.status_code == 409
    assert "prompt" in response.json()["detail"]


async def test_the_gate_is_asked_for_it_as_well(w: World) -> None:
    await charging(w.url)
    key = await insert(w, 2)
    assert (await w.api.post("/videos", json=body(key))).status_code == 202
    await w.finish()
    assert (await app_row(w, key))["status"] == "failed"
    assert w.creates == []


async def test_intake_and_the_api_at_the_same_moment_make_one_video(w: World) -> None:
    await execute(w.url, BASE)
    await link(w.url)
    keys = [await insert(w) for _ in range(12)]
    answers, *_ = await asyncio.gather(
        asyncio.gather(*(w.api.post("/videos", json=body(key)) for key in keys)), intake_only(w), intake_only(w)
    )
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len(await w.rows("SELECT FROM taxiway.videos")) == 12
    rows = await w.rows("SELECT FROM taxiway.rows r JOIN taxiway.videos v ON v.id = r.video_id")
    assert len(rows) == 12
