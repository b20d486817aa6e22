"""What other roles may do: an app's, which inserts and reads videos; and that of web and worker, which alter nothing.

Rights are given column by column: on the whole table, a user of the app could set his own price.
"""

from __future__ import annotations

from service.errors import MigrationBlocked
from service.installer.closing import BROWSER_ROLES
from service.installer.history import HAS_HISTORY
from service.installer.turn import Connection, changing
from service.installer.view import NAME_TAKEN, SHOWN

WRITTEN = ("user_id", "prompt", "image_url", "status")  # all that an app's INSERT may name
# What the view public.videos and taxiway.video_status show between them.
READ = (*SHOWN, "video_url_expires_at", "finished_at")

# The role as SQL names it, and whether rights mean nothing to it.
ROLE = """
    SELECT quote_ident(rolname) AS name, rolsuper OR pg_has_role(oid, (
               SELECT nspowner FROM pg_namespace WHERE nspname = 'taxiway'), 'USAGE') AS may_all
      FROM pg_roles WHERE rolname = $1
"""
# Rights of the role that are wider than those below are taken away first.
TAKE_ALL = """
    REVOKE ALL ON SCHEMA taxiway FROM {role};
    REVOKE ALL ON ALL TABLES IN SCHEMA taxiway FROM {role};
    REVOKE ALL ON ALL SEQUENCES IN SCHEMA taxiway FROM {role};
    REVOKE ALL ON ALL ROUTINES IN SCHEMA taxiway FROM {role};
    ALTER DEFAULT PRIVILEGES IN SCHEMA taxiway REVOKE ALL ON TABLES FROM {role};
    ALTER DEFAULT PRIVILEGES IN SCHEMA taxiway REVOKE ALL ON ROUTINES FROM {role};
    GRANT USAGE ON SCHEMA taxiway TO {role};
"""
# What an INSERT calls: its defaults, and the constraints. A trigger's function needs no right.
CALLED = ("now", "is_never_stuck", "is_empty")
# For an app: it inserts what it may ask for, at the time of the defaults, and reads what is shown.
APP = f"""
    GRANT SELECT ({", ".join(READ)}), INSERT ({", ".join(WRITTEN)}) ON taxiway.videos TO {{role}};
    GRANT SELECT ON taxiway.video_status TO {{role}};
    GRANT EXECUTE ON FUNCTION {", ".join(f"taxiway.{name}" for name in CALLED)} TO {{role}};
"""
APP_VIEW = f"""
    REVOKE ALL ON public.videos FROM {{role}};
    GRANT SELECT, INSERT ({", ".join(WRITTEN)}) ON public.videos TO {{role}};
"""
# For web and worker: every row, and no shape. The default privileges are for what later migrations make.
SERVICE = """
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA taxiway TO {role};
    REVOKE INSERT, UPDATE, DELETE ON taxiway.migrations FROM {role};
    GRANT EXECUTE ON ALL ROUTINES IN SCHEMA taxiway TO {role};
    ALTER DEFAULT PRIVILEGES IN SCHEMA taxiway GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
    ALTER DEFAULT PRIVILEGES IN SCHEMA taxiway GRANT EXECUTE ON ROUTINES TO {role};
"""


async def grant(url: str, role: str, *, service: bool = False) -> list[str]:
    """Give the role exactly the rights of an app, or (`service`) of web and worker; the statements that were run.

    Raises MigrationBlocked with the reason, having changed nothing, and DatabaseUnavailable.
    """
    async with changing(url) as connection:
        statements = await _statements(connection, role, service=service)
        for statement in statements:
            await connection.execute(statement)
    return statements


async def _statements(connection: Connection, role: str, *, service: bool) -> list[str]:
    if not await connection.fetchval(HAS_HISTORY):
        raise MigrationBlocked([("there is no schema taxiway yet: run `taxiway migrate` first", "")])
    if role in BROWSER_ROLES or role.lower() == "public":
        why = f"{role} is the role of every browser, which could then read every user's videos"
        raise MigrationBlocked([(f"{why}: give the rights to the role that your app's server connects as", "")])
    known = await connection.fetchrow(ROLE, role)
    if known is None:
        why = f"there is no role {role}"
        raise MigrationBlocked([(why, "")])
    if known["may_all"]:
        why = f"the role {known['name']} owns the schema, is a superuser or belongs to its owner: it may do everything"
        raise MigrationBlocked([(f"{why}, whatever is granted. Make a role of its own", "")])
    sql = TAKE_ALL + (SERVICE if service else APP)
    if not service and await connection.fetchval(NAME_TAKEN) == "ours":
        sql += APP_VIEW
    return [line.strip() for line in sql.format(role=known["name"]).splitlines() if line.strip()]
