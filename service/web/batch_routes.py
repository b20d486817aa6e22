"""POST /videos/batch: up to a thousand requests at once."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.context import Context
from service.errors import InvalidRequest, Problem, TaxiwayError
from service.operations import batch
from service.operations.batch import Item
from service.operations.enqueuing import IdempotencyKey
from service.videos import Video
from service.web import bodies, problems
from service.web.auth import name_of
from service.web.schemas import ProblemView, VideoRequest
from service.web.schemas_batch import BatchRequest, BatchResult, BatchResults
from service.web.views import views

MOST_VALUES = 100_000  # in the body: a hundred for each request


async def enqueue(ctx: Context, request: Request) -> Response:
    """POST /videos/batch: with `atomic` (the default), all are queued or none."""
    raw = await bodies.read(request, ctx.settings.max_body_bytes)
    value = bodies.parse(raw, MOST_VALUES)
    key = IdempotencyKey.of(request.headers.get("idempotency-key"), value, name_of(request))
    asked = bodies.validated(BatchRequest, value)
    done = await batch.enqueue(ctx, [item_of(one) for one in asked.requests], key, atomic=asked.atomic)
    shown = await shown_as(ctx, request, done.results)
    headers = {"Idempotent-Replayed": "true"} if done.is_repeat else {}
    return Response(shown.model_dump_json(), status_code=202, media_type="application/json", headers=headers)


def item_of(value: Any) -> Item:
    """One request of a batch, validated as POST /videos does; or what is wrong with it."""
    if not isinstance(value, dict):
        return InvalidRequest([Problem("", "must be a JSON object")])
    try:
        return bodies.validated(VideoRequest, value).spec()
    except InvalidRequest as exc:
        return exc


async def shown_as(ctx: Context, request: Request, results: list[Video | TaxiwayError]) -> BatchResults:
    """The public view of the results."""
    found = [one for one in results if isinstance(one, Video)]
    shown = dict(zip((one.id for one in found), await views(ctx, found), strict=True))
    return BatchResults(
        queued=len(found),
        results=[
            BatchResult(video=shown[one.id], error=None)
            if isinstance(one, Video)
            else BatchResult(video=None, error=ProblemView(**json.loads(bytes(problems.document(request, one).body))))
            for one in results
        ],
    )
