"""Brings a database to the newest schema: forward only, all or nothing, once however many ask at once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from service.errors import DatabaseUnavailable, MigrationBlocked
from service.store.url import normalise

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

log = logging.getLogger(__name__)

TURN_KEY = 0x7461_7869_7761_79  # "taxiway": whoever holds this advisory lock migrates
TURN_SECONDS = 600  # another replica's migration may build indexes on a big table
LOCK_SECONDS = 5
CONNECT_SECONDS = 15

BOOK_EXISTS = "SELECT to_regclass('taxiway.migrations') IS NOT NULL"
READ_BOOK = "SELECT name FROM taxiway.migrations ORDER BY name"
WRITE_BOOK = "INSERT INTO taxiway.migrations (name, sha256) VALUES ($1, $2)"


def directory() -> Path:
    """Where the migrations are: inside the installed package, else at the top of the repository."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def scripts() -> dict[str, str]:
    """Every migration that this version brings, by name, in order."""
    files = sorted(directory().glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


async def migrate(url: str) -> list[str]:
    """Apply what is missing, in one transaction. Returns the names of what was applied.

    Raises MigrationBlocked, having changed nothing, and DatabaseUnavailable.
    """
    async with _connection(url) as connection:
        try:
            # Whoever waited for a turn must see what was done in it, whatever the server's default.
            async with connection.transaction(isolation="read_committed"):
                await _take_turn(connection)
                return await _migrate(connection, scripts())
        except asyncpg.PostgresError as exc:
            why = " ".join(filter(None, (str(exc), exc.detail and f"({exc.detail})")))
            raise MigrationBlocked([(f"PostgreSQL refused it: {why}", "")]) from exc


async def applied(url: str) -> list[str]:
    """The migrations that a database has had."""
    async with _connection(url) as connection:
        return await _applied(connection)


async def pending(connection: Connection) -> list[str]:
    """The migrations that this database has not had yet; [] when the schema is up to date, or newer."""
    applied = await _applied(connection)
    return [name for name in scripts() if name not in applied]


async def _applied(connection: Connection) -> list[str]:
    if not await connection.fetchval(BOOK_EXISTS):
        return []
    return [row["name"] for row in await connection.fetch(READ_BOOK)]


async def _migrate(connection: Connection, known: dict[str, str]) -> list[str]:
    applied = await _applied(connection)
    missing = {name: script for name, script in known.items() if name not in applied}
    for name, script in missing.items():
        await connection.execute(script)
        await connection.execute(WRITE_BOOK, name, sha256(script.encode()).hexdigest())
        log.info("applied migration %s", name)
    return list(missing)


async def _take_turn(connection: Connection) -> None:
    # The limits are the transaction's own, so nothing stays behind on a pooler's connection.
    await connection.execute(f"SET LOCAL lock_timeout = '{TURN_SECONDS}s'; SET LOCAL statement_timeout = 0")
    await connection.execute(f"SELECT pg_advisory_xact_lock({TURN_KEY})")
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[Connection]:
    with _naming_absence():
        # No statement cache: its names would not survive a transaction pooler.
        options = {"timeout": CONNECT_SECONDS, **normalise(url).options, "statement_cache_size": 0}
        connection = await asyncpg.connect(**options)
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_SECONDS)


@contextmanager
def _naming_absence() -> Iterator[None]:
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise DatabaseUnavailable(str(exc).strip() or type(exc).__name__) from exc


def explain(blocked: MigrationBlocked) -> str:
    """What stands in the way, each with the SQL that removes it."""
    lines = ["taxiway: the migration stopped and changed nothing"]
    for why, sql in blocked.obstacles:
        lines += [f"  - {why}", *(f"      {line}" for line in sql.splitlines())]
    return "\n".join(lines)
