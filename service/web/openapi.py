"""/openapi.json: OpenAPI 3.1, made from the endpoints, the models that validate and the catalogue that prices."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service import docs, version_of_package
from service.context import Context
from service.runway import catalogue
from service.web.endpoint import JSON, Content, Endpoint
from service.web.schemas import ProblemView

PROBLEM_JSON = "application/problem+json"
PROBLEMS = {
    400: "The body cannot be read",
    401: "The credentials are missing or wrong",
    403: "The key's scope does not allow this",
    404: "There is no such thing; `detail` says what",
    408: "The body came too slowly",
    409: "The state of the video does not allow this",
    410: "It existed once: the video was erased, or Runway no longer has its file",
    413: "The body is too large",
    422: "The request is not valid; `errors` names each field",
    429: "MAX_QUEUED or MAX_CREDITS_PER_DAY_BY_KEY is reached; see Retry-After",
    503: "The database, Runway or a setting is missing; see Retry-After",
}
# The settings whose tokens are accepted (service/web/auth.py), as the document calls them.
SCHEMES: dict[str, tuple[str, dict[str, str]]] = {
    "api_keys": ("apiKey", {"type": "http", "scheme": "bearer", "description": "a key of API_KEYS"}),
    "admin_tokens": ("adminToken", {"type": "http", "scheme": "bearer", "description": "a token of ADMIN_TOKENS"}),
    "viewer_tokens": ("viewerToken", {"type": "http", "scheme": "bearer", "description": "a token of VIEWER_TOKENS"}),
    "cron_secret": ("cronSecret", {"type": "http", "scheme": "bearer", "description": "CRON_SECRET"}),
    "callback_secrets": ("webhook", {"type": "apiKey", "in": "header", "name": "webhook-signature"}),
}
# What stands in braces in a path.
IN_PATH: dict[str, dict[str, Any]] = {
    "id": {"schema": {"type": "string", "format": "uuid"}},
    "model": {"description": "a model, or `all` for all of them", "schema": {"type": "string"}},
    "name": {"schema": {"type": "string", "enum": list(docs.NAMES)}},
}
NOT_DESCRIBED = ("HEAD", "OPTIONS")


async def document(_ctx: Context, request: Request) -> Response:
    """GET /openapi.json"""
    return JSONResponse(build(request.app.state.endpoints))


@cache
def build(endpoints: tuple[Endpoint, ...]) -> dict[str, Any]:
    """The whole document."""
    _, shapes = models_json_schema([(model, "validation") for model in _models(endpoints)], ref_template=_REF)
    definitions = shapes["$defs"]
    inputs = {
        _component(operation, model): catalogue.json_schema(operation, model)
        for operation in catalogue.operations()
        for model in catalogue.models(operation)
    }
    definitions["VideoRequest"]["properties"]["input"] |= {
        "anyOf": [{"$ref": _REF.format(model=name)} for name in inputs]
    }
    paths: dict[str, Any] = {}
    for one in endpoints:
        for method in one.methods:
            if method not in NOT_DESCRIBED:
                paths.setdefault(one.path, {})[method.lower()] = _operation(one, examples().get(f"{method} {one.path}"))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Taxiway",
            "version": version_of_package(),
            "summary": "The durable queue in front of Runway",
        },
        "paths": paths,
        "components": {"schemas": definitions | inputs, "securitySchemes": dict(SCHEMES.values())},
    }


_REF = "#/components/schemas/{model}"


def _component(operation: str, model: str) -> str:
    """The name of a model's schema: `image_to_video.gen4_turbo`, `recipes.product_ad`."""
    return (operation if model == operation else f"{operation}.{model}").replace("/", ".")


def _models(endpoints: Iterable[Endpoint]) -> list[type[BaseModel]]:
    """The shape of every body and of every answer."""
    found: list[Any] = [ProblemView]
    for one in endpoints:
        found += [one.body, *(content for _, content in one.responses.values())]
    return list(dict.fromkeys(model for model in found if isinstance(model, type)))


def _operation(one: Endpoint, example: dict[str, Any] | None) -> dict[str, Any]:
    """One operation, with the example of its body and of its answer."""
    example = example or {}
    responses = {str(status): _response(*said) for status, said in one.responses.items()}
    responses |= {
        str(status): {"description": PROBLEMS[status], "content": {PROBLEM_JSON: {"schema": _ref(ProblemView)}}}
        for status in one.refusals
    }
    if "answer" in example:
        responses[example["status"]]["content"][JSON]["example"] = example["answer"]
    found: dict[str, Any] = {
        "summary": one.summary,
        "security": [{SCHEMES[name][0]: []} for name in one.access.settings],
        "responses": responses,
    }
    if parameters := list(_parameters(one)):
        found["parameters"] = parameters
    if one.body:
        content = {"schema": _ref(one.body)} | ({"example": example["request"]} if "request" in example else {})
        found["requestBody"] = {"required": one.body_required, "content": {JSON: content}}
    return found


def _response(words: str, content: Content) -> dict[str, Any]:
    if content is None:
        return {"description": words}
    if not isinstance(content, str):
        return {"description": words, "content": {JSON: {"schema": _ref(content)}}}
    kinds = content.split(", ")
    schemas = {kind: {"schema": {"type": "object" if kind == JSON else "string"}} for kind in kinds}
    return {"description": words, "content": schemas}


def _parameters(one: Endpoint) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", one.path):
        yield {"name": name, "in": "path", "required": True} | IN_PATH[name]
    for given in one.parameters:
        yield {"name": given.name, "in": given.where, "description": given.words, "schema": dict(given.schema)}
    for name, schema in one.query.model_json_schema()["properties"].items() if one.query else ():
        yield {"name": name, "in": "query", "description": schema["description"], "schema": schema}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


@cache
def examples() -> dict[str, Any]:
    """By operation, such as `POST /videos`: `request`, the body; `status` and `answer`, what came of it.

    `python -m tests.examples` writes them.
    """
    found: dict[str, Any] = json.loads(Path(__file__).with_name("openapi_examples.json").read_text(encoding="utf-8"))
    return found
