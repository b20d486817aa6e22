"""Without a cron: POST /videos that waits, GET that submits, and who may not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.app import WAITERS_AT_ONCE, create_app
from service.context import Context
from service.runway.client import Runway
from service.web import prefer
from tests.database import connected, execute
from tests.world import API_KEY, IMAGE, World, world

pytestmark = pytest.mark.anyio

BODY = {"input": {"promptText": "a boat", "promptImage": IMAGE}}
READER, VIEWER = "reader-key-for-tests-01", "viewer-token-for-tests-1"


@asynccontextmanager
async def client_of(ctx: Context, token: str = API_KEY) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with this context."""
    transport = httpx.ASGITransport(app=create_app(ctx))
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://taxiway.test", headers=headers) as client:
        yield client


@asynccontextmanager
async def waiting_client(w: World, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that sleeps by letting time pass everywhere."""
    turn = asyncio.Lock()  # one session at a time may replace the function that says what time it is

    async def sleep(seconds: float) -> None:
        async with turn:
            await w.later(seconds=seconds)

    ctx = replace(w.ctx, sleep=sleep, monotonic=w.clock, **changes)
    async with client_of(ctx) as client:
        yield client


def wait(seconds: object, **headers: str) -> dict[str, str]:
    """Headers of a request that prefers to wait."""
    return {"prefer": f"wait={seconds}", **headers}


async def test_a_post_that_waits_answers_with_the_finished_video(w: World) -> None:
    async with waiting_client(w) as client:
        answer = await client.post("/videos", json=BODY, headers=wait(60))
    assert (answer.status_code, answer.json()["status"]) == (200, "completed"), answer.text
    assert (answer.json()["waiting"], bool(answer.json()["video_url"])) == (None, True)
    assert answer.headers["preference-applied"] == "wait=60"
    assert len(w.creates) == 1
    assert not await w.rows("SELECT FROM taxiway.ticks")


async def test_when_its_time_is_over_it_answers_202_and_the_video_goes_on(w: World) -> None:
    async with waiting_client(w) as client:
        began = w.clock()
        answer = await client.post("/videos", json=BODY, headers=wait(3))
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    assert answer.headers["preference-applied"] == "wait=3"
    assert 3 <= w.clock() - began < 4
    await w.finish()
    assert len(w.creates) == 1


@pytest.mark.parametrize(
    ("hard_limit", "wanted", "applied"),
    [(None, 61, 60), (None, 60, 60), (None, 5, 5), (25.0, 60, 20), (30.5, 60, 25), (300.0, 600, 60)],
)
async def test_it_waits_no_longer_than_the_platform_lets_it(
    database_url: str, hard_limit: float | None, wanted: int, applied: int
) -> None:
    async with world(database_url, hard_limit=hard_limit) as w, waiting_client(w) as client:
        answer = await client.post("/videos", json=BODY, headers=wait(wanted))
        assert answer.headers["preference-applied"] == f"wait={applied}"


async def test_a_repeat_follows_the_first_video(w: World) -> None:
    key = {"idempotency-key": "once"}
    first = await w.api.post("/videos", json=BODY, headers=key)
    assert (first.status_code, first.json()["status"]) == (202, "queued")
    async with waiting_client(w) as client:
        again = await client.post("/videos", json=BODY, headers=wait(60, **key))
        ended = await client.post("/videos", json=BODY, headers=wait(60, **key))
    assert (again.status_code, again.json()["status"]) == (200, "completed")
    assert again.json()["id"] == first.json()["id"] == ended.json()["id"]
    assert ended.status_code == 200
    assert len(w.creates) == 1


async def test_what_is_to_be_sent_later_is_not_waited_for(w: World) -> None:
    async with waiting_client(w) as client:
        began = w.clock()
        body = BODY | {"run_after": "2099-01-01T00:00:00Z"}
        answer = await client.post("/videos", json=body, headers=wait(30))
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert "preference-applied" not in answer.headers
    assert w.clock() == began


async def test_a_failed_video_has_ended_too(w: World) -> None:
    w.faults("status=400,body=runway")
    async with waiting_client(w) as client:
        answer = await client.post("/videos", json=BODY, headers=wait(30))
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")


async def test_a_video_that_is_erased_meanwhile_is_gone(w: World) -> None:
    async def sleep(_seconds: float) -> None:
        [row] = await w.rows("SELECT id FROM taxiway.videos")
        await w.api.delete(f"/videos/{row['id']}")
        await w.tick()

    async with client_of(replace(w.ctx, sleep=sleep)) as client:
        answer = await client.post("/videos", json=BODY, headers=wait(30))
    assert answer.status_code == 410, answer.text


async def test_waiting_holds_no_connection_and_only_so_many_wait(database_url: str) -> None:
    """Those beyond are answered at once, without what was preferred."""
    async with world(database_url, database_pool_size=2) as w:
        asleep, all_asleep, wake = 0, asyncio.Event(), asyncio.Event()

        async def sleep(_seconds: float) -> None:
            nonlocal asleep
            asleep += 1
            if asleep == WAITERS_AT_ONCE:
                all_asleep.set()
            await wake.wait()

        async with client_of(replace(w.ctx, sleep=sleep)) as client, asyncio.TaskGroup() as group:
            key = {"idempotency-key": "one"}
            every = [
                group.create_task(client.post("/videos", json=BODY, headers=wait(60, **key)))
                for _ in range(WAITERS_AT_ONCE)
            ]
            await all_asleep.wait()
            late = await client.post("/videos", json=BODY, headers=wait(60, **key))
            assert late.status_code == 202
            assert "preference-applied" not in late.headers
            assert not any(one.done() for one in every)
            await w.later(minutes=2)
            await w.tick()
            wake.set()
        assert {one.result().headers["preference-applied"] for one in every} == {"wait=60"}
        assert len(w.creates) == 1


async def test_a_server_that_stops_ends_the_wait(w: World) -> None:
    stopped = False

    async def sleep(_seconds: float) -> None:
        nonlocal stopped
        stopped = True

    ctx = replace(w.ctx, sleep=sleep)
    app = create_app(ctx)
    app.state.stopping = lambda: stopped
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {API_KEY}"} | wait(60)
    async with httpx.AsyncClient(transport=transport, base_url="http://taxiway.test", headers=headers) as client:
        answer = await client.post("/videos", json=BODY)
        late = await client.post("/videos", json=BODY)
    assert (answer.status_code, answer.json()["status"]) == (202, "processing")
    assert (late.status_code, late.json()["status"]) == (202, "queued"), "nothing is claimed any more"


async def test_a_request_that_is_cancelled_sees_its_create_to_its_end(w: World) -> None:
    """Some servers cancel the handler of a caller that hangs up."""
    w.faults("stall=0.3")
    sent = asyncio.create_task(w.api.post("/videos", json=BODY, headers=wait(5)))
    async with asyncio.timeout(20):
        while not w.creates:  # noqa: ASYNC110  # the simulator brings it about
            await asyncio.sleep(0.01)
    sent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sent
    [row] = await w.rows("SELECT outcome, task_id FROM taxiway.submissions")
    assert (row["outcome"], row["task_id"]) == ("accepted", w.creates[0].task_id)


async def test_submit_on_post_answers_when_runways_answer_is_stored(database_url: str) -> None:
    async with world(database_url, submit_on_post=True) as w:
        answer = await w.api.post("/videos", json=BODY)
        shown = answer.json()
        assert (answer.status_code, shown["status"]) == (202, "processing")
        assert shown["runway_video_id"] == w.creates[0].task_id
        assert "preference-applied" not in answer.headers
        w.faults("status=400,body=runway")
        refused = await w.api.post("/videos", json=BODY)
        assert (refused.status_code, refused.json()["status"], refused.json()["waiting"]) == (202, "failed", None)


async def test_a_group_is_waited_for_until_all_of_it_has_ended(w: World) -> None:
    async with waiting_client(w) as client:
        answer = await client.post("/videos", json=BODY | {"count": 3}, headers=wait(60))
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=60"), answer.text
    assert [video["status"] for video in answer.json()["videos"]] == ["completed"] * 3
    assert len(w.creates) == 3


async def test_submit_on_post_submits_all_of_a_group_for_which_there_are_slots(database_url: str) -> None:
    async with world(database_url, submit_on_post=True) as w:
        answer = await w.api.post("/videos", json=BODY | {"count": 2})
    assert answer.status_code == 202
    assert [video["status"] for video in answer.json()["videos"]] == ["processing"] * 2


async def test_without_either_a_post_submits_nothing(w: World) -> None:
    assert (await w.api.post("/videos", json=BODY)).json()["status"] == "queued"
    assert w.creates == []


class TestGet:
    async def test_a_get_of_a_due_video_submits_it(self, w: World) -> None:
        video_id = await w.enqueue()
        shown = (await w.api.get(f"/videos/{video_id}")).json()
        assert (shown["status"], shown["runway_video_id"]) == ("processing", w.creates[0].task_id)
        await w.later(minutes=1)
        assert (await w.api.get(f"/videos/{video_id}")).json()["status"] == "completed"
        assert not await w.rows("SELECT FROM taxiway.ticks")

    async def test_head_neither_submits_nor_polls(self, w: World) -> None:
        video_id = await w.enqueue()
        assert (await w.api.head(f"/videos/{video_id}")).status_code == 200
        assert w.creates == []
        await w.tick()
        await w.later(minutes=1)
        before = await w.row(video_id)
        answer = await w.api.head(f"/videos/{video_id}")
        assert (answer.status_code, answer.content) == (200, b"")
        assert await w.row(video_id) == before

    @pytest.mark.parametrize("path", ["", "/submissions", "/events", "/file"])
    async def test_nothing_else_that_reads_submits(self, w: World, path: str) -> None:
        video_id = await w.enqueue()
        await w.api.get(f"/videos/{video_id}{path}" if path else "/videos")
        assert w.creates == []

    @pytest.mark.parametrize("token", [READER, VIEWER])
    async def test_who_may_not_create_does_not_submit(self, database_url: str, token: str) -> None:
        keys = (API_KEY, f"shop+read:{READER}")
        async with world(database_url, api_keys=keys, viewer_tokens=(VIEWER,)) as w:
            video_id = await w.enqueue()
            async with client_of(w.ctx, token) as client:
                assert (await client.get(f"/videos/{video_id}")).json()["status"] == "queued"
                assert w.creates == []
                await w.tick()
                await w.later(minutes=1)
                assert (await client.get(f"/videos/{video_id}")).json()["status"] == "completed", "it polls, as before"

    @pytest.mark.parametrize(
        "columns",
        [
            "run_after = taxiway.now() + interval '1 hour'",
            "expires_at = taxiway.now() - interval '1 second'",
            "input = NULL, operation = NULL, model = NULL",
        ],
    )
    async def test_what_is_not_due_is_not_submitted(self, w: World, columns: str) -> None:
        video_id = await w.enqueue()
        await w.rows(f"UPDATE taxiway.videos SET {columns} WHERE id = $1", video_id)
        assert (await w.api.get(f"/videos/{video_id}")).json()["status"] == "queued"
        assert w.creates == []

    async def test_not_with_less_than_the_time_of_a_call_before_the_platform_kills(self, database_url: str) -> None:
        """A call has 10 s at the least, and 5 s are for saving: 15 of them must be left when it begins."""
        async with world(database_url, hard_limit=25.0) as w:
            video_id = await w.enqueue()
            for late, status in [(10.1, "queued"), (9.9, "processing")]:
                times = iter([0.0])

                def monotonic(late: float = late, times: Any = times) -> float:
                    return next(times, late)

                async with client_of(replace(w.ctx, monotonic=monotonic)) as client:
                    assert (await client.get(f"/videos/{video_id}")).json()["status"] == status

    async def test_without_a_key_of_runway_it_only_reads(self, database_url: str) -> None:
        async with world(database_url, runway_key=None) as w:
            video_id = await w.enqueue()
            assert (await w.api.get(f"/videos/{video_id}")).json()["status"] == "queued"

    async def test_many_gets_of_one_video_pay_once(self, w: World) -> None:
        video_id = await w.enqueue()
        async with client_of(replace(w.ctx, in_requests=set())) as other:
            answers = await asyncio.gather(*(one.get(f"/videos/{video_id}") for one in [w.api, other] * 5))
        assert {one.status_code for one in answers} == {200}
        assert len(w.creates) == 1

    async def test_a_database_that_refuses_the_claim_costs_the_get_nothing(self, w: World) -> None:
        video_id = await w.enqueue()
        await w.rows("ALTER TABLE taxiway.submissions ADD CONSTRAINT no_more CHECK (false) NOT VALID")
        answer = await w.api.get(f"/videos/{video_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "queued")
        assert w.creates == []


class TestTurns:
    """A polling caller never passes a video of higher priority when there is no slot for both."""

    async def test_a_video_behind_more_than_there_are_slots_waits_and_the_first_goes(self, w: World) -> None:
        high = [await w.enqueue(priority=10) for _ in range(2)]
        low = await w.enqueue()
        shown = (await w.api.get(f"/videos/{low}")).json()
        assert (shown["status"], shown["waiting"]["ahead"]) == ("queued", 1)
        assert (await w.row(high[0]))["status"] == "processing", "its caller may be gone: it holds up no other"
        assert (await w.row(high[1]))["status"] == "queued"

    async def test_with_a_slot_for_both_it_is_submitted_itself(self, w: World) -> None:
        high, low = await w.enqueue(priority=10), await w.enqueue()
        assert (await w.api.get(f"/videos/{low}")).json()["status"] == "processing"
        assert (await w.row(high))["status"] == "queued"

    async def test_without_a_free_slot_nothing_is_submitted(self, w: World) -> None:
        await w.tick()
        one, two, three = await w.enqueue_many(3)
        ids = ", ".join(f"'{id}'" for id in (one, two))
        async with connected(w.url) as connection:
            await connection.execute(OPEN.format(ids=ids))
        shown = (await w.api.get(f"/videos/{three}")).json()
        assert (shown["status"], shown["waiting"]["reason"]) == ("queued", "slots")
        assert w.creates == []

    async def test_what_cannot_be_sent_does_not_stand_before_it(self, w: World) -> None:
        """Expired ones are ended by a tick, which may come once a day."""
        gone = [await w.enqueue(priority=10) for _ in range(3)]
        await w.rows("UPDATE taxiway.videos SET expires_at = taxiway.now()")
        await w.later(seconds=1)
        low = await w.enqueue()
        assert (await w.api.get(f"/videos/{low}")).json()["status"] == "processing"
        assert (await w.row(gone[0]))["status"] == "queued"

    async def test_a_paused_model_is_probed_when_its_time_is_over(self, w: World) -> None:
        video_id = await w.enqueue()
        await w.rows("UPDATE taxiway.models SET reason = 'daily_limit', paused_until = taxiway.now() + interval '1 h'")
        assert (await w.api.get(f"/videos/{video_id}")).json()["status"] == "queued"
        await w.later(hours=1, seconds=1)
        assert (await w.api.get(f"/videos/{video_id}")).json()["status"] == "processing"
        assert [row["reason"] for row in await w.rows("SELECT reason FROM taxiway.models")] == [None]

    async def test_no_probe_is_sent_once_the_free_call_before_it_took_its_time(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock, organization = [0.0], Runway.organization

        async def slow(runway: Runway) -> Any:
            clock[0] += 11
            return await organization(runway)

        async with world(database_url, hard_limit=25.0) as w:
            video_id = await w.enqueue()
            await w.rows("UPDATE taxiway.models SET reason = 'circuit', paused_until = taxiway.now()")
            async with client_of(replace(w.ctx, monotonic=lambda: clock[0])) as client:
                with monkeypatch.context() as patched:
                    patched.setattr(Runway, "organization", slow)
                    assert (await client.get(f"/videos/{video_id}")).json()["status"] == "queued"
                assert w.creates == []

    async def test_the_days_credits_are_kept_to_in_order(self, database_url: str) -> None:
        async with world(database_url, max_credits_per_day=30) as w:
            long = BODY["input"] | {"duration": 10}
            dear, cheap = await w.enqueue(priority=10, input=long), await w.enqueue()
            shown = (await w.api.get(f"/videos/{cheap}")).json()
            assert (shown["status"], shown["waiting"]["reason"]) == ("queued", "budget")
            assert (await w.row(dear))["status"] == "queued"
            assert w.creates == []

    async def test_callers_that_poll_keep_the_order(self, w: World) -> None:
        """20 callers, mixed priorities, two slots: nothing starts while more stand before it than slots are free."""
        await execute(w.url, TWO_SLOTS_WATCHED)
        w.faults(*["stall=0.02"] * VIDEOS)
        ids = [await w.enqueue(priority=place * 7 % VIDEOS) for place in range(VIDEOS)]

        async def poll(video_id: UUID) -> None:
            for _ in range(200):
                if (await w.api.get(f"/videos/{video_id}")).json()["status"] != "queued":
                    return

        async with asyncio.TaskGroup() as group:
            for video_id in ids:
                group.create_task(poll(video_id))
        turns = await w.rows("SELECT ahead, free FROM turns")
        assert len(turns) == len(w.creates) == VIDEOS
        assert [one for one in turns if one["ahead"] > one["free"]] == []
        assert {one["free"] for one in turns} == {0, 1}, "both slots were used"


VIDEOS = 20

# Two creates in flight, whose processes are gone.
OPEN = """
WITH opened AS (
    INSERT INTO taxiway.submissions (video_id, model, call_deadline, deadline)
    SELECT id, model, taxiway.now() + interval '1 min', taxiway.now() + interval '2 min'
    FROM taxiway.videos WHERE id IN ({ids}) RETURNING id, video_id)
UPDATE taxiway.videos v SET status = 'processing', open_submission_id = o.id, submitted_at = taxiway.now()
FROM opened o WHERE o.video_id = v.id
"""

# Two creates of a model may be in flight, however many are accepted; and of each claim is written down, in its own
# transaction, how many due videos stand before the one that it took, and how many slots are free besides.
TWO_SLOTS_WATCHED = """
CREATE FUNCTION two_slots() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.max_in_flight := 2; RETURN NEW; END $$;
CREATE TRIGGER two_slots BEFORE UPDATE ON taxiway.models FOR EACH ROW EXECUTE FUNCTION two_slots();
CREATE TABLE turns (ahead integer, free integer);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO turns SELECT
        (SELECT count(*) FROM taxiway.videos v JOIN taxiway.videos own ON own.id = NEW.video_id
         WHERE v.status = 'queued' AND v.claim_order < own.claim_order),
        2 - (SELECT count(*) FROM taxiway.submissions WHERE outcome IS NULL);
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER INSERT ON taxiway.submissions FOR EACH ROW EXECUTE FUNCTION watch();
"""


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["wait=5"], 5),
        (["WAIT=5"], 5),
        (['wait="5"'], 5),
        (['wait="\\5"'], 5),
        (["wait = 5"], 5),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10"], 10),
        (["wait=10;foo=bar"], 10),
        (['wait=10; foo="a, wait=3"'], 10),
        (['foo="a, wait=3", wait=7'], 7),
        (["wait=3, wait=7"], 3),
        (["wait=3", "wait=7"], 3),
        (["wait=x, wait=7"], None),
        (["wait"], None),
        (["wait="], None),
        (['wait=""'], None),
        (["wait=-5"], None),
        (["wait=+5"], None),
        (["wait=1.5"], None),
        (["wait=5 5"], None),
        (["wait=\u0665"], None),
        (["wait=9999999999"], None),
        (["wait=0"], 0),
        (["waiting=5"], None),
        (["=5", ",,", 'wait="5', "return=minimal"], None),
        (["((wait=5))"], None),
        ([], None),
    ],
)
def test_the_header_is_read_as_the_rfc_says(lines: list[str], seconds: int | None) -> None:
    assert prefer.wait_seconds(lines) == seconds


@pytest.mark.parametrize(
    "hostile", ['wait="' + "\\" * 60_000, "wait=5;" + '"' * 60_000, " " * 60_000 + "=", ("a=" + '"x' * 9) * 3_000]
)
def test_a_hostile_header_is_read_in_no_time(hostile: str) -> None:
    began = time.process_time()
    prefer.wait_seconds([hostile])
    assert time.process_time() - began < 1
