"""Where the claims of one run begin: behind what it claimed last, or at the front of the queue."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Sequence

import asyncpg

from service.errors import DatabaseUnavailable
from service.store.claim import IN_ORDER, OpenSubmission
from service.store.database import Database
from service.store.predicates import READY

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 1.0

# Of each model, the first that is due and stands before its place.
_BEFORE = f"""
SELECT behind.model, before.place
FROM jsonb_each($1::jsonb) AS behind(model, place) CROSS JOIN LATERAL (
    SELECT json_build_array({IN_ORDER})::text AS place FROM taxiway.videos v
    WHERE {READY} AND v.model = behind.model AND v.run_after <= taxiway.now()
      AND ({IN_ORDER}) < ((behind.place ->> 0)::timestamp, (behind.place ->> 1)::timestamptz,
                          (behind.place ->> 2)::uuid)
    ORDER BY {IN_ORDER} LIMIT 1
) AS before
"""


class Front:
    """Where the claims of one run begin. `behind`: the place of what it claimed last, by model, as JSON.

    Until VACUUM comes, a claim from the front of the queue walks past all that has left it. So a run goes on where it
    was, as long as it gets as many as it wants. What takes a place before that (a priority, a second try, a lock that
    is gone) is found by a look, once a second, which holds up no claim; where none has come for two seconds, the next
    claim begins at the front itself.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seen_at = -math.inf
        self._places: dict[str, list[str]] = {}
        self._given: dict[str, list[str]] = {}  # to the last claim
        self._look: asyncio.Task[None] | None = None

    def behind(self) -> str | None:
        """For the next claim; None: from the front."""
        if self._monotonic() >= self._seen_at + 2 * LOOK_AGAIN_SECONDS:
            self._places = {}
        self._given = dict(self._places)
        if self._places:
            return json.dumps(self._places)
        self._seen_at = self._monotonic()
        return None

    def note(self, taken: Sequence[OpenSubmission], wanted: int) -> None:
        """What that claim took. With fewer than were wanted, the next one begins at the front.

        Where a look has gone back meanwhile, it begins there.
        """
        if len(taken) < wanted:
            self._places = {}
            return
        places = {one.model: json.loads(one.place) for one in taken if one.place}
        self._places |= {model: at for model, at in places.items() if self._places.get(model) == self._given.get(model)}

    def look(self, database: Database) -> None:
        """Begin a look, if it is time for one and none is under way."""
        if self._places and not self._look and self._monotonic() >= self._seen_at + LOOK_AGAIN_SECONDS:
            self._look = asyncio.create_task(self._go_back(database))

    async def settle(self) -> None:
        """Until no look is under way."""
        if self._look:
            await asyncio.wait([self._look])

    async def _go_back(self, database: Database) -> None:
        """To what stands before the places, if anything does. If that fails, the claims say why, from the front."""
        begun_at = self._monotonic()
        try:
            rows = await database.fetch(_BEFORE, json.dumps(self._places))
            self._places |= {row["model"]: json.loads(row["place"]) for row in rows if row["model"] in self._places}
            self._seen_at = max(begun_at, self._seen_at)
        except (DatabaseUnavailable, asyncpg.PostgresError):
            log.debug("The front of the queue could not be read", exc_info=True)
        finally:
            self._look = None
