"""Whether this role may change the table, sees all of its rows, and may make tables beside it."""

from __future__ import annotations

from service.store.adoption.table import Connection, Obstacle, Table

# A policy that lets this role do everything, with no restrictive one beside it.
OPEN_POLICY = """
    WITH mine AS (
        SELECT * FROM pg_policy
         WHERE polrelid = $1::bigint::oid
           AND EXISTS (SELECT FROM unnest(polroles) AS role
                        WHERE CASE WHEN role = 0 THEN true ELSE pg_has_role(role, 'USAGE') END))
    SELECT count(*) FILTER (WHERE NOT polpermissive) AS restrictive,
           count(*) FILTER (WHERE polpermissive AND polcmd = '*' AND pg_get_expr(polqual, polrelid) = 'true'
                              AND COALESCE(pg_get_expr(polwithcheck, polrelid), 'true') = 'true') AS open
      FROM mine
"""

# The schemas in which the migration makes something, and whether this role may.
CREATION = """
    SELECT quote_ident(name) AS name, has_schema_privilege(name, 'CREATE') AS allowed
      FROM unnest($1::text[]) AS name ORDER BY name
"""


def ownership_obstacles(table: Table) -> list[Obstacle]:
    """ALTER TABLE is the owner's right, and that of roles that are members of the owner."""
    if table.mine:
        return []
    why = f"the role {table.role} does not own {table.name}, so it may not add columns to it"
    return [(why, f"GRANT {table.owner} TO {table.role};")]


async def row_security_obstacles(connection: Connection, table: Table) -> list[Obstacle]:
    """A queue that does not see every row leaves videos behind without a word.

    An owner without FORCE ROW LEVEL SECURITY, a superuser and a role with BYPASSRLS see them all.
    """
    if not table.secured:
        return []
    policies = await connection.fetchrow(OPEN_POLICY, table.oid)
    assert policies is not None  # noqa: S101  # an aggregate has one row
    why = f"row-level security on {table.name} is in force for {table.role}, which would not see every video"
    if policies["restrictive"]:
        return [(why, f"ALTER ROLE {table.role} BYPASSRLS;")]
    if policies["open"]:
        return []
    return [(why, f"CREATE POLICY taxiway ON {table.name} TO {table.role} USING (true) WITH CHECK (true);")]


async def creation_obstacles(connection: Connection, schemas: list[str]) -> list[Obstacle]:
    """New tables go to the first schema of the search path, indexes go beside their table."""
    role = await connection.fetchval("SELECT quote_ident(current_user)")
    if not schemas:
        path = await connection.fetchval("SHOW search_path")
        why = f"no schema of the search_path ({path}) exists or may be used, so new tables have no place"
        return [
            (
                why,
                f"ALTER ROLE {role} SET search_path = public;\nGRANT USAGE, CREATE ON SCHEMA public TO {role};",
            )
        ]
    return [
        (
            f"the role {role} may not create tables in the schema {row['name']}",
            f"GRANT USAGE, CREATE ON SCHEMA {row['name']} TO {role};",
        )
        for row in await connection.fetch(CREATION, schemas)
        if not row["allowed"]
    ]
