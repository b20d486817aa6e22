"""Admission: between the claim and the POST, a linked table's row is read once more, and its gate is passed.

Whatever the app's table does meanwhile costs its own videos time, and no other's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from service.context import Context
from service.errors import DatabaseUnavailable
from service.logs import VIDEO, event
from service.runway.outcomes import Decision, Kind, Outcome
from service.store import gate, links
from service.store.claim import OpenSubmission
from service.store.gate import Passage, Verdict
from service.store.link_recall import Stand, stands
from service.store.linked_table import LinkedTable
from service.store.links import TableTrouble
from service.videos import FailureCode, Status

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0  # for so long, what the catalogue said of the tables is believed


@dataclass(frozen=True)
class Held:
    """A submission that is not to be sent: what it came to, and what becomes of its video, if that is known already."""

    outcome: Outcome
    decision: Decision | None = None


@dataclass
class Admission:
    """For one run of the submit step."""

    ctx: Context
    tables: dict[int, LinkedTable] = field(default_factory=dict)
    # Every link: whether it has a gate, also where its table is unfit.
    gated: dict[int, bool] = field(default_factory=dict)
    read_at: float | None = None

    def __post_init__(self) -> None:
        # Saving ids must find a connection, however slow an app's trigger is.
        spare = self.ctx.settings.database_pool_size - 2
        self.turn = asyncio.Semaphore(max(1, min(gate.CONNECTIONS, spare)))
        self.reading = asyncio.Lock()

    def check(self, claimed: Sequence[OpenSubmission]) -> asyncio.Task[dict[UUID, Stand]] | None:
        """Begin to read the rows of what was claimed; None if none of it has a row."""
        linked = [one for one in claimed if one.link_id is not None]
        return asyncio.create_task(self._read(linked)) if linked else None

    async def _read(self, linked: Sequence[OpenSubmission]) -> dict[UUID, Stand]:
        await self._refresh()
        found: dict[UUID, Stand] = {}
        for link_id in {one.link_id for one in linked}:
            table = self.tables.get(link_id) if link_id is not None else None
            if table is None:
                continue
            try:
                found |= await stands(
                    self.ctx.database, table, [one.video_id for one in linked if one.link_id == link_id]
                )
            except TableTrouble as exc:
                # The gate finds out, where there is one; without, the video is as wanted as before.
                words = f"The rows of {table.link.name} could not be read before sending: {exc.message}"
                event(log, VIDEO, "rows_not_read", words, level=logging.WARNING, link=table.link.name)
        return found

    async def _refresh(self) -> None:
        async with self.reading:
            now = self.ctx.monotonic()
            if self.read_at is None or now - self.read_at > FRESH_SECONDS:
                self.tables = {table.id: table for table in await links.open_links(self.ctx.database)}
                self.gated = await links.gates(self.ctx.database)
                self.read_at = now

    async def admit(self, one: OpenSubmission, check: asyncio.Task[dict[UUID, Stand]] | None) -> Held | None:
        """None: send it. Otherwise why not. Never raises: nothing was sent yet."""
        if one.link_id is None or check is None:
            return None
        try:
            # Of all that wait for the same look, none may end it for the others.
            stand = (await asyncio.shield(check)).get(one.video_id, Stand.HERE)
            if stand is Stand.CANCELLED:
                return _cancelled("its row asks to cancel")
            if stand is Stand.GONE:
                return _waits("its row is gone")
            return await self._gate(one, one.link_id)
        except DatabaseUnavailable as exc:
            return _waits(exc.detail)
        except Exception as exc:
            words = "A row could not be asked whether its video may be sent"
            event(log, VIDEO, "admission_broke", words, level=logging.ERROR, trace=True, video=one.video_id)
            return _waits(f"{words} ({type(exc).__name__})")

    async def _gate(self, one: OpenSubmission, link_id: int) -> Held | None:
        if not self.gated.get(link_id):
            return None
        table = self.tables.get(link_id)
        if table is None:
            return _waits("its linked table does not fit at the moment, and cannot be asked")
        async with self.turn:
            passage = await gate.pass_gate(self.ctx.database, table, one.video_id)
        return _held(one, passage)


def _held(one: OpenSubmission, passage: Passage) -> Held | None:
    match passage.verdict:
        case Verdict.OPEN:
            return None
        case Verdict.CANCELLED:
            return _cancelled(passage.words)
        case Verdict.REFUSED:
            event(log, VIDEO, "gate_refused", passage.words, level=logging.WARNING, video=one.video_id)
            decision = Decision(Status.FAILED, FailureCode.REFUSED_BY_TABLE, passage.words)
            return Held(Outcome(Kind.NOT_SENT, passage.words), decision)
    return _waits(passage.words)


def _waits(words: str) -> Held:
    return Held(Outcome(Kind.NOT_SENT, words))


def _cancelled(words: str) -> Held:
    return Held(Outcome(Kind.NOT_SENT, words), Decision(Status.CANCELLED))
