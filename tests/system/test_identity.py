"""A database that was restored or copied is recognised before a claim; a switchover and a weekend are nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from service.installer.migrate import migrate
from service.local.postgres import Server
from service.store import identity, models
from service.store.claim import Aim, claim
from service.store.database import Database
from service.store.memory import Made
from service.store.url import normalise
from tests.database import connected, execute, temporary_database
from tests.restored import backup, dump, load, restore, switch_over
from tests.world import IMAGE, world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

PERMIT = """
    INSERT INTO taxiway.submissions (video_id, model, claim_id, call_deadline, deadline)
    VALUES ($1, 'gen4_turbo', 7, taxiway.now() + interval '1 minute', taxiway.now() + interval '2 minutes') RETURNING id
"""
# Ticks in the rhythm of a worker, the newest of them just now.
TICKS = """
    INSERT INTO taxiway.ticks (kind, started_at, finished_at, ref)
    SELECT 'worker', taxiway.now() - n * interval '2 seconds', taxiway.now(), 'ref' FROM generate_series(20, 0, -1) AS n
"""
LATER = (
    "UPDATE taxiway.ticks SET started_at = started_at - interval '3 days'",
    "UPDATE taxiway.maintenance SET taken_at = taken_at - interval '3 days' WHERE name = 'identity'",
)
PAUSE = "SELECT reason, paused_until::text, detail FROM taxiway.models WHERE model = 'all'"
EVENTS = "SELECT kind FROM taxiway.events ORDER BY at"


@asynccontextmanager
async def process(url: str) -> AsyncIterator[Database]:
    """What a process has: it remembers nothing yet."""
    database = Database(normalise(url), pool_size=2)
    try:
        yield database
    finally:
        await database.close()


async def recognises(database: Database, *, anew: bool = True) -> bool:
    """Whether a claim may be made; `anew`: on a new connection, as after the server was away."""
    if anew:
        await database.close()
    async with identity.recognised(database) as connection:
        return connection is not None


async def submit(database: Database) -> None:
    """A submission that this process remembers."""
    video_id = uuid4()
    database.memory.remember([Made(video_id, await database.fetchval(PERMIT, video_id), 7)])


async def begin(url: str) -> None:
    """A database that has been at work: recognised, and with ticks."""
    await execute(url, TICKS)
    async with process(url) as database:
        assert await recognises(database)


async def paused(url: str) -> tuple[str, str] | None:
    """The reason and the detail of the pause of all models, which ends by itself never."""
    async with connected(url) as connection:
        row = await connection.fetchrow(PAUSE)
    if row is None or row["reason"] is None:
        return None
    assert row["paused_until"] == "infinity"
    return row["reason"], row["detail"]


async def kinds(url: str) -> list[str]:
    async with connected(url) as connection:
        return [row["kind"] for row in await connection.fetch(EVENTS)]


@asynccontextmanager
async def copied(server_url: str, database_url: str) -> AsyncIterator[str]:
    """The URL of a copy of this database on the same server."""
    copy = temporary_database(server_url, template=database_url.partition("?")[0].rpartition("/")[2])
    url = await asyncio.to_thread(copy.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(copy.__exit__, None, None, None)


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    """A server of this test's own, which may be stopped, replaced and copied."""
    made = make_server()
    made.start()
    return made


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Server]:
    """A server beside it."""
    made = Server(tmp_path / "beside", durable=False)
    yield made
    made.remove()


async def test_the_first_look_writes_down_what_it_sees(database_url: str) -> None:
    async with process(database_url) as database:
        assert await recognises(database)
        facts = await database.fetchval("SELECT facts::text FROM taxiway.maintenance WHERE name = 'identity'")
        assert '"system"' in facts
        assert '"timeline": "00000001"' in facts
    assert await paused(database_url) is None


async def test_a_connection_is_asked_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with process(database_url) as database:
        assert await recognises(database)
        monkeypatch.setattr(identity, "_LOOK", "SELECT 1 / 0, $1::text, $2::bigint, $3::text")
        assert await recognises(database, anew=False)
        with pytest.raises(Exception, match="division by zero"):
            await recognises(database, anew=True)


async def test_behind_a_pooler_it_is_asked_again_in_the_claims_own_transaction(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(normalise(database_url, pooler="yes"), pool_size=1)
    try:
        async with identity.recognised(database) as connection:
            assert connection is not None
            assert await connection.fetchval("SELECT now() <> statement_timestamp()"), "one transaction"
        monkeypatch.setattr(identity, "POOLED_SECONDS", 0.0)
        monkeypatch.setattr(identity, "_LOOK", "SELECT 1 / 0, $1::text, $2::bigint, $3::text")
        with pytest.raises(Exception, match="division by zero"):
            await recognises(database, anew=False)
    finally:
        await database.close()


async def test_a_weekend_without_ticks_is_nothing(database_url: str) -> None:
    await begin(database_url)
    await execute(database_url, *LATER)
    async with process(database_url) as database:
        assert await recognises(database)
    assert await paused(database_url) is None
    assert await kinds(database_url) == []


async def test_a_copy_of_the_database_is_recognised(server_url: str, database_url: str) -> None:
    await begin(database_url)
    async with copied(server_url, database_url) as copy:
        async with process(copy) as database:
            assert not await recognises(database)
            assert not await recognises(database, anew=False)
        reason, detail = await paused(copy) or ("", "")
        assert reason == "restored"
        assert "not the database that the last tick saw" in detail
        assert "`taxiway resume all`" in detail
        assert await kinds(copy) == ["restored"], "written down once"
    assert await paused(database_url) is None


async def test_a_dump_that_was_restored_into_the_same_database_is_recognised(server: Server) -> None:
    await migrate(server.url())
    await begin(server.url())
    sql = dump(server.home.sockets, "taxiway")
    await execute(server.url(), "DROP SCHEMA taxiway CASCADE", "DROP SCHEMA public")
    await asyncio.to_thread(
        load, server.home.sockets, "taxiway", "CREATE SCHEMA public;" + sql.replace("CREATE SCHEMA public;", "")
    )
    async with process(server.url()) as database:
        assert not await recognises(database)
    assert "not the table taxiway.submissions" in (await paused(server.url()) or ("", ""))[1]


async def test_a_dump_on_another_server_is_recognised(server: Server, other: Server) -> None:
    await migrate(server.url())
    await begin(server.url())
    await asyncio.to_thread(other.start)
    await asyncio.to_thread(load, other.home.sockets, "taxiway", dump(server.home.sockets, "taxiway"))
    async with process(other.url()) as database:
        assert not await recognises(database)
    assert "not the server" in (await paused(other.url()) or ("", ""))[1]


async def test_a_restore_to_a_point_in_time_is_recognised_by_a_new_process(server: Server, tmp_path: Path) -> None:
    await migrate(server.url())
    await begin(server.url())
    files = await asyncio.to_thread(backup, server, tmp_path / "backup")
    await asyncio.to_thread(restore, server, files, new_timeline=True)
    await execute(server.url(), *LATER)  # it went back that far
    async with process(server.url()) as database:
        assert not await recognises(database)
    assert "timeline" in (await paused(server.url()) or ("", ""))[1]


@pytest.mark.parametrize("new_timeline", [True, False])
async def test_what_this_process_sent_and_is_not_there_is_missed(
    server: Server, tmp_path: Path, new_timeline: bool
) -> None:
    """However young the backup, and whatever kind of it: also a failover to a standby that lagged behind."""
    await migrate(server.url())
    await begin(server.url())
    async with process(server.url()) as database, process(server.url()) as idle:
        await submit(database)
        files = await asyncio.to_thread(backup, server, tmp_path / "backup")
        assert await recognises(database)
        assert await recognises(idle)
        await submit(database)
        await database.close()
        await idle.close()
        await asyncio.to_thread(restore, server, files, new_timeline=new_timeline)
        assert await recognises(idle), "it knows of nothing that is missing"
        assert not await recognises(database)
    assert "are missing" in (await paused(server.url()) or ("", ""))[1]


async def test_a_switchover_is_nothing(server: Server) -> None:
    await migrate(server.url())
    await begin(server.url())
    async with process(server.url()) as database, process(server.url()) as fresh:
        await submit(database)
        assert await recognises(database)
        await database.close()
        await asyncio.to_thread(switch_over, server)
        assert await recognises(database)
        assert await recognises(fresh)
    assert await paused(server.url()) is None
    assert await kinds(server.url()) == ["switchover"]


async def test_a_long_failover_is_nothing_to_a_process_whose_work_is_there(server: Server) -> None:
    await migrate(server.url())
    await begin(server.url())
    async with process(server.url()) as submitted, process(server.url()) as ticked:
        await submit(submitted)
        assert await recognises(submitted)
        ticked.memory.tick = (await ticked.fetchval("SELECT max(id) FROM taxiway.ticks"), "ref")
        for database in (submitted, ticked):
            await database.close()
        await asyncio.to_thread(switch_over, server)
        await execute(server.url(), *LATER)
        assert await recognises(ticked)
        await execute(server.url(), *LATER, 'UPDATE taxiway.maintenance SET facts = facts || \'{"timeline": "9"}\'')
        assert await recognises(submitted)
    assert await paused(server.url()) is None


async def test_a_copy_of_the_files_beside_the_original_is_recognised_by_its_address(
    server: Server, other: Server, tmp_path: Path
) -> None:
    await migrate(server.url())
    await begin(server.url())
    await asyncio.to_thread(restore, other, await asyncio.to_thread(backup, server, tmp_path / "backup"))
    async with process(other.url()) as early:
        assert await recognises(early), "the limit: it was started within the rhythm of the ticks"
    await asyncio.to_thread(restore, other, tmp_path / "backup")
    await execute(other.url(), *LATER)
    async with process(other.url()) as database:
        assert not await recognises(database)
    assert "another address" in (await paused(other.url()) or ("", ""))[1]
    async with process(server.url()) as database:
        assert await recognises(database)


async def test_another_address_of_the_same_database_is_learned_while_ticks_go_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(database_url)
    monkeypatch.setattr(identity, "place", lambda _database: "the pooler")
    async with process(database_url) as database:
        assert await recognises(database)
        await execute(database_url, *LATER)
        assert await recognises(database)
    monkeypatch.undo()
    async with process(database_url) as database:
        assert await recognises(database), "the first one is known as well"


async def test_an_operator_accepts_it_and_every_process_forgets(server_url: str, database_url: str) -> None:
    await begin(database_url)
    async with copied(server_url, database_url) as copy, process(copy) as database, process(copy) as second:
        database.memory.remember([Made(uuid4(), 1, 2)])
        second.memory.remember([Made(uuid4(), 3, 4)])
        second.memory.accepted = 0
        assert not await recognises(database)
        words = await identity.consequences(database)
        assert words
        assert "0 videos were queued" in words
        assert await identity.accept(database, "an operator")
        assert not await identity.accept(database, "an operator")
        assert await identity.consequences(database) is None
        assert await paused(copy) is None
        assert await recognises(second)
        assert await recognises(database)
        assert len(second.memory.submissions) == 0
        assert await kinds(copy) == ["restored", "resumed"]


async def test_a_database_from_before_an_operators_decision_went_back(database_url: str) -> None:
    await begin(database_url)
    async with process(database_url) as database:
        assert await recognises(database)
        database.memory.accepted = 5
        assert not await recognises(database)


async def test_nothing_is_sent_out_of_a_copy_until_an_operator_says_so(server_url: str, database_url: str) -> None:
    async with world(database_url) as original:
        await original.tick()
        await original.enqueue()
        await original.ctx.database.close()  # a template may not be in use
        async with copied(server_url, database_url) as copy, world(copy, admin_tokens=(ADMIN,)) as w:
            for _ in range(3):
                counts = await w.tick()
                assert counts["submit"]["claimed"] == 0
                await w.later(days=1)
            await models.pause(w.ctx.database, "all", 1, "daily_budget", "the day is spent")
            await models.resume(w.ctx.database, "all")
            await w.ctx.database.close()
            assert (await w.tick())["submit"]["claimed"] == 0
            assert await taken(claim(w.ctx.database, 1, 60, Aim("gen4_turbo"))) == 0, "nor as a probe"
            assert await paused(copy), "no other pause takes its place, and nothing but an operator ends it"
            health = (await w.api.get("/health")).json()
            assert [one["reason"] for one in health["models_paused"]] == ["restored"]
            words = await identity.consequences(w.ctx.database) or ""
            assert "1 videos were queued before that (at most 25 credits)" in words
            assert w.creates == []
            admin = {"authorization": f"Bearer {ADMIN}"}
            answer = await w.anyone.post("/models/all/resume", headers=admin)
            assert answer.status_code == 200, answer.text
            await w.enqueue()
            assert (await w.tick())["submit"]["claimed"] >= 1
            await w.tick()


async def taken(claimed: Awaitable[list[Any]]) -> int:
    return len(await claimed)


async def test_a_claim_that_was_rolled_back_is_not_remembered(database_url: str) -> None:
    async with world(database_url, max_credits_per_day=1_000) as w:
        await w.enqueue()
        await w.tick()
        assert len(w.ctx.database.memory.submissions) == 1
        assert w.ctx.database.memory.tick is not None
        await w.ctx.database.close()
        assert (await w.tick())["submit"]["claimed"] == 0
        assert await paused(database_url) is None


async def test_a_copy_of_one_schema_sends_nothing(server: Server) -> None:
    """What `pg_dump --schema=public` leaves out is not half there: there is nothing to claim in."""
    await migrate(server.url())
    app = ("CREATE TYPE state AS ENUM ('queued')", "CREATE TABLE videos (id int, status state)", "CREATE DATABASE copy")
    await execute(server.url(), *app)
    async with world(server.url()) as w:
        await w.enqueue()
    await execute(server.url("copy"), "DROP SCHEMA public")
    sql = await asyncio.to_thread(dump, server.home.sockets, "taxiway", "--schema=public")
    await asyncio.to_thread(load, server.home.sockets, "copy", sql)
    async with world(server.url("copy")) as w:
        for answer in (await w.api.post("/videos", json=VIDEO), await w.cron.post("/process-queued")):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:taxiway:problem:not-configured")
        assert w.creates == []


ADMIN = "admin-token-for-tests-1"
VIDEO = {"input": {"promptText": "a boat", "promptImage": IMAGE}}
KNOWN: dict[str, Any] = {"system": "1", "timeline": "1", "database": 1, "submissions": 1, "places": ["a"]}
FOUND: dict[str, Any] = {"system": "1", "timeline": "1", "database": 1, "submissions": 1, "place": "a"}


@pytest.mark.parametrize(("changes", "how", "restored"), [
    ({}, {}, False), ({}, {"is_stale": True}, False), ({}, {"missing": 1}, True),
    ({"system": "2"}, {"has_proof": True}, True), ({"system": None}, {}, False), ({"database": 2}, {}, True),
    ({"submissions": 2}, {}, True), ({"timeline": "2"}, {}, False), ({"timeline": "2"}, {"is_stale": True}, True),
    ({"timeline": "2"}, {"is_stale": True, "has_proof": True}, False), ({"timeline": None}, {"is_stale": True}, False),
    ({"place": "b"}, {}, False), ({"place": "b"}, {"is_stale": True}, True),
    ({"place": "b"}, {"is_stale": True, "has_proof": True}, False),
])  # fmt: skip
def test_what_is_compared(changes: dict[str, Any], how: dict[str, Any], restored: bool) -> None:
    how = {"missing": 0, "has_proof": False, "is_stale": False} | how
    assert (identity.compare(KNOWN, FOUND | changes, **how) is not None) is restored
    assert (identity.compare({}, FOUND | changes, **how) is not None) is bool(how["missing"])


@pytest.mark.parametrize(("age", "rhythm", "stale"), [(None, None, False), (119, 2, False), (121, 2, True),
    (299, 60, False), (301, 60, True), (121, None, True)])  # fmt: skip
def test_a_tick_is_old_beside_the_rhythm_of_the_ticks(age: float | None, rhythm: float | None, stale: bool) -> None:
    assert identity.is_stale(age, rhythm) is stale
