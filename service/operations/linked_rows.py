"""Linked tables: rows that say queued become videos, and what the app cancels or removes is cancelled."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg

from service.context import Context, Counts
from service.errors import DatabaseUnavailable, InvalidRequest
from service.link_requests import request_of
from service.logs import VIDEO, event
from service.operations.finalize import now
from service.store import link_intake, link_recall, link_rescue, links
from service.store.link_intake import Entry, Look, Unknown
from service.store.link_rescue import Died
from service.store.linked_table import LinkedTable
from service.store.links import TableTrouble
from service.videos import new_id

log = logging.getLogger(__name__)

AT_ONCE = 2  # links that are worked on at the same time: a table that hangs holds up no other
SLOW_REST_SECONDS, SLOW_REST_TIMES = 10.0, 10.0  # without a usable index: how seldom all rows are read
DIED_BATCH = 100
DIED_WORDS = (
    "The app's own code set this row to processing and left it: it is not known whether it sent the video to Runway. "
    "Look for it in Runway's Request History: attach the task if it is there, or retry with accept_double_charge."
)

NOTHING: Counts = {"taken": 0, "taken_again": 0, "refused": 0, "recalled": 0, "taken_over": 0}


async def each(ctx: Context, tables: Sequence[LinkedTable], work: Callable[[LinkedTable], Awaitable[None]]) -> None:
    """Do `work` for each table, a few at a time. What one cannot do costs only itself: it is paused, with the reason.

    Raises DatabaseUnavailable if the server itself does not answer.
    """
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(table: LinkedTable) -> None:
        async with turn:
            try:
                await work(table)
            except TableTrouble as exc:
                if exc.is_passing or (exc.is_late and await links.answers(ctx.database, table)):
                    event(log, VIDEO, "link_failed", exc.message, level=logging.WARNING, link=table.link.name)
                else:
                    await links.pause(ctx.database, table.link, reason_of(table, exc))
            except DatabaseUnavailable as exc:
                await ctx.database.fetchval("SELECT 1")  # raises it again if the server is the trouble
                event(log, VIDEO, "link_failed", exc.detail, level=logging.ERROR, link=table.link.name)

    for failure in await asyncio.gather(*(one(table) for table in tables), return_exceptions=True):
        if failure is not None:
            raise failure


def reason_of(table: LinkedTable, exc: TableTrouble) -> str:
    """Why a link is paused for a while."""
    again = f"it is tried again in {links.PAUSE_SECONDS:g} s"
    return (
        f"link {table.link.name}: {exc.message}; {again}. `taxiway link {table.link.mapping.table}` shows what it needs"
    )


@dataclass
class Intake:
    """One run over the linked tables: what it may still take, and what it came to."""

    ctx: Context
    can_continue: Callable[[], bool] = lambda: True
    counts: Counts = field(default_factory=lambda: dict(NOTHING))

    async def run(self, tables: Sequence[LinkedTable]) -> Counts:
        """Recall and take for each table."""
        await each(self.ctx, tables, self._one)
        return self.counts

    async def _one(self, table: LinkedTable) -> None:
        await self._recall(table)
        if table.link.state == "closing":
            return
        swept = await self._take(table)
        after = self.ctx.settings.link_rescue_after
        if swept and after is not None:
            await self._take_over(table, after)

    async def _recall(self, table: LinkedTable) -> None:
        rows = await link_recall.changed(self.ctx.database, table)
        if table.absence_counts and link_recall.are_too_many(rows):
            name = table.link.mapping.table
            gone = sum(one.stand is link_recall.Stand.GONE for one in rows)
            words = (
                f"link {table.link.name}: {gone} of {rows[0].looked_at} rows whose videos are under way are gone at "
                f"once. If the app removed them, cancel their videos; `taxiway link {name}` goes on"
            )
            await links.pause(self.ctx.database, table.link, words, seconds=None)
            return
        for video_id in await link_recall.apply(self.ctx.database, table, rows) if rows else ():
            self.counts["recalled"] += 1
            event(log, VIDEO, "recalled", "Cancelled: its row was cancelled or removed", video=video_id)

    async def _take(self, table: LinkedTable) -> bool:
        """Find queued rows and take them; whether all rows were read."""
        sweep = table.is_swept
        if table.is_blind and not (table.look_is_due and await link_intake.take_turn(self.ctx.database, table)):
            return False
        more = True
        while more:
            started, before = self.ctx.monotonic(), sum(self.counts.values())
            found = await link_intake.look(self.ctx.database, table, window=not sweep)
            seconds = self.ctx.monotonic() - started
            await self._take_all(table, found.unknown)
            more = found.is_full and sum(self.counts.values()) > before and self.can_continue()
            if not more:
                await self._note(table, found, sweep, seconds)
        return sweep

    async def _note(self, table: LinkedTable, found: Look, sweep: bool, seconds: float) -> None:
        """Remember a look where the next one depends on it: not where each tick reads all rows."""
        kept = table.remembered(seconds)
        if table.is_cheap and kept == table.sweep_seconds == 0:
            return
        if not (sweep or found.unknown):
            return
        await link_intake.seen(
            self.ctx.database, table, newest=None if found.is_full else found.newest, swept=sweep, seconds=seconds,
            kept=kept, rest=max(SLOW_REST_SECONDS, SLOW_REST_TIMES * seconds) if table.is_blind else 0.0,
        )  # fmt: skip

    async def _take_all(self, table: LinkedTable, unknown: Sequence[Unknown]) -> None:
        for part in link_intake.chunks(unknown):
            await self._take_chunk(table, part)
            if not self.can_continue():
                return

    async def _take_chunk(self, table: LinkedTable, part: Sequence[Unknown]) -> None:
        """Take rows at once; if one of them breaks it, by halves, so that it costs the others nothing."""
        try:
            rows = await link_intake.read(self.ctx.database, table, [one.app_id for one in part])
            known = {one.app_id for one in part if one.is_known}
            entries = [self.entry(row) for row in rows]
            await self._write(table, entries, known)
        except TableTrouble as exc:
            if not exc.is_of_a_row:
                raise
            if len(part) > 1:
                half = len(part) // 2
                await self._take_chunk(table, part[:half])
                await self._take_chunk(table, part[half:])
            else:
                await self._refuse(table, part[0], exc)

    async def _write(self, table: LinkedTable, entries: Sequence[Entry], known: set[str]) -> list[asyncpg.Record]:
        database, patience = self.ctx.database, self.ctx.settings.queue_timeout
        new = [one for one in entries if one.app_id not in known]
        taken = await link_intake.take(database, table, new, patience)
        again = await link_intake.take_again(database, table, [one for one in entries if one.app_id in known], patience)
        for row in (*taken, *again):
            if row["refusal"]:
                self.counts["refused"] += 1
                words = f"No valid request: {row['refusal']}"
                event(log, VIDEO, "refused", words, level=logging.WARNING, video=row["id"])
        self.counts["taken"] += sum(row["refusal"] is None for row in taken)
        self.counts["taken_again"] += sum(row["refusal"] is None for row in again)
        return [*taken, *again]

    def entry(self, row: Any) -> Entry:
        """What a row of the app's asks for."""
        fields: dict[str, Any] = {
            "app_id": row["app_id"], "word": row["word"], "video_id": _fresh(self.ctx), "user_id": row["user_id"],
            "created_at": row["created_at"],
        }  # fmt: skip
        try:
            request = request_of(row, self.ctx.settings, now(self.ctx))
        except InvalidRequest as exc:
            prompt = (row["prompt"] or "")[: link_intake.PROMPT_SHOWN].replace("\0", "") or None
            return Entry(**fields, prompt=prompt, refusal=f"The row makes no valid request: {exc.detail}")
        return Entry(
            **fields, operation=request.operation, model=request.model, input=request.input,
            quoted_credits=request.quoted_credits,
        )  # fmt: skip

    async def _refuse(self, table: LinkedTable, row: Unknown, exc: TableTrouble) -> None:
        """A row that PostgreSQL cannot read or store becomes a video that has failed, with PostgreSQL's words."""
        words = f"PostgreSQL refuses row {row.app_id} of {table.link.name}: {exc.message}"
        event(log, VIDEO, "refused_row", words, level=logging.WARNING, link=table.link.name)
        word = table.link.mapping.words.queued[0]
        entry = Entry(row.app_id, word, _fresh(self.ctx), refusal=words)
        written = await self._write(table, [entry], {row.app_id} if row.is_known else set())
        await link_intake.refused(self.ctx.database, table, row.app_id, [one["id"] for one in written], exc)

    async def _take_over(self, table: LinkedTable, after: float) -> None:
        """Rows that the app's own code left at processing, as videos whose submission has no known outcome."""
        rows = await link_rescue.read_died(self.ctx.database, table, after, DIED_BATCH)
        died = []
        for row in rows:
            made = self.entry(row)
            fields = {name: getattr(made, name) for name in Died.__annotations__ if hasattr(made, name)}
            died.append(Died(**fields, since=row["since"]))
        for video_id in await link_rescue.take_died(self.ctx.database, table, died, DIED_WORDS):
            self.counts["taken_over"] += 1
            event(
                log,
                VIDEO,
                "taken_over",
                "Left at processing by the app: unknown",
                level=logging.WARNING,
                video=video_id,
            )


def _fresh(ctx: Context) -> UUID:
    return new_id(ctx.now(), secrets.randbits(74))
