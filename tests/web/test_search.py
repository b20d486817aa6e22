"""Finding videos: by id, by task, by words, by filters, page by page; and that no way through reads everything."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.store import listing
from service.store.database import Database
from service.store.search import Arguments, Wanted, tsquery
from tests.database import connected, execute
from tests.world import IMAGE, World, world

pytestmark = pytest.mark.anyio


async def enqueue(w: World, prompt: str, **changes: Any) -> str:
    body = {"input": {"promptText": prompt, "promptImage": IMAGE}} | changes
    return str(await w.enqueue(**body))


async def found(w: World, **query: str) -> list[str]:
    response = await w.api.get("/videos", params=query)
    assert response.status_code == 200, response.text
    return [video["id"] for video in response.json()["videos"]]


async def test_words_of_prompt_and_metadata_newest_first(w: World) -> None:
    boat = await enqueue(w, "A small boat leaves the harbour", metadata={"order": 4711, "who": {"name": "Ada"}})
    ship = await enqueue(w, "A ship in the HARBOUR at night")
    assert await found(w, q="harbour") == [ship, boat]
    assert await found(w, q="harbour boat") == [boat]
    assert await found(w, q="harbour -boat") == [ship]
    assert await found(w, q='"the harbour"') == [ship, boat]
    assert await found(w, q='"harbour the"') == []
    assert await found(w, q="boat or night") == [ship, boat]
    assert await found(w, q="4711") == [boat]
    assert await found(w, q="ada") == [boat]
    assert await found(w, q="name") == []  # of metadata the values are searched, not the names
    assert await found(w, q="zebra") == []
    assert await found(w, q="!?") == []
    odd = await enqueue(w, "from <day>/night to dusk", metadata={"file": "a/b.png"})
    assert await found(w, q="day") == [odd]
    assert await found(w, q="day/night") == [odd]
    assert await found(w, q="a/b.png") == [odd]
    assert await found(w, q="</>") == []


async def test_the_last_word_may_be_a_beginning(w: World) -> None:
    boat = await enqueue(w, "A small boat leaves the harbour")
    assert await found(w, q="small harb") == [boat]
    assert await found(w, q="harb") == [boat]
    assert await found(w, q="smal harbour") == []
    assert await found(w, q='"small harb"') == []
    assert await found(w, q="zebra or harb") == []
    assert await found(w, q="zebra or harbour") == [boat]


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("boat", ["boat:*"]),
        ("a boat", ["boat:*", "a"]),
        ("a b", ["a b"]),
        ("it's", ["it's"]),
        ("boat ')", ["boat ')"]),
        ("boat or", ["boat or"]),
        ("boat -wave", ["boat -wave"]),
    ],
)
def test_only_a_plain_last_word_is_a_beginning(text: str, bound: list[str]) -> None:
    arguments = Arguments()
    tsquery(text, arguments)
    assert arguments == bound


async def test_by_id_by_task_and_by_a_task_that_it_had(w: World) -> None:
    w.faults("fail=INTERNAL")
    first, other = await enqueue(w, "a boat"), await enqueue(w, "a ship")
    await w.finish()
    tasks = [entry["task_id"] for entry in await w.ledger(UUID(first))]
    assert len(tasks) == 2
    assert await found(w, q=first) == [first]
    assert await found(w, q=first.upper()) == [first]
    assert [await found(w, q=task) for task in tasks] == [[first], [first]]
    assert await found(w, q=tasks[1], status="completed") == [first]
    assert await found(w, q=tasks[1], status="failed") == []
    assert await found(w, q=str(uuid4())) == []
    # An id that is only in metadata is a word.
    noted = await enqueue(w, "a raft", metadata={"of": (order := str(uuid4()))})
    assert await found(w, q=order) == [noted]
    assert other in await found(w)


async def test_words_with_filters(w: World) -> None:
    kept, gone = await enqueue(w, "a boat"), await enqueue(w, "a boat")
    text = await enqueue(w, "x", operation="text_to_video", input={"promptText": "a boat"})
    await w.api.post(f"/videos/{gone}/cancel")
    assert await found(w, q="boat") == [text, gone, kept]
    assert await found(w, q="boat", status="queued") == [text, kept]
    assert await found(w, q="boat", status="queued", model="gen4.5") == [text]
    assert await found(w, q="boat", status="completed") == []
    assert await found(w, model="gen4.5") == [text]
    assert await found(w, model="gen4_turbo", status="cancelled") == [gone]
    assert await found(w, model="gen4.5", status="cancelled") == []
    assert await found(w, q="boat", error_code="EXPIRED") == []


async def test_the_apps_own_rows_once_they_are_mapped(w: World) -> None:
    insert = (
        "INSERT INTO taxiway.videos (prompt, image_url, status, metadata) VALUES ($1, $2, 'queued', $3) RETURNING id"
    )
    [good] = await w.rows(insert, "a boat", IMAGE, json.dumps({"order": 12}))
    [bad] = await w.rows(insert, "a boat without an image that can be had", "ftp://x", None)
    assert await found(w, q="boat") == []
    await w.tick()
    assert await found(w, q="boat") == [str(bad["id"]), str(good["id"])]
    assert await found(w, q="order") == []
    assert await found(w, q="12") == [str(good["id"])]
    # An UPDATE that puts a row back in the queue makes it be mapped again.
    await w.rows(
        "UPDATE taxiway.videos SET status = 'queued', prompt = 'a ship', image_url = $2 WHERE id = $1",
        bad["id"],
        IMAGE,
    )
    await w.tick()
    assert await found(w, q="boat") == [str(good["id"])]
    assert await found(w, q="ship") == [str(bad["id"])]


async def test_metadata_and_prompts_of_any_size_delay_nobody(w: World) -> None:
    insert = "INSERT INTO taxiway.videos (prompt, status, metadata) VALUES ($1, 'queued', $2) RETURNING id"
    large = json.dumps({str(n): f"word{n}" for n in range(200_000)})
    [one] = await w.rows(insert, "boat " * 400_000, large)
    [two] = await w.rows(insert, "a boat", None)
    await w.tick()
    assert set(await found(w, q="boat")) == {str(one["id"]), str(two["id"])}


async def test_pages_of_every_kind_go_through_everything_once(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WALK_ROWS", 3)
    monkeypatch.setattr(listing, "FILTERED_WALK_ROWS", 3)
    ids = [await enqueue(w, "a boat" if n % 4 else "a rare ship") for n in range(12)]
    for video_id in ids[::3]:
        await w.api.post(f"/videos/{video_id}/cancel")
    ships = ids[::4]
    for query, wanted in [
        ({}, ids),
        ({"status": "queued,cancelled"}, ids),
        ({"status": "cancelled"}, ids[::3]),
        ({"model": "gen4_turbo"}, ids),
        ({"q": "ship"}, ships),
        ({"q": "boat"}, [one for one in ids if one not in ships]),
        ({"q": "boat", "status": "queued"}, [one for one in ids if one not in ships and one not in ids[::3]]),
    ]:
        seen: list[str] = []
        cursor = ""
        for _ in range(12):
            params = query | {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await w.api.get("/videos", params=params)).json()
            seen += [video["id"] for video in page["videos"]]
            if not (cursor := page["next"]):
                break
        assert seen == wanted[::-1], query


FILL = """
INSERT INTO taxiway.videos (prompt, status, created_at, model, error_code, finished_at, input)
SELECT 'a boat number ' || n, CASE WHEN n % 5000 = 7 THEN 'failed' ELSE 'completed' END,
       taxiway.now() - make_interval(secs => n), CASE WHEN n % 4000 = 9 THEN 'gen4.5' ELSE 'gen4_turbo' END,
       CASE WHEN n % 5000 = 7 THEN 'INTERNAL.BAD_OUTPUT.CODE01' END, taxiway.now(),
       jsonb_build_object('promptText', 'a boat number ' || n || CASE WHEN n % 9000 = 8011 THEN ' zebra' ELSE '' END)
FROM generate_series(1, 40000) AS n;
INSERT INTO taxiway.search (video_id, created_at, model, words)
SELECT id, created_at, model, to_tsvector('simple', input ->> 'promptText') FROM taxiway.videos;
VACUUM ANALYZE taxiway.videos;
VACUUM ANALYZE taxiway.search
"""


def rows_read(plan: dict[str, Any]) -> int:
    """The rows that a plan took from tables and threw away, or passed on, at its leaves."""
    mine = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    inner = plan.get("Plans", [])
    own = mine if "Relation Name" in plan else 0
    return int(own + sum(rows_read(part) for part in inner))


CASES = [
    (Wanted(), 400),
    (Wanted(statuses=["failed"]), 200),
    (Wanted(statuses=["failed", "cancelled"]), 200),
    (Wanted(statuses=["queued"]), 10),
    (Wanted(error_code="INTERNAL.BAD_OUTPUT.CODE01"), 200),
    (Wanted(model="gen4.5"), 200),
    (Wanted(model="gen4.5", statuses=["completed"]), 200),
    (Wanted(model="gen4.5", statuses=["failed"]), 200),
    (Wanted(q="boat"), 400),
    (Wanted(q="zebra"), 20_000),
    (Wanted(q="nowhere"), 20_000),
    (Wanted(q="boat", statuses=["failed"]), 400),
    (Wanted(q="zebra", statuses=["completed"]), 25_000),
]


class Spy:
    """Keeps the statements that are run."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.statements: list[tuple[str, tuple[object, ...]]] = []

    async def fetch(self, sql: str, *arguments: object) -> Any:
        self.statements.append((sql, arguments))
        return await self.database.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: object) -> Any:
        self.statements.append((sql, arguments))
        return await self.database.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        self.statements.append((sql, arguments))
        return await self.database.fetchval(sql, *arguments)


async def test_no_list_reads_everything(database_url: str) -> None:
    """By PostgreSQL's own plans, on a table with 40,000 rows: rare or common, an index leads to the page."""
    await execute(database_url, *FILL.split(";"))
    async with world(database_url) as w, connected(database_url) as raw:
        for wanted, most_rows in CASES:
            spy = Spy(w.ctx.database)
            await listing.page(spy, wanted, before=None, limit=50)  # type: ignore[arg-type]
            plans = [
                json.loads(await raw.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *arguments))
                for sql, arguments in spy.statements
            ]
            read = sum(rows_read(plan[0]["Plan"]) for plan in plans)
            assert read <= most_rows, (wanted, spy.statements[-1], plans[-1])
