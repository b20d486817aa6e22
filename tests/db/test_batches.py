"""One cannot stop the others: batches that PostgreSQL refuses, rows that are held, values that fit nowhere."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.deadline import Grace, unlimited
from service.errors import DatabaseUnavailable
from service.operations import polling, saving
from service.operations.finalize import finalize
from service.operations.parking import ParkingLot
from service.operations.saving import as_outcome_row
from service.runway.outcomes import Decision, Kind, Outcome
from service.steps import rescue, submit
from service.store import batches, models, parked, queue_stats, submissions
from service.store import claim as claims
from service.store.batches import RAISE, Refusal
from service.store.claim import OpenSubmission
from service.store.outcome_row import OutcomeRow
from service.store.recently import Recently
from service.tick import tick
from service.videos import Status
from tests.database import connected, execute
from tests.db.test_driver_errors import error
from tests.refusing import CODES, allow, codes_for, refuse, refusing
from tests.saved import save_answers
from tests.world import World, warm, world

pytestmark = pytest.mark.anyio

SAVE_CODES = ("P0001", "42501", "54000", "42P01", "40001", "53100")


class Lot:
    """A parking that only remembers."""

    def __init__(self, passed_over: Sequence[str] = ()) -> None:
        self.refusals: list[Refusal] = []
        self._passed_over = list(passed_over)

    def passed_over(self, _statement: str) -> list[str]:
        return self._passed_over

    async def park(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    @property
    def keys(self) -> set[int]:
        return {int(one.key) for one in self.refusals}


class Statement:
    """Writes numbers; refuses a batch with a bad one in it."""

    def __init__(self, bad: dict[int, str]) -> None:
        self.bad, self.calls, self.written = bad, 0, set[int]()

    async def __call__(self, rows: Sequence[int]) -> int:
        self.calls += 1
        for row in rows:
            if code := self.bad.get(row):
                raise error(code)
        self.written |= set(rows)
        return len(rows)


def whole(row: int) -> tuple[int, UUID | None]:
    return row, None


class TestHalves:
    async def test_the_usual_is_one_statement(self) -> None:
        statement, lot = Statement({}), Lot()
        assert await batches.write("w", range(500), statement, whole, lot) == [500]
        assert (statement.calls, lot.refusals) == (1, [])
        assert await batches.write("w", [], statement, whole, lot) == []

    @pytest.mark.parametrize("bad", [{0}, {499}, {7, 8}, {1, 250, 499}, set(range(0, 500, 3))])
    async def test_all_others_are_written(self, bad: set[int]) -> None:
        statement, lot = Statement(dict.fromkeys(bad, "P0001")), Lot()
        done = await batches.write("w", range(500), statement, whole, lot)
        assert (sum(done), statement.written, lot.keys) == (500 - len(bad), set(range(500)) - bad, bad)
        assert statement.calls <= min(2 * 9 * len(bad) + 1, 999)

    async def test_without_a_parking_the_error_is_raised(self) -> None:
        statement = Statement({3: "P0001"})
        with pytest.raises(Exception, match="words"):
            await batches.write("w", range(9), statement, whole)
        assert statement.calls == 1
        with pytest.raises(Exception, match="words"):
            await RAISE.park(Refusal("w", "3", None, error("P0001")))

    async def test_an_unreachable_database_stops_it(self) -> None:
        lot = Lot()

        async def away(_rows: Sequence[int]) -> int:
            raise DatabaseUnavailable("gone")

        with pytest.raises(DatabaseUnavailable):
            await batches.write("w", range(9), away, whole, lot)
        assert lot.refusals == []

    async def test_a_full_disk_is_not_the_fault_of_five_hundred_rows(self) -> None:
        statement, lot = Statement(dict.fromkeys(range(500), "53100")), Lot()
        with pytest.raises(Exception, match="words"):
            await batches.write("w", range(500), statement, whole, lot)
        assert (statement.calls, lot.refusals) == (batches.HOPELESS, [])

    async def test_a_trigger_may_refuse_all(self) -> None:
        statement, lot = Statement(dict.fromkeys(range(40), "P0001")), Lot()
        assert await batches.write("w", range(40), statement, whole, lot) == []
        assert lot.keys == set(range(40))

    async def test_a_deadlock_is_tried_once_more_alone(self) -> None:
        statement, lot = Statement({1: "40P01"}), Lot()

        async def once(rows: Sequence[int]) -> int:
            try:
                return await statement(rows)
            finally:
                if list(rows) == [1]:
                    statement.bad.clear()

        assert sum(await batches.write("w", [0, 1], once, whole, lot)) == 2
        assert lot.refusals == []


def test_what_was_refused_is_remembered_for_a_moment() -> None:
    now = [0.0]
    refused = Recently(lambda: now[0])
    refused.add("claim", "a")
    now[0] = 20.0
    refused.add("claim", "b")
    assert (refused.keys("claim"), refused.keys("save")) == (["a", "b"], [])
    now[0] = 31.0
    assert refused.keys("claim") == ["b"]
    refused.clear()
    assert refused.keys("claim") == []


# Every statement that writes: one of five rows is refused, the four others go on.


async def by_api(w: World, n: int = 5, **changes: Any) -> list[UUID]:
    return [await w.enqueue(**changes) for _ in range(n)]


async def by_sql(w: World, n: int = 5) -> list[UUID]:
    rows = await w.rows(
        "INSERT INTO taxiway.videos (prompt, status) "
        "SELECT 'a boat', 'queued' FROM generate_series(1, $1) RETURNING id",
        n,
    )
    return [row["id"] for row in rows]


async def run(w: World, minutes: int = 1) -> dict[str, Any]:
    """A tick a little later; one row may be the fault of one step, which says so."""
    await w.later(minutes=minutes)
    w.ctx.refused.clear()
    return (await tick(w.ctx)).as_json()


async def statuses(w: World, ids: Sequence[UUID]) -> list[tuple[str, str | None]]:
    return [((await w.row(id))["status"], (await w.row(id))["error_code"]) for id in ids]


async def refusals(w: World, video_id: UUID | None = None) -> list[dict[str, Any]]:
    rows = await w.rows("SELECT video_id, actor, detail FROM taxiway.events WHERE kind = 'refused_row' ORDER BY at")
    found = [dict(row) | {"detail": json.loads(row["detail"])} for row in rows]
    return [one for one in found if video_id is None or one["video_id"] == video_id]


@dataclass
class Case:
    """`before`: up to the statement; the rows of `table` that belong to one video are refused; then `others` end so."""

    before: Callable[[World], Awaitable[list[UUID]]]
    table: str
    others: tuple[str, str | None] = ("completed", None)
    on: str = "INSERT OR UPDATE OR DELETE"
    rounds: int = 3


async def claimed(w: World) -> list[UUID]:
    ids = await by_api(w)
    await claims.claim(w.ctx.database, 10, 60)
    await w.later(minutes=2)
    return ids


async def submitted(w: World) -> list[UUID]:
    ids = await by_api(w)
    await w.tick()
    return ids


async def over(w: World) -> list[UUID]:
    await models.pause(w.ctx.database, "all", 1e7, "no_credits", "words")
    ids = await by_api(w)
    await w.later(days=30)
    return ids


async def dragged(w: World) -> list[UUID]:
    ids = await submitted(w)
    await w.rows("UPDATE taxiway.videos SET status = 'queued', runway_video_id = NULL")
    return ids


async def cancelled(w: World) -> list[UUID]:
    ids = await submitted(w)
    for video_id in ids:
        assert (await w.api.post(f"/videos/{video_id}/cancel")).status_code == 200
    return ids


async def orphaned(w: World) -> list[UUID]:
    ids = await submitted(w)
    await w.rows("UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now()")
    return ids


async def unsaved(w: World) -> list[UUID]:
    """Their answers are in the ledger alone: the videos were held."""
    ids = await by_api(w)
    permitted = await claims.claim(w.ctx.database, 10, 60)
    async with connected(w.url) as app, app.transaction():
        await app.execute("SELECT FROM taxiway.videos FOR UPDATE")
        await submissions.save_each(w.ctx.database, [await answer_of(w, one) for one in permitted])
    return ids


async def answer_of(w: World, one: OpenSubmission) -> OutcomeRow:
    from service.runway.outcomes import classify

    async with w.ctx.runway() as runway:
        result = await runway.create(one.operation, one.input, give_up_at=w.ctx.monotonic() + 60)
    return as_outcome_row(one.submission_id, one.video_id, classify(result), Decision(Status.PROCESSING))


CASES = {
    "intake": Case(by_sql, "videos"),
    "intake's words": Case(by_sql, "search"),
    "expire": Case(over, "videos", ("failed", "EXPIRED")),
    "claim": Case(by_api, "videos"),
    "claim's submission": Case(by_api, "submissions", on="INSERT"),
    "lapse": Case(claimed, "videos", ("failed", "SUBMISSION_UNKNOWN")),
    "lapse's submission": Case(claimed, "submissions", ("failed", "SUBMISSION_UNKNOWN")),
    "unsaved": Case(unsaved, "videos"),
    "unsaved's submission": Case(unsaved, "submissions"),
    "restore": Case(dragged, "videos"),
    "poll": Case(submitted, "videos"),
    "poll's submission": Case(submitted, "submissions"),
    "cancel": Case(cancelled, "submissions", ("cancelled", None)),
    "orphans": Case(orphaned, "submissions", ("failed", None)),
}
EVERY = [(name, code) for n, name in enumerate(CASES) for code in codes_for(n)]
# One code each in a pull request; one of each kind with `-m load`; all of them with `TAXIWAY_EVERY_CASE`.
SHORT = {(name, codes_for(n)[n % 3]) for n, name in enumerate(CASES)}


@pytest.mark.parametrize(
    ("name", "code"),
    [pytest.param(*one, marks=() if one in SHORT else pytest.mark.load, id="-".join(one)) for one in EVERY],
)
async def test_one_of_five_rows_is_refused(w: World, name: str, code: str) -> None:
    case = CASES[name]
    await warm(w.url, 50)
    ids = await case.before(w)
    bad, others = ids[2], [one for one in ids if one != ids[2]]
    await refuse(w.url, case.table, bad, code, on=case.on)
    for _ in range(case.rounds):
        await run(w)
    assert await statuses(w, others) == [case.others] * 4
    if case.others[0] == "cancelled":
        assert sum(entry.deleted for entry in w.creates) >= 4
    ledger = await w.rows(
        "SELECT count(*) AS n FROM taxiway.submissions WHERE settled_at IS NOT NULL AND video_id <> $1", bad
    )
    assert ledger[0]["n"] == (0 if case.others[1] else 4)
    [first, *_] = await refusals(w, bad)
    assert first["detail"]["sqlstate"] == code
    assert "refused by a test" not in json.dumps(first["detail"])
    # Once the trigger is gone, it goes on as if nothing had been.
    await allow(w.url, case.table)
    for _ in range(4):
        await run(w)
    status = (await w.row(bad))["status"]
    assert status == case.others[0]
    assert len(w.creates) == len({entry.task_id for entry in w.creates}) <= 5


@pytest.mark.parametrize("code", CODES)
async def test_a_tick_a_callback_or_an_old_row_that_is_refused(database_url: str, code: str) -> None:
    async with world(database_url, video_retention=86_400.0) as w:
        await warm(w.url, 50)
        ids = await by_api(w, 3)
        await w.finish()
        [worst] = await w.rows("SELECT min(id) AS id FROM taxiway.ticks")
        await w.rows("INSERT INTO taxiway.inbox (id, body_hash, task_id) SELECT i, '', i FROM generate_series(1, 3) i")
        await refuse(database_url, "ticks", worst["id"], code, key="id")
        await refuse(database_url, "inbox", "2", code, on="DELETE")
        await refuse(database_url, "submissions", ids[0], code)
        await refuse(database_url, "videos", ids[1], code, on="DELETE")
        await w.later(days=9)
        for _ in range(2):
            await run(w)
        assert [row["id"] for row in await w.rows("SELECT id FROM taxiway.inbox")] == ["2"]
        assert [row["id"] for row in await w.rows("SELECT id FROM taxiway.videos")] == [ids[1]]
        assert worst["id"] in {row["id"] for row in await w.rows("SELECT id FROM taxiway.ticks")}
        looks = await w.rows("SELECT video_id FROM taxiway.submissions WHERE recent_polls IS NOT NULL")
        assert [row["video_id"] for row in looks] == [ids[0]]
        statements = {one["detail"]["statement"] for one in await refusals(w)}
        assert statements == {"prune_ticks", "prune_inbox", "empty_looks", "remove_videos"}
        for table in ("ticks", "inbox", "submissions", "videos"):
            await allow(database_url, table)
        await w.later(days=1)
        await run(w)
        assert await w.rows("SELECT FROM taxiway.inbox") == await w.rows("SELECT FROM taxiway.videos") == []


async def test_a_tick_that_cannot_be_written_down_has_done_its_work(w: World) -> None:
    await warm(w.url, 50)
    await by_api(w, 1)
    async with refusing(w.url, "ticks", "tick", "P0001", key="kind"):
        counts = (await tick(w.ctx)).as_json()
    assert counts["submit"]["accepted"] == 1
    assert counts["errors"]["record"] == "refused by a test"


# Saving: ids first, and as much as can be written.


def hooked(w: World, after: Callable[[httpx.Request], Awaitable[None]]) -> Any:
    """The context whose Runway does `after` behind each create."""

    class Runway(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await httpx.ASGITransport(app=w.runway).handle_async_request(request)
            await response.aread()
            if request.method == "POST":
                await after(request)
            return response

    async def sleep(_seconds: float) -> None:
        await asyncio.sleep(0)

    return replace(w.ctx, transport=Runway, sleep=sleep)


def at_the_last(n: int, action: Callable[[], Awaitable[None]]) -> Callable[[httpx.Request], Awaitable[None]]:
    """All wait until the last of so many creates is answered; then it is done, and all go on."""
    all_here, seen = asyncio.Event(), list[httpx.Request]()

    async def hook(request: httpx.Request) -> None:
        seen.append(request)
        if len(seen) == n:
            await action()
            all_here.set()
        await all_here.wait()

    return hook


@pytest.mark.parametrize("table", ["submissions", "videos"])
@pytest.mark.parametrize("code", SAVE_CODES)
async def test_one_of_five_answers_is_refused(
    w: World, table: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    await warm(w.url, 50)
    ids = await by_api(w)
    ctx = hooked(w, at_the_last(5, lambda: refuse(w.url, table, ids[2], code)))
    counts = (await tick(ctx)).as_json()
    assert counts["submit"]["accepted"] == 5
    saved = {row["video_id"] for row in await w.rows("SELECT video_id FROM taxiway.submissions WHERE task_id <> ''")}
    # What only the video's row refuses is in the ledger.
    assert saved == (set(ids) if table == "videos" else set(ids) - {ids[2]})
    rows = [await w.row(one) for one in ids]
    assert [row["runway_video_id"] is not None for row in rows] == [True, True, False, True, True]
    if table == "submissions":
        [lost] = [one for one in caplog.records if one.__dict__.get("event") == "not_saved"]
        assert lost.levelno == logging.ERROR
        assert any(entry.task_id in lost.getMessage() for entry in w.creates)
        assert (await refusals(w, ids[2]))[0]["detail"]["sqlstate"] == code
        assert len(ctx.unsaved) == 1
    await allow(w.url, table)
    await tick(ctx)
    assert not ctx.unsaved
    await w.finish()
    assert len(w.creates) == 5
    assert await statuses(w, ids) == [("completed", None)] * 5


async def test_a_value_that_the_ledger_refuses_is_left_out_and_the_id_saved(w: World) -> None:
    await warm(w.url, 50)
    [video_id] = await by_api(w, 1)
    [permitted] = await claims.claim(w.ctx.database, 1, 60)
    await execute(w.url, "ALTER TABLE taxiway.submissions ADD CHECK (http_status IS NULL)")
    await save_answers(w.ctx, [await answer_of_status(w, permitted)])
    [entry] = await w.ledger(video_id)
    assert (entry["outcome"], entry["http_status"]) == ("accepted", None)
    assert entry["task_id"] == (await w.row(video_id))["runway_video_id"]


async def answer_of_status(w: World, one: OpenSubmission) -> OutcomeRow:
    return replace(await answer_of(w, one), http_status=200)


async def test_ids_are_saved_although_a_model_that_is_to_be_paused_is_held(database_url: str) -> None:
    async with world(database_url) as w, connected(database_url) as psql:
        await warm(w.url, 50)
        ids = await by_api(w)
        await w.rows("INSERT INTO taxiway.models (model) VALUES ('all') ON CONFLICT DO NOTHING")
        w.faults("key_revoked")
        await psql.execute("BEGIN")
        saved_meanwhile: list[int] = []

        async def hold() -> None:
            await psql.execute("SELECT FROM taxiway.models FOR UPDATE")

        ctx = hooked(w, at_the_last(5, hold))
        waits = 0

        async def sleep(_seconds: float) -> None:
            nonlocal waits
            waits += 1
            if waits == 3:
                saved_meanwhile.append(len(await w.rows("SELECT FROM taxiway.videos WHERE runway_video_id <> ''")))
                await psql.execute("ROLLBACK")
            await asyncio.sleep(0)

        async with asyncio.timeout(20):
            counts = (await tick(replace(ctx, sleep=sleep))).as_json()
        assert saved_meanwhile == [4]
        assert (counts["submit"]["accepted"], counts["submit"]["rejected"]) == (4, 1)
        [paused] = await models.paused(w.ctx.database)
        assert (paused["model"], paused["reason"]) == ("all", "key_refused")
        assert sorted(status for status, _ in await statuses(w, ids)) == ["processing"] * 4 + ["queued"]


async def test_a_model_that_stays_held_ends_the_claims_of_the_tick(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(database_url, submit_concurrency=1) as w, connected(database_url) as psql:
        await warm(w.url, 50)
        await by_api(w, 3)
        await w.rows("INSERT INTO taxiway.models (model) VALUES ('all') ON CONFLICT DO NOTHING")
        w.faults({"simulate": "key_revoked", "times": 9})
        async with psql.transaction():
            await psql.execute("SELECT FROM taxiway.models WHERE model = 'all' FOR UPDATE")
            async with asyncio.timeout(20):
                await tick(hooked(w, at_the_last(1, lambda: asyncio.sleep(0))))
        assert len(w.creates) == 1
        assert "model_not_paused" in [record.__dict__.get("event") for record in caplog.records]
        assert await models.paused(w.ctx.database) == []


async def test_a_probe_that_succeeds_resumes_a_model_when_its_row_is_free(database_url: str) -> None:
    async with world(database_url) as w, connected(database_url) as psql:
        await warm(w.url, 50)
        await models.pause(w.ctx.database, "all", 60, "no_credits", "words")
        assert not await models.try_resume(w.ctx.database, "all") or True
        await models.pause(w.ctx.database, "all", 60, "no_credits", "words")
        grace = Grace(w.ctx.monotonic)
        async with psql.transaction():
            await psql.execute("SELECT FROM taxiway.models FOR UPDATE")
            assert not await saving.resume_model(w.ctx, "all", grace, tries=1)
            assert await models.try_pause(w.ctx.database, "all", 60, "no_credits", "words") is None
        assert await saving.resume_model(w.ctx, "all", grace, tries=1)
        assert await models.try_resume(w.ctx.database, "all")  # open already


async def test_four_of_five_ids_are_saved_while_one_ledger_row_is_held(database_url: str) -> None:
    async with world(database_url) as w, connected(database_url) as psql:
        await warm(w.url, 50)
        ids = await by_api(w)
        await psql.execute("BEGIN")

        async def hold() -> None:
            await psql.execute("SELECT FROM taxiway.submissions WHERE video_id = $1 FOR UPDATE", ids[2])

        ctx = hooked(w, at_the_last(5, hold))
        meanwhile: list[list[bool]] = []

        async def sleep(_seconds: float) -> None:
            meanwhile.append([(await w.row(one))["runway_video_id"] is not None for one in ids])
            if len(meanwhile) == 3:
                await psql.execute("ROLLBACK")

        async with asyncio.timeout(20):
            await tick(replace(ctx, sleep=sleep))
        assert meanwhile == [[True, True, False, True, True]] * 3
        assert all([(await w.row(one))["runway_video_id"] for one in ids])
        assert not ctx.unsaved
        assert not await refusals(w)


async def test_a_ledger_row_that_stays_held_ends_with_the_next_tick(database_url: str) -> None:
    async with world(database_url) as w, connected(database_url) as psql:
        await warm(w.url, 50)
        [video_id] = await by_api(w, 1)
        ctx = hooked(w, at_the_last(1, lambda: asyncio.sleep(0)))
        [permitted] = await claims.claim(w.ctx.database, 1, 60)
        async with psql.transaction():
            await psql.execute("SELECT FROM taxiway.submissions FOR UPDATE")
            await save_answers(ctx, [await answer_of(w, permitted)])
            assert list(ctx.unsaved) == [permitted.submission_id]
        await w.later(minutes=2)
        await tick(ctx)
        assert not ctx.unsaved
        assert (await w.row(video_id))["status"] == "processing"
        await w.finish()
        assert len(w.creates) == 1


async def test_a_held_ledger_row_delays_the_end_of_no_other_video(database_url: str) -> None:
    async with world(database_url) as w, connected(database_url) as psql:
        await warm(w.url, 50)
        ids = await submitted(w)
        await w.later(minutes=1)
        async with psql.transaction():
            await psql.execute("SELECT FROM taxiway.submissions WHERE video_id = $1 FOR UPDATE", ids[2])
            async with asyncio.timeout(10):
                assert (await w.tick())["poll"]["completed"] == 4
        await w.finish()


async def test_a_stop_gives_up_what_cannot_be_saved(w: World, caplog: pytest.LogCaptureFixture) -> None:
    await warm(w.url, 50)
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    ctx = replace(w.ctx, monotonic=lambda: now[0], sleep=sleep)
    outcome = Outcome(Kind.ACCEPTED, "task created", task_id="17f20503-6c24-4c16-946b-35dbbce2af2f")
    row = as_outcome_row(1, UUID(int=1), outcome, Decision(Status.PROCESSING))
    grace = Grace(ctx.monotonic, lambda: True)
    assert not grace.is_over
    await w.ctx.database.close()

    async def away(*_: object) -> dict[int, str]:
        raise DatabaseUnavailable("gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submissions, "save_each", away)
        await save_answers(ctx, [row], grace)
    assert 10 <= now[0] <= 13
    [lost] = [one for one in caplog.records if one.__dict__.get("event") == "not_saved"]
    assert str(outcome.task_id) in lost.getMessage()


async def test_a_write_that_hangs_is_cut_off_when_the_grace_is_over(w: World) -> None:
    await warm(w.url, 50)
    stopping = False
    grace = Grace(iter(range(0, 1000, 5)).__next__, lambda: stopping)
    cut = asyncio.Event()

    async def hang() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()
        return True

    stopping = True
    assert not await saving.retry_until_saved(w.ctx, hang, grace, tries=1)
    assert cut.is_set()


# Parked rows


async def test_a_row_is_parked_once_an_hour_and_fails_after_a_day(w: World) -> None:
    await warm(w.url, 50)
    [video_id] = await by_api(w, 1)
    async with refusing(w.url, "videos", "processing", key="status"):
        for _ in range(3):
            await run(w, minutes=0)
        assert len(await refusals(w)) == 1
        await run(w, minutes=61)
        assert [one["actor"] for one in await refusals(w, video_id)] == ["submit", "submit"]
        assert (await queue_stats.report(w.ctx.database))["stuck"] == 1
        await run(w, minutes=23 * 60)
    row = await w.row(video_id)
    assert (row["status"], row["error_code"]) == ("failed", "UNSTORABLE")
    assert "refused by a test" in row["error_message"]
    assert w.creates == []
    story = (await w.api.get(f"/videos/{video_id}/events")).json()["events"]
    assert "refused_row" in [one["event"] for one in story]


async def test_what_cannot_even_fail_is_stuck_and_doctor_says_why(w: World) -> None:
    await warm(w.url, 50)
    ids = await submitted(w)
    await refuse(w.url, "videos", ids[0], "23514")
    for _ in range(3):
        await run(w)
    await run(w, minutes=12)
    assert (await queue_stats.report(w.ctx.database))["stuck"] == 1
    await run(w, minutes=24 * 60)
    await run(w, minutes=15)
    assert (await w.row(ids[0]))["status"] == "processing"
    health = (await w.api.get("/health")).json()
    assert (health["stuck"], health["status"]) == (1, "attention")
    from service.doctor.queue import refused_rows

    found = refused_rows(await parked.newest(w.ctx.database))
    assert "23514: check violation" in found.message
    assert str(ids[0]) in found.message
    await allow(w.url, "videos")
    await run(w)
    assert (await w.row(ids[0]))["status"] == "completed"


async def test_a_refusal_that_cannot_be_noted_is_logged(w: World, caplog: pytest.LogCaptureFixture) -> None:
    await warm(w.url, 50)
    [video_id] = await by_api(w, 1)
    await execute(w.url, "ALTER TABLE taxiway.events RENAME TO gone")
    await ParkingLot(w.ctx, "submit").park(Refusal("claim", str(video_id), video_id, error("P0001")))
    assert [one.__dict__.get("event") for one in caplog.records] == ["refused_row", "not_parked"]
    await w.ctx.database.close()
    gone = replace(w.ctx, database=await closed(w))
    with pytest.raises(DatabaseUnavailable):
        await ParkingLot(gone, "submit").park(Refusal("claim", str(video_id), video_id, error("P0001")))


async def closed(w: World) -> Any:
    from service.store.database import Database
    from service.store.url import normalise

    return Database(normalise("postgresql://postgres@127.0.0.1:1/nowhere"), pool_size=1)


async def test_finalize_says_what_it_changed_although_one_was_refused(w: World) -> None:
    await warm(w.url, 50)
    ids = await submitted(w)
    await w.later(minutes=1)
    await refuse(w.url, "videos", ids[0], on="UPDATE")
    due = [one for one in await poll_due(w) if one.video.id != ids[0]]
    async with w.ctx.runway() as runway:
        poller = polling.Poller(w.ctx, runway, unlimited(w.ctx.monotonic))
        results = [(await poller.poll(one)).result for one in due]
    assert await finalize(w.ctx, [one for one in results if one]) == {one.video.id for one in due}


async def poll_due(w: World) -> Any:
    from service.store import tasks

    return await tasks.claim_due(w.ctx.database, 10, ParkingLot(w.ctx, "poll"))


async def test_rescue_goes_on_behind_a_part_that_fails(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await warm(w.url, 50)
    ids = await dragged(w)

    async def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(submissions, "lapsed", broken)
    with pytest.raises(RuntimeError):
        await rescue.run_once(w.ctx)
    assert await statuses(w, ids) == [("processing", None)] * 5

    async def away(*_: object, **__: object) -> Any:
        raise DatabaseUnavailable("gone")

    monkeypatch.setattr(submissions, "lapsed", away)
    with pytest.raises(DatabaseUnavailable):
        await rescue.run_once(w.ctx)


async def test_submit_goes_on_with_what_is_left_of_a_small_claim(database_url: str) -> None:
    async with world(database_url, submit_concurrency=2) as w:
        await warm(w.url, 50)
        ids = await by_api(w)
        await refuse(database_url, "submissions", ids[0], on="INSERT")
        await run(w)
        await run(w)
        assert len(w.creates) == 4
        assert submit.NOTHING["claimed"] == 0
