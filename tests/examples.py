"""`python -m tests.examples`: the examples of the OpenAPI document, written by the run that checks them.

Every operation is done to a real Taxiway with the bodies below. `tests/test_docs.py` does the same, and fails where an
answer has another shape than its example.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

import httpx
from starlette.responses import Response

from service import webhooks
from service.app import ENDPOINTS
from service.installer.migrate import migrate
from service.local.postgres import Server
from service.web import openapi
from service.web.endpoint import JSON
from service.web.openapi import NOT_DESCRIBED
from tests.database import run, temporary_database
from tests.world import CALLBACK_SECRET, CRON_SECRET, World, world

FILE = Path(openapi.__file__).with_name("openapi_examples.json")
ADMIN = "admin-token-for-tests-01"
WEBHOOK_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
TASK = "17f20503-6c24-4c16-946b-35dbbce2af2f"
VIDEO = {
    "operation": "image_to_video",
    "input": {
        "model": "gen4_turbo", "promptText": "A small boat leaves the harbour",
        "promptImage": "https://example.com/boat.jpg", "ratio": "1280:720", "duration": 5,
    },
    "priority": 10,
    "metadata": {"order": 4711},
}  # fmt: skip
BODIES: dict[str, dict[str, Any]] = {
    "POST /videos": VIDEO,
    "POST /videos/batch": {"requests": [VIDEO | {"user_id": "ada"}, VIDEO | {"user_id": "bob"}], "atomic": True},
    "POST /quotes": VIDEO,
    "POST /uploads": {"filename": "boat.png"},
    "POST /videos/{id}/retry": {"accept_double_charge": True},
    "POST /videos/{id}/attach": {"task_id": TASK},
    "POST /models/{model}/pause": {"seconds": 600, "why": "the supplier of images moves"},
    "POST /bulk/retry": {
        "filter": {"error_code": "INTERNAL", "created_after": "2026-11-24T00:00:00Z"}, "dry_run": True, "limit": 100,
    },
    "POST /bulk/cancel": {
        "filter": {"status": "queued", "model": "gen4_turbo"}, "dry_run": True, "limit": 100,
    },
    "POST /webhooks/test": {"endpoint_id": 1},
    "POST /callbacks/runway": {"task_id": TASK},
}  # fmt: skip
# Whose examples would be as long as the document.
WITHOUT_EXAMPLE = {"GET /openapi.json"}
# What an example may have none of: what is not always there, and what only a time or an id names.
OPEN_SHAPES = {
    "counts",
    "metadata",
    "in_flight",
    "input",
    "models_paused",
    "links",
    "last_tick",
    "eta_seconds",
    "error",
    "waiting",
}
LONGEST_LIST = 3  # entries of a list in an example

Answers = dict[str, httpx.Response]
Examples = dict[str, dict[str, Any]]


def described() -> list[str]:
    """Every operation of the document, such as `POST /videos`, in its order."""
    return [f"{method} {one.path}" for one in ENDPOINTS for method in one.methods if method not in NOT_DESCRIBED]


def shape(value: Any) -> Any:
    """The names in a JSON value: what a reader of an example relies on."""
    if isinstance(value, dict):
        return {name: None if name in OPEN_SHAPES else shape(inner) for name, inner in sorted(value.items())}
    return shape(value[0]) if isinstance(value, list) and value and isinstance(value[0], dict) else None


def examples(answers: Answers) -> Examples:
    """What stands in the file: of each operation its body, if it has one, and its answer, if that is JSON."""
    found: Examples = {}
    for name in described():
        answer = answers[name]
        example: dict[str, Any] = {"request": BODIES[name]} if name in BODIES else {}
        if answer.headers.get("content-type") == JSON and name not in WITHOUT_EXAMPLE:
            example |= {"status": str(answer.status_code), "answer": _presentable(answer.json())}
        if example:
            found[name] = example
    return found


def is_up_to_date(written: dict[str, Any] | None, made: dict[str, Any]) -> bool:
    """Whether a reader may rely on the example that is written: same body, same status, same names."""
    same = ("request", "status")
    return (
        written is not None
        and [written.get(name) for name in same] == [made.get(name) for name in same]
        and shape(written.get("answer")) == shape(made.get("answer"))
    )


def _presentable(value: Any) -> Any:
    """A value without the place where it was made, and with the beginning of long lists."""
    if isinstance(value, dict):
        return {name: _presentable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_presentable(inner) for inner in value[:LONGEST_LIST]]
    if isinstance(value, str) and (found := re.fullmatch(r"https?://[^/]+(/outputs/[^?]+)\?.*", value)):
        return f"https://dnznrvs05pmza.example.com{found[1]}"
    if isinstance(value, str) and re.fullmatch(r"https?://[^/]+/uploads", value):
        return "https://uploads.example.com"
    return value


class Caller:
    """Sends operations with their bodies, and keeps the answers."""

    def __init__(self, w: World) -> None:
        self.w = w
        self.answers: Answers = {}

    async def __call__(self, operation: str, body: dict[str, Any] | None = None, **parts: object) -> Any:
        verb, path = operation.split()
        token = CRON_SECRET if path.startswith(("/process", "/poll")) else ADMIN
        content = json.dumps(body or BODIES[operation]).encode() if operation in BODIES else None
        headers = {"authorization": f"Bearer {token}"}
        if path.startswith("/callbacks"):
            headers = webhooks.headers(CALLBACK_SECRET, f"msg_{uuid4().hex}", int(time.time()), content or b"")
        answer = await self.w.anyone.request(verb, path.format(**parts), content=content, headers=headers)
        assert answer.status_code < 400, (operation, answer.text)
        self.answers[operation] = answer
        return answer.json() if answer.headers.get("content-type") == JSON else None


async def answers(w: World) -> Answers:
    """The answer to each operation, from videos in every state that one of them needs."""
    call = Caller(w)
    await call("POST /quotes")
    await call("POST /uploads")
    video = (await call("POST /videos"))["id"]
    await call("POST /process-queued")
    await call("GET /process-queued")
    await w.later(minutes=1)
    await call("GET /poll-processing")
    task = str((await w.ledger(UUID(video)))[0]["task_id"])
    await call("POST /callbacks/runway", {"task_id": task})
    await w.finish()
    for path in ("", "/file", "/submissions", "/events"):
        await call(f"GET /videos/{{id}}{path}", id=video)
    await call("POST /videos/{id}/cancel", id=await w.enqueue())
    w.faults("drop_after", "drop_after")
    unknown, attached = await w.enqueue(), await w.enqueue()
    await w.tick()
    await call("POST /videos/{id}/attach", {"task_id": w.creates[-1].task_id}, id=attached)
    await call("POST /videos/{id}/retry", id=unknown)
    for operation in ("POST /bulk/retry", "POST /bulk/cancel", "POST /poll-processing", "GET /videos", "GET /stats"):
        await call(operation)
    await call("GET /usage")
    await call("POST /videos/batch")
    for operation in ("POST /models/{model}/pause", "POST /models/{model}/resume"):
        await call(operation, model="gen4_turbo")
    for path in (
        "models",
        "ticks",
        "account",
        "metrics",
        "health",
        "health/live",
        "health/ready",
        "openapi.json",
        "docs",
    ):
        await call(f"GET /{path}")
    await call("GET /docs/{name}", name="quickstart")
    await _webhooks(call)
    await call("DELETE /videos/{id}", id=video)  # the task of a finished video is still to be deleted
    return call.answers


async def _webhooks(call: Caller) -> None:
    """What was delivered meanwhile, which is something, and a test."""
    for path in ("deliveries", "webhooks"):
        found = await call(f"GET /{path}")
    delivery = (await call("GET /deliveries"))["deliveries"][0]["id"]
    await call("GET /deliveries/{id}", id=delivery)
    await call("POST /deliveries/{id}/replay", id=delivery)
    endpoint = found["endpoints"][0]["id"]
    await call("POST /webhooks/test", {"endpoint_id": endpoint})
    await call("POST /webhooks/{id}/enable", id=endpoint)


@asynccontextmanager
async def example_world(url: str) -> AsyncIterator[World]:
    """A Taxiway that has what an operation needs."""
    hooks: dict[str, Any] = {"webhook_secrets": (WEBHOOK_SECRET,), "webhook_url": ("https://app.example.com/hook",)}
    async with world(url, admin_tokens=(ADMIN,), receiver=Response(status_code=204), **hooks) as w:
        yield w


async def _run(url: str) -> Examples:
    async with example_world(url) as w:
        return examples(await answers(w))


def write() -> None:
    """Do every operation, and write the examples that are no longer true; the others stay as they are."""
    with TemporaryDirectory() as folder:
        server = Server(Path(folder), durable=False)
        server.start()
        try:
            with temporary_database(server.url("postgres"), fill=migrate) as url:
                made = run(_run(url))
        finally:
            server.remove()
    written = openapi.examples()
    kept = {name: written[name] if is_up_to_date(written.get(name), one) else one for name, one in made.items()}
    FILE.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
