"""The cron routes, health, OpenAPI, and how the app is put together."""

from __future__ import annotations

import asyncio
import json
import logging
from importlib.metadata import PackageNotFoundError
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

import service
from service import app as apps
from service.app import ENDPOINTS, create_app
from service.context import build
from service.errors import BadSettings
from service.store import models
from tests.database import connected, execute
from tests.world import API_KEY, CRON_SECRET, World, settings, world

pytestmark = pytest.mark.anyio


# The cron routes


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_cron_call_is_a_tick(w: World, method: str, slash: str) -> None:
    video_id = await w.enqueue()
    response = await w.cron.request(method, f"/process-queued{slash}?budget=4")
    assert response.status_code == 200
    assert response.json()["submit"]["accepted"] == 1
    await w.later(minutes=1)
    response = await w.cron.request(method, f"/poll-processing{slash}")
    assert response.json()["poll"]["completed"] == 1
    assert (await w.row(video_id))["status"] == "completed"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/process-queued", "/process-queued/", "/poll-processing", "/poll-processing/"])
async def test_looking_at_a_cron_route_processes_nothing(w: World, method: str, path: str) -> None:
    await w.enqueue()
    response = await w.cron.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (204, "GET, POST")
    assert w.creates == []
    assert await w.rows("SELECT FROM taxiway.ticks") == []


@pytest.mark.parametrize("path", ["/process-queued", "/poll-processing"])
async def test_cron_routes_are_closed_without_their_secret(database_url: str, path: str) -> None:
    async with world(database_url) as w:
        for headers in ({}, {"authorization": f"Bearer {API_KEY}"}, {"authorization": CRON_SECRET}):
            response = await w.anyone.get(path, headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    async with world(database_url, cron_secret=()) as w:
        response = await w.cron.get(path)
        assert (response.status_code, response.json()["missing"]) == (503, ["CRON_SECRET"])


async def test_one_of_several_secrets_will_do(database_url: str) -> None:
    async with world(database_url, cron_secret=("a-new-secret-of-the-cron", CRON_SECRET)) as w:
        assert (await w.cron.get("/process-queued")).status_code == 200


@pytest.mark.parametrize("budget", ["0", "-1", "x", "nan", "3601", "inf", ""])
async def test_a_budget_is_a_number_of_seconds(w: World, budget: str) -> None:
    response = await w.cron.get("/process-queued", params={"budget": budget})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "?budget")


async def test_a_tick_that_cannot_run_says_why(database_url: str) -> None:
    async with world(database_url, runway_key=None) as w:
        response = await w.cron.get("/process-queued")
        assert (response.status_code, response.json()["missing"]) == (503, ["RUNWAYML_API_SECRET"])
        assert response.headers["retry-after"] == "10"
    async with world("postgresql://nobody@127.0.0.1:9/nothing") as w:
        response = await w.cron.get("/process-queued")
        assert (response.status_code, response.json()["type"]) == (503, "urn:taxiway:problem:database-unavailable")
        assert "127.0.0.1" not in response.text
    async with world(database_url, database_url=None) as w:
        response = await w.cron.get("/process-queued")
        assert (response.status_code, response.json()["missing"]) == (503, ["DATABASE_URL"])


async def test_a_tick_answers_200_when_there_was_nothing_or_runway_was_down(w: World) -> None:
    nothing = await w.cron.get("/process-queued")
    assert nothing.status_code == 200
    await w.enqueue()
    w.faults({"simulate": "status=503, body=runway"})
    down = await w.cron.get("/process-queued")
    assert (down.status_code, down.json()["submit"]["rejected"]) == (200, 1)


async def test_overlapping_ticks_share_the_work(w: World) -> None:
    for _ in range(25):
        await w.enqueue()
    answers = await asyncio.gather(*(w.cron.post("/process-queued") for _ in range(5)))
    assert sum(answer.json()["submit"]["accepted"] for answer in answers) == 25
    assert len(w.creates) == 25


# Health


async def test_health_tells_the_truth(database_url: str) -> None:
    async with world(database_url, api_keys=(API_KEY,), runway_key=None) as w:
        report = (await w.api.get("/health")).json()
        assert report["status"] == "attention"
        assert report["missing_settings"] == ["RUNWAYML_API_SECRET"]
        assert any("no tick ever ran" in concern for concern in report["concerns"])
    async with world(database_url) as w:
        await w.tick()
        assert (await w.api.get("/health")).json()["status"] == "ok"
        w.faults("drop_after")
        await w.enqueue()
        await w.tick()
        await w.enqueue()
        await models.pause(w.ctx.database, "gen4.5", 900, "daily_limit", "Your daily task limit has been reached.")
        await w.later(minutes=11)
        report = (await w.api.get("/health")).json()
        assert report["counts"] == {"failed": 1, "queued": 1}
        assert report["oldest_queued_seconds"] >= 660
        assert (report["stuck"], report["unknown"], report["unknown_credits"]) == (0, 1, 25)
        assert report["last_tick"]["age_seconds"] >= 660
        assert report["models_paused"][0]["reason"] == "daily_limit"
        named = [concern.partition(":")[0] for concern in report["concerns"]]
        assert named == ["last tick", "oldest queued", "unknown", "paused, gen4.5"]


async def test_an_unknown_outcome_with_consent_is_no_question_any_more_and_may_still_have_cost(
    w: World,
) -> None:
    w.faults("drop_after")
    video_id = await w.enqueue()
    await w.tick()
    for consented, open_questions in ((False, 1), (True, 0)):
        if consented:
            await w.api.post(f"/videos/{video_id}/retry", json={"accept_double_charge": True})
        report = (await w.api.get("/health")).json()
        assert (report["unknown"], report["unknown_credits"]) == (open_questions, 25)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE taxiway.submissions SET opened_at = taxiway.now() - interval '1 day', "
        "call_deadline = taxiway.now() - interval '23 h', "
        "deadline = taxiway.now() - interval '22 h', outcome = NULL, closed_at = NULL, task_id = NULL",
        "UPDATE taxiway.videos SET poll_after = taxiway.now() - interval '2 h'",
    ],
)
async def test_what_is_stuck_is_counted(w: World, sql: str) -> None:
    await w.enqueue()
    await w.tick()
    await execute(w.url, sql)
    report = (await w.api.get("/health")).json()
    assert report["stuck"] == 1
    assert any(concern.startswith("stuck: ") and "1 under way" in concern for concern in report["concerns"])


async def test_health_without_a_database(database_url: str, empty_database_url: str) -> None:
    async with world("postgresql://nobody@127.0.0.1:9/nothing") as w:
        assert (await w.anyone.get("/health/live")).status_code == 200
        assert (await w.anyone.get("/health/ready")).status_code == 503
        report = await w.api.get("/health")
        assert (report.status_code, report.json()["status"]) == (503, "down")
    async with world(empty_database_url) as w:
        report = await w.api.get("/health")
        assert (report.status_code, "migrate" in report.json()["database"]) == (503, True)
    async with world(database_url) as w:
        assert (await w.anyone.get("/health/ready")).json() == {"status": "ready"}


async def test_readiness_does_not_wait_for_a_database_that_hangs(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.web.health.READY_SECONDS", 0.05)

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(w.ctx.database, "fetchval", hang)
    assert (await w.anyone.get("/health/ready")).status_code == 503


# OpenAPI


async def test_the_document_is_valid_and_names_every_route(database_url: str) -> None:
    async with world(database_url) as w:
        document = (await w.anyone.get("/openapi.json")).json()
    validate(document)
    served = {(one.path, method) for one in ENDPOINTS for method in one.methods}
    described = {(path, verb.upper()) for path, item in document["paths"].items() for verb in item}
    assert {(path, verb) for path, verb in served if verb not in ("HEAD", "OPTIONS")} == described
    assert document["openapi"] == "3.1.0"
    assert "image_to_video.gen4_turbo" in document["components"]["schemas"]


async def test_the_version_is_reported_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(service, "version", lambda _: "1.2.3")
    assert service.version_of_package() == "1.2.3"
    monkeypatch.setattr(service, "version", nothing)
    assert service.version_of_package() == "0"


# The app


async def test_what_is_not_served_is_a_problem(w: World) -> None:
    for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/videos", 405), ("GET", "/videos/", 404)):
        response = await w.api.request(method, path)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert set(response.json()) == {"type", "title", "status", "detail"}


async def test_a_defect_is_reported_without_its_trace(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = build(settings(database_url))
    monkeypatch.setattr("service.store.models.paused", lambda _: 1 / 0)
    transport = httpx.ASGITransport(app=create_app(ctx), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://taxiway.test") as client:
        response = await client.get("/health")
    await ctx.database.close()
    assert (response.status_code, response.json()["type"]) == (500, "urn:taxiway:problem:internal-error")
    assert "ZeroDivisionError" not in response.text


async def test_the_bare_app_needs_no_lifespan(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    apps._from_environment.cache_clear()
    transport = httpx.ASGITransport(app=apps.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://taxiway.test") as client:
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/videos")).json()["missing"] == ["API_KEYS"]
    await apps._from_environment().state.ctx.database.close()  # type: ignore[attr-defined]
    apps._from_environment.cache_clear()


async def test_the_bare_app_names_contradictions_instead_of_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARD_LIMIT", "10")
    monkeypatch.setenv("DATABASE_URL", "mysql://x")
    apps._from_environment.cache_clear()
    transport = httpx.ASGITransport(app=apps.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://taxiway.test") as client:
        response = await client.get("/health")
    assert response.status_code == 503
    assert "HARD_LIMIT" in response.json()["detail"]
    assert "DATABASE_URL must start with" in response.json()["detail"]
    with pytest.raises(BadSettings):
        await apps.app({"type": "lifespan"}, _nothing, _nothing)


async def _nothing(*_: Any) -> Any:
    raise AssertionError(json.dumps("not called"))


async def test_the_lifespan_closes_the_pool(own_database_url: str) -> None:
    ctx = build(settings(own_database_url))
    app = create_app(ctx)
    async with app.router.lifespan_context(app):
        assert await ctx.database.fetchval("SELECT 1") == 1
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with connected(own_database_url) as connection, asyncio.timeout(5):
        while await connection.fetchval(others):  # noqa: ASYNC110  # the server notices a moment later
            await asyncio.sleep(0.01)
