"""Runway, connections and the database as they were met in the field, by the number of the case.

Others of these cases are tested where they belong:

* R1, an outage: test_outages.test_an_outage_costs_a_handful_from_cold and …_a_window_and_a_handful_when_warm
* R4, R5, kept connections: test_client.TestConnections
* R13, R14, R21, durability: test_durable, and on a cluster cluster/test_failover
* R16, a suspended machine: test_steps.test_nothing_is_sent_by_a_machine_that_was_suspended_after_its_claim
* R17, priority: test_ageing
* R20, R22, a database that went back: test_identity, and on a cluster cluster/test_failover, cluster/test_asynchronous
* R18, 10,000 callbacks at once: test_callback_storm.test_thousands_of_callbacks_are_kept_while_other_routes_answer
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.operations import attaching
from service.store import models
from tests.virtual import CALL_SECONDS, Virtual, five_percent, virtual
from tests.world import IMAGE, World, world

pytestmark = pytest.mark.anyio

HTML = {"content-type": "text/html"}
BACKLOG = """
INSERT INTO taxiway.videos (operation, model, input, quoted_credits, origin, expires_at)
SELECT 'image_to_video', 'gen4_turbo', $2::jsonb || jsonb_build_object('promptText', $3::text || n), 25, 'api',
       taxiway.now() + interval '7 days'
FROM generate_series(1, $1) n
"""


async def backlog(w: World, count: int, words: str = "boat ") -> None:
    """So many videos that wait."""
    await w.rows("INSERT INTO taxiway.models (model) VALUES ('gen4_turbo') ON CONFLICT DO NOTHING")
    body = {"model": "gen4_turbo", "promptImage": IMAGE, "ratio": "1280:720", "duration": 5}
    await w.rows(BACKLOG, count, json.dumps(body), words)


async def by_status(w: World) -> dict[str, int]:
    """How many videos there are of each status."""
    return {row["status"]: row["n"] for row in await w.rows("SELECT status, count(*) n FROM taxiway.videos GROUP BY 1")}


class Gateway(httpx.AsyncBaseTransport):
    """In front of Runway: answers what it does not like itself, in HTML."""

    def __init__(self, w: World, status: int) -> None:
        self._runway, self._status = httpx.ASGITransport(app=w.runway), status

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        if b"DROP TABLE" in body or (self._status == 413 and len(body) > 1_000_000):
            return httpx.Response(self._status, headers=HTML, content=b"<html>Request blocked</html>")
        return await self._runway.handle_async_request(request)


async def test_an_html_page_to_every_create_pauses_the_model_and_fails_nothing(database_url: str) -> None:
    """R2."""
    async with world(database_url, options={"credits": 100_000, "tier": 5}) as w:
        await backlog(w, 500)
        w.faults({"simulate": "status=403, body=html", "times": 10_000})
        for _ in range(6):
            await w.tick()
            await w.later(minutes=2)
        assert await by_status(w) == {"queued": 500}
        [paused] = await models.paused(w.ctx.database)
        assert (paused["model"], paused["reason"]) == ("gen4_turbo", "not_runway")
        assert "without Runway's JSON error" in paused["detail"]
        refused = await w.rows("SELECT refusals, count(*) n FROM taxiway.videos GROUP BY 1 ORDER BY 1")
        first, probes = 2, 5  # a circuit begins at two
        # Each probe took a video that had not been refused yet; nobody was refused twice.
        assert {row["refusals"]: row["n"] for row in refused} == {0: 500 - first - probes, 1: first + probes}
        w.runway.state.runway.faults.clear()
        await w.later(minutes=2)
        assert (await w.tick())["submit"]["accepted"] >= 1  # the probe; the others follow
        for _ in range(8):
            await w.tick()
            await w.later(minutes=2)
        assert set(await by_status(w)) <= {"processing", "completed"}
        assert len(w.creates) == 500 + first + probes


@pytest.mark.parametrize(("status", "tries"), [(403, 3), (413, 1)])
async def test_what_a_gateway_refuses_of_one_video_alone_costs_no_other(w: World, status: int, tries: int) -> None:
    """R2b: it stands first in the queue each time."""
    await backlog(w, 100)
    await backlog(w, 1, "'; DROP TABLE x; -- ")
    first = "UPDATE taxiway.videos SET priority = 100 WHERE input ->> 'promptText' LIKE '%DROP%' RETURNING id"
    [bad] = await w.rows(first)
    behind = replace(w, ctx=replace(w.ctx, transport=lambda: Gateway(w, status)))
    await behind.finish(rounds=25)
    assert await by_status(w) == {"completed": 100, "failed": 1}
    row = await w.row(bad["id"])
    assert (row["error_code"], row["finished_at"] is not None) == ("REFUSED_BY_GATEWAY", True)
    assert "nothing paid" in row["error_message"]
    assert [entry["http_status"] for entry in await w.ledger(bad["id"])] == [status] * tries
    assert [entry["outcome"] for entry in await w.ledger(bad["id"])] == ["rejected"] * tries
    assert len(w.creates) == 100


async def test_several_that_a_gateway_refuses_do_not_probe_in_turn_while_good_ones_wait(w: World) -> None:
    """R2b: a probe takes one that was never refused, not only another than the last."""
    await backlog(w, 20)
    await backlog(w, 4, "'; DROP TABLE x; -- ")
    await w.rows("UPDATE taxiway.videos SET priority = 100 WHERE input ->> 'promptText' LIKE '%DROP%'")
    behind = replace(w, ctx=replace(w.ctx, transport=lambda: Gateway(w, 403)))
    for _ in range(8):
        await behind.tick()
        await w.later(minutes=2)
    assert (await by_status(w)).get("completed", 0) > 0


async def test_a_video_alone_waits_for_its_gateway(w: World) -> None:
    """R2b: without others that pass, nothing says that it is the video; it waits until its time is over."""
    await backlog(w, 1, "'; DROP TABLE x; -- ")
    behind = replace(w, ctx=replace(w.ctx, transport=lambda: Gateway(w, 403)))
    for _ in range(12):
        await behind.tick()
        await w.later(minutes=10)
    assert await by_status(w) == {"queued": 1}
    await w.later(days=8)
    await behind.tick()
    [video] = await w.rows("SELECT error_code FROM taxiway.videos")
    assert video["error_code"] == "EXPIRED"


@asynccontextmanager
async def sent(url: str, count: int = 1) -> AsyncIterator[tuple[World, list[UUID]]]:
    """So many videos whose tasks are done at Runway, and due."""
    async with world(url) as w:
        ids = [await w.enqueue() for _ in range(count)]
        await w.tick()
        await w.later(minutes=1)
        yield w, ids


def vanished(times: int) -> dict[str, Any]:
    """So many GETs say 404."""
    return {"simulate": "vanish", "on": "retrieve", "times": times}


async def until_vanished(w: World, video_id: UUID) -> float:
    """Tick every half minute until the video has failed; how many seconds that took."""
    for n in range(30):
        await w.tick()
        row = await w.row(video_id)
        if row["status"] != "processing":
            assert (row["status"], row["error_code"]) == ("failed", "TASK_VANISHED")
            return n * 30
        await w.later(seconds=30)
    raise AssertionError("it never failed")


async def test_one_404_is_not_believed(database_url: str) -> None:
    """R3."""
    async with sent(database_url) as (w, [video_id]):
        w.faults(vanished(1))
        await w.tick()
        row = await w.row(video_id)
        assert (row["status"], row["task_status"]) == ("processing", "GONE")
        await w.finish()
        [entry] = await w.ledger(video_id)
        assert ((await w.row(video_id))["status"], entry["missing"], entry["missing_since"]) == ("completed", 0, None)
        assert len(w.creates) == 1


async def test_a_task_that_vanished_may_have_been_charged_and_is_found_later(database_url: str) -> None:
    """R3."""
    async with sent(database_url) as (w, [video_id]):
        w.faults(vanished(4))
        assert await until_vanished(w, video_id) == 300
        [entry] = await w.ledger(video_id)
        assert (entry["outcome"], entry["settled_at"], entry["task_id"] is not None) == ("unknown", None, True)
        assert (await w.api.get("/health")).json()["unknown"] == 1
        assert (await w.api.post(f"/videos/{video_id}/retry")).status_code == 409
        bulk = {"filter": {"error_code": "TASK_VANISHED"}}
        assert (await w.api.post("/bulk/retry", json=bulk)).json()["skipped"] == 1
        for _ in range(2):  # the fourth 404, and then the task
            await w.later(hours=1)
            counts = await w.tick()
        assert counts["poll"]["found"] == 1
        await w.finish()
        [entry] = await w.ledger(video_id)
        assert ((await w.row(video_id))["status"], entry["outcome"], entry["cost_credits"]) == (
            "completed", "accepted", 25,
        )  # fmt: skip
        assert len(w.creates) == 1


async def test_a_task_that_vanished_and_is_found_beside_another_is_deleted(database_url: str) -> None:
    """R3: a retry with consent, whose task is the one that counts."""
    async with sent(database_url) as (w, [video_id]):
        w.faults(vanished(3))
        await until_vanished(w, video_id)
        retry = await w.api.post(f"/videos/{video_id}/retry", json={"accept_double_charge": True})
        assert retry.status_code == 202
        await w.finish()
        assert len(w.creates) == 2
        await w.later(hours=1)
        await w.tick()
        await w.later(minutes=1)
        await w.tick()
        first, second = await w.ledger(video_id)
        assert (first["cancel_reason"], first["settled_at"] is not None) == ("surplus", True)
        assert ((await w.row(video_id))["status"], second["cancel_reason"]) == ("completed", None)
        assert w.creates[0].deleted


async def test_an_operator_attaches_a_task_that_vanished(database_url: str) -> None:
    """R3."""
    async with sent(database_url) as (w, [video_id]):
        w.faults(vanished(3))
        await until_vanished(w, video_id)
        [entry] = await w.ledger(video_id)
        attached = await attaching.attach(w.ctx, video_id, entry["task_id"])
        assert attached == "moved"
        await w.later(minutes=1)
        await w.finish()
        assert (await w.row(video_id))["status"] == "completed"


async def test_after_a_day_nobody_asks_for_a_task_that_vanished(database_url: str) -> None:
    """R3."""
    async with sent(database_url) as (w, [video_id]):
        w.faults(vanished(1000))
        await until_vanished(w, video_id)
        for _ in range(27):
            await w.later(hours=1)
            await w.tick()
        [entry] = await w.ledger(video_id)
        assert (entry["look_due"], entry["outcome"], entry["settled_at"]) == (None, "unknown", None)


async def test_with_the_key_of_another_account_nothing_vanishes(database_url: str) -> None:
    """R3: nor is a task believed to be deleted; and with the right key all of them complete."""
    async with sent(database_url, 6) as (w, ids):
        cancelled = ids.pop()
        assert (await w.api.post(f"/videos/{cancelled}/cancel")).status_code == 200
        everything = [vanished(1000), {"simulate": "status=404", "on": "delete", "times": 1000}]
        w.faults(*everything)
        for _ in range(25):
            await w.tick()
            await w.later(minutes=1)
        assert await by_status(w) == {"processing": 5, "cancelled": 1}
        assert (await w.ledger(cancelled))[0]["settled_at"] is None
        w.runway.state.runway.faults.clear()
        await w.finish()
        assert await by_status(w) == {"completed": 5, "cancelled": 1}
        assert len(w.creates) == 6


@pytest.mark.load
async def test_five_thousand_tasks_are_noticed_in_two_minutes_by_a_worker_and_in_five_by_a_cron(
    database_url: str,
) -> None:
    """R10: all of them have ended; one GET in twenty hangs."""
    async with virtual(database_url, five_percent("GET")) as w:
        await w.in_flight(5_000)
        await w.worker(120)
        late = await w.late()
        assert (len(late), late[-1] <= 120) == (5_000, True)


@pytest.mark.load
async def test_five_thousand_tasks_are_noticed_in_five_minutes_by_a_cron(database_url: str) -> None:
    """R10."""
    async with virtual(database_url, five_percent("GET")) as w:
        await w.in_flight(5_000)
        took = await w.cron(300)
        assert (await w.count("status = 'completed'"), max(took) <= 41) == (5_000, True)
        assert (await w.late())[-1] <= 300


@pytest.mark.parametrize("method", ["DELETE", "GET"])
async def test_submit_keeps_its_share_where_others_hang(database_url: str, method: str) -> None:
    """R11."""
    async with virtual(database_url, lambda called: called == method, hard_limit=25) as w:
        await w.in_flight(100)
        await cancelled(w)
        await w.in_flight(100)
        await w.queued(40)
        [took] = await w.cron(60)
        assert took <= 25 - 4
        assert w.runway.longest[method] <= 20
        assert await w.count("status = 'queued'") == 0
        assert w.runway.calls.count("POST") == 40


async def test_a_tick_does_as_much_as_its_budget_allows(database_url: str) -> None:
    """R12: 300 cancelled, 3,000 rows inserted and 1,000 submissions lapsed, in one tick of 20 s."""
    async with virtual(database_url) as w:
        await w.in_flight(300)
        await cancelled(w)
        await w.control.execute(LAPSED, 1_000)
        await w.control.execute(HOLD)
        await w.control.execute(
            "INSERT INTO taxiway.videos (prompt, run_after) SELECT 'a boat', taxiway.now() + interval '1 hour'"
            " FROM generate_series(1, 3000)"
        )
        [took] = await w.cron(60)
        assert w.runway.calls.count("DELETE") == 300
        assert await w.count("input IS NULL") == 0
        assert await w.count("error_code = 'SUBMISSION_UNKNOWN'") == 1_000
        assert took <= 300 / 20 * CALL_SECONDS * 2


LAPSED = """
WITH v AS (
    INSERT INTO taxiway.videos (operation, model, input, status, origin)
    SELECT 'image_to_video', 'model0', '{}', 'cancelled', 'api' FROM generate_series(1, $1) RETURNING id
), s AS (
    INSERT INTO taxiway.submissions (video_id, model, opened_at, call_deadline, deadline)
    SELECT id, 'model0', taxiway.now() - interval '5 min', taxiway.now() - interval '4 min',
           taxiway.now() - interval '3 min' FROM v
)
SELECT
"""
HOLD = """
UPDATE taxiway.videos v SET status = 'processing', open_submission_id = s.id FROM taxiway.submissions s
WHERE s.video_id = v.id AND s.outcome IS NULL
"""


async def cancelled(w: Virtual) -> None:
    """All that is at Runway is cancelled in bulk."""
    await w.control.execute(
        "UPDATE taxiway.videos SET status = 'cancelled', finished_at = taxiway.now() WHERE status = 'processing'"
    )
    await w.control.execute("UPDATE taxiway.submissions SET cancel_due = taxiway.now(), cancel_reason = 'cancelled'")
