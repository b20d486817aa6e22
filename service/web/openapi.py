"""/openapi.json: OpenAPI 3.1, made from the models that validate and the catalogue that prices."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service import docs
from service.runway import catalogue
from service.web import openapi_bulk, openapi_operations, schemas, schemas_bulk
from service.web.auth import CRON, READ, WRITE
from service.web.openapi_parts import (
    JSON,
    PUBLIC,
    SCHEMES,
    SIGNED,
    VIDEO_ID,
    answers,
    body,
    operation,
    queries,
    query,
    ref,
)

_SHAPES = (
    schemas.VideoRequest, schemas.RetryRequest, schemas.VideoView, schemas.VideoPage, schemas.SubmissionList,
    schemas.CallbackHint, schemas.TickCounts, schemas.ProblemView, schemas_bulk.ErasureView, *openapi_operations.SHAPES,
    *openapi_bulk.SHAPES,
)  # fmt: skip


async def document(_request: Request) -> Response:
    """GET /openapi.json"""
    return JSONResponse(build())


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the same key and body return the first video, or 410 once that is erased",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


_HEALTH = (
    "Health summary: whether all is well, and counts by status; with any token but the cron's also the oldest queued, "
    "what is stuck or unknown, the last tick, paused models, linked tables that are paused or refuse rows, missing "
    "settings; with a viewer token also what doctor says"
)
_PAGE = {"200": {"description": "A page", "content": {"text/html": {"schema": {"type": "string"}}}}}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": list(docs.NAMES)}}


def _videos() -> dict[str, Any]:
    video = ref(schemas.VideoView)
    create = operation(
        "Queue a video; the answer has its address in Location", WRITE,
        answers({202: ("Accepted", video)}, 400, 401, 403, 408, 409, 410, 413, 422, 429, 503),
        parameters=[_KEY], requestBody=body(schemas.VideoRequest),
    )  # fmt: skip
    listing = operation(
        "List videos, newest first", READ, answers({200: ("A page", ref(schemas.VideoPage))}, 401, 403, 422, 503),
        parameters=queries(schemas.ListQuery),
    )  # fmt: skip
    return {"get": listing, "post": create}


def _one_video() -> dict[str, dict[str, Any]]:
    video = ref(schemas.VideoView)
    ledger, erasure = ref(schemas.SubmissionList), ref(schemas_bulk.ErasureView)
    usual = (401, 403, 404, 503)
    return {
        "/videos/{id}": {"get": operation(
            "Read one video, with an ETag; its task is polled if that is due", READ,
            answers({200: ("The video", video), 304: ("Unchanged since the ETag in If-None-Match", None)},
                    410, *usual)),
            "delete": operation(
            "Erase what a user wrote: cancels the video, deletes its tasks at Runway, keeps the ledger", WRITE,
            answers({204: ("Erased", None), 202: ("The ticks erase it; send it again to see", erasure)}, 409, *usual))},
        "/videos/{id}/file": {"get": operation(
            "Redirect to a live address of the file; 410 when Runway no longer has it", READ,
            answers({302: ("A live URL", None)}, 409, 410, *usual))},
        "/videos/{id}/submissions": {"get": operation(
            "List the submissions of a video, oldest first, each with its outcome and its cost", READ,
            answers({200: ("Oldest first", ledger)}, *usual))},
        "/videos/{id}/retry": {"post": operation(
            "Queue a failed video again; it needs your consent where it may cost twice", WRITE,
            answers({202: ("Queued", video)}, 400, 408, 409, 410, 413, 422, 429, *usual),
            requestBody=body(schemas.RetryRequest, required=False))},
        "/videos/{id}/cancel": {"post": operation(
            "Cancel a video; its task at Runway is deleted too", WRITE,
            answers({200: ("Cancelled", video)}, 409, 410, *usual))},
    }  # fmt: skip


def _machinery() -> dict[str, dict[str, Any]]:
    budget = query("budget", {"type": "number", "exclusiveMinimum": 0, "maximum": 3600}, "seconds in which to answer")
    counts = answers({200: ("What was done", ref(schemas.TickCounts))}, 401, 422, 503)
    anything = {"type": "object"}
    healthy = answers({200: ("Yes", anything)}, 503)
    hint = operation(
        "Take a signed hint that a task changed (Standard Webhooks)", SIGNED,
        answers({202: ("Kept: the next tick polls its task", anything), 200: ("Kept before", anything)},
                400, 401, 408, 409, 413, 422, 503),
        requestBody=body(schemas.CallbackHint),
    )  # fmt: skip
    ticks = {
        "/process-queued": "Run one tick, and answer with its counts",
        "/poll-processing": "Poll the tasks that are due, and do nothing else",
    }
    return {
        path: {verb: operation(words, CRON, counts, parameters=[budget]) for verb in ("get", "post")}
        for path, words in ticks.items()
    } | {
        "/callbacks/runway": {"post": hint},
        "/health": {"get": operation(_HEALTH, PUBLIC, healthy)},
        "/health/live": {"get": operation("Answer while the process does", PUBLIC, answers({200: ("Yes", anything)}))},
        "/health/ready": {"get": operation("Answer 200 while the database answers", PUBLIC, healthy)},
        "/openapi.json": {
            "get": operation(
                "All of this as OpenAPI 3.1, with the schema of each model",
                PUBLIC,
                answers({200: ("OpenAPI 3.1", anything)}),
            )
        },
        "/docs": {"get": operation("All of this as a page to read, with examples", PUBLIC, _PAGE)},
        "/docs/{name}": {
            "parameters": [_NAME],
            "get": operation("A page of the documentation of this version", PUBLIC, _PAGE | answers({}, 404)),
        },
    }


@cache
def build() -> dict[str, Any]:
    """The whole document."""
    _, shapes = models_json_schema([(m, "validation") for m in _SHAPES], ref_template="#/components/schemas/{model}")
    definitions = shapes["$defs"]
    inputs = {
        f"{name}.{model}": catalogue.json_schema(name, model)
        for name in catalogue.operations()
        for model in catalogue.models(name)
    }
    definitions["VideoRequest"]["properties"]["input"] |= {
        "anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in inputs]
    }
    one = _one_video()
    for path in one.values():
        path["parameters"] = [VIDEO_ID]
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Taxiway",
            "version": version_of_package(),
            "summary": "The durable queue in front of Runway",
        },
        "paths": {"/videos": _videos()} | one | openapi_bulk.paths() | openapi_operations.paths() | _machinery(),
        "components": {
            "schemas": definitions | inputs,
            "securitySchemes": dict(SCHEMES.values()),
        },
    }
    _illustrate(document["paths"])
    return document


def _illustrate(paths: dict[str, Any]) -> None:
    """Put the examples where they belong. A test does every operation with them, and compares the answers."""
    for name, example in examples().items():
        verb, path = name.lower().split(" ", 1)
        operation = paths[path][verb]
        if "request" in example:
            operation["requestBody"]["content"][JSON]["example"] = example["request"]
        if "answer" in example:
            operation["responses"][example["status"]]["content"][JSON]["example"] = example["answer"]


@cache
def examples() -> dict[str, Any]:
    """By operation, such as `POST /videos`: `request`, the body; `status` and `answer`, what came of it."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("openapi_examples.json").read_text(encoding="utf-8"))
    return found


def version_of_package() -> str:
    """The installed version; "0" when run from a folder, as some hosts do."""
    try:
        return version("taxiway")
    except PackageNotFoundError:
        return "0"
