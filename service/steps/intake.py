"""Intake: rows that the app wrote itself become requests, or fail with the reason; what waited too long expires."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from service.context import Context, Counts
from service.errors import InvalidRequest
from service.logs import VIDEO, event
from service.operations import links
from service.operations.parking import ParkingLot, each
from service.runway.catalogue import build_request
from service.settings import Settings
from service.store import intake as store
from service.store.intake import Mapped, Unmapped
from service.store.link_statements import LinkedTable

log = logging.getLogger(__name__)

BATCH = 200
NOTHING: Counts = {"mapped": 0, "refused": 0, "expired": 0, "recalled": 0, "taken_over": 0}


async def run_once(
    ctx: Context, tables: Sequence[LinkedTable] = (), can_continue: Callable[[], bool] = lambda: True
) -> Counts:
    """One batch: map rows that were inserted with SQL, expire what is over; and take the rows of linked tables."""
    counts = await _inserted(ctx)
    if tables:
        counts = await take_linked(ctx, tables, can_continue, counts)
    return counts


async def take_linked(
    ctx: Context, tables: Sequence[LinkedTable], can_continue: Callable[[], bool], before: Counts = NOTHING
) -> Counts:
    """The rows of linked tables alone; their counts with those of `before`."""
    linked = await links.Intake(ctx, can_continue).run(tables)
    return {
        "mapped": before["mapped"] + linked["taken"] + linked["taken_again"],
        "refused": before["refused"] + linked["refused"],
        "expired": before["expired"],
        "recalled": linked["recalled"],
        "taken_over": linked["taken_over"],
    }


async def _inserted(ctx: Context) -> Counts:
    """What fails of mapping costs expiry nothing, and the other way round."""
    refused = 0

    async def write() -> int:
        nonlocal refused
        mapped, refused = await _map(ctx)
        return mapped

    expire = store.expire(ctx.database, BATCH, ParkingLot(ctx, "intake"))
    counts = await each({"mapped": write(), "expired": expire})
    return NOTHING | {"mapped": counts["mapped"], "refused": refused, "expired": counts["expired"]}


async def _map(ctx: Context) -> tuple[int, int]:
    """How many rows became requests, and how many make none."""
    parking = ParkingLot(ctx, "intake")
    rows = await store.unmapped(ctx.database, BATCH, parking.passed_over("map_rows"))
    mapped = [map_row(row, ctx.settings) for row in rows]
    written = await store.map_rows(ctx.database, mapped, ctx.settings.queue_timeout, parking)
    for row in written:
        if row["refusal"]:
            words = f"No valid request: {row['refusal']}"
            event(log, VIDEO, "refused", words, level=logging.WARNING, video=row["id"])
    refused = sum(row["refusal"] is not None for row in written)
    return len(written) - refused, refused


def map_row(row: Unmapped, settings: Settings) -> Mapped:
    """What the app's columns ask for: with an image an `image_to_video`, without one a `text_to_video`."""
    if row.origin == "api":
        return Mapped(row.id)
    body = {"promptText": row.prompt.strip()} if row.prompt and row.prompt.strip() else {}
    operation, model = "text_to_video", settings.text_model
    if row.image and row.image.strip():
        operation, model = "image_to_video", settings.image_model
        body["promptImage"] = row.image.strip()
    try:
        request = build_request(
            operation, body, default_model=row.model or model,
            default_ratio=settings.default_ratio, default_duration=settings.default_duration,
        )  # fmt: skip
    except InvalidRequest as exc:
        return Mapped(row.id, refusal=f"The row makes no valid request: {exc.detail}")
    return Mapped(row.id, request.operation, request.model, request.input, request.quoted_credits)
