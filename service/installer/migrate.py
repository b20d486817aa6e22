"""Brings a database to the newest schema: forward only, all or nothing, once however many ask at once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from service.errors import DatabaseUnavailable, MigrationBlocked
from service.store.adoption import Footprint, Plan, explain, mend, obstacles, prepare, record, survey
from service.store.adoption import undo as way_back
from service.store.adoption.locks import lock_obstacles
from service.store.adoption.table import Connection
from service.store.adoption.undo import Undo
from service.store.url import normalise

__all__ = ["Plan", "applied", "directory", "explain", "migrate", "pending", "plan", "scripts", "undo", "undo_plan"]

log = logging.getLogger(__name__)

MEND_MARKER = "-- taxiway: fix stuck rows"
TURN_KEY = 0x7461_7869_7761_79  # "taxiway": whoever holds this advisory lock migrates
TURN_SECONDS = 600  # another replica's migration may build indexes on a big table
# While an ALTER TABLE waits for its lock, every query of the app waits behind it: better to give up soon.
LOCK_SECONDS = 5
CONNECT_SECONDS = 15
# Roles under which hosted databases (Supabase) serve every table to browsers.
BROWSER_ROLES = ["anon", "authenticated"]

CREATE_BOOK = """
    CREATE TABLE IF NOT EXISTS taxiway_migrations (
        name        text        PRIMARY KEY,
        applied_at  timestamptz NOT NULL DEFAULT now())
"""
BOOK_EXISTS = "SELECT to_regclass('taxiway_migrations') IS NOT NULL"
READ_BOOK = "SELECT name FROM taxiway_migrations ORDER BY name"
WRITE_BOOK = "INSERT INTO taxiway_migrations (name) VALUES ($1)"


# Of these tables, those that would be new where new tables are made; `videos` may be anywhere on the path.
NOT_THERE = """
    SELECT name FROM unnest($1::text[]) AS name
     WHERE to_regclass(quote_ident(current_schema()) || '.' || name) IS NULL
       AND NOT (name = 'videos' AND to_regclass(name) IS NOT NULL)
"""


def directory() -> Path:
    """Where the migrations are: inside the installed package, else at the top of the repository."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def scripts() -> dict[str, str]:
    """Every migration that this version brings, by name, in order."""
    files = sorted(directory().glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


async def migrate(url: str, *, requeue_stuck: bool = False) -> list[str]:
    """Apply what is missing, in one transaction. Returns the names of what was applied.

    With `requeue_stuck` the stuck rows of an app's own table are queued again instead of failed; it is the
    operator's consent to their being paid for twice. Raises MigrationBlocked, having changed nothing, and
    DatabaseUnavailable.
    """
    async with _changing(url) as connection:
        return await _migrate(connection, scripts(), requeue_stuck=requeue_stuck)


@asynccontextmanager
async def _changing(url: str) -> AsyncIterator[Connection]:
    """One transaction that changes the schema, or nothing; what PostgreSQL refuses is said as MigrationBlocked."""
    async with _connection(url) as connection:
        try:
            # Whoever waited for a turn must see what was done in it, whatever the server's default.
            async with connection.transaction(isolation="read_committed"):
                await _take_turn(connection)
                yield connection
        except asyncpg.LockNotAvailableError as exc:
            raise MigrationBlocked(await lock_obstacles(connection)) from exc
        except asyncpg.PostgresError as exc:
            why = " ".join(filter(None, (str(exc), exc.detail and f"({exc.detail})")))
            raise MigrationBlocked([(f"PostgreSQL refused it: {why}", "")]) from exc


async def undo_plan(url: str) -> Undo:
    """What `undo` would do. Changes nothing. Raises MigrationBlocked where there is no way back."""
    async with _connection(url) as connection, connection.transaction(readonly=True):
        return await _undo_plan(connection)


async def undo(url: str, *, force: bool = False) -> Undo:
    """Remove what Taxiway added, in one transaction; what was removed.

    Raises MigrationBlocked, having changed nothing: where there is no way back, and, unless `force`, while requests
    are open or tasks are under way.
    """
    async with _changing(url) as connection:
        known = await _undo_plan(connection)
        await connection.execute(f"LOCK TABLE {known.table}, {known.schema}.submissions IN ACCESS EXCLUSIVE MODE")
        known = await _undo_plan(connection)  # nobody changes it any more
        if known.obstacles and not force:
            raise MigrationBlocked(known.obstacles)
        await way_back.take_back(connection, known)
        return known


async def _undo_plan(connection: Connection) -> Undo:
    _refuse_foreign_history(await _applied(connection), list(scripts()))
    found = await way_back.survey(connection, Footprint.of(*scripts().values()))
    if isinstance(found, str):
        raise MigrationBlocked([(found, "")])
    return found


async def applied(url: str) -> list[str]:
    """The migrations that a database has had."""
    async with _connection(url) as connection:
        return await _applied(connection)


async def plan(url: str, *, requeue_stuck: bool = False) -> Plan:
    """What `migrate` would do to the table that is there, and what stands in the way. Changes nothing."""
    async with _connection(url) as connection, connection.transaction(readonly=True):
        return await survey(connection, Footprint.of("\n".join(scripts().values())), requeue_stuck=requeue_stuck)


async def pending(connection: Connection) -> list[str]:
    """The migrations that this database has not had yet; [] when the schema is up to date, or newer."""
    applied = await _applied(connection)
    return [name for name in scripts() if name not in applied]


async def _applied(connection: Connection) -> list[str]:
    if not await connection.fetchval(BOOK_EXISTS):
        return []
    return [row["name"] for row in await connection.fetch(READ_BOOK)]


async def _migrate(connection: Connection, known: dict[str, str], *, requeue_stuck: bool) -> list[str]:
    applied = await _applied(connection)
    _refuse_foreign_history(applied, list(known))
    missing = {name: script for name, script in known.items() if name not in applied}
    if not missing:
        return []
    if not applied:
        blocked = await obstacles(connection, Footprint.of("\n".join(known.values())))
        if blocked:
            raise MigrationBlocked(blocked)
    made = await _new_tables(connection, missing, () if applied else record.TABLES)
    if not applied:
        await prepare(connection)
    await connection.execute(CREATE_BOOK)
    for name, script in missing.items():
        await _apply(connection, script, requeue_stuck=requeue_stuck)
        await connection.execute(WRITE_BOOK, name)
        log.info("applied migration %s", name)
    await _close_to_browsers(connection, made)
    return list(missing)


async def _take_turn(connection: Connection) -> None:
    # The limits are the transaction's own, so nothing stays behind on a pooler's connection.
    await connection.execute(f"SET LOCAL lock_timeout = '{TURN_SECONDS}s'; SET LOCAL statement_timeout = 0")
    await connection.execute(f"SELECT pg_advisory_xact_lock({TURN_KEY})")
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")


def _refuse_foreign_history(applied: list[str], known: list[str]) -> None:
    unknown = [name for name in applied if name not in known]
    skipped = [name for name in known[: len(applied)] if name not in applied]
    if unknown:
        why = f"the database is newer than this version of Taxiway, which does not know {', '.join(unknown)}"
        raise MigrationBlocked([(why, "")])
    if skipped:
        raise MigrationBlocked([(f"later migrations have been applied without {', '.join(skipped)}", "")])


async def _apply(connection: Connection, script: str, *, requeue_stuck: bool) -> None:
    before, marker, after = script.partition(MEND_MARKER)
    await connection.execute(before)
    if marker:
        stuck, going = await mend(connection, requeue_stuck=requeue_stuck)
        if stuck or going:
            fate = "are queued again" if requeue_stuck else "failed as SUBMISSION_UNKNOWN"
            log.warning("rows stuck at processing that %s: %d; tasks under way that go on: %d", fate, stuck, going)
        await connection.execute(after)


async def _new_tables(connection: Connection, missing: dict[str, str], others: tuple[str, ...]) -> list[str]:
    """The tables that the migration is about to make; never the app's own `videos`."""
    names = [
        "taxiway_migrations",
        *others,
        *Footprint.of(*missing.values()).tables,
    ]
    return [row["name"] for row in await connection.fetch(NOT_THERE, names)]


async def _close_to_browsers(connection: Connection, tables: list[str]) -> None:
    """Undo default privileges by which anybody could queue videos, or read the ledger, from a web page."""
    roles = await connection.fetch(
        "SELECT quote_ident(rolname) AS name FROM pg_roles WHERE rolname = ANY($1::text[])", BROWSER_ROLES
    )
    for role in roles if tables else []:
        await connection.execute(f"REVOKE ALL ON {', '.join(tables)} FROM {role['name']}")


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
