"""The real `drizzle-kit push`, which makes a database look like the app's schema: it touches nothing of Taxiway's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.invoking import taxiway
from tests.node import installed, run
from tests.world import IMAGE, World

pytestmark = [pytest.mark.anyio, pytest.mark.node]

APP = Path(__file__).parents[1] / "drizzle"
INSERT = "INSERT INTO public.videos (user_id, prompt, image_url) VALUES (1, 'a boat', $1) RETURNING id"
# Everything in the schema, and how much there is in what matters most.
OURS = """
SELECT c.relname::text AS name, c.relkind::text AS kind, c.oid::bigint AS oid,
       (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
FROM pg_class c WHERE c.relnamespace = 'taxiway'::regnamespace AND c.relkind IN ('r', 'v', 'i') ORDER BY 1
"""
LEDGER = "SELECT count(*) AS submissions, count(DISTINCT task_id) AS tasks FROM taxiway.submissions"


@pytest.fixture(scope="module")
def app() -> Iterator[Path]:
    """The app with its packages."""
    with installed(APP) as folder:
        yield folder


def push(app: Path, url: str) -> None:
    """What a developer runs after each change of schema.ts; `--force` accepts what would lose data, too."""
    run(app, "npx", "--no-install", "drizzle-kit", "push", "--force", DATABASE_URL=url)


async def ours(w: World) -> list[dict[str, Any]]:
    """What there is of Taxiway."""
    return [dict(row) for row in [*await w.rows(OURS), *await w.rows(LEDGER)]]


async def film(w: World) -> str:
    """A row of the app's, from queued to its end; its status."""
    [row] = await w.rows(INSERT, IMAGE)
    await w.finish()
    [shown] = await w.rows("SELECT status, video_url FROM public.videos WHERE id = $1", row["id"])
    return f"{shown['status']} {'with a file' if shown['video_url'] else 'without'}"


async def test_a_push_touches_nothing_of_taxiways(app: Path, w: World) -> None:
    push(app, w.url)
    linked = await taxiway(w.url, "link", "videos", "--yes")
    assert linked.exit_code == 0, linked.output
    assert await film(w) == "completed with a file"
    before = await ours(w)
    push(app, w.url)
    assert await ours(w) == before
    schema = app / "schema.ts"
    changed = schema.read_text(encoding="utf-8").replace("  status:", '  title: text("title"),\n  status:')
    schema.write_text(changed, encoding="utf-8")
    push(app, w.url)
    assert await ours(w) == before
    assert await w.rows("SELECT title FROM public.videos")
    assert await film(w) == "completed with a file"
