"""Whether a link still fits its table: renames, drops, changes of type and words that left are distinguished. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from service.link_mapping import WRITTEN_KEYS, Column, Link
from service.store.link_catalogue import FoundColumn, FoundTable

TEXTS = frozenset({"text", "varchar", "bpchar", "citext", "name"})
MOMENTS = frozenset({"timestamptz", "timestamp"})
NUMBERS = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8"})
FLOATS = frozenset({"numeric", "float4", "float8"})
KINDS = frozenset({"r", "p", "v"})  # table, partitioned table, view

# What a column must be able to hold, by key; None: anything that PostgreSQL writes as text.
FITTING: dict[str, frozenset[str] | None] = {
    "id": None,
    "user_id": None,
    "prompt": TEXTS,
    "image": TEXTS,
    "model": None,
    "ratio": None,
    "duration": NUMBERS | TEXTS,
    "max_credits": NUMBERS | TEXTS,
    "input": frozenset({"json", "jsonb"}) | TEXTS,
    "created_at": MOMENTS,
    "status": TEXTS,  # or an enum
    "runway_video_id": TEXTS | {"uuid"},
    "error_message": TEXTS,
    "video_url": TEXTS,
    "progress": FLOATS,
    "updated_at": MOMENTS,
}


def fits(key: str, column: FoundColumn) -> bool:
    """Whether the column's type can hold what the key means."""
    if column.is_array:
        return False
    allowed = FITTING[key]
    return allowed is None or column.base in allowed or (key == "status" and column.labels is not None)


@dataclass(frozen=True)
class Reason:
    """Why a link does not fit: what happened, to which column, and the command or statement that fixes it."""

    kind: str  # table_gone, table_renamed, kind, renamed, dropped, type, words, rights
    key: str | None  # of the mapping
    column: str | None
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.message}: {self.fix}"


@dataclass(frozen=True)
class Fit:
    """What the catalogue says of a link. Without reasons, `columns` are those to build statements with."""

    reasons: tuple[Reason, ...]
    oid: int | None = None
    columns: dict[str, Column] = field(default_factory=dict)  # by key, and `id`
    is_secured: bool = False


def judge(link: Link, table: FoundTable | None) -> Fit:
    """What no longer fits, and the columns as they are now. The name of a column counts first, then its number."""
    name = link.mapping.table
    if table is None:
        gone = f"the linked table {link.name} is gone"
        return Fit((Reason("table_gone", None, None, gone, f"restore it, or `taxiway unlink {_shell(name)}`"),))
    if (table.schema_name, table.table_name) != (link.schema_name, link.table_name):
        now = table.sql_name
        message = f"the linked table {link.name} is called {now} now"
        return Fit((Reason("table_renamed", None, None, message, f"`taxiway link {_shell(now)}`"),), table.oid)
    if table.kind not in KINDS:
        message = f"{link.name} is no longer a table or a view"
        return Fit((Reason("kind", None, None, message, f"`taxiway unlink {_shell(name)}`"),), table.oid)
    reasons: list[Reason] = []
    columns: dict[str, Column] = {}
    for key, known in link.columns.items():
        column = table.named(known.name)
        reason = _reason(link, table, key, known, column)
        if reason is not None:
            reasons.append(reason)
        elif column is not None:
            columns[key] = Column(column.name, column.attnum, column.type)
    return Fit(tuple(reasons), table.oid, columns, table.is_secured)


def _reason(link: Link, table: FoundTable, key: str, known: Column, column: FoundColumn | None) -> Reason | None:
    name, command = link.name, f"taxiway link {_shell(link.mapping.table)}"
    if column is None:
        moved = table.numbered(known.attnum) if table.oid == link.table_oid else None
        if moved is not None:
            message = f"link {name}: the column {known.name} ({key}) is called {moved.name} now"
            return Reason("renamed", key, known.name, message, f"`{command} --column {_shell(f'{key}={moved.name}')}`")
        message = f"link {name}: the column {known.name} ({key}) was dropped"
        optional = key not in ("id", "prompt", "status")
        without = f", or go on without it: `{command} --column {key}=`" if optional else ""
        return Reason("dropped", key, known.name, message, f"name another: `{command} --column {key}=NAME`{without}")
    if not fits(key, column):
        message = f"link {name}: the column {known.name} ({key}) is {column.type} now, was {known.type}"
        fix = f"change it back, or name another: `{command} --column {key}=NAME`"
        return Reason("type", key, known.name, message, fix)
    if key in WRITTEN_KEYS and column.is_generated:
        message = f"link {name}: the column {known.name} ({key}) is generated now, and cannot be written"
        return Reason(
            "type", key, known.name, message, f"name another, or go on without it: `{command} --column {key}=`"
        )
    if key == "status" and column.labels is not None:
        lost = sorted(link.mapping.words.known - set(column.labels))
        if lost:
            message = f"link {name}: {column.type} of the column {known.name} has no {_listed(lost)} any more"
            fix = (
                f"name the words that it has ({_listed(column.labels)}): `{command} --word {_role(link, lost[0])}=WORD`"
            )
            return Reason("words", key, known.name, message, fix)
    return _rights(link, key, column)


def _rights(link: Link, key: str, column: FoundColumn) -> Reason | None:
    lacking = []
    if not column.readable:
        lacking.append("SELECT")
    if key in WRITTEN_KEYS and not column.writable:
        lacking.append("UPDATE")
    if not lacking:
        return None
    rights = ", ".join(f"{right} ({column.sql_name})" for right in lacking)
    message = f"link {link.name}: Taxiway's role lacks {' and '.join(lacking)} on the column {column.name} ({key})"
    return Reason(
        "rights", key, column.name, message, f"GRANT {rights} ON {link.mapping.table} TO the role of DATABASE_URL"
    )


def _role(link: Link, word: str) -> str:
    words = link.mapping.words
    if word in words.queued:
        return "queued"
    for role in ("processing", "completed", "failed", "cancelled"):
        if getattr(words, role) == word:
            return role
    return "cancel"


def _listed(words: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _shell(word: str) -> str:
    return shlex.quote(word)
