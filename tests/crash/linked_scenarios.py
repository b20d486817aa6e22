"""The life of a linked table's row in scenarios (as in tests/crash/scenarios.py): intake, gate, recall and mirror."""

from __future__ import annotations

from typing import Protocol
from uuid import uuid4

from tests.crash import linked_app
from tests.crash.harness import Site
from tests.crash.linked_app import BROKE, CANCEL, IMAGE, INSERT, REMOVE, REQUEUE, RICH, as_app
from tests.crash.scenarios import FINISHED, Run
from tests.database import connected
from tests.world import World


async def taken(site: Site, run: Run) -> None:
    """A tick with one queued row: it is taken, charged by the gate, sent, saved and shown."""
    await film(site)
    await run.tick()


async def bounced(site: Site, run: Run) -> None:
    """A tick that sends a row which the gate has let pass, and which came back from a busy Runway."""
    await film(site)
    site.world.faults({"simulate": "status=503, body=runway"})
    await site.world.tick()
    await site.world.later(minutes=20)
    await run.tick()


async def turned_away(site: Site, run: Run) -> None:
    """A tick with a row whose user has no credits left: the trigger raises in the gate."""
    await film(site, user=BROKE)
    await run.tick()


async def shown(site: Site, run: Run) -> None:
    """A tick in which a row's task is found to be done, and two rows are written by the mirror."""
    await film(site)
    await film(site)
    await site.world.tick()
    await site.world.later(**FINISHED)
    await run.tick()


async def not_shown(site: Site, run: Run) -> None:
    """The same, but the trigger keeps one of the rows as it is."""
    await film(site)
    await film(site, temper=0)
    await site.world.tick()
    await site.world.later(**FINISHED)
    await run.tick()


async def withdrawn(site: Site, run: Run) -> None:
    """A tick after the app has cancelled one row with its own word, and deleted another, while Runway works on both."""
    cancelled, removed = await film(site), await film(site)
    await site.world.tick()
    async with as_app(site.world.url) as app:
        await app.execute(REMOVE, removed)
        await site.world.tick()  # a row that is gone must be missed twice
        await app.execute(CANCEL, cancelled)
    await film(site)
    await run.tick()


async def queued_again(site: Site, run: Run) -> None:
    """A tick after the app has put a finished row back in the queue: a second round, and a second charge."""
    again = await film(site)
    await site.world.tick()
    await site.world.later(**FINISHED)
    await site.world.tick()
    async with as_app(site.world.url) as app:
        await app.execute(REQUEUE, again)
    await run.tick()


_OF_TEMPER = """
UPDATE studio."Film" SET id = (
    SELECT 'film_' || n FROM generate_series(1, 1000) AS n
    WHERE studio.temper('film_' || n) = $2 AND NOT EXISTS (SELECT FROM taxiway.rows WHERE app_id = 'film_' || n)
      AND NOT EXISTS (SELECT FROM studio."Film" WHERE id = 'film_' || n)
    ORDER BY random() LIMIT 1)
WHERE id = $1 RETURNING id
"""


class HasWorld(Protocol):
    """A test's ground."""

    @property
    def world(self) -> World:
        """Its world."""


async def film(site: HasWorld, *, user: str = RICH, temper: int | None = None) -> str:
    """A queued row of the app's, whose table is linked if it was not; its id. `temper`: what its id makes of it."""
    url = site.world.url
    async with connected(url) as connection:
        there = await linked_app.is_there(connection)
    if not there:
        await linked_app.install(url)
    async with as_app(url) as app:
        made: str = await app.fetchval(INSERT, f"film {uuid4()}", IMAGE, user, temper is not None)
        if temper is not None:
            made = await app.fetchval(_OF_TEMPER, made, temper)
    return made
