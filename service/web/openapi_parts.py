"""What the operations of the OpenAPI document are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from service.web.schemas import ProblemView

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
# The settings whose tokens a route accepts (service/web/auth.py), as the document calls them.
SCHEMES: dict[str, tuple[str, dict[str, str]]] = {
    "api_keys": ("apiKey", {"type": "http", "scheme": "bearer", "description": "a key of API_KEYS"}),
    "admin_tokens": ("adminToken", {"type": "http", "scheme": "bearer", "description": "a token of ADMIN_TOKENS"}),
    "viewer_tokens": ("viewerToken", {"type": "http", "scheme": "bearer", "description": "a token of VIEWER_TOKENS"}),
    "cron_secret": ("cronSecret", {"type": "http", "scheme": "bearer", "description": "CRON_SECRET"}),
    "callback_secrets": ("webhook", {"type": "apiKey", "in": "header", "name": "webhook-signature"}),
}
PUBLIC: Sequence[str] = ()
SIGNED: Sequence[str] = ("callback_secrets",)

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
VIDEO_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}


def ref(model: type[BaseModel]) -> dict[str, str]:
    """A reference to the schema of a model."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def answers(good: dict[int, tuple[str, dict[str, Any] | None]], *bad: int) -> dict[str, Any]:
    """The answers of an operation: the good ones with words and schema, the bad ones as problem documents."""
    found: dict[str, Any] = {}
    for status, (words, schema) in good.items():
        found[str(status)] = {"description": words} | ({"content": {JSON: {"schema": schema}}} if schema else {})
    for status in bad:
        found[str(status)] = {
            "description": PROBLEMS[status], "content": {PROBLEM_JSON: {"schema": ref(ProblemView)}}
        }  # fmt: skip
    return found


def body(model: type[BaseModel], required: bool = True) -> dict[str, Any]:
    """A request's body."""
    return {"required": required, "content": {JSON: {"schema": ref(model)}}}


def query(name: str, schema: dict[str, Any], words: str) -> dict[str, Any]:
    """One parameter in the query."""
    return {"name": name, "in": "query", "description": words, "schema": schema}


def queries(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The parameters in the query that this model validates."""
    properties = model.model_json_schema()["properties"]
    return [query(name, schema, schema["description"]) for name, schema in properties.items()]


def operation(summary: str, accepted: Sequence[str], answers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One operation. `accepted`: the settings whose tokens it takes, as in `auth`."""
    security: list[dict[str, list[str]]] = [{SCHEMES[name][0]: []} for name in accepted]
    return {"summary": summary, "security": security, "responses": answers} | more
