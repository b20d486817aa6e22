"""What was confirmed is on the disk, whatever the role says; and a commit that no standby has is not confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from service.errors import DatabaseUnavailable
from service.installer.migrate import migrate
from service.local.postgres import Server
from service.store.database import Database
from service.store.url import normalise
from tests.database import connected, execute
from tests.kept import PATIENCE_SECONDS
from tests.roles import role
from tests.world import IMAGE, World, world

if TYPE_CHECKING:
    from tests.database import Connection

pytestmark = pytest.mark.anyio

# Writes down with what setting each transaction that changes the ledger commits: a deferred trigger runs last.
WITNESS = """
    CREATE TABLE public.witness (tg text, kind text, setting text);
    CREATE FUNCTION public.witness() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO public.witness VALUES (
            TG_TABLE_NAME,
            TG_OP || ' ' || COALESCE(to_jsonb(NEW) ->> 'outcome', to_jsonb(NEW) ->> 'status', ''),
            current_setting('synchronous_commit'));
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER witness AFTER INSERT OR UPDATE ON taxiway.submissions DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.witness();
    CREATE CONSTRAINT TRIGGER witness AFTER INSERT ON taxiway.videos DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.witness();
"""
SEEN = "SELECT tg || ' ' || kind AS what, array_agg(DISTINCT setting) AS settings FROM public.witness GROUP BY 1"

VIDEO = {"input": {"promptText": "a boat", "promptImage": IMAGE}}


@asynccontextmanager
async def watched(database_url: str, setting: str) -> AsyncIterator[World]:
    """A world whose role has this for synchronous_commit, and whose commits are watched."""
    await execute(database_url, WITNESS)
    async with role(database_url, options="SUPERUSER") as (name, url):
        await execute(database_url, f"ALTER ROLE {name} SET synchronous_commit = {setting}")
        async with world(url) as w:
            assert await w.ctx.database.fetchval("SHOW synchronous_commit") == setting
            yield w


async def settings_at_commit(w: World) -> dict[str, list[str]]:
    return {row["what"].strip(): row["settings"] for row in await w.rows(SEEN)}


@pytest.mark.parametrize(("setting", "durable"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
async def test_what_is_confirmed_is_durable_whatever_the_role_says(
    database_url: str, setting: str, durable: str
) -> None:
    async with watched(database_url, setting) as w:
        await w.enqueue()
        await w.tick()
        w.faults("drop_after")
        unknown = await w.enqueue()
        await w.tick()
        before = await settings_at_commit(w)
        assert before["videos INSERT queued"] == [durable]
        assert before["submissions INSERT"] == [durable], "the claim"
        assert before["submissions UPDATE accepted"] == [durable], "the saved id"
        await execute(database_url, "TRUNCATE public.witness")
        answer = await w.api.post(f"/videos/{unknown}/retry", json={"accept_double_charge": True})
        assert answer.status_code == 202
        assert await settings_at_commit(w) == {"submissions UPDATE unknown": [durable]}, "the consent"
        assert await w.ctx.database.fetchval("SHOW synchronous_commit") == setting, "nothing stays behind"


async def test_within_a_limit_of_the_day_the_claim_is_durable_too(database_url: str) -> None:
    await execute(database_url, WITNESS)
    async with role(database_url, options="SUPERUSER") as (name, url):
        await execute(database_url, f"ALTER ROLE {name} SET synchronous_commit = off")
        async with world(url, max_credits_per_day=1_000) as w:
            await w.enqueue()
            await w.tick()
            assert (await settings_at_commit(w))["submissions INSERT"] == ["on"]


ON = "ALTER SYSTEM SET synchronous_standby_names = 'nowhere'"
OFF = "ALTER SYSTEM RESET synchronous_standby_names"
COMMIT = "SELECT pg_logical_emit_message(true, 'a commit', '')"
CANCEL = "SELECT pg_cancel_backend(pid), query FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


async def configure(admin: Connection, setting: str) -> None:
    """Change the server's settings; `admin` itself never waits for a standby."""
    await admin.execute("SET synchronous_commit = local")
    await admin.execute(setting)
    await admin.execute("SELECT pg_reload_conf()")


@asynccontextmanager
async def a_standby_is_missing(url: str) -> AsyncIterator[None]:
    """Every commit waits for a standby that does not exist, from the first statement inside until the end.

    A reload alone does not do it: commits begin to wait when the checkpointer has read the new settings. So commits
    are tried until one waits.
    """
    async with connected(url) as admin:
        await configure(admin, ON)
        try:
            async with connected(url) as other:
                await commits_wait(admin, other)
            yield
        finally:
            await configure(admin, OFF)


async def commits_wait(admin: Connection, other: Connection) -> None:
    """Commit on `other` until a commit waits; that one is cancelled."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        waited = False
        while not waited:
            commit = asyncio.create_task(other.execute(COMMIT))
            while not (commit.done() or waited):
                waited = bool(await admin.fetch(CANCEL))
            await commit


async def cancel_what_waits(url: str) -> str:
    """`pg_cancel_backend` on the next commit that waits for the standby; its statement."""
    async with asyncio.timeout(PATIENCE_SECONDS), connected(url) as admin:
        while not (cancelled := await admin.fetch(CANCEL)):
            pass
    return str(cancelled[0]["query"])


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    """A server of this test's own; with `durable`, for the role's setting must be its default."""
    made = make_server(durable=True)
    made.start()
    return made


async def test_a_commit_that_no_standby_has_is_not_confirmed(server: Server) -> None:
    url = server.url()
    await execute(url, "CREATE TABLE kept (n int)")
    database = Database(normalise(url), pool_size=2)
    try:
        async with a_standby_is_missing(url):
            for work in (one_statement, one_transaction):
                task = asyncio.create_task(work(database))
                await cancel_what_waits(url)
                with pytest.raises(DatabaseUnavailable, match="not confirmed by a standby"):
                    await task
            assert await database.fetchval("SELECT count(*) FROM kept") == 2, "and yet it is there, on this server"
    finally:
        await database.close()


async def one_statement(database: Database) -> None:
    await database.execute("INSERT INTO kept VALUES (1)")


async def one_transaction(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO kept VALUES (2)")


async def test_a_claim_that_no_standby_has_is_not_sent_and_is_taken_back(server: Server) -> None:
    url = server.url()
    await migrate(url)
    async with world(url) as w:
        video_id = await w.enqueue()
        await w.finish()  # nothing is left to poll: the claim is the first commit of the next tick
        assert len(w.creates) == 1
        second = await w.enqueue()
        async with a_standby_is_missing(url):
            task = asyncio.create_task(w.tick(kind="tick"))
            assert "taxiway.room(l.model)" in await cancel_what_waits(url), "the claim"
        with pytest.raises(DatabaseUnavailable, match="not confirmed by a standby"):
            await task
        assert len(w.creates) == 1, "not sent"
        [entry] = await w.ledger(second)
        assert (entry["outcome"], entry["error"]) == ("not_sent", "the claim's answer was lost")
        assert (await w.row(second))["status"] == "queued"
        await w.later(minutes=1)
        await w.finish()
        assert len(w.creates) == 2, "once each"
        assert (await w.row(video_id))["status"] == (await w.row(second))["status"] == "completed"


async def test_a_key_whose_first_request_no_standby_has_is_not_accepted(server: Server) -> None:
    url = server.url()
    await migrate(url)
    async with world(url) as w:
        async with a_standby_is_missing(url):
            for _ in ("the first request", "its repeat"):
                asked = asyncio.create_task(w.api.post("/videos", json=VIDEO, headers={"idempotency-key": "one"}))
                await cancel_what_waits(url)
                assert (await asked).status_code == 503
            assert len(await w.rows("SELECT FROM taxiway.videos")) == 1, "and yet it is there, on this server"
        answer = await w.api.post("/videos", json=VIDEO, headers={"idempotency-key": "one"})
        assert answer.status_code == 202
        assert len(await w.rows("SELECT FROM taxiway.videos")) == 1


@pytest.mark.parametrize("setting", ["off", "on"])
async def test_a_known_key_commits_durably_too(database_url: str, setting: str) -> None:
    """A statement that only reads would not wait for the standby, nor for the disk."""
    async with role(database_url, options="SUPERUSER") as (name, url):
        await execute(database_url, f"ALTER ROLE {name} SET synchronous_commit = {setting}")
        async with world(url) as w:
            first = await w.api.post("/videos", json=VIDEO, headers={"idempotency-key": "one"})
            [before] = await w.rows("SELECT pg_current_wal_flush_lsn() AS at")
            again = await w.api.post("/videos", json=VIDEO, headers={"idempotency-key": "one"})
            [after] = await w.rows("SELECT pg_current_wal_flush_lsn() AS at")
            assert first.json()["id"] == again.json()["id"]
            assert after["at"] > before["at"]
