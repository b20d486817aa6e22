"""The cheap checks: the same objects at each door, and nothing is missing that an installation does without."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.doctor import at_work
from service.doctor.checks import CheckStatus
from service.operations import pausing
from service.store import doctor_queries
from tests.app_tables import BASE, link
from tests.database import execute
from tests.invoking import taxiway
from tests.pages import check, control
from tests.world import API_KEY, RUNWAY_KEY, World, world

pytestmark = pytest.mark.anyio

READ = {"API_KEYS": API_KEY, "RUNWAYML_API_SECRET": RUNWAY_KEY, "CRON_SECRET": "cron-secret-for-tests-1"}


async def concerns(w: World) -> list[str]:
    found: list[str] = (await w.api.get("/health")).json()["concerns"]
    return found


async def test_each_door_shows_the_same_checks(database_url: str) -> None:
    async with control(database_url) as c:
        w = c.world
        w.faults("drop_after")
        await w.enqueue()
        await w.tick()
        await w.enqueue()
        await pausing.pause(w.ctx, "gen4_turbo", 7_200, "a fair")
        await w.later(minutes=31)
        found = at_work.checks(w.ctx.settings, await at_work.facts(w.ctx.database, w.ctx.settings), w.ctx.now())
        problems = at_work.problems(found)
        names = [one.name for one in problems]
        assert names == ["last tick", "oldest queued", "unknown", "paused, gen4_turbo"]
        assert problems[0].status is CheckStatus.ERROR
        assert [one.partition(":")[0] for one in await concerns(w)] == names
        page = check(await c.viewer.get("/"))
        said: list[dict[str, Any]] = json.loads((await taxiway(database_url, "status", **READ)).stdout)["checks"]
        whole: list[dict[str, Any]] = json.loads((await taxiway(database_url, "doctor", "--json", **READ)).stdout)
        for one in problems:
            assert f"{one.name[:1].upper()}{one.name[1:]}:" in page
            for door in (said, whole):
                [same] = [row for row in door if (row["area"], row["name"]) == (one.area, one.name)]
                assert (same["status"], same["fix"]) == (one.status.value, one.fix)


async def test_api_keys_are_not_missing_beside_linked_tables(database_url: str) -> None:
    async with world(database_url, api_keys=(), viewer_tokens=("viewer-token-for-tests",)) as w:
        w.api.headers["authorization"] = "Bearer viewer-token-for-tests"
        await w.tick()
        assert (await w.api.get("/health")).json()["missing_settings"] == ["API_KEYS"]
        await execute(database_url, BASE)
        await link(database_url)
        health = (await w.api.get("/health")).json()
        assert (health["missing_settings"], health["status"]) == ([], "ok"), health
        [row] = [row for row in health["doctor"] if row["name"] == "API_KEYS"]
        assert (row["status"], row["message"]) == ("ok", "not set, and not used here")


async def test_a_cron_secret_is_not_missing_beside_a_worker(database_url: str) -> None:
    async with world(database_url, cron_secret=()) as w:
        await w.tick(kind="worker")
        assert (await w.api.get("/health")).json()["missing_settings"] == []
        await w.tick()  # something calls, too
        assert (await w.api.get("/health")).json()["missing_settings"] == ["CRON_SECRET"]
        assert await at_work.unused(w.ctx.database, []) == frozenset()
        assert await doctor_queries.has_links(w.ctx.database) is False
