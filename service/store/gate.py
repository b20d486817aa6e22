"""The gate: `processing` is written to the app's row, alone, before the first POST of a round.

So a trigger or a constraint of the app's decides whether its video is sent, and is asked once, however often the video
comes back from a busy Runway. It is sent only if the row was written and the commit was confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import asyncpg

from service.errors import DatabaseUnavailable
from service.store import link_statements
from service.store.database import Database, Raw
from service.store.linked_table import LinkedTable
from service.store.links import TableTrouble, note, trouble

LOCK_MILLISECONDS = 1_000
STATEMENT_MILLISECONDS = 3_000
CLIENT_SECONDS = 5.0  # for each of its statements, if the server says nothing at all
CONNECTIONS = 2  # of one process: an app's slow trigger leaves the others for saving ids

# Errors of the app's own table that may pass by themselves: duplicates (another row holds the place for now), what is
# locked or took too long, what was rolled back; and rights that Taxiway's role lacks, which only the operator can give.
WAITING = frozenset({"23505", "23P01", "42501"})


class Verdict(StrEnum):
    """What the gate came to."""

    OPEN = "open"  # the row says processing: send
    WAITS = "waits"  # not now: try again later
    REFUSED = "refused"  # the app's table does not allow it: the video fails
    CANCELLED = "cancelled"  # the app cancelled it meanwhile


@dataclass(frozen=True)
class Passage:
    """The verdict for one video, with the words that go with it."""

    verdict: Verdict
    words: str = ""
    sqlstate: str | None = None


_BEGIN = f"""
SELECT set_config('lock_timeout', '{LOCK_MILLISECONDS}', true),
       set_config('statement_timeout', '{STATEMENT_MILLISECONDS}', true), set_config('search_path', $1, true),
       set_config('synchronous_commit', 'on', true)
"""
AS_ROLE = "SELECT set_config('role', $1, true)"
# The video's round and its row, held against the mirror, intake and other gates.
_HOLD = """
SELECT r.app_id, r.app_word, r.gated_round = v.round AS is_open, v.round
FROM taxiway.rows r JOIN taxiway.videos v ON v.id = r.video_id WHERE r.video_id = $1 FOR NO KEY UPDATE OF r
"""
_PASSED = "UPDATE taxiway.rows SET app_word = $2, gated_round = $3 WHERE video_id = $1"


class _Stop(Exception):
    """Nothing was written: roll back, with this passage."""

    def __init__(self, passage: Passage) -> None:
        super().__init__(passage.words)
        self.passage = passage


async def pass_gate(database: Database, table: LinkedTable, video_id: UUID) -> Passage:
    """Write `processing` to the row of a video, once per round, in a transaction of its own."""
    try:
        async with database.connection() as connection:
            try:
                async with connection.raw.transaction(isolation="read_committed"):
                    await _pass(connection.raw, table, video_id)
            except _Stop as stop:
                return stop.passage
            except (TimeoutError, asyncpg.PostgresError) as exc:
                passage = judge(trouble(exc), table)
            else:
                return Passage(Verdict.OPEN)
    except DatabaseUnavailable as exc:
        # Also a commit whose confirmation was lost: the next try finds what became of it.
        return Passage(Verdict.WAITS, exc.detail)
    if passage.verdict is Verdict.REFUSED:
        detail = {"link": table.link.name, "sqlstate": passage.sqlstate}
        await note(database, "gate", [{"video_id": video_id, "kind": "gate_refused", "detail": detail}])
    return passage


async def _pass(raw: Raw, table: LinkedTable, video_id: UUID) -> None:
    await raw.fetch(_BEGIN, table.link.mapping.search_path, timeout=CLIENT_SECONDS)
    held = await raw.fetchrow(_HOLD, video_id, timeout=CLIENT_SECONDS)
    if held is None:
        raise _Stop(Passage(Verdict.WAITS, "its row is not known"))
    if held["is_open"]:
        return
    if table.role is not None:
        await raw.fetch(AS_ROLE, table.role, timeout=CLIENT_SECONDS)
    word = await raw.fetchval(link_statements.gate(table), held["app_id"], timeout=CLIENT_SECONDS)
    if word is None and held["app_word"] in table.link.mapping.words.ended:
        # A retry that the mirror has not shown yet: the row goes back to the queue first, as the app would see it go.
        await raw.fetchval(link_statements.requeue(table), held["app_id"], held["app_word"], timeout=CLIENT_SECONDS)
        word = await raw.fetchval(link_statements.gate(table), held["app_id"], timeout=CLIENT_SECONDS)
    if word is None:
        word = await raw.fetchval(link_statements.word_of(table), held["app_id"], timeout=CLIENT_SECONDS)
        _check_unwritten(table, word)
    elif word != table.link.mapping.words.processing:
        raise _Stop(Passage(Verdict.WAITS, f"{table.link.name} made {word!r} of the status that was to be written"))
    await raw.execute("SET CONSTRAINTS ALL IMMEDIATE", timeout=CLIENT_SECONDS)
    if table.role is not None:
        await raw.fetch(AS_ROLE, "none", timeout=CLIENT_SECONDS)
    await raw.execute(_PASSED, video_id, word, held["round"], timeout=CLIENT_SECONDS)


def _check_unwritten(table: LinkedTable, word: str | None) -> None:
    """A row that says processing already is as good as written. Anything else stops the gate."""
    mapping = table.link.mapping
    if word is not None and word == mapping.words.processing:
        return
    if word in mapping.words.cancel:
        raise _Stop(Passage(Verdict.CANCELLED, f"its row says {word}"))
    if word in mapping.words.queued:
        words = f"an UPDATE of its row changed nothing: a trigger, a view or row security of {table.link.name} kept it"
    else:
        words = "its row is not there" if word is None else f"its row says {word}"
    raise _Stop(Passage(Verdict.WAITS, words))


def judge(found: TableTrouble, table: LinkedTable) -> Passage:
    """Whether an error of the app's table refuses the video, or only keeps it waiting."""
    state = found.sqlstate
    words = f"{table.link.name} refused it: {found.message}"
    is_refusal = state is not None and state not in WAITING and not found.is_passing and (
        found.is_apps or state.startswith(("23", "P0", "44"))
    )  # fmt: skip
    if is_refusal:
        return Passage(Verdict.REFUSED, words, state)
    return Passage(Verdict.WAITS, f"{table.link.name} could not be written: {found.message}", state)
