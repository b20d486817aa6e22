"""Who may see the schema: its owner, and the roles that `taxiway grant` names. Default privileges count for nothing."""

from __future__ import annotations

from service.installer.turn import Connection

# Roles under which hosted databases serve whatever they may read to browsers: Supabase, Neon, PostgREST.
BROWSER_ROLES = ("anon", "anonymous", "authenticated", "web_anon")

# PUBLIC, and each browser role that this server has, quoted.
_OUTSIDERS = """
    SELECT 'PUBLIC' AS role
    UNION ALL SELECT quote_ident(rolname) FROM pg_roles WHERE rolname = ANY(string_to_array($1, ','))
"""
# Everything in the schema of which one of them may do anything: also what default privileges gave away.
_CLOSE = """
    REVOKE ALL ON SCHEMA taxiway FROM {role};
    REVOKE ALL ON ALL TABLES IN SCHEMA taxiway FROM {role};
    REVOKE ALL ON ALL SEQUENCES IN SCHEMA taxiway FROM {role};
    REVOKE ALL ON ALL ROUTINES IN SCHEMA taxiway FROM {role};
"""


async def outsiders(connection: Connection) -> list[str]:
    """PUBLIC and the browser roles of this server, as SQL names them."""
    rows = await connection.fetch(_OUTSIDERS, ",".join(BROWSER_ROLES))
    return [row["role"] for row in rows]


async def close_schema(connection: Connection) -> None:
    """Take every right on the schema, and on all in it, from PUBLIC and from browser roles."""
    for role in await outsiders(connection):
        await connection.execute(_CLOSE.format(role=role))


# Which of them could use the schema, or read a table in it, all the same.
_OPEN_TO = """
    SELECT r.rolname AS role FROM pg_roles r
     WHERE r.rolname = ANY(string_to_array($1, ',')) AND to_regnamespace('taxiway') IS NOT NULL
       AND has_schema_privilege(r.oid, to_regnamespace('taxiway'), 'USAGE')
       AND EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = to_regnamespace('taxiway') AND c.relkind IN ('r', 'v')
                      AND has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE'))
    UNION ALL
    SELECT 'PUBLIC' FROM pg_namespace n, aclexplode(n.nspacl) AS a WHERE n.nspname = 'taxiway' AND a.grantee = 0
    UNION ALL
    SELECT r.rolname || ' (through the view public.videos)' FROM pg_roles r JOIN pg_class c
        ON c.oid = to_regclass('public.videos') AND obj_description(c.oid, 'pg_class') LIKE 'Taxiway:%'
     WHERE r.rolname = ANY(string_to_array($1, ','))
       AND has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE')
"""


async def open_to(connection: Connection) -> list[str]:
    """The browser roles that can read or write in the schema, or through its view; 'PUBLIC' for everyone."""
    rows = await connection.fetch(_OPEN_TO, ",".join(BROWSER_ROLES))
    return [row["role"] for row in rows]
