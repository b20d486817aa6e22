"""One connection of its own for a command that changes links; what PostgreSQL says comes out in its words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from service.errors import DatabaseUnavailable
from service.installer.inspect import Connection, LinkRefused
from service.store.driver_errors import UNAVAILABLE
from service.store.url import normalise

CONNECT_SECONDS = 15


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection without a time limit. Raises DatabaseUnavailable, and LinkRefused with PostgreSQL's words."""
    # No statement cache: its names would not survive a transaction pooler.
    options = {"timeout": CONNECT_SECONDS, **normalise(url).options, "statement_cache_size": 0}
    try:
        connection = await asyncpg.connect(**options)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise DatabaseUnavailable(str(exc).strip() or type(exc).__name__) from exc
    try:
        yield connection
    except UNAVAILABLE as exc:
        raise DatabaseUnavailable(f"{type(exc).__name__}: {exc}".rstrip(": ")) from exc
    except asyncpg.PostgresError as exc:
        raise LinkRefused(words_of(exc)) from exc
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


def words_of(exc: asyncpg.PostgresError) -> str:
    """PostgreSQL's message with its detail and hint, in one line."""
    more = [text for text in (exc.detail, exc.hint) if text]
    return " ".join([f"PostgreSQL refused it: {exc.message or exc}", *(f"({text})" for text in more)])
