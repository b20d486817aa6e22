"""An app's database as Taxiway finds it: the table, the rows that a bug left, and roles with few rights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from service.store.adoption.table import Connection
from tests.database import connected

ALICE = UUID("a11ce000-0000-4000-8000-000000000000")
PASSWORD = "a-password-of-a-test"

# Columns of the app's own that are NOT NULL, a trigger of its own, and a reference out of the table.
APP_TABLE = """
    CREATE TABLE users (id uuid PRIMARY KEY, name text NOT NULL);
    CREATE TABLE videos (
        id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        user_id          uuid NOT NULL REFERENCES users (id),
        prompt           text,
        image_url        text,
        status           text NOT NULL DEFAULT 'queued',
        error_message    text,
        runway_video_id  text,
        created_at       timestamptz DEFAULT now(),
        updated_at       timestamptz DEFAULT now(),
        team             text NOT NULL,
        seconds          integer NOT NULL CHECK (seconds > 0)
    );
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON videos FOR EACH ROW EXECUTE FUNCTION touch();
"""

# One row of every kind: name (kept in `team`), status, error, task.
ROWS: list[tuple[str, str, str | None, str | None]] = [
    ("waiting", "queued", None, None),
    ("stuck", "processing", None, None),
    ("stuck-blank", "processing", None, " "),
    ("under-way", "processing", None, "task-1"),
    ("under-way-twice", "processing", None, "task-1"),
    ("under-way-too", "processing", None, "task-2"),
    ("done", "completed", None, "task-3"),
    ("done-blank", "completed", None, ""),
    ("failed", "failed", "Boom é \t ok", None),
    ("failed-late", "failed", "Runway said no", "task-4"),
    ("cancelled", "cancelled", None, None),
    ("draft", "draft", None, None),
]

INSERT = """
    INSERT INTO videos (user_id, prompt, image_url, status, error_message, runway_video_id, team, seconds,
                        created_at, updated_at)
    VALUES ($1, 'A plane', 'https://example.com/a.png', $2, $3, $4, $5, 5,
            now() - interval '3 days', now() - interval '2 days')
"""


async def fill(connection: Connection) -> None:
    """The app's table with one row of every kind."""
    await connection.execute(APP_TABLE)
    await connection.execute("INSERT INTO users VALUES ($1, 'Alice')", ALICE)
    for team, status, error, task in ROWS:
        await connection.execute(INSERT, ALICE, status, error, task, team)


# Everything that a migration could change: columns, constraints, relations, types, policies.
SHAPE = """
    SELECT format('column %s.%s %s %s', c.relname, attname, format_type(atttypid, atttypmod), attnotnull)
      FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
     WHERE c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)' AND attnum > 0
    UNION ALL
    SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
     WHERE connamespace::regnamespace::text !~ '^(pg_|information_schema)'
    UNION ALL SELECT format('label %s', enumlabel) FROM pg_enum
    UNION ALL SELECT format('policy %s', polname) FROM pg_policy
    UNION ALL SELECT format('trigger %s %s', tgname, tgenabled) FROM pg_trigger
    ORDER BY 1
"""


async def shape(connection: Connection) -> list[str]:
    """The schema as text, for comparing before and after."""
    return [row[0] for row in await connection.fetch(SHAPE)]


@asynccontextmanager
async def role(url: str) -> AsyncIterator[tuple[str, str]]:
    """A role that may only connect: its name, and `url` as that role."""
    name = f"taxiway_{uuid4().hex[:12]}"
    database = urlsplit(url).path.removeprefix("/")
    async with connected(url) as owner:
        await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        await owner.execute(f'GRANT CONNECT ON DATABASE "{database}" TO {name}')
        try:
            yield name, as_role(url, name)
        finally:
            await owner.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def as_role(url: str, name: str) -> str:
    """The same server and database, another user."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{name}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}").geturl()
