"""GET /docs: the OpenAPI document as a page to read; GET /docs/{name}: the documentation of this version.

Rendered here, from this host alone, without a login.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service import version_of_package
from service.context import Context
from service.docs import no_such_page, pages, read
from service.web import openapi
from service.web.endpoint import JSON, Endpoint
from service.web.openapi import SCHEMES

HOST = re.compile(r"[\w.-]{1,255}(?::\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?", re.ASCII)
TOKENS = {"apiKey": "API_KEY", "adminToken": "ADMIN_TOKEN", "viewerToken": "VIEWER_TOKEN", "cronSecret": "CRON_SECRET"}
Endpoints = tuple[Endpoint, ...]
LIMITS = {
    "minimum": "from {}", "maximum": "to {}", "exclusiveMinimum": "above {}", "minLength": "at least {} characters",
    "maxLength": "at most {} characters", "minItems": "at least {} of them", "maxItems": "at most {} of them",
    "pattern": "like {}", "format": "{}", "default": "{} unless given",
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One field of a body, or one parameter."""

    name: str
    kind: str
    limits: str
    words: str
    required: bool
    where: str = ""


@dataclass(frozen=True)
class DocResponse:
    """One answer: its status, what it means, its fields, and an example as JSON."""

    status: str
    words: str
    schema: str
    fields: list[Field]
    example: str


@dataclass(frozen=True)
class Operation:
    """One operation, ready to be shown."""

    verb: str
    path: str
    summary: str
    credentials: list[str]
    parameters: list[Field]
    body: str
    body_required: bool
    fields: list[Field]
    curl: str
    answers: list[DocResponse]

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return f"{self.verb}-{self.path}".lower().translate(str.maketrans("/", "-", "{}")).replace("--", "-")


async def show(_ctx: Context, request: Request) -> Response:
    """GET /docs"""
    from service.web.page import base  # it loads the templates, which no other part of the API needs

    host = request.headers.get("host", "")
    at = f"{request.scope['scheme']}://{host if HOST.fullmatch(host) else 'taxiway.example.com'}"
    endpoints: Endpoints = request.app.state.endpoints
    info = openapi.build(endpoints)["info"]
    return base.render(
        request, "docs.html", title=info["title"], version=info["version"],
        operations=operations(endpoints, at), schemas=schemas(endpoints), example_url=at, pages=pages(),
    )  # fmt: skip


async def show_page(_ctx: Context, request: Request) -> Response:
    """GET /docs/{name}"""
    from service.web import markdown  # only this route needs them
    from service.web.page import base, error_pages

    name = request.path_params["name"]
    try:
        found = read(name)
    except KeyError:
        missing = HTTPException(404, no_such_page(name))
        if "text/html" in request.headers.get("accept", ""):
            return error_pages.render(request, missing)
        raise missing from None
    return base.render(
        request, "documentation.html", page=found, content=markdown.render(found.text), pages=pages(),
        version=version_of_package(),
    )  # fmt: skip


def operations(endpoints: Endpoints, at: str) -> list[Operation]:
    """Every operation of the OpenAPI document, in its order, with calls to the service at this address."""
    known = schemas(endpoints)
    return [
        _operation(at, verb, path, item, known)
        for path, items in openapi.build(endpoints)["paths"].items()
        for verb, item in items.items()
    ]


@cache
def schemas(endpoints: Endpoints) -> dict[str, list[Field]]:
    """Every named shape with its fields: those of the models' inputs, and what bodies are made of."""
    known: Mapping[str, Any] = openapi.build(endpoints)["components"]["schemas"]
    return {name: list(_fields(schema)) for name, schema in known.items()}


def _operation(at: str, verb: str, path: str, item: Mapping[str, Any], known: Mapping[str, list[Field]]) -> Operation:
    body = item.get("requestBody", {}).get("content", {}).get(JSON, {})
    schema = _name(body.get("schema", {}))
    names = {name: setting.upper() for setting, (name, _) in SCHEMES.items()}
    return Operation(
        verb=verb.upper(), path=path, summary=item["summary"],
        credentials=[names[name] for way in item["security"] for name in way],
        parameters=[_parameter(one) for one in item.get("parameters", [])],
        body=schema, body_required=item.get("requestBody", {}).get("required", False),
        fields=known.get(schema, []), curl=_curl(at, verb, path, item, body.get("example")),
        answers=[_answer(status, response, known) for status, response in sorted(item["responses"].items())],
    )  # fmt: skip


def _parameter(given: Mapping[str, Any]) -> Field:
    schema = given["schema"]
    words = given.get("description", "")
    return Field(given["name"], _kind(schema), _limits(schema), words, given.get("required", False), given["in"])


def _answer(status: str, response: Mapping[str, Any], known: Mapping[str, list[Field]]) -> DocResponse:
    content: Mapping[str, Any] = next(iter(response.get("content", {}).values()), {})
    example = json.dumps(content["example"], indent=2, ensure_ascii=False) if "example" in content else ""
    name = _name(content.get("schema", {}))
    fields = known.get(name, []) if status < "400" else []
    return DocResponse(status, response["description"], name, fields, example)


def _curl(at: str, verb: str, path: str, item: Mapping[str, Any], example: object) -> str:
    """A call to paste: with the first of the tokens that will do, and the example as its body."""
    words = ["curl", "-sS"]
    if verb != "get":
        words += ["-X", verb.upper()]
    words.append(at + path.replace("{id}", "$ID").replace("{model}", "gen4_turbo").replace("{name}", "quickstart"))
    lines = [" ".join(words)]
    tokens = [TOKENS[name] for way in item["security"] for name in way if name in TOKENS]
    lines += [f'-H "Authorization: Bearer ${tokens[0]}"'] if tokens else []
    if any("webhook" in way for way in item["security"]):
        lines.append('-H "webhook-id: $ID" -H "webhook-timestamp: $NOW" -H "webhook-signature: $SIGNATURE"')
    if example is not None:
        lines += ['-H "Content-Type: application/json"', f"-d {shlex.quote(json.dumps(example, ensure_ascii=False))}"]
    return " \\\n  ".join(lines)


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _fields(schema: Mapping[str, Any]) -> Iterator[Field]:
    """The fields of a shape; of one that is one of several shapes, those."""
    for number, part in enumerate(schema.get("anyOf", ())):
        yield Field("or" if number else "either", _kind(part), "", "", False)
    required = schema.get("required", [])
    for name, inner in schema.get("properties", {}).items():
        yield Field(name, _kind(inner), _limits(inner), inner.get("description", ""), name in required)


def _kind(schema: Mapping[str, Any]) -> str:
    """What a value is, in a word or two; the name of a shape where it is one."""
    if name := _name(schema):
        return name
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    parts = [_kind(part) for part in schema.get("anyOf", ())]
    return " | ".join(dict.fromkeys(part for part in parts if part)) or str(schema.get("type", "anything"))


def _limits(schema: Mapping[str, Any]) -> str:
    """Every limit of a value, also of its alternatives."""
    here = [words.format(_shown(schema[name])) for name, words in LIMITS.items() if schema.get(name) is not None]
    return "; ".join(dict.fromkeys([*here, *filter(None, map(_limits, schema.get("anyOf", ())))]))


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
