"""What PostgreSQL's errors mean for whoever asked: the server is away, or its schema is not up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from service.errors import DatabaseUnavailable, NotConfigured

# What means that the server, not the statement, is the trouble, or that the same statement may succeed later.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shut down, starting up, cancelled by a timeout of its own
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.LockNotAvailableError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,  # also a file that may not grow
)

_NOT_MIGRATED = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)
TRANSLATED = (*_NOT_MIGRATED, *UNAVAILABLE)


def translation(exc: Exception) -> Exception:
    """What this error means for whoever asked."""
    if isinstance(exc, _NOT_MIGRATED):
        return NotConfigured(f"the database's schema is not up to date: run `taxiway migrate` ({exc})")
    return DatabaseUnavailable(f"PostgreSQL does not answer ({type(exc).__name__}: {exc})".strip())


@contextmanager
def translated() -> Iterator[None]:
    """Errors inside come out as what they mean; a wrong argument (ValueError) is our mistake, not the server's."""
    try:
        yield
    except TRANSLATED as exc:
        if isinstance(exc, ValueError):
            raise
        raise translation(exc) from exc
