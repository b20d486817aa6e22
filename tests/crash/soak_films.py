"""The app whose table is linked, in a soak: it inserts, queues again, cancels, deletes and holds rows, all in SQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from tests.crash.linked_app import BROKE, CANCEL, IMAGE, INSERT, POOR, REMOVE, REQUEUE, RICH, as_app, pick

LARGEST_BATCH = 10
POOR_EVERY = 10  # one in so many is of a user who has credits for a single one
HOLD_SECONDS = 1.0
# How many of the rows that were written are touched so, at most: users do not delete all that they ask for.
SHARES = {"rows queued again": 0.4, "rows cancelled": 0.2, "rows deleted": 0.15}
ENDED = ("READY", "BROKEN", "CANCELED")


@dataclass
class FilmStudio:
    """`rows`: how many it writes in all; `did` counts what it did. The table itself is its memory."""

    database_url: str
    rows: int
    dice: Random
    written: int = 0
    did: Counter[str] = field(default_factory=Counter)
    all_written: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self) -> None:
        """A few films more, in one transaction, which may be taken back."""
        count = min(self.dice.randint(1, LARGEST_BATCH), self.rows - self.written)
        if count == 0:
            self.all_written.set()
            return
        async with as_app(self.database_url) as connection:
            numbers = range(self.written, self.written + count)
            self.written += count  # a lost connection may have written them or not: their numbers are not used again
            transaction = connection.transaction()
            await transaction.start()
            for number in numbers:
                user = RICH if number % POOR_EVERY else POOR
                await connection.fetchval(INSERT, f"film {number}", IMAGE, user, True)
            if self.dice.random() < 0.1:
                await transaction.rollback()
                self.did["rows taken back"] += count
            else:
                await transaction.commit()
                self.did["rows written"] += count

    async def write_last(self) -> None:
        """One that nobody touches any more, of a user without credits: the table refuses it, whoever was fast."""
        async with as_app(self.database_url) as connection:
            await connection.execute(INSERT, "the last film", IMAGE, BROKE, True)
        self.did["rows written"] += 1

    async def queue_again(self) -> None:
        """A user wants his film once more."""
        await self._one("rows queued again", REQUEUE, *ENDED)

    async def cancel(self) -> None:
        """A user does not want it any more, by the app's own word."""
        await self._one("rows cancelled", CANCEL, "PENDING", "RENDERING")

    async def remove(self) -> None:
        """A user deletes his film, whatever it does at this moment."""
        await self._one("rows deleted", REMOVE, "PENDING", "RENDERING", *ENDED)

    async def hold(self) -> None:
        """A transaction of the app's holds a row for a while, and changes nothing."""
        async with as_app(self.database_url) as connection, connection.transaction():
            if await pick(connection, "PENDING", "RENDERING", "READY") is not None:
                self.did["rows held"] += 1
                await asyncio.sleep(HOLD_SECONDS)

    async def _one(self, name: str, sql: str, *words: str) -> None:
        if self.did[name] >= SHARES[name] * self.did["rows written"]:
            return
        async with as_app(self.database_url) as connection:
            async with connection.transaction():
                if (film := await pick(connection, *words)) is None:
                    return
                await connection.execute(sql, film)
            self.did[name] += 1
