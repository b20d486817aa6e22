"""Statements that list videos, newest first, by key and not by offset, so that every page costs the same.

Every way through stays fast at a million rows. Without words, the index of each wanted status is walked, and the walks
are merged. With words, the newest rows are tried first, among which a common word fills a page at once. If it does not,
a sample of the table says whether many older rows have the word: then it is walked on to, or looked for by its index no
further back than a page needs. One that is rare everywhere is found by its index, and the few rows that have it are
sorted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from service.store import search
from service.store.database import Database
from service.store.search import Arguments, Wanted
from service.store.video_rows import COLUMNS
from service.videos import Video

# Rows that are tried for a word before anything else: some 10 ms of work. They lie side by side; with filters each
# of them is looked up. A word that fills no page within them is in a fraction of a percent of all rows, or in old ones.
WALK_ROWS = 10_000
FILTERED_WALK_ROWS = 5_000
# Pages of the table in a sample: some 5,000 rows, which take 3 ms. A word that has no page of rows among them is in so
# few rows that its index can read all that have it.
SAMPLE_PAGES = 100
# The share of the table that these are.
_SHARE = f"""LEAST(1, {SAMPLE_PAGES} * CAST(current_setting('block_size') AS float8)
                         / GREATEST(pg_relation_size('taxiway.search'), 1))"""
# A model with fewer videos than this is walked by an index of its own, whatever else is asked.
RARE_ROWS = 2_000

Position = tuple[datetime, UUID]


@dataclass(frozen=True)
class Page:
    """Videos, newest first. `next`: where the page after this one begins, if there is one."""

    videos: list[Video]
    next: Position | None


async def page(database: Database, wanted: Wanted, *, before: Position | None, limit: int) -> Page:
    """A page of the videos that are wanted, older than `before`."""
    if not wanted.states:
        return Page([], None)
    text = (wanted.q or "").strip()
    ids = await search.named(database, text) if text else []
    is_rare = not ids and await _is_rare(database, wanted)

    def asked() -> _Asked:
        return _Asked(wanted, before, by_search=is_rare)

    if ids:
        one = asked()
        return await one.run(database, one.walk_states(limit + 1, search.among(ids, one.arguments)), limit)
    if not text:
        one = asked()
        return await one.run(database, one.walk(limit + 1), limit)
    one = asked()
    found = await one.run(database, one.walk_for(text, limit + 1), limit)
    if found.next is not None or await _was_all(database, asked()):
        return found
    return await _further_back(database, asked, text, limit)


async def _further_back(database: Database, asked: Callable[[], _Asked], text: str, limit: int) -> Page:
    """A page for words that fill none among the newest rows."""
    one = asked()
    sampled = await database.fetchrow(one.sample(text, limit + 1), *one.arguments)
    if sampled is not None:
        one = asked()
        # To walk past a row costs about as much as to find one by the index.
        is_near = sampled["newer"] <= sampled["with_words"]
        keys = one.walk_on_for if is_near else one.by_words
        found = await one.run(database, keys(text, limit + 1, since=sampled["since"]), limit)
        if found.next is not None:  # or else rows went since
            return found
    one = asked()
    return await one.run(database, one.by_words(text, limit + 1), limit)


# How many videos a model has, if they are few.
_COUNT_MODEL = "SELECT count(*) FROM (SELECT FROM taxiway.search WHERE model = $1 LIMIT $2) AS few"


async def _is_rare(database: Database, wanted: Wanted) -> bool:
    """Whether the index by user, or by model, is the better way."""
    if wanted.user_id is not None:
        return True
    if wanted.model is None or wanted.error_code is not None:
        return False
    if wanted.statuses is None:
        return True  # the walks of all statuses would pass over every other model
    count: int = await database.fetchval(_COUNT_MODEL, wanted.model, RARE_ROWS)
    return count < RARE_ROWS


async def _was_all(database: Database, asked: _Asked) -> bool:
    """Whether a walk for words came to the end of what the filters let through: then the words' index adds nothing."""
    if not asked.is_filtered:
        return False
    keys = asked.walk(FILTERED_WALK_ROWS)
    count: int = await database.fetchval(f"SELECT count(*) FROM ({keys}) AS walked", *asked.arguments)
    return count < FILTERED_WALK_ROWS


class _Asked:
    """The ways to one page, each as SQL that yields the keys `id` and `at` in order, with its arguments.

    LATERAL with OFFSET 0 looks one row up at a time, where a planner without good statistics would read a whole table.
    """

    def __init__(self, wanted: Wanted, before: Position | None, *, by_search: bool) -> None:
        self.arguments = Arguments()
        self._states, self._by_search = wanted.states, by_search
        self._indexed = ("model", wanted.model) if wanted.user_id is None else ("user_id", wanted.user_id)
        self._filters = search.conditions(wanted, self.arguments)
        self.is_filtered = bool(self._filters) or wanted.statuses is not None
        self._older = "true"
        if before is not None:
            at, video_id = self.arguments.bind(before[0]), self.arguments.bind(before[1])
            self._older = f"({{at}}, {{id}}) < ({at}::timestamptz, {video_id}::uuid)"

    def _older_than(self, at: str, video_id: str) -> str:
        return self._older.format(at=at, id=video_id)

    def walk(self, limit: int) -> str:
        """The newest of what passes the filters."""
        return self._walk_search(limit) if self._by_search else self.walk_states(limit)

    def walk_states(self, limit: int, *more: str) -> str:
        """By status: each of its walks stops when the page is full."""
        where = " AND ".join([*self._filters, self._older_than("v.created_at", "v.id"), *more])
        parts = " UNION ALL ".join(
            f"(SELECT v.id, v.created_at AS at FROM taxiway.videos v WHERE v.status = '{status}' AND {where}"
            f" ORDER BY v.created_at DESC, v.id DESC LIMIT {limit})"
            for status in self._states
        )
        return f"SELECT id, at FROM ({parts}) AS part ORDER BY at DESC, id DESC LIMIT {limit}"

    def _walk_search(self, limit: int) -> str:
        """By user or by model: those of other statuses are passed over."""
        where = " AND ".join([*self._filters, search.in_states(self._states)])
        column, value = self._indexed
        given = self.arguments.bind(value)
        return f"""SELECT s.video_id AS id, s.created_at AS at FROM taxiway.search s CROSS JOIN LATERAL (
                       SELECT FROM taxiway.videos v WHERE v.id = s.video_id AND {where} OFFSET 0) AS v
                   WHERE s.{column} = {given} AND {self._older_than("s.created_at", "s.video_id")}
                   ORDER BY s.created_at DESC, s.video_id DESC LIMIT {limit}"""

    def walk_for(self, text: str, limit: int) -> str:
        """Words, among the newest rows that pass the filters."""
        words = search.tsquery(text, self.arguments)
        if not self.is_filtered:
            newest = f"""SELECT s.video_id, s.created_at, s.words FROM taxiway.search s
                         WHERE {self._older_than("s.created_at", "s.video_id")}
                         ORDER BY s.created_at DESC, s.video_id DESC LIMIT {WALK_ROWS}"""
        else:
            newest = f"""SELECT k.id AS video_id, k.at AS created_at, s.words
                         FROM ({self.walk(FILTERED_WALK_ROWS)}) AS k CROSS JOIN LATERAL (
                             SELECT words FROM taxiway.search WHERE video_id = k.id OFFSET 0) AS s"""
        return f"""SELECT n.video_id AS id, n.created_at AS at FROM ({newest}) AS n WHERE n.words @@ {words}
                   ORDER BY n.created_at DESC, n.video_id DESC LIMIT {limit}"""

    def by_words(self, text: str, limit: int, since: datetime | None = None) -> str:
        """Words, by their index. MATERIALIZED: or the planner might walk by age, because of the LIMIT."""
        return self._that_pass(
            f"""WITH found AS MATERIALIZED (
                    SELECT s.video_id, s.created_at FROM taxiway.search s
                    WHERE s.words @@ {search.tsquery(text, self.arguments)} AND {self._between(since)}
                ) SELECT * FROM found ORDER BY created_at DESC, video_id DESC""",
            limit,
        )

    def walk_on_for(self, text: str, limit: int, since: datetime) -> str:
        """Words, among all rows that are as new as that. OFFSET 0: or the planner might ask the words' index."""
        return self._that_pass(
            f"""SELECT video_id, created_at FROM (
                    SELECT s.video_id, s.created_at, s.words FROM taxiway.search s WHERE {self._between(since)}
                    ORDER BY s.created_at DESC, s.video_id DESC OFFSET 0
                ) AS n WHERE n.words @@ {search.tsquery(text, self.arguments)}""",
            limit,
        )

    def sample(self, text: str, limit: int) -> str:
        """Of a sample of the table: since when it has a page of videos with these words; no row if it has none.

        `newer`: about how many rows of the whole table are as new; `with_words`: about how many have them.
        """
        in_order = "SELECT video_id, created_at FROM sample WHERE has ORDER BY created_at DESC, video_id DESC"
        return f"""WITH sample AS MATERIALIZED (
                       SELECT s.video_id, s.created_at, s.words @@ {search.tsquery(text, self.arguments)} AS has
                       FROM taxiway.search s TABLESAMPLE SYSTEM (100 * {_SHARE}) WHERE {self._between(None)}
                   ), page AS MATERIALIZED ({self._that_pass(in_order, limit)}), least AS MATERIALIZED (
                       SELECT min(at) AS since FROM page HAVING count(*) >= {limit}
                   )
                   SELECT since, (SELECT count(*) FROM sample WHERE created_at >= since) / {_SHARE} AS newer,
                          (SELECT count(*) FROM sample WHERE has) / {_SHARE} AS with_words
                   FROM least"""

    def _between(self, since: datetime | None) -> str:
        """Of the rows `s`, those older than the page before this one, and no older than `since`."""
        older = self._older_than("s.created_at", "s.video_id")
        return older if since is None else f"{older} AND s.created_at >= {self.arguments.bind(since)}::timestamptz"

    def _that_pass(self, found: str, limit: int) -> str:
        """Of rows that were found, in order, the first whose videos pass the filters."""
        where = " AND ".join([*self._filters, search.in_states(self._states)])
        return f"""SELECT f.video_id AS id, f.created_at AS at FROM ({found}) AS f CROSS JOIN LATERAL (
                       SELECT FROM taxiway.videos v WHERE v.id = f.video_id AND {where} OFFSET 0
                   ) AS v
                   ORDER BY f.created_at DESC, f.video_id DESC LIMIT {limit}"""

    async def run(self, database: Database, keys: str, limit: int) -> Page:
        """The page of these keys, which are asked for with one more than there is room for."""
        sql = f"""WITH page AS MATERIALIZED ({keys})
                  SELECT {COLUMNS}, page.at FROM page JOIN taxiway.videos v ON v.id = page.id
                  ORDER BY page.at DESC, page.id DESC"""
        rows = await database.fetch(sql, *self.arguments)
        more = len(rows) > limit
        videos = [Video.from_row(row) for row in rows[:limit]]
        if not more:
            return Page(videos, None)
        last = rows[limit - 1]
        at: datetime = last["at"]
        return Page(videos, (at if at.tzinfo else at.replace(tzinfo=UTC), last["id"]))
