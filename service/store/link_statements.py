"""SQL on a linked table, put together from what the catalogue says of it. Pure.

Names are quoted. Words of the app stand in the statement as quoted literals, so that PostgreSQL reads each as the type
of its column: a status that is an enum stays comparable, and its index usable. Values are bound, as text or JSON, and
cast to the column's own type; the app's key is always compared in its own type, so that its index is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.store.linked_table import LinkedTable
from service.store.predicates import READY

# Types of pg_catalog that may be named without their length: a cast to varchar(10) would cut a key, and to character
# without one would leave its first letter.
PLAIN = frozenset({
    "text", "varchar", "bpchar", "name", "uuid", "int2", "int4", "int8", "numeric", "float4", "float8",
    "timestamp", "timestamptz", "date", "bool", "json", "jsonb",
})  # fmt: skip
WITH_LENGTH = re.compile(r"character( varying)?\(\d+\)")

# What the mirror shows besides the status, by key: the field of its record.
SHOWN = ("runway_video_id", "error_message", "video_url", "progress")

LOOK_LIMIT = 10_000  # unknown rows of one look: less would read a long queue again and again
WINDOW, WINDOW_KEYS = "10 minutes", 1_000  # a transaction that commits later than this is found by the next sweep
CANDIDATES = 200  # of each model, the next to be claimed


def identifier(name: str) -> str:
    """A name, always quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a literal, whatever standard_conforming_strings says."""
    quoted = "'" + text.replace("'", "''") + "'"
    return f"E{quoted}".replace("\\", "\\\\") if "\\" in text else quoted


def words(values: Sequence[str]) -> str:
    """Words of the app's as a list of literals, to stand in IN (...)."""
    return ", ".join(map(literal, values))


def relation(table: LinkedTable) -> str:
    """Schema and name, quoted."""
    return f"{identifier(table.link.schema_name)}.{identifier(table.link.table_name)}"


def column(table: LinkedTable, key: str) -> str:
    """A mapped column of the app's table `a`."""
    return f"a.{identifier(table.link.columns[key].name)}"


def cast(table: LinkedTable, key: str) -> str:
    """The type of a column as the target of a cast that neither cuts nor rounds."""
    base = table.bases[key]
    return f"pg_catalog.{base}" if base in PLAIN else table.link.columns[key].type


def _text(table: LinkedTable, key: str) -> str:
    """A mapped column as text, or NULL."""
    return f"{column(table, key)}::text" if key in table.link.columns else "NULL::text"


def _moment(table: LinkedTable, key: str) -> str:
    """A column with a time, as one with a zone."""
    return _zoned(table, key, column(table, key))


def _zoned(table: LinkedTable, key: str, value: str) -> str:
    """A value of that column's type, as a time with a zone."""
    if table.bases[key] == "timestamp":
        return f"({value} AT TIME ZONE {literal(table.link.mapping.zone or 'UTC')})"
    return value


def _size(table: LinkedTable, key: str) -> str:
    """Bytes of a text, found without reading it."""
    if key not in table.link.columns:
        return "0"
    if table.bases[key] in PLAIN - {"json", "jsonb"}:
        return f"COALESCE(octet_length({column(table, key)}), 0)"
    return f"COALESCE(4 * pg_column_size({column(table, key)}), 0)"


def _is_queued(table: LinkedTable) -> str:
    """That a row is Taxiway's and says queued. In a SELECT from `a` alone: the filter names its columns plainly."""
    mapping = table.link.mapping
    found = f"{column(table, 'status')} IN ({words(mapping.words.queued)})"
    return f"{found} AND ({mapping.filter}\n)" if mapping.filter else found


def _ids(table: LinkedTable, source: str) -> str:
    """That the key of `a` is one of the texts that `source` selects as `app_id`, in its own type."""
    return f"{column(table, 'id')} = ANY(ARRAY(SELECT app_id::{cast(table, 'id')} FROM ({source}) AS ids))"


_GIVEN_IDS = "SELECT value AS app_id FROM jsonb_array_elements_text($1::jsonb)"


def look(table: LinkedTable, *, window: bool) -> str:
    """Rows that say queued and that Taxiway does not know as queued: their key and size, and the newest of all rows.

    `window`: only what is newer than $1, less ten minutes or a thousand keys. A row that is known may say queued again
    once its video has ended. Without an index by status this reads every row, but only its narrow columns.
    """
    key, newest, since = table.window_key, "NULL::text", ""
    if key == "created_at":
        newest = (
            f"(SELECT LEAST({_zoned(table, key, f'max({column(table, key)})')}, taxiway.now())::text "
            f"FROM {relation(table)} a)"
        )
        bound = f"($1::text::timestamptz - interval '{WINDOW}')"
        if table.bases[key] == "timestamp":
            bound = f"({bound} AT TIME ZONE {literal(table.link.mapping.zone or 'UTC')})"
        since = f"AND {column(table, key)} >= {bound}"
    elif key == "id":
        newest = f"(SELECT max({column(table, key)})::text FROM {relation(table)} a)"
        since = f"AND {column(table, key)} >= $1::text::bigint - {WINDOW_KEYS}"
    sizes = " + ".join(_size(table, key) for key in ("prompt", "image", "input"))
    return f"""
        SELECT n.newest, u.app_id, u.size, u.is_known
        FROM (SELECT {newest} AS newest) AS n LEFT JOIN (
            SELECT a.app_id, a.size, r.app_id IS NOT NULL AS is_known
            FROM (SELECT {_text(table, "id")} AS app_id, {_text(table, "status")} AS word, {sizes} AS size
                  FROM {relation(table)} a WHERE {_is_queued(table)} {since if window else ""}) AS a
            LEFT JOIN taxiway.rows r ON r.link_id = {table.id} AND r.app_id = a.app_id
            WHERE r.app_id IS NULL OR r.app_word IS DISTINCT FROM a.word AND NOT EXISTS (
                SELECT FROM taxiway.videos v WHERE v.id = r.video_id AND v.status IN ('queued', 'processing'))
            LIMIT {LOOK_LIMIT}) AS u ON true
    """


def nothing(table: LinkedTable) -> str:
    """No row of the table, as soon as it may be read."""
    return f"SELECT FROM {relation(table)} LIMIT 0"


def read(table: LinkedTable) -> str:
    """The mapped columns of rows that still say queued, by their keys ($1: JSON of texts), each as text."""
    keys = ("prompt", "image", "model", "ratio", "duration", "max_credits", "user_id", "input")
    columns = ", ".join(f"{_text(table, key)} AS {key}" for key in keys)
    created = _moment(table, "created_at") if "created_at" in table.link.columns else "NULL::timestamptz"
    return f"""
        SELECT {_text(table, "id")} AS app_id, {_text(table, "status")} AS word, {columns}, {created} AS created_at
        FROM {relation(table)} a WHERE {_ids(table, _GIVEN_IDS)} AND {_is_queued(table)}
    """


def still_queued(table: LinkedTable) -> str:
    """The word of each of these rows ($1: JSON of keys) that says queued at this moment."""
    return f"""
        SELECT {_text(table, "id")} AS app_id, {_text(table, "status")} AS word
        FROM {relation(table)} a WHERE {_ids(table, _GIVEN_IDS)} AND {_is_queued(table)}
    """


def _cancelled(table: LinkedTable) -> str:
    """That the word of `a` asks to cancel. Never true where the mapping has no such word."""
    cancel = table.link.mapping.words.cancel
    return f"a.status IN ({words(cancel)})" if cancel else "false"


def recall(table: LinkedTable) -> str:
    """Of the videos under way, and of the next to be claimed, those whose row asks to cancel, is gone, or is back.

    With a sweep, what rows say that were left alone is read in the same statement.
    """
    left_alone = _left_alone(table) if table.has_left_alone and table.is_swept else ""
    return f"""
        WITH {left_alone} mine AS MATERIALIZED (
            SELECT v.id FROM taxiway.videos v WHERE v.status = 'processing' AND v.link_id = {table.id}
            UNION ALL
            SELECT c.id FROM taxiway.models m CROSS JOIN LATERAL (
                SELECT v.id, v.link_id FROM taxiway.videos v
                WHERE {READY} AND v.model = m.model
                ORDER BY v.claim_order, v.run_after, v.id LIMIT {CANDIDATES}) AS c
            WHERE c.link_id = {table.id}
        ), row AS MATERIALIZED (
            SELECT r.app_id, r.video_id, r.missing_since FROM taxiway.rows r
            WHERE r.video_id = ANY(ARRAY(SELECT id FROM mine)) AND r.link_id = {table.id}
        )
        {_STATE.format(**_row_of(table), cancelled=_cancelled(table))}
        WHERE state.is_cancelled OR NOT state.is_found OR state.missing_since IS NOT NULL
    """


def _left_alone(table: LinkedTable) -> str:
    """Enter the words of rows that were left alone and no longer say queued: queued again, they are taken.

    A row that is not found keeps its word: it may only be hidden.
    """
    queued = words(table.link.mapping.words.queued)
    parts = _row_of(table)
    return f"""changed AS (
            UPDATE taxiway.rows o SET app_word = n.word FROM (
                SELECT r.app_id, a.status::text AS word FROM taxiway.rows r JOIN {parts["rows"]} AS a ON {parts["on"]}
                WHERE r.video_id IS NULL AND r.link_id = {table.id} AND r.app_word IN ({queued})
                  AND a.status NOT IN ({queued})
                ORDER BY r.app_id FOR NO KEY UPDATE OF r SKIP LOCKED) AS n
            WHERE o.link_id = {table.id} AND o.app_id = n.app_id
        ),"""


def states(table: LinkedTable) -> str:
    """How the rows of these videos stand ($1: JSON of their ids)."""
    return f"""
        WITH row AS MATERIALIZED (
            SELECT r.app_id, r.video_id, r.missing_since FROM taxiway.rows r
            WHERE r.video_id = ANY(ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb)))
        )
        {_STATE.format(**_row_of(table), cancelled=_cancelled(table))}
    """


_STATE = """SELECT * FROM (
            SELECT r.video_id, r.missing_since, a.key IS NOT NULL AS is_found,
                   COALESCE({cancelled}, false) AS is_cancelled, count(*) OVER () AS looked_at
            FROM row r LEFT JOIN {rows} AS a ON {on}) AS state"""


def _row_of(table: LinkedTable) -> dict[str, str]:
    """Key and status of the app's row that `r` names, and the condition on which to join it.

    Each by its unique index, so that the time grows with what is asked for, whatever the statistics say: right after
    many rows were inserted there are none. Not every view lets a key through to an index, so it is read once.
    """
    own = f"SELECT {column(table, 'id')} AS key, {column(table, 'status')} AS status FROM {relation(table)} a"
    same = f"r.app_id::{cast(table, 'id')}"
    if table.kind == "v":
        return {"rows": f"({own})", "on": f"a.key = {same}"}
    return {"rows": f"LATERAL ({own} WHERE {column(table, 'id')} = {same} LIMIT 1)", "on": "true"}


def gate(table: LinkedTable) -> str:
    """Write the word for processing into one row ($1: its key) that says queued. One row, or nothing was written."""
    processing = table.link.mapping.words.processing
    assert processing is not None  # noqa: S101  # without this word the link has no gate
    stamp = f", {_updated(table)}" if "updated_at" in table.link.columns else ""
    status = identifier(table.link.columns["status"].name)
    return f"""
        UPDATE {relation(table)} a SET {status} = {literal(processing)}{stamp}
        WHERE {column(table, "id")} = $1::text::{cast(table, "id")}
          AND {column(table, "status")} IN ({words(table.link.mapping.words.queued)})
        RETURNING {_text(table, "status")} AS word
    """


def requeue(table: LinkedTable) -> str:
    """Put one row ($1: its key) back in the queue that still has the word $2 of an end."""
    status = identifier(table.link.columns["status"].name)
    return f"""
        UPDATE {relation(table)} a SET {status} = {literal(table.link.mapping.words.queued[0])}
        WHERE {column(table, "id")} = $1::text::{cast(table, "id")} AND {_text(table, "status")} = $2::text
        RETURNING {_text(table, "status")}
    """


def word_of(table: LinkedTable) -> str:
    """The status of one row ($1: its key), as text."""
    key = cast(table, "id")
    return f"SELECT {_text(table, 'status')} FROM {relation(table)} a WHERE {column(table, 'id')} = $1::text::{key}"


def one(table: LinkedTable) -> str:
    """Key and status of one row ($1: its key), as text."""
    return f"""
        SELECT {_text(table, "id")} AS app_id, {_text(table, "status")} AS word
        FROM {relation(table)} a WHERE {column(table, "id")} = $1::text::{cast(table, "id")}
    """


def _updated(table: LinkedTable) -> str:
    # It runs as the role of the app's, which may not use the schema taxiway: PostgreSQL's own function.
    name = identifier(table.link.columns["updated_at"].name)
    if table.bases["updated_at"] == "timestamp":
        return f"{name} = pg_catalog.now() AT TIME ZONE {literal(table.link.mapping.zone or 'UTC')}"
    return f"{name} = pg_catalog.now()"


_GIVEN = """WITH given AS (
            SELECT * FROM jsonb_to_recordset($1::jsonb)
                AS g(app_id text, word text, runway_video_id text, error_message text, video_url text, progress real)
        )"""


def _shown(table: LinkedTable) -> list[str]:
    return [key for key in SHOWN if key in table.link.columns]


def _value(table: LinkedTable, key: str) -> str:
    """A value of `given` as the column takes it. A message is cut to its length; an id and an address never are."""
    own = table.link.columns[key].type
    if key == "error_message" and WITH_LENGTH.fullmatch(own):
        return f"g.{key}::{own}"
    return f"g.{key}::{cast(table, key)}"


def hold(table: LinkedTable, *, alone: bool = False) -> str:
    """Lock the app's rows that are to be written ($1: records): their word, and whether they show all else already.

    What another transaction holds is passed over; `alone`: it is an error. A view is not locked: not every one can be.
    """
    shown = _shown(table)
    own = ", ".join(column(table, key) for key in shown)
    wanted = ", ".join(_value(table, key) for key in shown)
    same = f"({own}) IS NOT DISTINCT FROM ({wanted})" if len(shown) > 1 else "true"
    if len(shown) == 1:
        same = f"{own} IS NOT DISTINCT FROM {wanted}"
    lock = "" if table.kind == "v" else f"FOR NO KEY UPDATE OF a {'NOWAIT' if alone else 'SKIP LOCKED'}"
    return f"""
        {_GIVEN}
        SELECT g.app_id, {_text(table, "status")} AS word, {same} AS is_same
        FROM given g JOIN {relation(table)} a ON {column(table, "id")} = g.app_id::{cast(table, "id")} {lock}
    """


def present(table: LinkedTable) -> str:
    """Which of these rows ($1: JSON of keys) are there, locked or not."""
    return f"SELECT {_text(table, 'id')} AS app_id FROM {relation(table)} a WHERE {_ids(table, _GIVEN_IDS)}"


def show(table: LinkedTable, *, status: bool) -> str:
    """Write what is shown into the app's rows ($1: records); `status`: their word as well. The rows that were written.

    A status that does not change is not even named, so that a trigger on it does not run.
    """
    changes = [f"{identifier(table.link.columns[key].name)} = {_value(table, key)}" for key in _shown(table)]
    if status:
        name = identifier(table.link.columns["status"].name)
        changes.append(f"{name} = g.word::{cast(table, 'status')}")
    if "updated_at" in table.link.columns:
        changes.append(_updated(table))
    return f"""
        {_GIVEN}
        UPDATE {relation(table)} a SET {", ".join(changes)}
        FROM given g
        WHERE {column(table, "id")} = g.app_id::{cast(table, "id")}
        RETURNING g.app_id, {_text(table, "status")} AS word
    """


def _died(table: LinkedTable) -> str | None:
    """That the app's own code set a row to processing $1 seconds ago or longer, and no task came of it."""
    word = table.link.mapping.words.processing
    since = "updated_at" if "updated_at" in table.link.columns else "created_at"
    if word is None or since not in table.link.columns:
        return None
    found = f"{column(table, 'status')} IN ({literal(word)})"
    found += f" AND {_moment(table, since)} < taxiway.now() - make_interval(secs => $1)"
    if "runway_video_id" in table.link.columns:
        found += f" AND COALESCE(btrim({_text(table, 'runway_video_id')}), '') = ''"
    mapping = table.link.mapping
    return f"{found} AND ({mapping.filter}\n)" if mapping.filter else found


def died(table: LinkedTable, *, count: bool = False) -> str | None:
    """Rows at processing that Taxiway does not know and no code of the app works on; `count`: only how many.

    None where the table has no word for it, or no time by which to say how long it has been.
    """
    condition = _died(table)
    if condition is None:
        return None
    since = _moment(table, "updated_at" if "updated_at" in table.link.columns else "created_at")
    keys = ("prompt", "image", "model", "ratio", "duration", "max_credits", "user_id", "input")
    columns = "" if count else ", " + ", ".join(f"{_text(table, key)} AS {key}" for key in keys)
    created = _moment(table, "created_at") if "created_at" in table.link.columns else since
    rows = f"""
        FROM (SELECT {_text(table, "id")} AS app_id, {_text(table, "status")} AS word, {since} AS since,
                     {created} AS created_at{columns}
              FROM {relation(table)} a WHERE {condition}) AS a
        WHERE NOT EXISTS (SELECT FROM taxiway.rows r WHERE r.link_id = {table.id} AND r.app_id = a.app_id)
    """
    return f"SELECT count(*), min(a.since) {rows}" if count else f"SELECT a.* {rows} LIMIT $2"
