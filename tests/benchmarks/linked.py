"""A linked table as an app of today makes it: an enum in capitals, camelCase, text ids, and times without a zone."""

from __future__ import annotations

import json

from tests.benchmarks.history import run
from tests.database import connected, execute

TABLE = '"Generation"'
SCHEMA = (
    """CREATE TYPE "GenerationStatus" AS ENUM ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED')""",
    f"""CREATE TABLE {TABLE} (
        id text PRIMARY KEY, "userId" text NOT NULL, "promptText" text NOT NULL, "imageUrl" text,
        status "GenerationStatus" NOT NULL DEFAULT 'PENDING', "runwayTaskId" text, "videoUrl" text, "errorMessage" text,
        "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "updatedAt" timestamp(3) NOT NULL
    )""",
)
MAPPING = {
    "table": f"public.{TABLE}",
    "id": "id",
    "columns": {
        "prompt": "promptText", "image": "imageUrl", "user_id": "userId", "status": "status",
        "runway_video_id": "runwayTaskId", "video_url": "videoUrl", "error_message": "errorMessage",
        "created_at": "createdAt", "updated_at": "updatedAt",
    },
    "words": {
        "queued": ["PENDING"], "processing": "PROCESSING", "completed": "COMPLETED", "failed": "FAILED",
        "cancelled": "CANCELLED", "cancel": ["CANCELLED"],
    },
    "zone": "UTC",
    "existing": "take",
}  # fmt: skip
# What `taxiway link` writes.
LINK = """
INSERT INTO taxiway.links (schema_name, table_name, table_oid, mapping, columns)
SELECT 'public', 'Generation', '"Generation"'::regclass, $1::jsonb,
       (SELECT jsonb_object_agg(m.key, jsonb_build_object('name', a.attname, 'attnum', a.attnum,
                                                          'type', format_type(a.atttypid, a.atttypmod)))
        FROM jsonb_each_text(($1::jsonb -> 'columns') || jsonb_build_object('id', $1::jsonb -> 'id')) AS m
        JOIN pg_attribute a ON a.attrelid = '"Generation"'::regclass AND a.attname = m.value)
"""
_VALUES = "'user ' || n % 100, 'a boat leaves the harbour at dawn, number ' || n, 'https://example.com/' || n || '.jpg'"
# So many new rows, as the app writes them.
NEW = f"""
INSERT INTO {TABLE} (id, "userId", "promptText", "imageUrl", "updatedAt")
SELECT 'c' || replace(gen_random_uuid()::text, '-', ''), {_VALUES}, now() AT TIME ZONE 'UTC'
FROM generate_series(1, $1) AS n
"""
# So many that have ended over a month; Taxiway knows each, and has removed its videos.
ENDED = f"""
INSERT INTO {TABLE} (id, "userId", "promptText", "imageUrl", status, "runwayTaskId", "videoUrl", "createdAt",
                     "updatedAt")
SELECT 'c' || md5(n::text), {_VALUES}, 'COMPLETED', gen_random_uuid()::text, 'https://example.com/' || n || '.mp4',
       t.at, t.at FROM generate_series(1, $1) AS n,
       LATERAL (SELECT now() AT TIME ZONE 'UTC' - interval '1 day' - n * interval '2.6 seconds' AS at) AS t
"""
KNOWN = f"""
INSERT INTO taxiway.rows (link_id, app_id, video_id, app_word, mirrored_version)
SELECT l.id, a.id, gen_random_uuid(), 'COMPLETED', 3 FROM taxiway.links l, {TABLE} a ORDER BY a.id
"""
# Nothing is sent to Runway.
PAUSE = """
INSERT INTO taxiway.models (model, paused_until, reason, paused_at)
VALUES ('all', now() + interval '1 day', 'manual', now())
"""


async def link(url: str) -> None:
    """The app's table in a migrated database, and the link."""
    await execute(url, *SCHEMA)
    async with connected(url) as connection:
        await connection.execute(LINK, json.dumps(MAPPING))


async def add(url: str, count: int) -> None:
    """So many new rows in one transaction."""
    async with connected(url) as connection:
        await connection.execute(NEW, count)


async def fill(url: str, count: int) -> None:
    """A past of so many rows."""
    async with connected(url) as connection:
        await connection.execute(ENDED, count, timeout=900)
    for statement in (KNOWN, "VACUUM ANALYZE", "CHECKPOINT"):
        await run(url, statement)
