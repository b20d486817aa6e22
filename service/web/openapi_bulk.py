"""Quotes, bulk actions and the history of one video in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from service.web import schemas_bulk as schemas
from service.web.auth import READ, WRITE
from service.web.openapi_parts import VIDEO_ID, answers, body, operation, ref
from service.web.schemas import VideoRequest

SHAPES = (schemas.QuoteView, schemas.BulkRequest, schemas.BulkCounts, schemas.EventList)


def paths() -> dict[str, dict[str, Any]]:
    """Every path, with its operations."""
    bad = (400, 401, 403, 408, 413, 422, 503)
    counts = answers({200: ("What this batch came to", ref(schemas.BulkCounts))}, 429, *bad)
    batch = body(schemas.BulkRequest)
    return {
        "/videos/{id}/events": {"parameters": [VIDEO_ID], "get": operation(
            "Everything that happened to a video, in order, and who did it; errors in full", READ,
            answers({200: ("Oldest first", ref(schemas.EventList))}, 401, 403, 404, 503))},
        "/quotes": {"post": operation(
            "Price a video, and say how long it may take; nothing is queued", WRITE,
            answers({200: ("The quote", ref(schemas.QuoteView))}, *bad), requestBody=body(VideoRequest))},
        "/bulk/retry": {"post": operation(
            "Queue all failed videos again that match, a batch at a time, but those that need consent", WRITE,
            counts, requestBody=batch)},
        "/bulk/cancel": {"post": operation(
            "Cancel all videos that match, a batch at a time", WRITE, counts, requestBody=batch)},
    }  # fmt: skip
