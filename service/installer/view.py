"""The view `public.videos`, by which an app reads and writes the queue with SQL: made only where its name is free."""

from __future__ import annotations

from service.errors import MigrationBlocked
from service.installer.closing import outsiders
from service.installer.history import HAS_HISTORY, directory
from service.installer.turn import Connection, changing

SHOWN = (
    "id", "user_id", "prompt", "image_url", "status", "runway_video_id", "video_url", "error_message", "created_at",
    "updated_at", "model", "progress", "error_code",
)  # fmt: skip

# What has the name today: NULL, 'ours', or a word for it.
NAME_TAKEN = """
    SELECT CASE
        WHEN c.relkind = 'v' AND obj_description(c.oid, 'pg_class') LIKE 'Taxiway:%' THEN 'ours'
        WHEN c.relkind IN ('r', 'p') THEN 'a table' WHEN c.relkind IN ('v', 'm') THEN 'a view' ELSE 'something else' END
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relname = 'videos'
"""
# Whether this role may make something in the schema `public`.
MAY_CREATE = """
    SELECT has_schema_privilege(oid, 'CREATE') AS allowed, quote_ident(current_user) AS role
      FROM pg_namespace WHERE nspname = 'public'
"""
REMOVE = """
    DROP VIEW public.videos;
    DROP FUNCTION taxiway.view_insert(), taxiway.view_update(), taxiway.view_delete();
"""


def script() -> str:
    """The statements that make it."""
    return (directory() / "view.sql").read_text(encoding="utf-8")


async def make_view(url: str) -> None:
    """Make the view, or bring it up to date.

    Raises MigrationBlocked where the name is taken or a right is missing, and DatabaseUnavailable.
    """
    async with changing(url) as connection:
        if blocked := await _obstacles(connection):
            raise MigrationBlocked(blocked)
        await refresh_view(connection, wanted=True)


async def remove_view(url: str) -> bool:
    """Remove the view; whether it was there. Raises MigrationBlocked and DatabaseUnavailable."""
    async with changing(url) as connection:
        if await connection.fetchval(NAME_TAKEN) != "ours":
            return False
        await connection.execute(REMOVE)
        return True


async def refresh_view(connection: Connection, *, wanted: bool = False) -> None:
    """Make the view again as this version has it, if it is there or `wanted`, and close it to browser roles.

    Rights that roles were given on it stay.
    """
    there = await connection.fetchval(NAME_TAKEN) == "ours"
    if not there and not wanted:
        return
    await connection.execute(script())
    await connection.execute("REVOKE ALL ON FUNCTION taxiway.view_insert(), taxiway.view_update(), "
                             "taxiway.view_delete() FROM PUBLIC")  # fmt: skip
    for role in await outsiders(connection):
        await connection.execute(f"REVOKE ALL ON public.videos FROM {role}")


async def _obstacles(connection: Connection) -> list[tuple[str, str]]:
    if not await connection.fetchval(HAS_HISTORY):
        return [("there is no schema taxiway yet: run `taxiway migrate --view` without anything else in its way", "")]
    taken = await connection.fetchval(NAME_TAKEN)
    if taken not in (None, "ours"):
        why = f"public.videos is {taken} of the app's own, and stays as it is"
        return [(f"{why}: `taxiway link videos` makes its rows videos, without a view", "")]
    rights = await connection.fetchrow(MAY_CREATE)
    if rights is None:
        return [("there is no schema public: the view has no place", "CREATE SCHEMA public;")]
    if not rights["allowed"]:
        why = f"the role {rights['role']} may not make a view in the schema public"
        return [(why, f"GRANT CREATE ON SCHEMA public TO {rights['role']};")]
    return []
