"""Mirror: the rows of linked tables show how their videos stand. A row that refuses holds up no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from service.context import Context, Counts
from service.logs import VIDEO, event
from service.operations.linked_rows import each
from service.store import link_closing, mirror_rows
from service.store.linked_table import LinkedTable
from service.store.links import TableTrouble
from service.store.mirror_rows import Note

log = logging.getLogger(__name__)

NOTHING: Counts = {"mirrored": 0, "locked": 0, "refused": 0}
DUE_BATCH = 100


async def run_once(
    ctx: Context, tables: Sequence[LinkedTable], can_continue: Callable[[], bool] = lambda: True
) -> Counts:
    """Show what is to be shown in each linked table, until nothing is left or `can_continue` says that time is over."""
    counts = dict(NOTHING)

    async def one(table: LinkedTable) -> None:
        await _Mirror(ctx, table, can_continue, counts).run()

    behind = await mirror_rows.behind(ctx.database)
    await each(ctx, [table for table in tables if table.id in behind], one)
    if any(table.link.state == "closing" for table in tables):
        await link_closing.close_finished(ctx.database)
    return counts


class _Mirror:
    def __init__(self, ctx: Context, table: LinkedTable, can_continue: Callable[[], bool], counts: Counts) -> None:
        self.ctx, self.table, self.can_continue, self.counts = ctx, table, can_continue, counts

    async def run(self) -> None:
        after, first = 0, True
        while first or self.can_continue():
            first = False
            batch, last = await mirror_rows.notes(self.ctx.database, self.table, after)
            if last == after:
                break
            after = last
            await self._write(batch)
        for note in await mirror_rows.due(self.ctx.database, self.table, DUE_BATCH):
            if not self.can_continue():
                return
            await self._alone(note)

    async def _write(self, batch: Sequence[Note]) -> None:
        """All at once; if one of them refuses, by halves, each in a transaction of its own."""
        if not batch:
            return
        try:
            result = await mirror_rows.write(self.ctx.database, self.table, batch)
        except TableTrouble as exc:
            if len(batch) == 1:
                await self._refused(batch[0], exc)
                return
            # Where it waited for a lock or for an app's trigger, each half would wait as long once more.
            parts = [[one] for one in batch] if exc.is_passing or exc.sqlstate is None else _halves(batch)
            for index, part in enumerate(parts):
                if index and not self.can_continue():
                    return
                await self._write(part)
            return
        self.counts["mirrored"] += result.shown
        for note, words in result.swallowed:
            await self._refused(note, TableTrouble(words))
        for note in result.locked:
            # Row security may hide a row from UPDATE alone: only a try that does not pass over locks can say so.
            if self.table.is_secured and self.can_continue():
                await self._alone(note)
            else:
                self.counts["locked"] += 1

    async def _alone(self, note: Note) -> None:
        try:
            result = await mirror_rows.write(self.ctx.database, self.table, [note], alone=True)
        except TableTrouble as exc:
            await self._refused(note, exc)
            return
        self.counts["mirrored"] += result.shown
        for one, words in result.swallowed or ((one, mirror_rows.SWALLOWED) for one in result.locked):
            await self._refused(one, TableTrouble(words))

    async def _refused(self, note: Note, exc: TableTrouble) -> None:
        self.counts["refused"] += 1
        if await mirror_rows.refused(self.ctx.database, self.table, note, exc):
            words = f"{self.table.link.name} refuses to show its video: {exc.message}"
            event(log, VIDEO, "mirror_refused", words, level=logging.WARNING, video=note.video_id)


def _halves(batch: Sequence[Note]) -> list[Sequence[Note]]:
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]
