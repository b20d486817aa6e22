"""Databases for tests: made in milliseconds from a migrated template, each with a time of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from tests.kept import PATIENCE_SECONDS, asking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Connection = asyncpg.Connection[asyncpg.Record]

# What is forgotten when a test begins a second time in the same database; links and the plan of maintenance stay.
TABLES = ", ".join(
    f"taxiway.{name}"
    for name in (
        "videos",
        "submissions",
        "models",
        "inbox",
        "events",
        "ticks",
        "search",
        "calls",
        "rows",
        "mirror_queue",
        "endpoints",
        "deliveries",
        "alerts",
    )
)

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a private event loop: for fixtures that serve sync and async tests alike."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(work)


def renamed(url: str, database: str) -> str:
    """The same server and user, another database."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """One connection, closed at the end."""
    connection = await asyncpg.connect(url, timeout=PATIENCE_SECONDS, command_timeout=PATIENCE_SECONDS)
    try:
        yield connection
    finally:
        await connection.close(timeout=PATIENCE_SECONDS)


async def execute(url: str, *statements: str) -> None:
    """Run statements one by one, outside any transaction. They must change no session: it may be that of the next."""
    async with asking(url) as connection:
        for statement in statements:
            await connection.execute(statement)


@contextmanager
def temporary_database(
    server_url: str,
    *,
    template: str = "template0",
    fill: Callable[[str], Coroutine[Any, Any, object]] | None = None,
) -> Iterator[str]:
    """The URL of a new database, a copy of `template`, dropped at the end with whoever is still connected.

    FILE_COPY copies files instead of logging every page: the faster way without fsync.
    """
    name = f"taxiway_{uuid4().hex[:16]}"
    url = renamed(server_url, name)
    run(execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'))
    try:
        if fill is not None:
            run(fill(url))
        yield url
    finally:
        run(execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


# What the time is in a database, as an expression; in production it is `pg_catalog.now()`.
SET_TIME = """
CREATE OR REPLACE FUNCTION taxiway.now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT {}'
"""


async def later(where: str | Connection, **interval: float) -> None:
    """Let time pass in a database: `await later(url, hours=2)`. What is stored stays as it is.

    `where` is a URL or an asyncpg connection; the keywords are those of `timedelta`.
    """
    if isinstance(where, str):
        async with asking(where) as connection:
            await later(connection, **interval)
        return
    passed: timedelta = await where.fetchval("SELECT taxiway.now() - pg_catalog.now()")
    microseconds = (passed + timedelta(**interval)) // timedelta(microseconds=1)
    await where.execute(SET_TIME.format(f"pg_catalog.now() + interval ''{microseconds} us''"))
