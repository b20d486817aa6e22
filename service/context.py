"""What every part of the service is given: settings, database, Runway, and time."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import random as _draw
from typing import TYPE_CHECKING
from uuid import UUID

from service import environment
from service.actors import TAXIWAY
from service.errors import BadSettings
from service.runway import catalogue
from service.runway.catalogue import CatalogueError
from service.runway.client import Runway, load
from service.settings import Settings
from service.store.database import Database
from service.store.mailbox import Mailbox
from service.store.outbox import Outbox
from service.store.outcome_row import OutcomeRow
from service.store.recently import Recently
from service.store.together import Together
from service.store.url import normalise
from service.store.video_rows import NewVideo

if TYPE_CHECKING:
    import asyncpg
    import httpx

    from service.store.batch_rows import Stored

log = logging.getLogger(__name__)

Counts = dict[str, int]  # what one run of a step did, by name


@dataclass(frozen=True)
class Context:
    """What every step is given: settings, database, Runway, and the things that tests replace."""

    settings: Settings
    database: Database
    transport: Callable[[], httpx.AsyncBaseTransport] | None = None
    webhook_transport: Callable[[], httpx.AsyncBaseTransport] | None = None
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = _draw  # in [0, 1)
    report_seconds: float = 2.0  # how old the report of /health may be
    open_client: Runway | None = None
    actor: str = TAXIWAY  # in whose name this is done: of a key or token, a step, a user of the command line
    owner: str | None = None  # a key that sees and changes only what it made
    refused: Recently = field(default_factory=Recently)  # rows that PostgreSQL refused a moment ago
    mailbox: Mailbox = field(default_factory=Mailbox)  # callbacks that wait to be written
    enqueued: Together[NewVideo, Stored | None] = field(default_factory=Together)  # requests that wait to be written
    asked_why: Together[UUID, asyncpg.Record | None] = field(default_factory=Together)  # videos whose waiting is asked
    outbox: Outbox = field(default_factory=Outbox)  # when to ask for webhooks that are due
    unsaved: dict[int, OutcomeRow] = field(default_factory=dict)  # answers that this process could not save yet
    in_requests: set[UUID] = field(default_factory=set)  # videos for which requests of this process submit

    @asynccontextmanager
    async def runway(self) -> AsyncIterator[Runway]:
        """A client for the time of one step: none of its connections outlives it, unless one is shared."""
        if self.open_client is not None:
            yield self.open_client
            return
        runway = Runway(self.settings, self.transport() if self.transport else None, self.monotonic, self.now)
        try:
            yield runway
        finally:
            await runway.aclose()

    @asynccontextmanager
    async def shared_client(self) -> AsyncIterator[Context]:
        """This context with one client for all steps, for a process that stays: a connection may serve the next step.

        Not for long: what has rested for a moment (`IDLE_SECONDS`) is not used again.
        """
        load()
        async with self.runway() as runway:
            yield replace(self, open_client=runway)


def build(settings: Settings) -> Context:
    """The context of one process. Raises BadSettings if DATABASE_URL cannot be read."""
    target = normalise(settings.database_url, pooler=settings.database_pooler) if settings.database_url else None
    for note in target.notes if target else ():
        log.info("DATABASE_URL: %s", note)
    return Context(settings, Database(target, pool_size=settings.database_pool_size))


def _use_catalogue(path: str | None) -> None:
    try:
        catalogue.use(path)
    except CatalogueError as exc:
        raise BadSettings([f"CATALOGUE_FILE {exc}: correct that, or remove CATALOGUE_FILE"]) from None


def from_environment() -> Context:
    """The context that the environment describes. Raises BadSettings with everything that is wrong with it."""
    complaints: list[str] = []
    try:
        settings = environment.load()
    except BadSettings as exc:
        complaints += exc.complaints
        settings = None
    try:
        if settings is not None:
            _use_catalogue(settings.catalogue_file)
            return build(settings)
        if url := os.environ.get("DATABASE_URL"):
            normalise(url)
    except BadSettings as exc:
        complaints += exc.complaints
    raise BadSettings(complaints)
