"""What keeps the engine light: few statements, claims by index, submitting at once, and no growth without end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from itertools import cycle
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from service.context import Context, Counts
from service.deadline import Deadline, Wake
from service.errors import NotConfigured
from service.operations import saving
from service.operations.saving import as_outcome_row
from service.runway.outcomes import Decision, Kind, Outcome
from service.settings import ENV_NAMES
from service.steps import poll, submit
from service.store import claim as claims
from service.store import endpoints, models, submissions, tasks
from service.store.batches import Parking
from service.store.database import Database
from service.store.endpoints import Configured
from service.store.listener import Listener
from service.store.outcome_row import OutcomeRow
from service.store.pending_work import pending_work
from service.store.url import normalise
from service.tick import SubmitLoop, submit_now, tick
from service.videos import Status
from service.worker import CHANNEL, Stop, _submit_forever, work_forever
from tests.database import connected
from tests.simulator_server import until
from tests.world import IMAGE, World, world

pytestmark = pytest.mark.anyio


class Counting(Database):
    """A database that keeps the statements that were run one by one."""

    said: list[str]

    async def _run(self, method: str, sql: str, arguments: tuple[object, ...]) -> Any:
        self.said.append(sql)
        return await super()._run(method, sql, arguments)


async def statements_of_a_tick(w: World) -> int:
    database = Counting(w.ctx.database.target)
    database.said = []
    try:
        await replace_and_tick(w, database)
    finally:
        await database.close()
    return len(database.said)


async def replace_and_tick(w: World, database: Database) -> None:
    await replace(w, ctx=replace(w.ctx, database=database)).tick()


async def test_an_idle_tick_asks_little(w: World) -> None:
    await w.tick()  # the first one ever writes down which database this is
    assert await statements_of_a_tick(w) <= 3
    await w.enqueue()
    await w.finish()
    assert await statements_of_a_tick(w) <= 3


async def test_a_tick_claims_only_when_something_may_be_due(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    claim = claims.claim

    async def watched(*arguments: Any, **others: Any) -> list[claims.OpenSubmission]:
        made.append(1)
        return await claim(*arguments, **others)

    monkeypatch.setattr(claims, "claim", watched)
    await w.tick()
    assert made == []
    await w.enqueue(run_after="2099-01-01T00:00:00Z")
    await w.tick()
    assert made == []
    await w.enqueue()
    assert (await w.tick())["submit"]["claimed"] == 1
    assert made == [1]
    await w.rows(f"INSERT INTO taxiway.videos (prompt, image_url, status) VALUES ('a boat', '{IMAGE}', 'queued')")
    assert (await w.tick())["submit"]["claimed"] == 1, "in the tick that takes it"


async def test_the_overview_names_each_step_that_has_something_to_do(w: World) -> None:

    async def due() -> set[str]:
        found = await pending_work(w.ctx.database, 86_400.0)
        return {name for name, value in vars(found).items() if value}

    # The template of this database may have been migrated long ago: its walks would be due.
    await w.rows(
        "UPDATE taxiway.maintenance SET due_at = taxiway.now() + interval '10 minutes' WHERE due_at < 'infinity'"
    )
    assert await due() == set()
    await w.rows("INSERT INTO taxiway.videos (prompt, status) VALUES ('a boat', 'queued')")
    assert await due() == {"intake"}
    await w.tick()
    assert await due() == set()
    video_id = await w.enqueue()
    assert await due() == {"submit"}
    await w.api.post(f"/videos/{video_id}/cancel")
    assert await due() == set()
    await w.later(seconds=6)
    assert await due() == {"poll"}
    await w.finish()
    await w.later(days=2)
    assert await due() == {"prune"}


PLANS = {
    "claim": (claims.claiming().usual, (60.0, None, 50, None), "videos_ready"),
    "claim in turn": (claims.claiming(turn=True).usual, (60.0, None, 1, None, uuid4()), "videos_ready"),
    "due": (tasks._DUE.usual, (50,), "videos_poll"),
    "save": (submissions._SAVE_BY_GUARD[submissions.Guard.LIVE], None, "videos_pkey"),
}


@pytest.mark.parametrize("name", PLANS)
async def test_a_long_history_is_not_read(database_url: str, name: str) -> None:
    sql, arguments, index = PLANS[name]
    async with connected(database_url) as connection:
        await connection.execute("INSERT INTO taxiway.models (model) VALUES ('gen4_turbo')")
        await connection.execute(
            """
            INSERT INTO taxiway.videos (model, input, status, finished_at)
            SELECT 'gen4_turbo', '{}', CASE WHEN i % 10 = 0 THEN 'queued' ELSE 'completed' END,
                   CASE WHEN i % 10 > 0 THEN taxiway.now() END
            FROM generate_series(1, 20000) AS i
            """
        )
        await connection.execute(
            """
            INSERT INTO taxiway.submissions (video_id, model, call_deadline, deadline, outcome, closed_at, settled_at)
            SELECT id, model, taxiway.now() + interval '1 s', taxiway.now() + interval '6 s',
                   'rejected', taxiway.now(), taxiway.now()
            FROM taxiway.videos WHERE status = 'completed'
            """
        )
        await connection.execute("ANALYZE taxiway.videos")
        await connection.execute("ANALYZE taxiway.submissions")
        one = await connection.fetchrow("SELECT id FROM taxiway.videos LIMIT 1")
        answer = [{"submission_id": 1, "video_id": str(one and one["id"]), "outcome": "rejected"}]
        plan = await connection.fetch(f"EXPLAIN {sql}", *(arguments or (json.dumps(answer), "submit", None)))
        text = "\n".join(row[0] for row in plan)
        assert index in text
        assert "Seq Scan on videos" not in text
        assert "Seq Scan on submissions" not in text


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once a worker has said that it listens, and then claimed: from now on NOTIFY alone wakes it at once.

    What begins to enqueue before it has said so does not notify, and may be found by the clock only.
    """
    claimed = asyncio.Event()

    async def watched(ctx: Context, **options: Any) -> Counts:
        counts = await submit_now(ctx, **options)
        claimed.set()
        return counts

    monkeypatch.setattr("service.worker.submit_now", watched)
    return claimed


async def test_a_worker_submits_at_once_and_tells_it_with_the_next_tick(w: World, at_rest: asyncio.Event) -> None:
    stop = Stop()
    working = asyncio.create_task(work_forever(w.ctx, every=3600, stop=stop))
    async with connected(w.url) as connection:

        async def ticks() -> int:
            found: int = await connection.fetchval("SELECT count(*) FROM taxiway.ticks")
            return found

        while await ticks() == 0:  # noqa: ASYNC110  # another process's work, as it were
            await asyncio.sleep(0)
        await at_rest.wait()
        video_id = await w.enqueue()
        await until(lambda: len(w.creates) == 1)
        while (await w.row(video_id))["runway_video_id"] is None:  # noqa: ASYNC110  # likewise
            await asyncio.sleep(0)
        assert await ticks() == 1  # by itself, without a tick
    stop.set()
    await working


async def test_what_was_submitted_between_two_ticks_is_reported_with_the_second(w: World) -> None:
    beside = SubmitLoop()
    beside.add(submit.NOTHING | {"claimed": 1, "accepted": 1})
    beside.add(submit.NOTHING | {"claimed": 1, "rejected": 1})
    counts = await w.tick(beside=beside)
    assert counts["submit"] == {"claimed": 2, "accepted": 1, "not_sent": 0, "rejected": 1, "unknown": 0}
    assert (await w.tick(beside=beside))["submit"] == submit.NOTHING


async def test_a_worker_goes_on_submitting_while_a_poll_takes_its_time(
    w: World, monkeypatch: pytest.MonkeyPatch, at_rest: asyncio.Event
) -> None:
    await w.enqueue()
    await w.tick()
    await w.later(minutes=1)
    looking, seen = asyncio.Event(), asyncio.Event()

    async def look(*_: object, **__: object) -> dict[str, int]:
        looking.set()
        await seen.wait()
        return dict(poll.NOTHING)

    monkeypatch.setattr(poll, "run_once", look)
    stop = Stop()
    working = asyncio.create_task(work_forever(w.ctx, every=3600, stop=stop))
    await looking.wait()
    await at_rest.wait()
    await w.enqueue()
    await until(lambda: len(w.creates) == 2)
    seen.set()
    stop.set()
    await working
    assert len(await w.rows("SELECT FROM taxiway.submissions WHERE task_id IS NOT NULL")) == 2


async def test_a_worker_without_a_key_submits_nothing_when_it_is_woken(database_url: str) -> None:
    async with world(database_url, runway_key=None) as w:
        await w.enqueue()
        with pytest.raises(NotConfigured):
            await submit_now(w.ctx, stopping=Stop(), wake=Wake())
        assert not await w.rows("SELECT FROM taxiway.submissions")


async def test_a_worker_that_is_woken_without_a_key_stays(database_url: str) -> None:
    async with world(database_url, runway_key=None) as w:
        stop, beside = Stop(), SubmitLoop()
        wake = beside.wake
        wake.set(due=True)
        working = asyncio.create_task(_submit_forever(w.ctx, beside, every=3600, stop=stop))
        while wake.due:  # noqa: ASYNC110  # the worker clears it
            await asyncio.sleep(0)
        stop.set()
        await working
        assert not await w.rows("SELECT FROM taxiway.submissions")


async def test_a_worker_probes_a_model_whose_pause_is_over(w: World) -> None:
    await w.enqueue()
    await models.pause(w.ctx.database, "all", 60, "no_credits", "there were none")
    await w.later(minutes=2)
    stop = Stop()
    working = asyncio.create_task(work_forever(w.ctx, every=3600, stop=stop))
    await until(lambda: len(w.creates) == 1)
    stop.set()
    await working
    assert not await w.rows("SELECT FROM taxiway.models WHERE reason IS NOT NULL")


async def test_a_worker_tells_that_the_database_is_away(w: World, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = Database(normalise("postgresql://postgres@127.0.0.1:1/nowhere"), pool_size=1)
    ctx = replace(w.ctx, database=nowhere)
    assert await submit_now(ctx, stopping=Stop(), wake=Wake()) == submit.NOTHING
    assert "submit_failed" in [record.__dict__.get("event") for record in caplog.records]
    await nowhere.close()


@pytest.mark.parametrize("has_others", [False, True])
async def test_where_a_new_video_may_wait_few_polls_begin_at_once(
    w: World, monkeypatch: pytest.MonkeyPatch, has_others: bool
) -> None:
    await w.enqueue_many(25)
    await w.tick()
    await w.later(seconds=6)
    asked = []

    async def claim_due(database: Database, limit: int, parking: Parking) -> list[tasks.DuePoll]:
        asked.append(limit)
        return await due(database, limit, parking)

    due = tasks.claim_due
    monkeypatch.setattr(tasks, "claim_due", claim_due)
    counts = await w.tick(beside=SubmitLoop() if has_others else None)
    assert counts["poll"]["polled"] == 25
    assert max(asked) == (10 if has_others else w.ctx.settings.poll_concurrency)


PLACE = json.dumps({"gen4_turbo": ["2026-01-01 00:00:00", "2026-01-01 00:00:00+00:00", str(uuid4())]})


async def test_postgresql_keeps_one_plan_for_claims_of_any_size(w: World) -> None:
    await w.enqueue()
    await w.rows(
        "INSERT INTO taxiway.videos (model, operation, input, status)"
        " SELECT 'gen4_turbo', 'image_to_video', '{}', 'queued' FROM generate_series(1, 5000)"
    )
    await w.rows("ANALYZE taxiway.videos")
    async with connected(w.url) as connection:  # a new one, which has planned nothing while the table was empty
        for limit, behind in zip((1, 50, 7, 20, 1, 64, 3, 49), cycle((None, PLACE)), strict=False):
            await connection.fetch(claims.claiming().usual, 60.0, None, limit, behind)
        planned = await connection.fetchrow(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1",
            claims.claiming().usual,
        )
    assert planned
    assert planned["generic_plans"] >= 3


def test_a_process_that_stays_has_its_client_before_its_first_submission() -> None:
    program = """if True:
        import asyncio, sys
        from service import context
        from service.settings import Settings
        async def inside():
            assert "httpx" not in sys.modules
            async with context.build(Settings(runway_key="key")).shared_client():
                assert "service.runway.transport" in sys.modules
        asyncio.run(inside())
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def test_a_submit_step_whose_time_is_over_goes_on_at_once(database_url: str) -> None:
    async with world(database_url, tick_budget=10.0) as w:
        wake = Wake()
        await submit_now(w.ctx, stopping=Stop(), wake=wake)
        assert not wake.due
        late = replace(w.ctx, monotonic=iter(range(0, 1000, 20)).__next__)
        await submit_now(late, stopping=Stop(), wake=wake)
        assert wake.due


async def test_old_videos_are_removed_where_that_is_asked_for(database_url: str) -> None:
    assert ENV_NAMES["video_retention"] == "VIDEO_RETENTION"
    async with world(database_url) as kept:
        old = await kept.enqueue()
        await kept.finish()
        await kept.later(days=30)
        await kept.tick()
        assert await kept.rows("SELECT FROM taxiway.videos WHERE id = $1", old)
    async with world(database_url, video_retention=86_400.0) as w:
        w.faults({"simulate": "drop_after"})
        unknown = await w.enqueue()
        await w.tick()
        await w.later(days=2)
        young = await w.enqueue()
        await w.finish()
        counts = await w.tick()
        assert counts["prune"]["removed"] in (0, 1)  # the ticks of `finish` were the first to see it
        left = {row["id"] for row in await w.rows("SELECT id FROM taxiway.videos")}
        assert left == {unknown, young}  # Runway may still have made the unknown one
        assert await w.ledger(old)
        assert not await w.rows("SELECT FROM taxiway.search WHERE video_id = $1", old)


async def test_only_where_a_worker_listens_is_anybody_notified(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(database_url) as w, connected(database_url) as other:
        heard = asyncio.Event()
        await other.add_listener(CHANNEL, lambda *_: heard.set())

        async def hears() -> bool:
            """Whether a video that is created now is heard of: what was sent before an answer arrives before it."""
            heard.clear()
            await w.enqueue()
            await other.execute("SELECT")
            return heard.is_set()

        assert not await hears()
        await tick(w.ctx, kind="worker")
        assert not await hears()
        listener = Listener(normalise(database_url), CHANNEL, lambda: None)
        try:
            await listener.ensure()
            assert await hears()
            await w.rows(
                "UPDATE taxiway.maintenance SET taken_at = taxiway.now() - interval '1 hour' WHERE name = 'listener'"
            )
            assert not await hears()
            await listener.ensure()  # within the minute, nothing is said again
            assert not await hears()
            monkeypatch.setattr("service.store.listener.AGAIN_SECONDS", 0.0)
            await listener.ensure()
            assert await hears()
        finally:
            await listener.close()


WRITTEN = """
SELECT pg_stat_get_xact_tuples_updated(oid) AS updated, pg_stat_get_xact_tuples_hot_updated(oid) AS hot
FROM pg_class WHERE oid = 'taxiway.videos'::regclass
"""


def accepted(submission: claims.OpenSubmission) -> OutcomeRow:
    outcome = Outcome(Kind.ACCEPTED, "task created", http_status=200, task_id=str(uuid4()))
    return as_outcome_row(submission.submission_id, submission.video_id, outcome, Decision(Status.PROCESSING))


async def test_saving_an_id_writes_to_no_index_of_videos(w: World) -> None:
    await w.enqueue()
    [submission] = await claims.claim(w.ctx.database, 1, 60.0)
    async with w.ctx.database.transaction() as tx:
        before = await tx.fetchrow(WRITTEN)
        await submissions.save(tx, [accepted(submission)])
        after = await tx.fetchrow(WRITTEN)
    assert before
    assert after
    assert [after[name] - before[name] for name in ("updated", "hot")] == [1, 1]


@pytest.mark.parametrize(("took", "first_look"), [(0.0, 5.0), (2.0, 3.0), (3.0, 5.0), (50.0, 5.0)])
async def test_the_first_poll_is_five_seconds_after_the_claim_or_the_late_answer(
    w: World, took: float, first_look: float
) -> None:
    video_id = await w.enqueue()
    [submission] = await claims.claim(w.ctx.database, 1, 60.0)
    await w.later(seconds=took)
    await submissions.save(w.ctx.database, [accepted(submission)])
    [row] = await w.rows(
        "SELECT extract(epoch FROM poll_after - taxiway.now())::float8 AS left FROM taxiway.videos WHERE id = $1",
        video_id,
    )
    assert row["left"] == pytest.approx(first_look, abs=0.4)


@pytest.mark.parametrize("whose", ["nobody's", "another video's"])
async def test_an_open_submission_is_its_own_videos(w: World, whose: str) -> None:
    await w.enqueue()
    [submission] = await claims.claim(w.ctx.database, 1, 60.0)
    number = submission.submission_id + (whose == "nobody's")
    other = await w.enqueue()
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="videos_open_submission"):
        await w.rows(
            "UPDATE taxiway.videos SET status = 'processing', open_submission_id = $2 WHERE id = $1", other, number
        )


async def test_a_client_that_cannot_be_made_leaves_nothing_running(w: World) -> None:
    await w.enqueue()

    def broken() -> Any:
        raise RuntimeError("no client")

    ctx = replace(w.ctx, transport=broken)
    before = asyncio.all_tasks()
    with pytest.raises(RuntimeError):
        await submit.run_once(ctx, Deadline(ctx.monotonic, ctx.monotonic() + 20))
    assert asyncio.all_tasks() == before
    assert [row["status"] for row in await w.rows("SELECT status FROM taxiway.videos")] == ["queued"]


async def test_a_defect_while_a_model_is_paused_ends_the_step_and_loses_no_id(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> bool:
        raise RuntimeError("a defect")

    monkeypatch.setattr(saving, "pause_model", broken)
    w.faults("status=401")
    for _ in range(3):
        await w.enqueue()
    async with asyncio.timeout(30):
        assert (await tick(w.ctx)).errors["submit"] == "RuntimeError"
    saved = await w.rows("SELECT task_id FROM taxiway.submissions WHERE outcome = 'accepted'")
    assert {row["task_id"] for row in saved} == {one.task_id for one in w.creates if one.task_id}


async def test_a_removal_that_is_due_is_work_where_videos_are_removed_in_time(w: World) -> None:
    await w.rows(
        "UPDATE taxiway.maintenance SET due_at = CASE WHEN name = 'removal' THEN taxiway.now() ELSE 'infinity' END"
    )
    assert not (await pending_work(w.ctx.database)).prune
    assert (await pending_work(w.ctx.database, 86_400.0)).prune


async def test_endpoints_are_work_until_the_table_says_what_the_settings_name(w: World) -> None:
    named = [
        Configured("webhook", "https://b.example.com", ("video.completed", "video.failed")),
        Configured("webhook", "https://a.example.com", ("video.completed",)),
        Configured("alert", "https://z.example.com", ("alert.raised",)),
    ]
    for now_named in (named, named[:1], [replace(named[0], events=("video.failed",))], [], named):
        assert (await pending_work(w.ctx.database, None, now_named)).endpoints
        await endpoints.configure(w.ctx.database, now_named)
        assert not (await pending_work(w.ctx.database, None, now_named)).endpoints
