"""Observe: what is too dear to be counted for everybody who asks is counted by a tick, now and then."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import asyncpg

from service.context import Context
from service.errors import RunwayUnavailable, TaxiwayError
from service.logs import RUNWAY, VIDEO, event
from service.operations import accounting
from service.store import maintenance

log = logging.getLogger(__name__)

ACCOUNT_TIMEOUT_SECONDS = 5.0  # nothing waits for it: what is late is left to the next time


async def refresh(ctx: Context, due: Sequence[str]) -> None:
    """Take the snapshots that are due, by name, each in one process. A failure goes to the log alone."""
    for name in due:
        try:
            if await maintenance.take_turn(ctx.database, name):
                await (maintenance.count(ctx.database) if name == "counts" else _ask(ctx))
        except (TaxiwayError, asyncpg.PostgresError) as exc:
            event(log, VIDEO, "snapshot_failed", f"No snapshot of {name}: {exc}", level=logging.WARNING)


async def _ask(ctx: Context) -> None:
    try:
        await accounting.observe(ctx, ACCOUNT_TIMEOUT_SECONDS)
    except RunwayUnavailable as exc:
        event(log, RUNWAY, "account_not_seen", f"Credits left are not known: {exc.detail}", level=logging.WARNING)
