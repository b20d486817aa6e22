"""Roles with few rights, and what a schema looks like before and after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit
from uuid import uuid4

from service.installer.turn import Connection
from tests.database import connected

PASSWORD = "a-password-of-a-test"

# Everything that a migration could change: columns, constraints, relations, functions, policies, rights.
SHAPE = """
    SELECT format('column %s.%s.%s %s %s', c.relnamespace::regnamespace, c.relname, attname,
                  format_type(atttypid, atttypmod), attnotnull)
      FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
     WHERE c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)' AND attnum > 0
    UNION ALL
    SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
     WHERE connamespace::regnamespace::text !~ '^(pg_|information_schema)'
    UNION ALL SELECT format('label %s', enumlabel) FROM pg_enum
    UNION ALL SELECT format('policy %s', polname) FROM pg_policy
    UNION ALL SELECT format('trigger %s %s', tgname, tgenabled) FROM pg_trigger
    UNION ALL SELECT format('function %s', oid::regprocedure) FROM pg_proc
     WHERE pronamespace::regnamespace::text !~ '^(pg_|information_schema)'
    UNION ALL SELECT format('schema %s %s', nspname, nspacl) FROM pg_namespace
    ORDER BY 1
"""


async def shape(connection: Connection) -> list[str]:
    """The schema as text, for comparing before and after."""
    return [row[0] for row in await connection.fetch(SHAPE)]


@asynccontextmanager
async def role(url: str, name: str = "", options: str = "", password: str = PASSWORD) -> AsyncIterator[tuple[str, str]]:
    """A role that may only connect: its name, and `url` as that role."""
    name = name or f"taxiway_{uuid4().hex[:12]}"
    database = urlsplit(url).path.removeprefix("/")
    async with connected(url) as owner:
        await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {options}")
        await owner.execute(f'GRANT CONNECT ON DATABASE "{database}" TO {name}')
        try:
            yield name, as_role(url, name, password)
        finally:
            await owner.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def as_role(url: str, name: str, password: str = PASSWORD) -> str:
    """The same server and database, another user."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{name}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}").geturl()
