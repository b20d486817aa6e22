"""The operators' part of the OpenAPI document."""

from __future__ import annotations

from typing import Any

from service.web import schemas_operations as schemas
from service.web.auth import OPERATE, VIEW
from service.web.openapi_parts import VIDEO_ID, answers, body, operation, queries, ref
from service.web.schemas import VideoView

SHAPES = (
    schemas.PauseRequest, schemas.AttachRequest, schemas.ModelView, schemas.ModelList, schemas.TickView,
    schemas.TickList, schemas.Stats, schemas.AccountView,
)  # fmt: skip
_MODEL = {
    "name": "model", "in": "path", "required": True, "description": "a model, or `all` for all of them",
    "schema": {"type": "string"},
}  # fmt: skip


def paths() -> dict[str, dict[str, Any]]:
    """Every path, with its operations."""
    model = ref(schemas.ModelView)
    usual = (401, 404, 503)
    return {
        "/videos/{id}/attach": {"parameters": [VIDEO_ID], "post": operation(
            "Attach the task that an unknown submission made; Taxiway checks it with Runway first", OPERATE,
            answers({200: ("The video", ref(VideoView))}, 400, 408, 409, 413, 422, *usual),
            requestBody=body(schemas.AttachRequest))},
        "/models": {"get": operation(
            "List models: what is paused and why, what waits, what is at Runway", VIEW,
            answers({200: ("Every model", ref(schemas.ModelList))}, 401, 503))},
        "/models/{model}/pause": {"parameters": [_MODEL], "post": operation(
            "Send nothing for a model for a while; what is queued stays queued", OPERATE,
            answers({200: ("The model", model)}, 400, 408, 413, 422, *usual),
            requestBody=body(schemas.PauseRequest, required=False))},
        "/models/{model}/resume": {"parameters": [_MODEL], "post": operation(
            "End the pause of a model now", OPERATE, answers({200: ("The model", model)}, *usual))},
        "/ticks": {"get": operation(
            "List the last ticks and what each did", VIEW,
            answers({200: ("Newest first", ref(schemas.TickList))}, 401, 422, 503),
            parameters=queries(schemas.TickQuery))},
        "/stats": {"get": operation(
            "What entered and what ended, and how long it took, in the last hour, day or week", VIEW,
            answers({200: ("Oldest bucket first", ref(schemas.Stats))}, 401, 422, 503),
            parameters=queries(schemas.StatsQuery))},
        "/account": {"get": operation(
            "Credits left and limits by model, from Runway", VIEW,
            answers({200: ("The account", ref(schemas.AccountView))}, 401, 503))},
        "/metrics": {"get": operation(
            "Metrics for Prometheus, as text or in the OpenMetrics form", VIEW,
            answers({200: ("Metrics", None)}, 401, 503) | {"200": {"description": "Metrics", "content": {
                kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")}}})},
    }  # fmt: skip
