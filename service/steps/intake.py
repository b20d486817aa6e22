"""Intake: rows that the app wrote itself become requests, or fail with the reason; what waited too long expires."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from service.context import Context, Counts
from service.errors import InvalidRequest
from service.link_requests import request_of
from service.logs import VIDEO, event
from service.operations import linked_rows
from service.operations.finalize import now
from service.operations.parking import ParkingLot, each, repeated
from service.settings import Settings
from service.store import sql_intake
from service.store.linked_table import LinkedTable
from service.store.sql_intake import Mapped, Unmapped
from service.store.video_rows import BLANKED_WORDS

log = logging.getLogger(__name__)

BATCH = 200
NOTHING: Counts = {"mapped": 0, "refused": 0, "expired": 0, "recalled": 0, "taken_over": 0}


async def run_once(
    ctx: Context, tables: Sequence[LinkedTable] = (), can_continue: Callable[[], bool] = lambda: True
) -> Counts:
    """Map rows that were inserted with SQL, expire what is over; and take the rows of linked tables.

    A batch of each, and more until nothing is left or `can_continue` says that the time is over.
    """
    counts = await _inserted(ctx, can_continue)
    if tables:
        counts = await take_linked(ctx, tables, can_continue, counts)
    return counts


async def take_linked(
    ctx: Context, tables: Sequence[LinkedTable], can_continue: Callable[[], bool], before: Counts = NOTHING
) -> Counts:
    """The rows of linked tables alone; their counts with those of `before`."""
    linked = await linked_rows.Intake(ctx, can_continue).run(tables)
    return {
        "mapped": before["mapped"] + linked["taken"] + linked["taken_again"],
        "refused": before["refused"] + linked["refused"],
        "expired": before["expired"],
        "recalled": linked["recalled"],
        "taken_over": linked["taken_over"],
    }


async def _inserted(ctx: Context, can_continue: Callable[[], bool]) -> Counts:
    """What fails of mapping costs expiry nothing, and the other way round."""
    refused, parking = 0, ParkingLot(ctx, "intake")

    async def write() -> int:
        nonlocal refused
        mapped, refused_now = await _map(ctx)
        refused += refused_now
        return mapped + refused_now

    written = repeated(write, can_continue)
    expired = repeated(lambda: sql_intake.expire(ctx.database, BATCH, parking), can_continue)
    counts = await each({"written": written, "expired": expired})
    return NOTHING | {"mapped": counts["written"] - refused, "refused": refused, "expired": counts["expired"]}


async def _map(ctx: Context) -> tuple[int, int]:
    """How many rows became requests, and how many make none."""
    parking = ParkingLot(ctx, "intake")
    rows = await sql_intake.unmapped(ctx.database, BATCH, parking.passed_over("map_rows"))
    mapped = [map_row(row, ctx.settings, now(ctx)) for row in rows]
    written = await sql_intake.map_rows(ctx.database, mapped, ctx.settings.queue_timeout, parking)
    for row in written:
        if row["refusal"]:
            words = f"No valid request: {row['refusal']}"
            event(log, VIDEO, "refused", words, level=logging.WARNING, video=row["id"])
    refused = sum(row["refusal"] is not None for row in written)
    return len(written) - refused, refused


def map_row(row: Unmapped, settings: Settings, sent_at: datetime) -> Mapped:
    """What the app's columns ask for: with an image an `image_to_video`, without one a `text_to_video`."""
    if row.is_blanked:
        return Mapped(row.id, refusal=f"This video cannot be queued again: {BLANKED_WORDS}")
    if row.origin == "api":
        return Mapped(row.id)
    try:
        request = request_of({"prompt": row.prompt, "image": row.image, "model": row.model}, settings, sent_at)
    except InvalidRequest as exc:
        return Mapped(row.id, refusal=f"The row makes no valid request: {exc.detail}")
    return Mapped(row.id, request.operation, request.model, request.input, request.quoted_credits)
