"""Intake: rows that the app wrote itself become requests, or fail with the reason; what waited too long expires."""

from __future__ import annotations

import logging

from service.context import Context, Counts
from service.errors import InvalidRequest
from service.logs import VIDEO, event
from service.operations.parking import ParkingLot, each
from service.runway.catalogue import build_request
from service.settings import Settings
from service.store import intake as store
from service.store.intake import Mapped, Unmapped

log = logging.getLogger(__name__)

BATCH = 200
NOTHING: Counts = {"mapped": 0, "refused": 0, "expired": 0}


async def run_once(ctx: Context) -> Counts:
    """One batch: map the app's rows, expire what is over. What fails of one costs the other nothing."""
    refused = 0

    async def write() -> int:
        nonlocal refused
        mapped, refused = await _map(ctx)
        return mapped

    expire = store.expire(ctx.database, BATCH, ParkingLot(ctx, "intake"))
    counts = await each({"mapped": write(), "expired": expire})
    return {"mapped": counts["mapped"], "refused": refused, "expired": counts["expired"]}


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
