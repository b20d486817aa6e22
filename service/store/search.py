"""Which videos are meant: filters, ids, and words in prompts and metadata, as conditions of a statement."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from service.store.database import Database
from service.videos import LISTED

# What is searched of a video; a prompt of any length and any metadata have room in a tsvector (1 MB) this way. To
# PostgreSQL `<b>` is markup and `day/night` a file; to the author of a prompt they are words.
WORDS = """to_tsvector('simple', translate(left(COALESCE({prompt}, ''), 10000), '</>', '   '))
       || CASE WHEN octet_length(v.metadata::text) < 100000
               THEN jsonb_to_tsvector('simple', v.metadata, '["string", "numeric", "boolean"]')
               ELSE '' END"""

SHORTEST_PREFIX = 2  # characters of a last word that may be the beginning of one

KNOWN_STATUSES = tuple(status.value for status in LISTED)  # of what is in lists


@dataclass(frozen=True)
class Wanted:
    """Which videos: every part that is not None must hold. `q`: an id, a Runway id, or else words."""

    statuses: Sequence[str] | None = None
    model: str | None = None
    error_code: str | None = None
    q: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    finished_before: datetime | None = None
    ids: Sequence[UUID] | None = None
    created_by: str | None = None
    group: UUID | None = None
    user_id: str | None = None

    @property
    def states(self) -> list[str]:
        """The statuses that are wanted, each once: names known here, which may stand in a statement as they are."""
        return [name for name in KNOWN_STATUSES if self.statuses is None or name in self.statuses]


class Arguments(list[object]):
    """The arguments of a statement that is put together: each gets its number."""

    def bind(self, value: object) -> str:
        """The placeholder of this value."""
        self.append(value)
        return f"${len(self)}"


# The videos that have or had a task: every task is in the ledger.
OF_TASK = "SELECT video_id AS id FROM taxiway.submissions WHERE task_id = {task}"

# Videos that a text names: by their own id, or by a task that they have or had.
_NAMED = f"""
SELECT $1::uuid AS id WHERE $1::uuid IS NOT NULL AND EXISTS (SELECT FROM taxiway.videos WHERE id = $1)
UNION {OF_TASK.format(task="$2")}
LIMIT 100
"""


async def named(database: Database, text: str) -> list[UUID]:
    """The videos whose id, or whose task's id, this text is."""
    try:
        video_id = UUID(text)
    except ValueError:
        video_id = None
    return [row["id"] for row in await database.fetch(_NAMED, video_id, text)]


# Videos whose ids lie between two, by the primary keys; of a video that was deleted, the ledger still has the id.
_BETWEEN = """
(SELECT id FROM taxiway.videos WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT 4)
UNION
(SELECT DISTINCT video_id AS id FROM taxiway.submissions WHERE video_id BETWEEN $1 AND $2 ORDER BY video_id LIMIT 4)
ORDER BY id
"""


async def beginning_with(database: Database, digits: str) -> list[UUID]:
    """The first few videos whose ids begin with these hexadecimal digits, at most 8."""
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    return [row["id"] for row in await database.fetch(_BETWEEN, first, last)]


def tsquery(text: str, arguments: Arguments) -> str:
    """The words of `text` as SQL of a tsquery, evaluated once; the last one may be the beginning of a word."""
    if plain := re.sub("[</>]+", " ", text).strip() if re.search("[</>]", text) else "":
        return f"(SELECT {_websearch(text, arguments)} || {_websearch(plain, arguments)})"
    head, _, last = text.rpartition(" ")
    before = head.split()
    is_operand = last.lower() != "or" and not (before and before[-1].lower() == "or")
    if '"' in text or len(last) < SHORTEST_PREFIX or not last.isalnum() or not is_operand:
        return f"(SELECT {_websearch(text, arguments)})"
    prefix = f"to_tsquery('simple', {arguments.bind(f'{last}:*')})"
    if not before:
        return f"(SELECT {prefix})"
    return f"(SELECT {_websearch(head, arguments)} && {prefix})"


def _websearch(text: str, arguments: Arguments) -> str:
    return f"websearch_to_tsquery('simple', {arguments.bind(text)})"


def conditions(wanted: Wanted, arguments: Arguments) -> list[str]:
    """What must hold of a video `v`, but for its status and `q`."""
    found = []
    if wanted.ids is not None:
        found.append(among(wanted.ids, arguments))
    if wanted.model is not None:
        found.append(f"v.model = {arguments.bind(wanted.model)}")
    if wanted.error_code is not None:
        found.append(f"v.error_code = {arguments.bind(wanted.error_code)}")
    if wanted.created_after is not None:
        found.append(f"v.created_at >= {arguments.bind(wanted.created_after)}::timestamptz")
    if wanted.created_before is not None:
        found.append(f"v.created_at < {arguments.bind(wanted.created_before)}::timestamptz")
    if wanted.finished_before is not None:
        found.append(f"v.finished_at < {arguments.bind(wanted.finished_before)}::timestamptz")
    if wanted.group is not None:
        group = arguments.bind(wanted.group)
        found.append(f"v.id = ANY(ARRAY(SELECT g.id FROM taxiway.videos g WHERE g.group_id = {group}))")
    if wanted.user_id is not None:
        found.append(f"v.user_id = {arguments.bind(wanted.user_id)}")
    if wanted.created_by is not None:
        found.append(f"v.created_by = {arguments.bind(wanted.created_by)}")
    return found


def among(ids: Sequence[UUID], arguments: Arguments) -> str:
    """The condition that `v` is one of these."""
    given = arguments.bind(json.dumps([str(one) for one in ids]))
    return f"v.id IN (SELECT CAST(value AS uuid) FROM jsonb_array_elements_text({given}::jsonb))"


def in_states(names: Sequence[str]) -> str:
    """The condition that `v` has one of these statuses, as the indexes by status have it."""
    return f"v.status IN ({', '.join(repr(name) for name in names)})" if names else "false"


async def one_by_one(database: Database, wanted: Wanted, arguments: Arguments) -> list[str]:
    """What must hold of a video `v`, but for its status: for a statement that walks rows, and tries each of them.

    OFFSET 0: the words are looked up for each row, where a planner might first read everything that has them.
    """
    found, text = conditions(wanted, arguments), (wanted.q or "").strip()
    if text and (ids := await named(database, text)):
        found.append(among(ids, arguments))
    elif text:
        words = tsquery(text, arguments)
        found.append(f"EXISTS (SELECT FROM taxiway.search s WHERE s.video_id = v.id AND s.words @@ {words} OFFSET 0)")
    return found
