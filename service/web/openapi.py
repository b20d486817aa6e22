"""/openapi.json: OpenAPI 3.1, made from the models that validate and the catalogue that prices."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.runway import catalogue
from service.web import models

_PROBLEMS = {
    400: "The body cannot be read",
    401: "The credentials are missing or wrong",
    404: "There is no such video",
    408: "The body came too slowly",
    409: "The state of the video does not allow this",
    410: "Runway no longer has it",
    413: "The body is too large",
    422: "The request is not valid; `errors` names each field",
    503: "The database, Runway or a setting is missing; see Retry-After",
}
_SHAPES = (
    models.VideoRequest, models.RetryRequest, models.VideoView, models.VideoPage, models.SubmissionList,
    models.CallbackHint, models.TickCounts, models.ProblemView,
)  # fmt: skip
_JSON = "application/json"


async def document(_request: Request) -> Response:
    """GET /openapi.json"""
    return JSONResponse(build())


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _answers(good: dict[int, tuple[str, dict[str, Any] | None]], *bad: int) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, (words, schema) in good.items():
        answers[str(status)] = {"description": words} | ({"content": {_JSON: {"schema": schema}}} if schema else {})
    for status in bad:
        content = {"application/problem+json": {"schema": _ref(models.ProblemView)}}
        answers[str(status)] = {"description": _PROBLEMS[status], "content": content}
    return answers


def _body(model: type[BaseModel], required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {_JSON: {"schema": _ref(model)}}}


def _query(name: str, schema: dict[str, Any], words: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": words, "schema": schema}


def _operation(summary: str, security: str | None, answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"summary": summary, "security": [{security: []}] if security else [], "responses": answers} | more


_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the same key and body return the first video",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def _videos() -> dict[str, Any]:
    video = _ref(models.VideoView)
    create = _operation(
        "Hand in a video", "apiKey", _answers({202: ("Accepted", video)}, 400, 401, 408, 409, 413, 422, 503),
        parameters=[_KEY], requestBody=_body(models.VideoRequest),
    )  # fmt: skip
    listing = _operation(
        "List videos, newest first", "apiKey", _answers({200: ("A page", _ref(models.VideoPage))}, 401, 422, 503),
        parameters=[
            {"name": name, "in": "query", "schema": schema, "description": schema["description"]}
            for name, schema in models.ListQuery.model_json_schema()["properties"].items()
        ],
    )  # fmt: skip
    return {"get": listing, "post": create}


def _one_video() -> dict[str, dict[str, Any]]:
    video = _ref(models.VideoView)
    ledger = _ref(models.SubmissionList)
    usual = (401, 404, 503)
    return {
        "/videos/{id}": {"get": _operation(
            "Read one video; its task is looked at if that is due", "apiKey",
            _answers({200: ("The video", video), 304: ("Unchanged since the ETag in If-None-Match", None)}, *usual))},
        "/videos/{id}/file": {"get": _operation(
            "Redirect to the finished file", "apiKey", _answers({302: ("A live URL", None)}, 409, 410, *usual))},
        "/videos/{id}/submissions": {"get": _operation(
            "The ledger: every create that was permitted, and what it came to", "apiKey",
            _answers({200: ("Oldest first", ledger)}, *usual))},
        "/videos/{id}/retry": {"post": _operation(
            "Queue a failed video again", "apiKey", _answers({202: ("Queued", video)}, 400, 408, 409, 413, 422, *usual),
            requestBody=_body(models.RetryRequest, required=False))},
        "/videos/{id}/cancel": {"post": _operation(
            "Cancel a video; its task at Runway is deleted too", "apiKey",
            _answers({200: ("Cancelled", video)}, 409, *usual))},
    }  # fmt: skip


def _machinery() -> dict[str, dict[str, Any]]:
    budget = _query("budget", {"type": "number", "exclusiveMinimum": 0, "maximum": 3600}, "seconds in which to answer")
    counts = _answers({200: ("What was done", _ref(models.TickCounts))}, 401, 422, 503)
    anything = {"type": "object"}
    healthy = _answers({200: ("Yes", anything)}, 503)
    hint = _operation(
        "A signed hint that a task changed (Standard Webhooks)", "webhook",
        _answers({200: ("Finalized, or known", anything), 202: ("Kept", anything)}, 400, 401, 408, 409, 413, 422, 503),
        requestBody=_body(models.CallbackHint),
    )  # fmt: skip
    ticks = {
        "/process-queued": "One tick: claim, submit, poll, rescue",
        "/poll-processing": "The poll step alone",
    }
    return {
        path: {verb: _operation(words, "cronSecret", counts, parameters=[budget]) for verb in ("get", "post")}
        for path, words in ticks.items()
    } | {
        "/callbacks/runway": {"post": hint},
        "/health": {"get": _operation("The truth about the queue", None, healthy)},
        "/health/live": {"get": _operation("The process answers", None, _answers({200: ("Yes", anything)}))},
        "/health/ready": {"get": _operation("The database answers", None, healthy)},
        "/openapi.json": {"get": _operation("This document", None, _answers({200: ("OpenAPI 3.1", anything)}))},
    }


@cache
def build() -> dict[str, Any]:
    """The whole document."""
    _, schemas = models_json_schema([(m, "validation") for m in _SHAPES], ref_template="#/components/schemas/{model}")
    definitions = schemas["$defs"]
    inputs = {
        f"{operation}.{model}": catalogue.json_schema(operation, model)
        for operation in catalogue.operations()
        for model in catalogue.models(operation)
    }
    definitions["VideoRequest"]["properties"]["input"] |= {
        "anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in inputs]
    }
    one = _one_video()
    for path in one.values():
        path["parameters"] = [_ID]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Taxiway",
            "version": _version(),
            "summary": "The durable queue in front of Runway",
        },
        "paths": {"/videos": _videos()} | one | _machinery(),
        "components": {
            "schemas": definitions | inputs,
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": "a key of API_KEYS"},
                "cronSecret": {"type": "http", "scheme": "bearer", "description": "CRON_SECRET"},
                "webhook": {"type": "apiKey", "in": "header", "name": "webhook-signature"},
            },
        },
    }


def _version() -> str:
    try:
        return version("taxiway")
    except PackageNotFoundError:
        return "0"  # run from a folder without being installed, as some hosts do
