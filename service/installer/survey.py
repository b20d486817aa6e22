"""What a link would mean for the rows that are there: counts, prices, examples, and what a look for new rows costs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg

from service.errors import InvalidRequest
from service.installer.inspect import Connection, LinkRefused, Table
from service.installer.proposal import literal
from service.link_mapping import Mapping
from service.link_requests import request_of
from service.runway.catalogue import Request
from service.settings import Settings

GROUPS = 200  # different requests among queued rows; the rest is priced like these
EXAMPLES = 3
STUCK_SHOWN = 20
REQUEST_KEYS = ("prompt", "image", "model", "ratio", "duration", "max_credits", "input")  # what a row asks for
STAND_IN_IMAGE = "https://example.com/image.png"
PROMPT_CHARACTERS = 1000
INDEX_ROWS = 50_000  # below that, a look without an index is cheap
LOOK_SECONDS, LOOK_SHARE = 10.0, 10  # without an index: not more often than this, and a tenth of the time at most

# How many rows have which status: those that are Taxiway's, and those that the filter leaves alone.
COUNTS = """
    SELECT {status}::text AS word, count(*) FILTER (WHERE {ours}) AS ours,
           count(*) FILTER (WHERE ({ours}) IS NOT TRUE) AS others
      FROM {table} a GROUP BY 1 ORDER BY 2 DESC, 1
"""
# That Taxiway knows this row as it stands: under way, or with the very word that it has.
KNOWN = """EXISTS (
        SELECT FROM taxiway.rows r LEFT JOIN taxiway.videos v ON v.id = r.video_id
         WHERE r.link_id = $1::integer AND r.app_id = a.{id}::text AND r.video_id IS NOT NULL
           AND (r.app_word = a.{status}::text OR v.status IN ('queued', 'processing')))"""
# That the row is a video: whatever it says, Taxiway knows what it asked Runway for.
IS_VIDEO = """EXISTS (
        SELECT FROM taxiway.rows r
         WHERE r.link_id = $1::integer AND r.app_id = a.{id}::text AND r.video_id IS NOT NULL)"""
# Queued rows that Taxiway does not know, by the request that they make.
QUEUED = """
    SELECT {image} AS has_image, {prompt} AS prompt_length, {model} AS model, {ratio} AS ratio, {duration} AS duration,
           {max_credits} AS max_credits, {input} AS input, count(*) AS rows
      FROM {table} a WHERE {queued} AND NOT {known}
     GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 8 DESC
"""
# Since when they wait.
SINCE = "SELECT min({moment}) FROM {table} a WHERE {queued} AND NOT {known}"
# Rows at processing that Taxiway does not know, the oldest first.
STUCK = """
    SELECT a.{id}::text AS id, {moment} AS since, {task} AS task_id, count(*) OVER () AS rows,
           count({task}) OVER () AS with_task
      FROM {table} a WHERE {processing} AND NOT {is_video}
     ORDER BY 2 NULLS FIRST, 1 LIMIT {limit}
"""
# The newest rows, queued ones first, whole.
NEWEST = """
    SELECT a.{id}::text AS id, a.{status}::text AS word, {columns}
      FROM {table} a WHERE {ours} ORDER BY ({queued}) DESC NULLS LAST, {newest} DESC NULLS LAST LIMIT {limit}
"""
# A look for new rows, as a tick does it.
LOOK = "SELECT count(*) FROM {table} a WHERE {queued} AND NOT {known}"


@dataclass(frozen=True)
class Example:
    """A row as the request that it would become, or why it would be none."""

    id: str
    word: str | None
    request: Request | None
    refusal: str | None


@dataclass(frozen=True)
class Queued:
    """Queued rows that Taxiway does not know yet. `credits`: the most that they may cost."""

    rows: int = 0
    since: datetime | None = None
    credits: Decimal = Decimal(0)
    refused: int = 0
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True)
class StuckRow:
    """A row at processing that Taxiway did not put there."""

    id: str
    since: datetime | None
    task_id: str | None


@dataclass(frozen=True)
class Stuck:
    """All of them, and the oldest few."""

    rows: int = 0
    with_task: int = 0
    oldest: tuple[StuckRow, ...] = ()


@dataclass(frozen=True)
class Look:
    """How new rows are found: how long a look takes, by which index, and how long a row may wait for one."""

    seconds: float
    index: str | None
    wait_seconds: float | None  # None: each tick
    offers_index: bool


@dataclass(frozen=True)
class Survey:
    """All of it. `words`: (word, Taxiway's rows, rows left alone)."""

    words: tuple[tuple[str | None, int, int], ...]
    queued: Queued
    stuck: Stuck
    examples: tuple[Example, ...]
    look: Look
    parts: dict[str, str] = field(repr=False, default_factory=dict)

    @property
    def rows(self) -> int:
        """All rows of the table that this role sees."""
        return sum(ours + others for _, ours, others in self.words)

    @property
    def others(self) -> int:
        """Rows that the filter leaves alone."""
        return sum(others for _, _, others in self.words)


def parts_of(table: Table, mapping: Mapping) -> dict[str, str]:
    """Pieces of SQL over the app's row `a`: names quoted, words as literals, a filter that may end in a comment."""
    words = mapping.words
    name = {key: table.columns[column].sql_name for key, column in mapping.columns.items()}
    ours = f"({mapping.filter}\n)" if mapping.filter else "true"
    status, key = name["status"], table.columns[mapping.id].sql_name
    times = [f"a.{name[k]}" for k in ("updated_at", "created_at") if k in name]
    zoned = [
        f"{t} AT TIME ZONE {literal(mapping.zone)}" if mapping.zone and _naive(table, mapping, t) else t for t in times
    ]
    processing = f"a.{status} = {literal(words.processing)} AND {ours}" if words.processing else "false"
    task = f"NULLIF(btrim(a.{name['runway_video_id']}::text), '')" if "runway_video_id" in name else "NULL::text"
    return {
        "table": table.sql_name,
        "id": key,
        "status": status,
        "ours": ours,
        "queued": f"a.{status} IN ({', '.join(map(literal, words.queued))}) AND {ours}",
        "processing": processing,
        "task": task,
        "moment": f"COALESCE({', '.join(zoned)})" if zoned else "NULL::timestamptz",
        "created": zoned[-1] if "created_at" in name else "NULL::timestamptz",
        "newest": f"a.{name['created_at']}" if "created_at" in name else f"a.{key}",
        "is_video": IS_VIDEO.format(id=key),
        "known": KNOWN.format(id=key, status=status),
    }


def _naive(table: Table, mapping: Mapping, term: str) -> bool:
    return any(
        table.columns[column].base == "timestamp" and term == f"a.{table.columns[column].sql_name}"
        for column in mapping.columns.values()
    )


async def survey(
    connection: Connection, table: Table, mapping: Mapping, link_id: int | None, settings: Settings
) -> Survey:
    """Ask all of it; for a transaction that only reads. Raises LinkRefused for a filter or a zone that is none."""
    parts = parts_of(table, mapping)
    try:
        counts = await connection.fetch(COUNTS.format(**parts))
    except (asyncpg.SyntaxOrAccessError, asyncpg.DataError) as exc:
        raise LinkRefused(f"PostgreSQL refuses the condition {mapping.filter}: {exc}") from exc
    if mapping.zone:
        await _check_zone(connection, mapping.zone)
    look = await _look(connection, table, mapping, parts, link_id, sum(row["ours"] + row["others"] for row in counts))
    return Survey(
        words=tuple((row["word"], row["ours"], row["others"]) for row in counts),
        queued=await _queued(connection, table, mapping, parts, link_id, settings),
        stuck=await _stuck(connection, parts, link_id),
        examples=await _examples(connection, table, mapping, parts, settings),
        look=look,
        parts=parts,
    )


async def _check_zone(connection: Connection, zone: str) -> None:
    try:
        await connection.fetchval("SELECT taxiway.now() AT TIME ZONE $1", zone)
    except asyncpg.DataError as exc:
        raise LinkRefused(f"--zone {zone}: {exc}") from exc


async def _queued(
    connection: Connection,
    table: Table,
    mapping: Mapping,
    parts: Map[str, str],
    link_id: int | None,
    settings: Settings,
) -> Queued:
    name = {key: f"a.{table.columns[column].sql_name}" for key, column in mapping.columns.items()}
    shapes = {
        key: f"{name[key]}::text" if key in name else "NULL::text"
        for key in ("model", "ratio", "duration", "max_credits", "input")
    }
    prompt = f"LEAST(char_length(btrim({name['prompt']}::text)), {PROMPT_CHARACTERS + 1})"
    image = f"COALESCE({name['image']}::text ~ '\\S', false)" if "image" in name else "false"
    # By length only as far as it matters: empty, fitting, too long.
    prompt = f"CASE WHEN COALESCE({prompt}, 0) = 0 THEN 0 WHEN {prompt} > {PROMPT_CHARACTERS} THEN 1001 ELSE 1 END"
    groups = await connection.fetch(QUEUED.format(**parts, **shapes, image=image, prompt=prompt), link_id)
    rows = sum(group["rows"] for group in groups)
    if not rows:
        return Queued()
    since = await connection.fetchval(SINCE.format(**{**parts, "moment": parts["created"]}), link_id)
    credits, refused, refusals, priced = Decimal(0), 0, [], 0
    for group in groups[:GROUPS]:
        priced += group["rows"]
        row = {key: group[key] for key in shapes} | {"prompt": "x" * group["prompt_length"]}
        try:
            request = request_of(row | ({"image": STAND_IN_IMAGE} if group["has_image"] else {}), settings)
            credits += request.quoted_credits * group["rows"]
        except InvalidRequest as exc:
            refused += group["rows"]
            refusals.append(exc.detail)
    share = Decimal(rows) / priced
    return Queued(rows, since, credits * share, int(refused * share), tuple(dict.fromkeys(refusals)))


async def _stuck(connection: Connection, parts: Map[str, str], link_id: int | None) -> Stuck:
    rows = await connection.fetch(STUCK.format(**parts, limit=STUCK_SHOWN), link_id)
    if not rows:
        return Stuck()
    oldest = tuple(StuckRow(row["id"], row["since"], row["task_id"]) for row in rows)
    return Stuck(rows[0]["rows"], rows[0]["with_task"], oldest)


async def _examples(
    connection: Connection, table: Table, mapping: Mapping, parts: Map[str, str], settings: Settings
) -> tuple[Example, ...]:
    keys = [key for key in REQUEST_KEYS if key in mapping.columns]
    columns = ", ".join(f"a.{table.columns[mapping.columns[key]].sql_name}::text AS {key}" for key in keys)
    found = []
    for row in await connection.fetch(NEWEST.format(**parts, columns=columns, limit=EXAMPLES)):
        try:
            found.append(Example(row["id"], row["word"], request_of(dict(row), settings), None))
        except InvalidRequest as exc:
            found.append(Example(row["id"], row["word"], None, exc.detail))
    return tuple(found)


async def _look(
    connection: Connection, table: Table, mapping: Mapping, parts: Map[str, str], link_id: int | None, rows: int
) -> Look:
    sql = LOOK.format(**parts)
    explained = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", link_id))
    started = time.monotonic()
    await connection.fetchval(sql, link_id)
    seconds = time.monotonic() - started
    helping = helping_index(table, mapping)
    index = helping or next((name for name in _index_names(explained) if name in _telling(table, mapping)), None)
    return Look(seconds, index, None if index else wait_seconds(seconds), offers_index(rows, index))


def helping_index(table: Table, mapping: Mapping) -> str | None:
    """What lets a look pass over a million finished rows: an index that begins with the time or the status.

    A key that grows, an identity or a sequence, serves as well as the time does.
    """
    leading = {mapping.columns[key] for key in ("created_at", "status") if key in mapping.columns}
    for index in table.indexes:
        if (
            index.keys
            and index.keys[0] in leading
            and index.method in ("btree", "brin")
            and index.uses == set(index.keys)
        ):
            return index.name
    key = table.columns[mapping.id]
    if key.base in ("int8", "int4") and (key.is_identity or "nextval(" in (key.default or "")):
        return f"{mapping.id}, which grows"
    return None


def _telling(table: Table, mapping: Mapping) -> set[str]:
    """Indexes that say something of the status or the time, by their bare names."""
    columns = {mapping.columns[key] for key in ("created_at", "status") if key in mapping.columns}
    return {index.name.rpartition(".")[2].strip('"') for index in table.indexes if index.uses & columns}


def wait_seconds(look_seconds: float) -> float:
    """How long a new row may wait for a look, where no index helps."""
    return max(LOOK_SECONDS, LOOK_SHARE * look_seconds)


def offers_index(rows: int, index: str | None) -> bool:
    """Whether an index is worth it: above 50,000 rows, and where none helps."""
    return index is None and rows > INDEX_ROWS


def _index_names(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for each in node for name in _index_names(each)]
    if not isinstance(node, dict):
        return []
    own = [node["Index Name"]] if "Index Name" in node else []
    return own + [name for value in node.values() if isinstance(value, (list, dict)) for name in _index_names(value)]
