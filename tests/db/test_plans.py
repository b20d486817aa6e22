"""The plans of what runs all the time, on a filled table: by the intended index, and never by reading all videos."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from service import context as contexts
from service.app import create_app
from service.context import Context
from service.operations.enqueuing import build
from service.operations.saving import as_outcome_row
from service.operations.waiting import waiting
from service.runway.outcomes import Decision, Kind, Outcome
from service.store import (
    batch_rows,
    listing,
    many_videos,
    models,
    queue_stats,
    retention,
    submissions,
    tasks,
    throughput,
    waiting_facts,
)  # fmt: skip
from service.store import claim as claims
from service.store.claim import UNLIMITED, Aim, PerUser, Room
from service.store.database import Database
from service.store.pending_work import pending_work
from service.store.search import Wanted
from service.store.tasks import PollResult
from service.store.url import normalise
from service.tick import tick
from service.videos import Status
from service.web.schemas import VideoRequest
from tests.benchmarks.contenders.taxiway import enqueue_one, learn, multiply
from tests.benchmarks.history import WAITING, Sizes, fill_past, fill_queue
from tests.database import connected, execute, run, temporary_database
from tests.world import API_KEY, settings, warm

pytestmark = pytest.mark.anyio

SIZES = Sizes(finished=16_000, queued=4_000)
# A hundred that are with Runway, a few of them due.
UNDER_WAY = """
UPDATE taxiway.videos SET status = 'processing', runway_video_id = gen_random_uuid()::text, finished_at = NULL,
    submitted_at = taxiway.now(), poll_after = taxiway.now() + interval '5 minutes',
    error_code = NULL, error_message = NULL
WHERE id IN (SELECT id FROM taxiway.videos WHERE finished_at IS NOT NULL LIMIT 100)
"""
FEW_OF_ADA = """
UPDATE taxiway.search SET user_id = 'ada' WHERE video_id IN (SELECT video_id FROM taxiway.search LIMIT 20)
"""
ENDED = "UPDATE taxiway.videos SET status = 'failed', finished_at = taxiway.now()"
GREAT = {"videos", "submissions", "search"}  # tables that grow for ever


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan."""
    yield plan
    for child in plan.get("Plans", []):
        yield from walk(child)


class Explaining(Database):
    """Keeps the plan of every statement, as it is planned for these values and as it is planned for any."""

    def __init__(self, url: str) -> None:
        super().__init__(normalise(url))
        self._whole_url = url  # with the password, which `target.dsn` lacks
        self.plans: list[tuple[str, dict[str, Any]]] = []

    async def _explain(self, sql: str, arguments: tuple[object, ...]) -> None:
        """`force_generic_plan`: what a prepared statement comes to after a few uses."""
        async with connected(self._whole_url) as connection:
            found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *arguments)
            self.plans.append((sql, json.loads(found)[0]["Plan"]))
            nulls = f"({', '.join(['NULL'] * len(arguments))})" if arguments else ""
            await connection.execute("SET plan_cache_mode = force_generic_plan")
            await connection.execute(f"PREPARE one AS {sql}")
            found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE one{nulls}")
            self.plans.append((sql, json.loads(found)[0]["Plan"]))

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        await self._explain(sql, arguments)
        return await super().fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> asyncpg.Record | None:
        await self._explain(sql, arguments)
        return await super().fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        await self._explain(sql, arguments)
        return await super().fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: object) -> int:
        await self._explain(sql, arguments)
        return await super().execute(sql, *arguments)

    def nodes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every node of every plan, with its statement."""
        for sql, plan in self.plans:
            yield from ((sql, node) for node in walk(plan))

    def check(self, *indexes: str) -> None:
        """Each of these indexes is used, no great table is read from end to end, and the time costs no call."""
        assert self.plans
        assert "taxiway.now()" not in json.dumps([plan for _, plan in self.plans])
        read = {sql for sql, node in self.nodes() if node["Node Type"] == "Seq Scan" and node["Relation Name"] in GREAT}
        assert not read
        used = {node["Index Name"] for _, node in self.nodes() if "Index Name" in node}
        assert set(indexes) <= used


@pytest.fixture(scope="module")
def filled_url(server_url: str, template_name: str) -> Iterator[str]:
    """A database with many videos, for all tests of this module: none changes more than a few of them."""
    with temporary_database(server_url, template=template_name) as url:
        run(fill_queue(url, SIZES))
        run(fill_past(url, SIZES))
        run(warm(url, 1000))
        run(execute(url, UNDER_WAY, "VACUUM ANALYZE taxiway.videos"))
        yield url


@pytest.fixture
async def ctx(filled_url: str) -> AsyncIterator[Context]:
    """A context whose database explains."""
    ctx = replace(contexts.build(settings(filled_url)), database=Explaining(filled_url))
    yield ctx
    await ctx.database.close()


def explaining(ctx: Context) -> Explaining:
    """Its database, by its own type."""
    assert isinstance(ctx.database, Explaining)
    return ctx.database


@asynccontextmanager
async def client(ctx: Context) -> AsyncIterator[httpx.AsyncClient]:
    """The app of this context."""
    headers = {"authorization": f"Bearer {API_KEY}"}
    transport = httpx.ASGITransport(app=create_app(ctx))
    async with httpx.AsyncClient(transport=transport, base_url="http://taxiway.test", headers=headers) as made:
        yield made


@pytest.mark.parametrize("many", [1, 10, 50])
async def test_a_claim_reads_ready_rows_only(ctx: Context, many: int) -> None:
    assert len(await claims.claim(ctx.database, many, 60.0)) == many
    explaining(ctx).check("videos_ready")
    first = [node for _, node in explaining(ctx).nodes() if node.get("Index Name") == "videos_ready"]
    assert all("claim_order" not in node.get("Sort Key", []) for _, node in explaining(ctx).nodes())
    assert all("run_after <= now()" in node["Index Cond"] for node in first), "what waits is passed over in the index"
    assert any("claim_order" in node["Index Cond"] for node in first), "what is gone from its front is walked past once"


async def test_a_claim_within_each_users_limits_begins_where_one_has_room(ctx: Context) -> None:
    aim = Aim(per_user=PerUser(2, Decimal(100)))
    assert len(await claims.claim(ctx.database, 10, 60.0, aim, Room(None, {}))) == 10
    explaining(ctx).check("videos_ready", "videos_poll")
    walks = [node for _, node in explaining(ctx).nodes() if node.get("Index Name") == "videos_ready"]
    assert "Index Only Scan" in {node["Node Type"] for node in walks}, "users without a slot are passed over in it"
    assert any("claim_order" in node["Index Cond"] for node in walks), "the videos are read from there on"


async def test_what_one_user_has_is_found_by_its_index(ctx: Context) -> None:
    await execute(explaining(ctx)._whole_url, FEW_OF_ADA)
    await listing.page(ctx.database, Wanted(user_id="ada"), before=None, limit=50)
    await throughput.series(ctx.database, "day", "ada")
    await many_videos.cancel(ctx.database, Wanted(user_id="ada"), limit=10, dry_run=True)
    explaining(ctx).check("search_user")


@pytest.mark.parametrize("past", [False, True], ids=["empty", "past"])
@pytest.mark.parametrize("many", [1, 12, 48])
async def test_a_claim_planned_on_an_empty_queue_is_good_on_a_long_one(
    database_url: str, many: int, past: bool
) -> None:
    """PostgreSQL keeps a plan for any values from the sixth use on, made for what the table held by then."""
    await learn(database_url)
    await enqueue_one(database_url)
    await execute(database_url, "CREATE TABLE template AS SELECT * FROM taxiway.videos", "DELETE FROM taxiway.videos")
    if past:
        await multiply(database_url, 2_000, WAITING, source="template")
        await execute(database_url, ENDED, "VACUUM ANALYZE")
    async with connected(database_url) as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE a_claim AS {claims.claiming().usual}")
        await connection.execute(f"EXPLAIN EXECUTE a_claim (60, 1, {many}, NULL)")  # plans it, and keeps the plan
        await multiply(database_url, 20_000, WAITING, source="template")
        found = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE a_claim (60, 2, {many}, NULL)")
    nodes = list(walk(json.loads(found)[0]["Plan"]))
    (chosen,) = [node["Plans"][0] for node in nodes if node["Node Type"] == "LockRows"]
    assert (chosen["Node Type"], chosen.get("Index Name")) == ("Index Scan", "videos_ready"), "it is read in order"
    assert max(node["Actual Rows"] for node in nodes) == many, "no more of the queue is read than is claimed"


async def end_the_first(url: str) -> None:
    """5,000 videos are queued, and counted as that; then the first 4,000 end."""
    await learn(url)
    await enqueue_one(url)
    await multiply(url, 5_000, WAITING)
    await execute(url, "VACUUM ANALYZE taxiway.videos")
    gone = "WHERE id IN (SELECT id FROM taxiway.videos ORDER BY claim_order, run_after, id LIMIT 4000)"
    await execute(url, f"{ENDED} {gone}")


async def test_a_claim_reads_nothing_of_what_has_gone_from_the_queue(database_url: str) -> None:
    """After a burst PostgreSQL knows a table in which all is queued, and that long after most of it has gone."""
    await end_the_first(database_url)
    async with connected(database_url) as connection:
        sql = f"EXPLAIN (ANALYZE, FORMAT JSON) {claims.claiming().usual}"
        nodes = list(walk(json.loads(await connection.fetchval(sql, 60.0, 1, 12, None))[0]["Plan"]))
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] in GREAT]
    assert max(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in nodes) == 12


async def test_a_claim_behind_the_last_one_walks_past_nothing(database_url: str) -> None:
    """What has left the queue stands in the index until VACUUM."""
    await end_the_first(database_url)
    pages = {}
    async with connected(database_url) as connection:
        last = await connection.fetchval(
            "SELECT jsonb_build_object(model, jsonb_build_array(claim_order, run_after, id))::text"
            " FROM taxiway.videos WHERE status <> 'queued'"
            " ORDER BY claim_order DESC, run_after DESC, id DESC LIMIT 1"
        )
        for mode in ("force_custom_plan", "force_generic_plan"):
            await connection.execute(f"SET plan_cache_mode = {mode}")
            for behind in (None, last):
                transaction = connection.transaction()
                await transaction.start()
                sql = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claims.claiming().usual}"
                plan = json.loads(await connection.fetchval(sql, 60.0, 1, 12, behind))[0]["Plan"]
                await transaction.rollback()
                pages[mode, behind is not None] = sum(
                    node["Shared Hit Blocks"] + node["Shared Read Blocks"]
                    for node in walk(plan) if node.get("Index Name") == "videos_ready" and node["Actual Rows"] == 1
                )  # fmt: skip
    assert all((count < 10) is is_behind for (_, is_behind), count in pages.items()), pages


class Running(Explaining):
    """Keeps plans with what they came to: each statement is run, taken back, and run again."""

    async def _explain(self, sql: str, arguments: tuple[object, ...]) -> None:
        async with connected(self._whole_url) as connection:
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"SET plan_cache_mode = {mode}")
                transaction = connection.transaction()
                await transaction.start()
                found = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *arguments)
                await transaction.rollback()
                self.plans.append((sql, json.loads(found)[0]["Plan"]))

    def most(self, count: int) -> None:
        """No table was asked for more than a few rows for each of so many."""
        assert self.plans
        read = {
            (sql, node["Node Type"], node["Relation Name"]): node["Actual Rows"] * node["Actual Loops"]
            for sql, node in self.nodes()
            if "Scan" in node["Node Type"] and "Relation Name" in node
        }
        assert not {what: rows for what, rows in read.items() if rows > 4 * count}


def seen(video_id: UUID, task_id: str | None) -> PollResult:
    """A task that is under way."""
    return PollResult(
        video_id, task_id or "", next_status="processing", task_status="RUNNING", progress=0.5, error_code=None,
        error_message=None, delay_seconds=5.0, task_retry=False, output=None, video_url=None, video_url_expires_at=None,
        cost_credits=None, settled=False, cancel_reason=None,
    )  # fmt: skip


@pytest.mark.parametrize("announced", [False, True])
async def test_a_batch_reads_each_of_its_rows_a_few_times(database_url: str, announced: bool) -> None:
    """A join that PostgreSQL takes to be of one row must not compare each row of the batch with each other."""
    many = 50
    await learn(database_url)
    await enqueue_one(database_url)
    await multiply(database_url, 5_000, WAITING)
    await execute(database_url, "VACUUM ANALYZE taxiway.videos")
    database = Running(database_url)
    try:
        permitted = await claims.claim(database, many, 60.0)
        outcome = Outcome(Kind.ACCEPTED, "task created", http_status=200, task_id="")
        answers = [
            as_outcome_row(
                one.submission_id, one.video_id, replace(outcome, task_id=str(uuid4())), Decision(Status.PROCESSING),
                announced=announced,
            )
            for one in permitted
        ]  # fmt: skip
        saved = await submissions.save_each(database, answers)
        assert list(saved.values()) == ["moved"] * many
        done = await tasks.finalize(database, [seen(one.video_id, one.task_id) for one in answers])
        assert len(done) == many
        database.most(many)
    finally:
        await database.close()


async def test_a_poll_reads_due_tasks_only(ctx: Context) -> None:
    await tasks.claim_due(ctx.database, 20)
    explaining(ctx).check("videos_poll")


async def test_an_idle_tick_reads_no_table_whole(ctx: Context) -> None:
    await models.pause(ctx.database, "all", 3600, "no_credits", "nothing is to be sent here")
    try:
        await tick(ctx)
    finally:
        await models.resume(ctx.database, "all")
    explaining(ctx).check("submissions_under_way", "videos_sent_before")


async def test_a_tick_reads_no_outcome_that_is_unknown(ctx: Context) -> None:
    """There may be thousands that nobody has resolved: it asks what is queued although it was sent."""
    await pending_work(ctx.database)
    explaining(ctx).check("videos_intake", "submissions_under_way", "videos_sent_before")
    read = [node for _, node in explaining(ctx).nodes() if node.get("Index Name") == "submissions_unknown"]
    assert all("Index Cond" in node for node in read), "only by video"


async def test_a_walk_reads_its_own_batch(ctx: Context, filled_url: str) -> None:
    await execute(filled_url, "UPDATE taxiway.maintenance SET due_at = taxiway.now() WHERE name LIKE '%_walk'")
    await retention.walk(ctx.database, 500)
    explaining(ctx).check("submissions_opened", "search_pkey", "videos_pkey")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "status=failed",
        "status=cancelled",
        "status=queued&status=processing",
        "model=gen4_turbo",
        "error_code=TASK_TIMEOUT",
        "q=boat",
        "q=number+700",
        "q=boat+dawn&status=completed",
        "q=3f0c8f5e-5b0f-4a43-9f39-000000000000",
        "group=3f0c8f5e-5b0f-4a43-9f39-000000000000",
    ],
)
async def test_a_list_walks_an_index(ctx: Context, query: str) -> None:
    async with client(ctx) as api:
        response = await api.get(f"/videos?limit=20&{query}")
        assert response.status_code == 200
        explaining(ctx).check()
        if response.json()["next"]:
            response = await api.get(f"/videos?limit=20&{query}&cursor={response.json()['next']}")
            assert response.status_code == 200
    explaining(ctx).check()


@pytest.mark.parametrize(("word", "index"), [("number", "search_newest"), ("dog", "search_words")])
async def test_a_word_that_only_old_videos_have_is_looked_for_no_further_than_a_page_needs(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, word: str, index: str
) -> None:
    """One that all of them have is walked on to, behind the 4,000 that are queued; one of every seventh is not."""
    monkeypatch.setattr(listing, "WALK_ROWS", 1_000)
    page = await listing.page(ctx.database, Wanted(q=word), before=None, limit=20)
    assert page.next is not None
    explaining(ctx).check(index)
    last, _ = explaining(ctx).plans[-1]
    assert "created_at >= $" in last, "there was no need for a search without a bound"
    assert ("WITH found" in last) == (index == "search_words")


async def test_a_group_is_found_by_its_index(ctx: Context) -> None:
    await listing.page(ctx.database, Wanted(group=uuid4()), before=None, limit=20)
    explaining(ctx).check("videos_group")


async def test_health_counts_without_reading_every_video(ctx: Context) -> None:
    async with client(ctx) as api:
        assert (await api.get("/health")).status_code == 200
    explaining(ctx).check("submissions_unknown")


async def test_health_is_not_compiled(database_url: str) -> None:
    """PostgreSQL compiles what it takes for dear; a small table that was never analyzed must not look like that."""
    database = Explaining(database_url)
    try:
        await execute(database_url, "INSERT INTO taxiway.models (model) VALUES ('gen4_turbo')")
        await queue_stats.report(database)
        limit = float(await Database.fetchval(database, "SELECT current_setting('jit_above_cost')"))
        assert max(plan["Total Cost"] for _, plan in database.plans) < limit
    finally:
        await database.close()


async def test_what_new_videos_wait_for_is_found_by_the_queues_own_index(ctx: Context) -> None:
    """By the statement that stores them, behind a long queue; PostgreSQL compiles nothing for that either."""
    asked = VideoRequest.model_validate({"input": {"promptText": "a boat", "promptImage": "https://a.example/b.jpg"}})
    new = [build(ctx, asked.spec()) for _ in range(10)]
    explaining(ctx).plans.clear()
    stored = await batch_rows.enqueue_and_ask(ctx.database, new, UNLIMITED)
    assert [facts["ahead"] for _, facts in stored.values()] == [waiting_facts.MOST_AHEAD] * 10
    explaining(ctx).check("videos_ready", "submissions_one_open")
    limit = float(await Database.fetchval(ctx.database, "SELECT current_setting('jit_above_cost')"))
    assert max(plan["Total Cost"] for _, plan in explaining(ctx).plans) < limit


async def test_why_videos_wait_is_found_by_the_queues_own_index(ctx: Context) -> None:
    """For a whole list, at the end of a long queue; and PostgreSQL compiles nothing for it."""
    page = await listing.page(ctx.database, Wanted(["queued"]), before=None, limit=200)
    explaining(ctx).plans.clear()
    found = await waiting(ctx, page.videos)
    assert len(found) == 200
    assert max(one.ahead or 0 for one in found.values()) == waiting_facts.MOST_AHEAD
    explaining(ctx).check("videos_ready", "videos_pkey", "submissions_one_open")
    limit = float(await Database.fetchval(ctx.database, "SELECT current_setting('jit_above_cost')"))
    assert max(plan["Total Cost"] for _, plan in explaining(ctx).plans) < limit


async def test_a_plan_that_reads_everything_is_noticed(ctx: Context) -> None:
    await ctx.database.fetchval("SELECT count(*) FROM taxiway.videos WHERE prompt = 'nobody wrote this'")
    with pytest.raises(AssertionError):
        explaining(ctx).check()
