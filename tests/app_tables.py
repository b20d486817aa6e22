"""An app's table, linked: the link is written as `taxiway link` writes it."""

from __future__ import annotations

import json
from random import randrange
from typing import Any

from service.link_mapping import Mapping
from service.store.database import Database
from service.store.linked_table import LinkedTable
from service.store.links import open_links
from tests.database import connected, execute

# The table that most apps have.
BASE = """
    CREATE TABLE public.videos (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id int, prompt text NOT NULL,
        image_url text, status text NOT NULL DEFAULT 'queued', runway_video_id text, video_url text, error_message text,
        created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now())
"""
WORDS: dict[str, Any] = {
    "queued": ["queued"], "processing": "processing", "completed": "completed", "failed": "failed",
    "cancelled": "cancelled", "cancel": ["cancelled"],
}  # fmt: skip
COLUMNS = {
    "prompt": "prompt", "image": "image_url", "status": "status", "user_id": "user_id", "created_at": "created_at",
    "runway_video_id": "runway_video_id", "error_message": "error_message", "video_url": "video_url",
    "updated_at": "updated_at",
}  # fmt: skip

# T1: a user has credits, and a row that leaves the queue takes 25 of them.
CREDITS = """
    CREATE TABLE public.users (id int PRIMARY KEY, credits int NOT NULL CHECK (credits >= 0));
    CREATE FUNCTION public.take_credits() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE users SET credits = credits - 25 WHERE id = NEW.user_id;
        RETURN NEW;
    END $$;
    CREATE TRIGGER take_credits BEFORE UPDATE ON public.videos FOR EACH ROW
        WHEN (OLD.status = 'queued' AND NEW.status = 'processing') EXECUTE FUNCTION public.take_credits();
"""

_COLUMN = """
    SELECT attnum::int AS attnum, format_type(atttypid, atttypmod) AS type, attrelid::int AS oid
    FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = $2
"""
_LINK = """
    INSERT INTO taxiway.links (schema_name, table_name, table_oid, mapping, columns)
    SELECT n.nspname, c.relname, c.oid, $2, $3 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass($1) RETURNING id
"""


async def link(url: str, table: str = "public.videos", **changes: Any) -> int:
    """Link a table; its link's id. `changes`: of the mapping; None as a column of it takes the column away."""
    columns = {key: name for key, name in (COLUMNS | changes.pop("columns", {})).items() if name is not None}
    mapping = Mapping(
        **({"table": table, "id": "id", "columns": columns, "words": WORDS | changes.pop("words", {})} | changes)
    )
    async with connected(url) as connection:
        known = {}
        for key, name in {"id": mapping.id, **columns}.items():
            row = await connection.fetchrow(_COLUMN, table, name)
            assert row is not None, name
            known[key] = {"name": name, "attnum": row["attnum"], "type": row["type"]}
        link_id: int = await connection.fetchval(_LINK, table, mapping.model_dump_json(), json.dumps(known))
    return link_id


async def number_links_apart(url: str) -> None:
    """From now on this database's links have ids that no other test's have.

    A link's role has its name from that id, and roles are the whole server's: tests beside this one would use it.
    """
    await execute(url, f"ALTER TABLE taxiway.links ALTER COLUMN id RESTART WITH {randrange(1_000, 2**31 - 1_000)}")


async def linked(database: Database) -> LinkedTable:
    """The one link, as it is now."""
    [table] = await open_links(database)
    return table
