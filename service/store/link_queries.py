"""What doctor, `/health` and the page ask of linked tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.link_mapping import WRITTEN_KEYS
from service.store import link_statements
from service.store.database import Database
from service.store.link_intake import READ_SECONDS
from service.store.linked_table import LinkedTable
from service.store.links import ask, open_links

# A link that is paused, or has rows that refuse: what `/health` and the page ask with each call.
_TROUBLED = """
SELECT l.schema_name || '.' || l.table_name AS link, l.mapping ->> 'table' AS "table",
       CASE WHEN l.state = 'paused' THEN l.reason END AS paused, l.look_due = 'infinity' AS is_asking,
       COALESCE(r.rows, 0) AS rows, r.since, r.words, r.sqlstate, r.app_id, r.video_id
FROM taxiway.links l LEFT JOIN (
    SELECT link_id, count(*) AS rows, min(refused_at) AS since,
           (array_agg(error ORDER BY refused_at DESC))[1] AS words,
           (array_agg(sqlstate ORDER BY refused_at DESC))[1] AS sqlstate,
           (array_agg(app_id ORDER BY refused_at DESC))[1] AS app_id,
           (array_agg(video_id ORDER BY refused_at DESC))[1] AS video_id
    FROM taxiway.rows WHERE due_at IS NOT NULL GROUP BY link_id) AS r ON r.link_id = l.id
WHERE l.state = 'paused' OR r.rows > 0 ORDER BY 1
"""


@dataclass(frozen=True)
class Troubled:
    """A linked table that is paused, or whose rows refuse to show their videos: of those, the newest."""

    link: str
    table: str  # as `taxiway link` takes it
    paused: str | None  # why, with what fixes it
    is_asking: bool  # it waits for the operator; otherwise it is tried again every minute
    rows: int
    since: datetime | None
    words: str | None  # PostgreSQL's
    sqlstate: str | None
    app_id: str | None
    video_id: Any


async def troubled(database: Database) -> list[Troubled]:
    """The linked tables that need the operator."""
    return [Troubled(**row) for row in await database.fetch(_TROUBLED)]


_GATE_REFUSED = """
SELECT e.detail ->> 'link' AS link, count(*) AS videos,
       (array_agg(COALESCE(v.error_message, 'SQLSTATE ' || (e.detail ->> 'sqlstate'), '') ORDER BY e.at DESC))[1]
           AS words,
       (array_agg(e.video_id ORDER BY e.at DESC))[1] AS video_id
FROM taxiway.events e LEFT JOIN taxiway.videos v ON v.id = e.video_id
WHERE e.kind = 'gate_refused' AND e.at > taxiway.now() - interval '1 day' GROUP BY 1 ORDER BY 1
"""


@dataclass(frozen=True)
class RefusedAtGate:
    """Videos that an app's table refused to let pass within a day, and the newest refusal, as its video has it."""

    link: str
    videos: int
    words: str
    video_id: Any


async def refused_at_gate(database: Database) -> list[RefusedAtGate]:
    """By linked table: the videos that were not sent because it refused them."""
    return [RefusedAtGate(**row) for row in await database.fetch(_GATE_REFUSED)]


# Links at work whose tables run code of the app's (triggers; of a view it is not asked what stands behind it) without a
# role of their own, and the statements that make one: with the columns that are used.
_WITHOUT_ROLE = """
SELECT l.schema_name || '.' || l.table_name AS link, 'taxiway_link_' || l.id AS role,
       format('CREATE ROLE %1$I NOLOGIN; GRANT USAGE ON SCHEMA %2$I TO %1$I; GRANT SELECT (%4$s), UPDATE (%5$s) '
              'ON %2$I.%3$I TO %1$I; GRANT %1$I TO %6$I', 'taxiway_link_' || l.id, l.schema_name, l.table_name,
              c.read, c.written, current_user) AS sql
FROM taxiway.links l CROSS JOIN LATERAL (
    SELECT string_agg(DISTINCT quote_ident(value ->> 'name'), ', ') AS read,
           string_agg(DISTINCT quote_ident(value ->> 'name'), ', ') FILTER (WHERE key <> 'id') AS written
    FROM jsonb_each(l.columns) WHERE key = 'id' OR key = ANY($1::text[])) AS c
WHERE l.state <> 'closed' AND NOT EXISTS (
    SELECT FROM pg_roles WHERE rolname = 'taxiway_link_' || l.id AND pg_has_role(oid, 'MEMBER'))
  AND (EXISTS (SELECT FROM pg_class WHERE oid = l.table_oid AND relkind = 'v') OR EXISTS (
    SELECT FROM pg_trigger t WHERE NOT t.tgisinternal
      AND (t.tgrelid = l.table_oid OR t.tgrelid IN (SELECT relid FROM pg_partition_tree(l.table_oid)))))
ORDER BY 1
"""


@dataclass(frozen=True)
class WithoutRole:
    """A linked table whose triggers run with the rights of Taxiway's own role; the role and SQL that prevent it."""

    link: str
    role: str
    sql: str


async def without_role(database: Database) -> list[WithoutRole]:
    """The linked tables that run code of the app's and have no role of their own."""
    return [WithoutRole(**row) for row in await database.fetch(_WITHOUT_ROLE, list(WRITTEN_KEYS))]


# What was added with consent and is not there any more: a schema that is pushed from the app's code drops it.
_VANISHED = """
SELECT l.schema_name || '.' || l.table_name AS link, l.mapping ->> 'table' AS "table", m ->> 'kind' AS kind,
       m ->> 'name' AS name
FROM taxiway.links l CROSS JOIN jsonb_array_elements(l.made) AS m
WHERE l.state IN ('open', 'paused') AND CASE m ->> 'kind'
    WHEN 'index' THEN NOT EXISTS (
        SELECT FROM pg_index i WHERE i.indexrelid = to_regclass(m ->> 'sql_name') AND i.indisvalid)
    ELSE NOT EXISTS (
        SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = l.schema_name AND c.relname = l.table_name AND a.attname = m ->> 'name'
          AND NOT a.attisdropped) END
ORDER BY 1, 3, 4
"""


@dataclass(frozen=True)
class Vanished:
    """A column or an index that was added to an app's table with consent, and was dropped since."""

    link: str
    table: str
    kind: str
    name: str


async def vanished(database: Database) -> list[Vanished]:
    """What was added to linked tables and is not there any more."""
    return [Vanished(**row) for row in await database.fetch(_VANISHED)]


@dataclass(frozen=True)
class LeftAtProcessing:
    """Rows that the app's own code set to processing so long ago, and left; Taxiway does not know them."""

    link: str
    rows: int
    since: datetime


async def tables(database: Database) -> list[LinkedTable]:
    """The linked tables at work."""
    return await open_links(database)


async def left_at_processing(database: Database, table: LinkedTable, seconds: float) -> LeftAtProcessing | None:
    """Rows of one table that were left for longer than so many seconds, if there are any. Raises TableTrouble."""
    sql = link_statements.died(table, count=True)
    if sql is None:
        return None
    [(rows, since)] = await ask(database, sql, seconds, seconds=READ_SECONDS)
    return LeftAtProcessing(table.link.name, rows, since) if rows else None
