"""Parking: what becomes of a row that PostgreSQL refuses although it stands alone.

It is passed over for a while, its history says why, and a video that is refused for a day fails as UNSTORABLE.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping

import asyncpg

from service.context import Context
from service.errors import TaxiwayError
from service.logs import VIDEO, event
from service.store import parked
from service.store.batches import Refusal
from service.store.driver_errors import is_unreachable, sqlstate

log = logging.getLogger(__name__)

LONGEST_ERROR = 500  # characters of PostgreSQL's words that a video keeps; an event has none of them
UNSTORABLE_WORDS = (
    "The database refused to store what became of this video for more than {hours} hours ({sqlstate} in {statement}: "
    "{error}). If a task was made, it may have been charged: its id is in the ledger or in the log. Remove what "
    "refuses the row (a trigger or a constraint on the schema taxiway), then retry the video."
)


class ParkingLot:
    """The parking of one step: `actor` in the events that it writes."""

    def __init__(self, ctx: Context, step: str) -> None:
        self._ctx = ctx
        self._step = step

    def passed_over(self, statement: str) -> list[str]:
        """The keys that this process was refused a moment ago."""
        return self._ctx.refused.keys(statement)

    async def park(self, refusal: Refusal) -> None:
        """Put one row aside, and say so. Raises only if the database cannot be reached."""
        words = f"PostgreSQL refused {refusal.statement} of {refusal.key}: {refusal.error}"
        event(log, VIDEO, "refused_row", words, level=logging.ERROR, video=refusal.video_id)
        self._ctx.refused.add(refusal.statement, refusal.key)
        try:
            await self._note(refusal)
        except (asyncpg.PostgresError, TaxiwayError) as exc:
            if is_unreachable(exc):
                raise
            event(
                log, VIDEO, "not_parked", f"Nor could that be noted: {exc}", level=logging.ERROR, video=refusal.video_id
            )

    async def _note(self, refusal: Refusal) -> None:
        """In the history; and the end, if it has been refused for a day."""
        error = as_text(refusal.error)
        code = sqlstate(refusal.error) or ""
        is_over = await parked.park(
            self._ctx.database, refusal.video_id, self._step, refusal.statement, refusal.key,
            {"sqlstate": code},
        )  # fmt: skip
        if is_over and refusal.video_id is not None:
            words = UNSTORABLE_WORDS.format(hours=parked.HOURS, sqlstate=code, statement=refusal.statement, error=error)
            if await parked.fail(self._ctx.database, refusal.video_id, words, self._step):
                event(log, VIDEO, "unstorable", words, level=logging.ERROR, video=refusal.video_id)


def as_text(error: Exception) -> str:
    """PostgreSQL's own words, without ours around them; at most LONGEST_ERROR characters."""
    own = error.__cause__ if isinstance(error.__cause__, asyncpg.PostgresError) else error
    return str(own)[:LONGEST_ERROR]


async def repeated(part: Callable[[], Awaitable[int]], may_go_on: Callable[[], bool]) -> int:
    """A part of a step that does one batch: again until a batch does nothing, or the time is over; how many in all."""
    total = done = await part()
    while done and may_go_on():
        total += (done := await part())
    return total


async def each(parts: Mapping[str, Awaitable[int]]) -> dict[str, int]:
    """The parts of a step, in order, by name. One that fails costs the others nothing: its error is raised at the end.

    Where the database cannot be reached, that is said at once.
    """
    counts: dict[str, int] = {}
    failure: Exception | None = None
    waiting = dict(parts)
    try:
        for name in parts:
            try:
                counts[name] = await waiting.pop(name)
            except Exception as exc:
                if is_unreachable(exc):
                    raise
                failure = failure or exc
    finally:
        for work in waiting.values():
            if isinstance(work, Coroutine):
                work.close()  # never begun
    if failure is not None:
        raise failure
    return counts
