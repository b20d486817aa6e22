"""The way to PostgreSQL: what a pool survives, what becomes DatabaseUnavailable, and that everything ends in time."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import time
import warnings
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.errors import DatabaseUnavailable, NotConfigured
from service.store import database as module
from service.store.database import Connection, Database
from service.store.listener import Listener
from service.store.url import normalise
from tests.crash.cutting import place, until, wire
from tests.database import connected, renamed, run
from tests.ports import free_port

pytestmark = pytest.mark.anyio

WHO = "SELECT pg_backend_pid()"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@asynccontextmanager
async def opened(url: str, pool_size: int = 5) -> AsyncIterator[Database]:
    database = Database(normalise(url), pool_size=pool_size)
    try:
        yield database
    finally:
        await database.close()


async def pids(database: Database, count: int) -> list[int]:
    """The backends of so many connections, held all at once."""
    together = asyncio.Barrier(count)

    async def one() -> int:
        async with database.connection() as raw:
            await together.wait()
            return int(await raw.fetchval(WHO))

    return sorted(await asyncio.gather(*(one() for _ in range(count))))


def with_option(url: str, option: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{option}"


# Plans.


async def test_a_plan_of_a_small_table_is_given_up_when_it_has_been_used_for_long(database_url: str) -> None:
    async with opened(database_url) as database, database.connection() as connection:

        async def read_whole() -> int:
            await connection.execute("SELECT pg_stat_force_next_flush()")
            return int(await connection.fetchval("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'growing'"))

        async def ask(times: int) -> int:
            """How often the table was read whole for so many questions."""
            before = await read_whole()
            for number in range(times):
                await connection.fetchval("SELECT b FROM growing WHERE a = $1", number)
            return await read_whole() - before

        await connection.execute("CREATE TABLE growing (a integer PRIMARY KEY, b text) WITH (autovacuum_enabled = off)")
        await connection.execute("INSERT INTO growing VALUES (1, 'one')")
        await connection.execute("ANALYZE growing")
        try:
            begin = module.PREPARED_AGAIN_AT[0] - 6
            assert await ask(begin) == begin
            await connection.execute("INSERT INTO growing SELECT n, 'more' FROM generate_series(2, 20000) n")
            assert await ask(5) == 5  # PostgreSQL keeps its plan
            assert await ask(100) == 0
        finally:
            await connection.execute("DROP TABLE growing")


async def test_what_runs_for_ever_is_prepared_a_few_times(database_url: str) -> None:
    async with opened(database_url) as database, database.connection() as connection:
        texts = {connection._planned("SELECT 1") for _ in range(2 * module.PREPARED_AGAIN_AT[-1])}
    assert texts == {"SELECT 1", "SELECT 1-- 1", "SELECT 1-- 2", "SELECT 1-- 3"}


# Opening and closing.


async def test_the_pool_opens_on_first_use_and_again_after_close(own_database_url: str) -> None:
    async with opened(own_database_url) as database, connected(own_database_url) as watch:
        assert await watch.fetchval(OTHERS) == 0
        first = await database.fetchval(WHO)
        assert await database.fetchval(WHO) == first  # the same connection, not another one
        await database.close()
        await database.close()
        assert await database.fetchval(WHO) != first


async def test_without_a_url_it_names_the_setting() -> None:
    with pytest.raises(NotConfigured) as caught:
        await Database(None).fetchval("SELECT 1")
    assert caught.value.extra == {"missing": ["DATABASE_URL"]}


async def test_it_has_as_many_connections_as_the_setting_or_the_url_allows(database_url: str) -> None:
    async with opened(database_url, pool_size=3) as database:
        assert len(set(await pids(database, 3))) == 3
        assert len(set(await asyncio.gather(*(database.fetchval(WHO) for _ in range(20))))) <= 3
    async with opened(with_option(database_url, "connection_limit=2"), pool_size=3) as database:
        assert len(set(await asyncio.gather(*(database.fetchval(WHO) for _ in range(20))))) <= 2


async def test_two_event_loops_one_after_the_other(database_url: str) -> None:
    database = Database(normalise(database_url))

    async def twice() -> list[int]:
        try:
            return [await database.fetchval(WHO), await database.fetchval(WHO)]
        finally:
            await database.close()

    ran = [await asyncio.to_thread(run, twice()) for _ in range(2)]
    assert all(first == again for first, again in ran)
    assert ran[0] != ran[1]


async def test_two_event_loops_at_the_same_time(database_url: str) -> None:
    async with opened(database_url) as database:

        async def many() -> set[int]:
            try:
                return {await database.fetchval(WHO) for _ in range(20)}
            finally:
                await database.close()

        here, there = await asyncio.gather(many(), asyncio.to_thread(run, many()))
        assert (len(here), len(there)) == (1, 1)
        assert here != there


async def test_a_loop_that_died_without_a_word_leaves_nothing_in_the_way(database_url: str) -> None:
    database = Database(normalise(database_url))

    async def leave() -> None:
        await database.fetchval(WHO)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the sockets of the dead loop
        await asyncio.to_thread(run, leave())
        assert await database.fetchval("SELECT 1") == 1
        assert len(database._pools) == 1
        await database.close()
        gc.collect()


# Statements and transactions.


async def test_what_the_methods_return(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.execute("CREATE TABLE t (n integer)")
        assert await database.execute("INSERT INTO t SELECT generate_series(1, 3)") == 3
        assert await database.execute("UPDATE t SET n = n + 1 WHERE n > $1", 1) == 2
        assert await database.execute("SET application_name = 'a'") == 0
        assert [row["n"] for row in await database.fetch("SELECT n FROM t ORDER BY n")] == [1, 3, 4]
        first = await database.fetchrow("SELECT n FROM t ORDER BY n")
        assert first is not None
        assert dict(first) == {"n": 1}
        assert await database.fetchrow("SELECT FROM t WHERE n = 9") is None
        assert await database.fetchval("SELECT n FROM t WHERE n = 9") is None


async def test_a_transaction_holds_or_is_undone_as_a_whole_also_nested(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.execute("CREATE TABLE t (n integer)")

        async def fails(tx: Connection, number: int, *then: str) -> None:
            async with tx.transaction():
                await tx.execute("INSERT INTO t VALUES ($1)", number)
                for sql in then:
                    await tx.execute(sql)
                raise LookupError

        async with database.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(asyncpg.DivisionByZeroError):
                await fails(tx, 2, "SELECT 1 / 0")
            await tx.execute("INSERT INTO t VALUES (3)")
        async with database.connection() as connection:
            with pytest.raises(LookupError):
                await fails(connection, 4)
        assert [row["n"] for row in await database.fetch("SELECT n FROM t ORDER BY n")] == [1, 3]
        assert not (await database.fetchval("SELECT pg_current_xact_id_if_assigned()"))


async def test_a_statement_belongs_to_a_transaction_only_if_it_is_given_to_it(database_url: str) -> None:
    async with opened(database_url) as database, database.transaction() as tx:
        mine = await tx.fetchval(WHO)
        assert await tx.fetchval(WHO) == mine
        assert await database.fetchval(WHO) != mine


async def test_what_postgresql_refuses_costs_no_connection(database_url: str) -> None:
    async with opened(database_url) as database:
        first = await database.fetchval(WHO)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await database.fetchval("SELECT 1 / 0")
        assert await database.fetchval(WHO) == first


async def test_a_transaction_that_was_left_open_is_undone(database_url: str) -> None:
    async with opened(database_url, pool_size=1) as database:
        await database.execute("CREATE TABLE t (n integer)")
        async with database.connection() as connection:
            await connection.execute("BEGIN")
            await connection.execute("INSERT INTO t VALUES (1)")
        assert await database.fetchval("SELECT count(*) FROM t") == 0
        assert await database.fetchval("SELECT pg_current_xact_id_if_assigned()") is None


@pytest.mark.parametrize("sql", ["SELECT 1 / 0", "SELECT 'x'::integer", "SELEKT", "SELECT no_such_function()"])
async def test_errors_of_the_statement_come_as_they_are(database_url: str, sql: str) -> None:
    async with opened(database_url) as database:
        with pytest.raises(asyncpg.PostgresError):
            await database.fetchval(sql)
        assert await database.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("argument", ["text", "\udcff", 2**70, object()])
async def test_an_argument_that_does_not_fit_is_our_mistake(database_url: str, argument: object) -> None:
    async with opened(database_url) as database:
        with pytest.raises(asyncpg.DataError, match="invalid input for query argument"):
            await database.fetchval("SELECT $1::integer", argument)
        assert await database.fetchval("SELECT 1") == 1


async def test_a_wrong_setting_of_the_client_is_our_mistake(database_url: str) -> None:
    async with opened(with_option(database_url, "sslmode=disable")) as database:
        assert database.target is not None
        database.target.options["direct_tls"] = True
        with pytest.raises(ValueError, match="direct TLS"):
            await database.fetchval("SELECT 1")


@pytest.mark.parametrize("sql", ["SELECT * FROM taxiway.videos", "SELECT * FROM taxiway.submissions"])
async def test_a_missing_table_or_column_says_what_to_run(empty_database_url: str, sql: str) -> None:
    async with opened(empty_database_url) as database:
        with pytest.raises(NotConfigured, match="run `taxiway migrate`"):
            await database.fetch(sql)
        await database.execute("CREATE SCHEMA taxiway")
        with pytest.raises(NotConfigured, match="run `taxiway migrate`"):
            await database.fetch(sql)
        await database.execute("CREATE TABLE taxiway.videos (id uuid)")
        with pytest.raises(NotConfigured, match="run `taxiway migrate`"):
            await database.fetch("SELECT open_submission_id FROM taxiway.videos")


# A server that is not there, or refuses.


@asynccontextmanager
async def refusing(code: str, words: str) -> AsyncIterator[str]:
    """The URL of a server that answers every start with this error."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = struct.unpack("!I", await reader.readexactly(4))[0]
        await reader.readexactly(length - 4)
        fields = b"".join(f"{kind}{text}\0".encode() for kind, text in (("S", "FATAL"), ("C", code), ("M", words)))
        writer.write(b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"postgresql://u:p@127.0.0.1:{server.sockets[0].getsockname()[1]}/d?sslmode=disable"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@127.0.0.1:{port}/d",
        "postgresql://u@127.0.0.1:{port}/d?sslmode=require",
        "postgresql://u@no-such-host.invalid/d",
        "postgresql://u@/d?host=/no/such/directory",
    ],
)
async def test_a_server_that_is_not_there_is_away(url: str) -> None:
    async with opened(url.format(port=free_port())) as database:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable, match="PostgreSQL does not answer"):
                await database.fetchval("SELECT 1")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("28P01", "password authentication failed"),
        ("28000", "no pg_hba.conf entry"),
        ("3D000", "database does not exist"),
        ("53300", "sorry, too many clients already"),
        ("57P03", "the database system is starting up"),
        ("57P01", "terminating connection due to administrator command"),
        ("08006", "server closed the connection"),
        ("58030", "could not read block"),
        ("XX000", "could not extend file: File too large"),
    ],
)
async def test_a_server_that_refuses_is_away_and_says_why(code: str, words: str) -> None:
    async with refusing(code, words) as url, opened(url) as database:
        with pytest.raises(DatabaseUnavailable, match=words):
            await database.fetchval("SELECT 1")


async def test_a_wrong_database_or_user_on_a_real_server_is_away(server_url: str) -> None:
    async with opened(renamed(server_url, "no_such_database")) as database:
        with pytest.raises(DatabaseUnavailable, match="no_such_database"):
            await database.fetchval("SELECT 1")
    parts = urlsplit(server_url)
    anonymous = parts._replace(netloc=f"nobody_here:x@{parts.netloc.rpartition('@')[2]}").geturl()
    async with opened(anonymous) as database:
        with pytest.raises(DatabaseUnavailable, match="nobody_here"):
            await database.fetchval("SELECT 1")


async def test_a_server_that_comes_back_is_found_again(database_url: str) -> None:
    async with wire(database_url) as line, opened(line.url) as database:
        assert line.proxy is not None
        line.proxy.refusing = True
        with pytest.raises(DatabaseUnavailable):
            await database.fetchval("SELECT 1")
        line.proxy.refusing = False
        assert await database.fetchval("SELECT 1") == 1


# Everything ends in time.


async def test_a_statement_that_takes_too_long_is_given_up(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATEMENT_SECONDS", 0.5)
    async with opened(database_url, pool_size=1) as database:
        with pytest.raises(DatabaseUnavailable):
            await database.fetchval("SELECT pg_sleep(20)")
        assert await database.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
async def test_a_time_limit_of_the_server_is_no_defect(database_url: str, setting: str) -> None:
    async with connected(database_url) as holder, opened(with_option(database_url, f"{setting}=50")) as database:
        await holder.execute("BEGIN; LOCK TABLE taxiway.videos")
        with pytest.raises(DatabaseUnavailable):
            await database.fetchval("SELECT count(*) FROM taxiway.videos")
        await holder.execute("ROLLBACK")
        assert await database.fetchval("SELECT count(*) FROM taxiway.videos") == 0


async def test_a_deadlock_is_no_defect(database_url: str) -> None:
    async with opened(database_url) as database:
        await database.execute("CREATE TABLE t (n integer); INSERT INTO t VALUES (1), (2)")
        both = asyncio.Barrier(2)

        async def crosswise(first: int, second: int) -> str:
            try:
                async with database.transaction() as raw:
                    await raw.execute("SET LOCAL deadlock_timeout = '20ms'")
                    await raw.execute("SELECT FROM t WHERE n = $1 FOR UPDATE", first)
                    await both.wait()
                    await raw.execute("SELECT FROM t WHERE n = $1 FOR UPDATE", second)
                    return "done"
            except DatabaseUnavailable as exc:
                return exc.detail

        ends = sorted(await asyncio.gather(crosswise(1, 2), crosswise(2, 1)))
        assert "Deadlock" in ends[0]
        assert ends[1] == "done"


async def test_a_statement_runs_where_it_ran_before(database_url: str) -> None:
    other, named = "SELECT pg_backend_pid() + 0", "a name for several"
    async with opened(database_url) as database:
        async with database.connection(named) as first:
            home = await first.fetchval(WHO)
            others = await database.fetchval(other)
        # The first was given back last, and would be lent first.
        assert others != home
        for _ in range(3):
            assert await database.fetchval(other) == others
            async with database.connection(named) as again:
                assert await again.fetchval(WHO) == home
        async with database.connection(named):
            assert await database.fetchval(other) == others
            async with database.connection(named) as stranger:
                assert await stranger.fetchval(WHO) == others, "any that is free, rather than a new one"


async def test_an_exhausted_pool_waits_and_then_says_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(database_url, pool_size=1) as database:
        async with database.connection():
            waiting = asyncio.create_task(database.fetchval("SELECT 1"))
            await asyncio.sleep(0)
            assert not waiting.done()
        assert await waiting == 1
        monkeypatch.setattr(module, "ACQUIRE_SECONDS", 0.5)  # a new connection takes its time on a busy machine
        async with database.connection():
            with pytest.raises(DatabaseUnavailable):
                await asyncio.create_task(database.fetchval("SELECT 1"))
        assert await database.fetchval("SELECT 1") == 1


async def test_a_host_that_falls_silent_ends_the_statement_and_the_pool_goes_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATEMENT_SECONDS", "CONNECT_SECONDS", "RELEASE_SECONDS", "CLOSE_SECONDS"):
        monkeypatch.setattr(module, name, 0.5)
    async with wire(database_url) as line, opened(line.url, pool_size=2) as database:
        assert await database.fetchval("SELECT 1") == 1
        line.freeze()
        began = time.monotonic()
        for _ in range(3):  # on the silent connection, and on a new one, which cannot be made
            with pytest.raises(DatabaseUnavailable):
                await database.fetchval("SELECT 1")
        assert time.monotonic() - began < 20, "three of 30 s, as the settings are elsewhere"
        line.thaw()
        assert await database.fetchval("SELECT 1") == 1  # in the same task, which `databases` would have locked out
        assert await asyncio.create_task(database.fetchval("SELECT 1")) == 1


async def test_closing_does_not_wait_for_a_silent_host(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    async with wire(database_url) as line, opened(line.url) as database:
        await database.fetchval("SELECT 1")
        line.freeze()
        async with asyncio.timeout(5):
            await database.close()


async def test_a_connect_that_is_given_up_at_any_moment_leaves_no_error_behind() -> None:
    """The server takes connections and never answers: whether it speaks TLS is what the connect waits for."""
    loop, left_behind, moments = asyncio.get_running_loop(), [], 40
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: left_behind.append(context))
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/d"
            for moment in range(moments):
                async with opened(url) as database:
                    await given_up(database.fetchval("SELECT 1"), moment)
        gc.collect()  # what was never retrieved is reported when it is thrown away
    finally:
        loop.set_exception_handler(handler)
    assert left_behind == []


async def given_up(work: Coroutine[Any, Any, object], moment: int) -> None:
    """Cancel this after so many turns of the loop, and let it end."""
    task = asyncio.create_task(work)
    for _ in range(moment):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await asyncio.sleep(0)  # its socket is closed in the next turn


async def test_a_caller_that_gives_up_leaves_a_pool_that_works(database_url: str) -> None:
    async with opened(database_url, pool_size=1) as database:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await database.fetchval("SELECT pg_sleep(20)")
            assert await database.fetchval("SELECT 1") == 1


async def test_a_caller_that_gives_up_while_its_connection_is_given_back(database_url: str) -> None:
    async with wire(database_url) as line, opened(line.url, pool_size=1) as database:
        await database.fetchval("SELECT 1")
        line.freeze()

        async def caller() -> int:
            for _ in range(2):
                with suppress(asyncio.CancelledError):
                    await database.fetchval("SELECT 1")
            line.thaw()
            return int(await database.fetchval("SELECT 1"))

        calling = asyncio.create_task(caller())
        for _ in range(3):  # in the statement; while its end is waited for; while the next one connects
            await asyncio.sleep(0.05)
            calling.cancel()
        assert await calling == 1


async def test_a_connection_that_went_silent_under_a_statement_is_not_lent_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELEASE_SECONDS", 0.2)
    async with wire(database_url) as line, opened(line.url, pool_size=1) as database:
        before = await database.fetchval(WHO)
        line.swallow()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await database.fetchval(WHO)
        async with asyncio.timeout(module.STATEMENT_SECONDS / 2):
            assert await database.fetchval(WHO) != before


# Dead connections in the pool.


@pytest.fixture
def rests_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection counts as one that rested, and is tried before use."""
    monkeypatch.setattr(module, "REST_SECONDS", -1.0)


async def ended(url: str, backends: list[int]) -> None:
    """End these backends, and wait until the server has let go of them."""
    async with connected(url) as connection:
        await connection.fetch("SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::integer[]) AS pid", backends)


@pytest.mark.usefixtures("rests_at_once")
async def test_dead_connections_of_the_pool_cost_no_request(database_url: str) -> None:
    async with opened(database_url) as database:
        before = await pids(database, 5)
        await ended(database_url, before)
        assert await database.fetchval(WHO) not in before
        await ended(database_url, await pids(database, 5))
        after = await pids(database, 5)  # five at once, each of which met a dead one
        assert len(set(after)) == 5
        assert not set(after) & set(before)


@pytest.mark.usefixtures("rests_at_once")
async def test_a_thawed_process_meets_dead_sockets_and_loses_no_request(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The event loop stands still while they die, as in a function that is frozen between two requests.
    async with wire(database_url) as line, opened(line.url) as database:
        before = await pids(database, 5)
        assert line.proxy is not None
        for task in list(line.proxy._tasks):
            task.cancel()  # takes effect when the loop runs again: in the middle of the next statement
        results = await asyncio.gather(*(database.fetchval(WHO) for _ in range(10)))
        assert not set(results) & set(before)


@pytest.mark.usefixtures("rests_at_once")
async def test_of_five_silent_connections_one_is_waited_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 1.0)
    async with wire(database_url) as line, opened(line.url) as database:
        await pids(database, 5)
        line.swallow()
        began = time.monotonic()
        assert await database.fetchval("SELECT 1") == 1
        assert time.monotonic() - began < 4, "as long as for four of them"
        assert len(await pids(database, 5)) == 5


@pytest.mark.usefixtures("rests_at_once")
async def test_a_caller_that_gives_up_during_the_trial_leaves_a_pool_that_works(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACQUIRE_SECONDS", 0.5)  # a new connection takes its time on a busy machine
    async with wire(database_url) as line, opened(line.url, pool_size=1) as database:
        await database.fetchval("SELECT 1")
        line.swallow()
        with pytest.raises(DatabaseUnavailable):
            await database.fetchval("SELECT 1")
        assert await database.fetchval("SELECT 1") == 1


async def test_connections_that_were_not_used_for_long_are_ended(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.3)
    async with opened(own_database_url) as database, connected(own_database_url) as watch:
        await pids(database, 3)
        async with asyncio.timeout(20):
            while await watch.fetchval(OTHERS):  # noqa: ASYNC110  # the server knows no event
                await asyncio.sleep(0.01)
        assert await database.fetchval("SELECT 1") == 1


async def test_a_connection_in_use_is_not_taken_for_one_that_rests(
    own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(own_database_url, pool_size=3) as database:
        await pids(database, 3)
        async with database.transaction() as raw:
            mine = await raw.fetchval(WHO)
            monkeypatch.setattr(module, "REST_SECONDS", -1.0)
            async with connected(own_database_url) as other:
                everyone = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                others = {row["pid"] for row in await other.fetch(everyone)} - {mine, await other.fetchval(WHO)}
            await ended(own_database_url, sorted(others))
            assert await database.fetchval("SELECT 1") == 1
            assert await raw.fetchval(WHO) == mine


async def test_a_connection_cut_in_mid_statement_is_away_and_the_next_works(database_url: str) -> None:
    async with wire(database_url) as line, opened(line.url) as database:
        statement = asyncio.create_task(database.fetchval("SELECT pg_sleep(20)"))
        await until(lambda: line.connections == 1)
        async with connected(database_url) as watch:
            running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)'"
            while not await watch.fetchval(running):  # noqa: ASYNC110  # the server knows no event
                await asyncio.sleep(0.01)
        await line.cut()
        with pytest.raises(DatabaseUnavailable):
            await statement
        assert await database.fetchval("SELECT 1") == 1


# Listening.


@asynccontextmanager
async def listening(target: Any, heard: asyncio.Event) -> AsyncIterator[Listener]:
    listener = Listener(target, "taxiway", heard.set)
    try:
        yield listener
    finally:
        await listener.close()


async def notify(url: str) -> None:
    async with connected(url) as connection:
        await connection.execute("NOTIFY taxiway")


async def test_a_listener_hears_and_survives_a_cut(database_url: str) -> None:
    heard = asyncio.Event()
    async with wire(database_url) as line, listening(normalise(line.url), heard) as listener:
        await listener.ensure()
        await listener.ensure()
        assert line.connections == 1
        await notify(database_url)
        await asyncio.wait_for(heard.wait(), 5)
        await line.cut()
        heard.clear()
        async with asyncio.timeout(5):
            while not heard.is_set():
                await listener.ensure()
                await notify(database_url)
                await asyncio.sleep(0.02)
        assert line.connections == 2


async def test_a_listener_that_cannot_listen_bothers_nobody(database_url: str) -> None:
    heard = asyncio.Event()
    for url in (f"postgresql://u@127.0.0.1:{free_port()}/d", with_option(database_url, "pgbouncer=true")):
        async with listening(normalise(url), heard) as listener:
            await listener.ensure()
            await listener.ensure()
            await notify(database_url)
    async with listening(None, heard) as listener:
        await listener.ensure()
    assert not heard.is_set()


async def test_a_listener_does_not_wait_for_a_silent_host(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.listener.CONNECT_SECONDS", 0.1)
    async with wire(database_url) as line, listening(normalise(line.url), asyncio.Event()) as listener:
        line.freeze()
        async with asyncio.timeout(5):
            await listener.ensure()
        line.thaw()
        await listener.ensure()
        assert place(line.url)[0] == "127.0.0.1"
