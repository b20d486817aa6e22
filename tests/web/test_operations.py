"""The operators' API: models, ticks, statistics, and attaching a task."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from service.store import models, throughput, ticks
from tests.database import execute
from tests.world import World, world

pytestmark = pytest.mark.anyio

ADMIN = "admin-token-for-tests-01"
VIEWER = "viewer-token-for-tests-1"
TOKENS: dict[str, Any] = {"admin_tokens": (ADMIN,), "viewer_tokens": (VIEWER,)}


async def ask(w: World, method: str, path: str, token: str = ADMIN, **more: Any) -> httpx.Response:
    return await w.anyone.request(method, path, headers={"authorization": f"Bearer {token}"}, **more)


# Who may


@pytest.mark.parametrize("path", ["/models", "/ticks", "/stats"])
async def test_a_viewer_may_look(database_url: str, path: str) -> None:
    async with world(database_url, **TOKENS) as w:
        assert (await ask(w, "GET", path, VIEWER)).status_code == 200
        assert (await ask(w, "GET", path, ADMIN)).status_code == 200
        assert (await w.api.get(path)).status_code == 401
        assert (await w.cron.get(path)).status_code == 401


@pytest.mark.parametrize(
    "path", ["/models/gen4_turbo/pause", "/models/gen4_turbo/resume", f"/videos/{UUID(int=7)}/attach"]
)
async def test_only_an_operator_may_act(database_url: str, path: str) -> None:
    async with world(database_url, **TOKENS) as w:
        for response in (await ask(w, "POST", path, VIEWER), await w.api.post(path), await w.anyone.post(path)):
            assert response.status_code == 401
        assert await w.rows("SELECT FROM taxiway.models WHERE reason IS NOT NULL") == []
    async with world(database_url) as w:
        assert (await ask(w, "POST", path)).json()["missing"] == ["ADMIN_TOKENS"]


# Models


async def test_a_model_is_paused_and_resumed(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        await w.enqueue()
        paused = await ask(w, "POST", "/models/gen4_turbo/pause", json={"seconds": 600, "why": "the supplier moves"})
        assert (paused.status_code, paused.json()["reason"], paused.json()["detail"]) == (
            200, "manual", "the supplier moves",
        )  # fmt: skip
        assert paused.json()["queued"] == 1
        left = datetime.fromisoformat(paused.json()["paused_until"]) - datetime.now(UTC)
        assert 590 < left.total_seconds() < 610
        assert (await w.tick())["submit"]["claimed"] == 0
        resumed = await ask(w, "POST", "/models/gen4_turbo/resume")
        assert (resumed.json()["paused"], resumed.json()["paused_until"]) == (False, None)
        assert (await w.tick())["submit"]["claimed"] == 1
        assert (await ask(w, "POST", "/models/gen4_turbo/resume")).status_code == 200


async def test_all_models_at_once_and_one_that_nobody_used(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        everything = await ask(w, "POST", "/models/all/pause")
        assert (everything.json()["model"], everything.json()["paused"]) == ("all", True)
        await w.enqueue()
        assert (await w.tick())["submit"]["claimed"] == 0
        unused = await ask(w, "POST", "/models/gen4.5/resume")
        assert unused.json() == {
            "model": "gen4.5", "paused": False, "reason": None, "detail": None, "paused_until": None, "paused_at": None,
            "queued": 0, "in_flight": 0, "may_be_in_flight": None,
        }  # fmt: skip


@pytest.mark.parametrize("act", ["pause", "resume"])
async def test_an_unknown_model_names_the_known_ones(database_url: str, act: str) -> None:
    async with world(database_url, **TOKENS) as w:
        response = await ask(w, "POST", f"/models/gen4-turbo/{act}")
        assert (response.status_code, response.json()["title"]) == (404, "There is no such model")
        assert {"all", "gen4_turbo", "gen4.5"} <= set(response.json()["models"])
        assert "gen4_turbo" in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"seconds": 0}, "/seconds"), ({"seconds": 31 * 86_400 + 1}, "/seconds"), ({"why": "\x00"}, "/why"),
     ({"why": "x" * 201}, "/why"), ({"until": "tomorrow"}, "/until")],
)  # fmt: skip
async def test_a_pause_has_bounds(database_url: str, body: dict[str, Any], pointer: str) -> None:
    async with world(database_url, **TOKENS) as w:
        response = await ask(w, "POST", "/models/gen4_turbo/pause", json=body)
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_models_say_what_waits_and_what_is_at_runway(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        await w.enqueue()
        await w.tick()
        await w.enqueue()
        await w.enqueue(operation="text_to_video", input={"promptText": "a boat"})
        await models.pause(w.ctx.database, "gen4.5", 900, "no_credits", "not enough credits")
        body = {model["model"]: model for model in (await ask(w, "GET", "/models")).json()["models"]}
        assert list(body) == ["all", "gen4.5", "gen4_turbo"]
        assert {name: (model["queued"], model["in_flight"], model["reason"]) for name, model in body.items()} == {
            "all": (2, 1, None), "gen4.5": (1, 0, "no_credits"), "gen4_turbo": (1, 1, None),
        }  # fmt: skip


# Ticks


async def test_ticks_say_what_each_did(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        await w.enqueue()
        first = await w.tick()
        w.faults("reset", "reset", "reset")
        second = (await w.cron.get("/poll-processing")).json()
        body = (await ask(w, "GET", "/ticks")).json()["ticks"]
        assert [tick["kind"] for tick in body] == ["poll", "tick"]
        assert [tick["ref"] for tick in body] == [second["ref"], first["ref"]]
        assert body[0]["ref"] != body[1]["ref"]
        assert body[1]["counts"]["submit"]["accepted"] == 1
        assert body[1]["seconds"] >= 0
        assert body[1]["error"] is None
        assert len((await ask(w, "GET", "/ticks?limit=1")).json()["ticks"]) == 1
        for limit in ("0", "201", "many"):
            assert (await ask(w, "GET", f"/ticks?limit={limit}")).status_code == 422
        assert (await ask(w, "GET", "/ticks?last=1")).json()["errors"][0]["pointer"] == "/last"


async def test_a_row_of_an_older_version_is_a_tick_too(w: World) -> None:
    await execute(w.url, "INSERT INTO taxiway.ticks (kind) VALUES ('tick')")
    [row] = await ticks.recent(w.ctx.database, 5)
    assert (row["ref"], row["counts"], row["seconds"]) == (None, {}, None)


# Statistics


@pytest.mark.parametrize(("window", "count", "seconds"), [("hour", 60, 60), ("day", 96, 900), ("week", 168, 3600)])
async def test_a_window_is_full_of_buckets(database_url: str, window: str, count: int, seconds: int) -> None:
    async with world(database_url, **TOKENS) as w:
        body = (await ask(w, "GET", f"/stats?window={window}", VIEWER)).json()
        assert (body["window"], body["bucket_seconds"], len(body["buckets"])) == (window, seconds, count)
        times = [datetime.fromisoformat(bucket["at"]).timestamp() for bucket in body["buckets"]]
        assert {later - earlier for earlier, later in pairwise(times)} == {seconds}
        assert times[-1] <= datetime.now(UTC).timestamp() < times[-1] + seconds + 5
        assert {bucket["done_p95"] for bucket in body["buckets"]} == {None}
        assert (await ask(w, "GET", "/stats?window=year")).status_code == 422


async def test_what_enters_and_what_ends_is_counted_where_it_belongs(w: World) -> None:
    rows = """
        INSERT INTO taxiway.videos (status, created_at, submitted_at, finished_at)
        SELECT status, at - make_interval(secs => done), at - make_interval(secs => done - submit), at
        FROM (VALUES ('completed', 10, 60), ('completed', 20, 120), ('failed', 900, 1000), ('cancelled', NULL, 30))
                 AS v(status, submit, done),
             (SELECT date_trunc('hour', now()) - interval '26 hours 30 minutes') AS t(at)
    """
    under_way = (
        "INSERT INTO taxiway.videos (status, runway_video_id, submitted_at) VALUES ('processing', 'a task', now())"
    )
    await execute(w.url, rows, "INSERT INTO taxiway.videos (status) VALUES ('queued')", under_way)
    week = await throughput.series(w.ctx.database, "week")
    [ended] = [bucket for bucket in week if bucket.completed]
    assert (ended.completed, ended.failed, ended.enqueued) == (2, 1, 4)
    assert (ended.submit_p50, ended.done_p50) == (20, 90)
    assert ended.submit_p95 == pytest.approx(20 + 0.9 * 880)
    assert ended.done_p95 == pytest.approx(117)
    assert sum(bucket.enqueued for bucket in week) == 6
    assert week[-1].enqueued == 2
    day = await throughput.series(w.ctx.database, "day")
    assert sum(bucket.enqueued for bucket in day) == 2


async def test_in_flight_by_model(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        await w.enqueue()
        await w.enqueue()
        await w.tick()
        await w.enqueue()
        await execute(
            database_url,
            "INSERT INTO taxiway.submissions (video_id, model, call_deadline, deadline) "
            "VALUES (gen_random_uuid(), 'gen4.5', now() + interval '1 min', now() + interval '2 min')",
        )
        assert await throughput.in_flight(w.ctx.database) == {"gen4_turbo": 2, "gen4.5": 1}
        assert (await ask(w, "GET", "/stats")).json()["in_flight"] == {"gen4_turbo": 2, "gen4.5": 1}


@pytest.mark.parametrize("window", ["hour", "day", "week"])
async def test_statistics_come_from_indexes_alone(w: World, window: str) -> None:
    await execute(
        w.url,
        "INSERT INTO taxiway.videos (status, prompt, created_at, finished_at) "
        "SELECT 'completed', repeat('x', 500), now() - g * interval '4 min', now() - g * interval '4 min' "
        "FROM generate_series(1, 20000) g",
        "VACUUM ANALYZE taxiway.videos",
    )
    seconds, count = throughput.BUCKETS[throughput.Span(window)]
    plan = await w.ctx.database.fetch(f"EXPLAIN {throughput._SERIES}", seconds, count)
    lines = [line for (line,) in plan if " on videos" in line]
    assert [line.split("->")[1].split("(")[0].strip().split(" on videos")[0] for line in lines] == [
        "Index Scan using videos_poll", "Index Only Scan using videos_listed",
        "Index Only Scan using videos_finished",
    ]  # fmt: skip


# Adoption


async def test_an_operator_attaches_a_task(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        w.faults("drop_after")
        video_id = await w.enqueue()
        await w.tick()
        [entry] = w.creates
        for _ in range(2):
            response = await ask(w, "POST", f"/videos/{video_id}/attach", json={"task_id": entry.task_id})
            assert (response.status_code, response.json()["status"]) == (200, "processing")
            assert response.json()["runway_video_id"] == entry.task_id
        await w.finish()
        assert (await w.row(video_id))["status"] == "completed"
        other = await w.enqueue()
        taken = await ask(w, "POST", f"/videos/{other}/attach", json={"task_id": entry.task_id})
        assert (taken.status_code, str(video_id) in taken.json()["detail"]) == (409, True)


async def test_what_cannot_be_attached_says_why(database_url: str) -> None:
    async with world(database_url, **TOKENS) as w:
        video_id = await w.enqueue()
        unknown = await ask(w, "POST", f"/videos/{video_id}/attach", json={"task_id": str(uuid4())})
        assert (unknown.status_code, "does not know the task" in unknown.json()["detail"]) == (409, True)
        for video, status in ((uuid4(), 404), ("x", 404), (video_id, 422)):
            response = await ask(
                w, "POST", f"/videos/{video}/attach", json={"task_id": "a/b" if status == 422 else "a"}
            )
            assert response.status_code == status
    async with world(database_url, runway_key=None, **TOKENS) as w:
        response = await ask(w, "POST", f"/videos/{video_id}/attach", json={"task_id": "a"})
        assert response.json()["missing"] == ["RUNWAYML_API_SECRET"]
