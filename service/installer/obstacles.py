"""What stands in the way of a migration: an old server, an older checkout's tables, rights that are missing."""

from __future__ import annotations

from typing import TypeAlias

from service.installer.history import HAS_HISTORY
from service.installer.turn import Connection, connecting

Obstacle: TypeAlias = "tuple[str, str]"  # what stands in the way, the SQL that removes it

OLDEST_POSTGRES = 15

# What an older checkout left: its list of migrations, or a table `videos` with its columns, in any schema.
OLDER_CHECKOUT = """
    SELECT format('%I.%I', n.nspname, c.relname) AS name
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'taxiway'
       AND (c.relname = 'taxiway_migrations'
            OR c.relname = 'videos' AND 2 = (
                SELECT count(*) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname IN ('permit_id', 'task_retries')))
     ORDER BY 1
"""

# What this role may do where the schema is, or would be made.
RIGHTS = """
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
           quote_ident(current_user) AS role, quote_ident(current_database()) AS database,
           has_database_privilege(current_database(), 'CREATE') AS may_make_it,
           n.oid IS NOT NULL AS is_there, pg_has_role(n.nspowner, 'USAGE') AS is_mine,
           (SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c
             WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')) AS holds
      FROM (SELECT 'taxiway'::name AS name) AS wanted LEFT JOIN pg_namespace n ON n.nspname = wanted.name
"""


async def older_checkout(connection: Connection) -> str | None:
    """The table by which a database of an older checkout is known, if it is one."""
    name: str | None = await connection.fetchval(OLDER_CHECKOUT)
    return name


async def left_by_older_checkout(url: str) -> bool:
    """Whether an older checkout made this database, which cannot be upgraded. Raises DatabaseUnavailable."""
    async with connecting(url) as connection:
        return not await connection.fetchval(HAS_HISTORY) and await older_checkout(connection) is not None


async def obstacles(connection: Connection, *, fresh: bool) -> list[Obstacle]:
    """What stands in the way of applying scripts. `fresh`: none has been applied yet."""
    rights = await connection.fetchrow(RIGHTS)
    assert rights is not None  # noqa: S101  # there is one wanted name
    found: list[Obstacle] = []
    if rights["number"] < OLDEST_POSTGRES * 10_000:
        found.append((f"this is PostgreSQL {rights['version']}: Taxiway needs {OLDEST_POSTGRES} or newer", ""))
    role = rights["role"]
    if not rights["is_there"] and not rights["may_make_it"]:
        why = f"the role {role} may not make the schema taxiway in this database"
        found.append((why, f"GRANT CREATE ON DATABASE {rights['database']} TO {role};"))
    if rights["is_there"] and not rights["is_mine"]:
        why = f"the schema taxiway belongs to another role than {role}: set MIGRATE_DATABASE_URL to that role's URL"
        found.append((f"{why}, or give the schema away", f"ALTER SCHEMA taxiway OWNER TO {role};"))
    if not fresh:
        return found
    if table := await older_checkout(connection):
        why = (
            f"{table} was made by an older version, which kept its state in the app's own table and cannot be upgraded"
        )
        way = (
            "Check out that version, let its queue run empty, and run `taxiway adopt --undo` there; then migrate again"
        )
        found.append((f"{why}. {way}", ""))
    if rights["holds"]:
        why = f"the schema taxiway holds what is not Taxiway's ({rights['holds']}): it must be Taxiway's alone"
        found.append((why, ""))
    return found
