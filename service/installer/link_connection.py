"""One connection of its own for a command that changes links; what PostgreSQL says comes out in its words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from service.errors import DatabaseUnavailable
from service.installer.inspect import Connection, LinkRefused
from service.installer.turn import connecting
from service.store.driver_errors import UNAVAILABLE


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection without a time limit. Raises DatabaseUnavailable, and LinkRefused with PostgreSQL's words."""
    async with connecting(url) as connection:
        try:
            yield connection
        except UNAVAILABLE as exc:
            raise DatabaseUnavailable(f"{type(exc).__name__}: {exc}".rstrip(": ")) from exc
        except asyncpg.PostgresError as exc:
            raise LinkRefused(words_of(exc)) from exc


def words_of(exc: asyncpg.PostgresError) -> str:
    """PostgreSQL's message with its detail and hint, in one line."""
    more = [text for text in (exc.detail, exc.hint) if text]
    return " ".join([f"PostgreSQL refused it: {exc.message or exc}", *(f"({text})" for text in more)])
