"""One transaction at a time that changes the schema, or nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import asyncpg

from service.errors import DatabaseUnavailable, MigrationBlocked
from service.store.url import normalise

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TURN_KEY = 0x7461_7869_7761_79  # "taxiway": the process that holds this advisory lock migrates
TURN_SECONDS = 600  # another replica's migration may build indexes on a big table
# While an ALTER TABLE waits for its lock, every query on that table waits behind it: better to give up soon.
LOCK_SECONDS = 5
CONNECT_SECONDS = 15


@asynccontextmanager
async def changing(url: str) -> AsyncIterator[Connection]:
    """One transaction that changes the schema, or nothing, while no other one does.

    Raises MigrationBlocked with PostgreSQL's words where it refuses a statement inside, and DatabaseUnavailable.
    """
    async with connecting(url) as connection:
        try:
            # A process that waited for its turn must see what was done in it, whatever the server's default.
            async with connection.transaction(isolation="read_committed"):
                await _take_turn(connection)
                yield connection
        except asyncpg.LockNotAvailableError as exc:
            why = "another transaction held a lock that the migration needs for too long: try again"
            raise MigrationBlocked([(why, "")]) from exc
        except asyncpg.PostgresError as exc:
            why = " ".join(filter(None, (str(exc), exc.detail and f"({exc.detail})")))
            raise MigrationBlocked([(f"PostgreSQL refused it: {why}", "")]) from exc


async def _take_turn(connection: Connection) -> None:
    # The limits are the transaction's own, so nothing stays behind on a pooler's connection.
    await connection.execute(f"SET LOCAL lock_timeout = '{TURN_SECONDS}s'; SET LOCAL statement_timeout = 0")
    await connection.execute(f"SELECT pg_advisory_xact_lock({TURN_KEY})")
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")


@asynccontextmanager
async def connecting(url: str) -> AsyncIterator[Connection]:
    """One connection. Raises DatabaseUnavailable."""
    target = normalise(url)
    with _naming_absence(target.place):
        # No statement cache: its names would not survive a transaction pooler.
        options = {"timeout": CONNECT_SECONDS, **target.options, "statement_cache_size": 0}
        connection = await asyncpg.connect(**options)
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_SECONDS)


@contextmanager
def _naming_absence(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise DatabaseUnavailable(f"no answer at {place} ({type(exc).__name__}: {exc})") from exc
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise DatabaseUnavailable(str(exc).strip() or type(exc).__name__) from exc
